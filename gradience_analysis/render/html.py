"""A report as one HTML file: no script, nothing fetched, right on phones and wide screens, in the dark and on paper."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from gradience_analysis.model import Note, Report, Section
from gradience_analysis.render.json import render_json
from gradience_analysis.render.page.blocks import WORDS, blocks
from gradience_analysis.render.page.chart import tone
from gradience_analysis.render.page.markup import Markup, element, lines, shown, verbatim
from gradience_analysis.render.page.numbers import Numbers
from gradience_analysis.render.parts import below_a_part, parts
from gradience_schema import Severity

GENERATOR = '<meta name="generator" content="gradience">'
"""By this a file is known to be a page of ours; it stands near the top."""
MAX_DATA = 100_000
"""Characters of the JSON artifact that a page carries; a longer one is left out, and the page says so."""
_STYLE = Path(__file__).parent / "page" / "page.css"


def render_html(report: Report) -> str:
    """The page, verdict first.

    Every text is escaped where it becomes markup, and a policy in the page lets a browser run and fetch nothing: only
    the style sheet whose hash it names applies.
    """
    numbers = Numbers(report)
    begins = parts(report)
    links = {report.sections[place].title: f"s{place}" for place in sorted(begins, reverse=True)}
    sections = [
        _section(section, place, numbers, links, level=3 if below_a_part(place, begins) else 2)
        for place, section in enumerate(report.sections)
    ]
    body = element(
        "body",
        lines(["", _header(report), element("main", lines(["", *sections, ""])), _data(report), ""]),
        class_="parts" if begins else None,
    )
    return f"<!doctype html>\n{element('html', lines(['', _head(report), body, '']), lang='en')}\n"


def _head(report: Report) -> Markup:
    style, digest = _style()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"{_word(report.verdict)} · {report.title} · gradience {report.kind}"
    return element(
        "head",
        lines(
            [
                "",
                element("meta", charset="utf-8"),
                element("meta", http_equiv="Content-Security-Policy", content=policy),
                element("meta", name="generator", content="gradience"),
                element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                element("meta", name="color-scheme", content="light dark"),
                element("meta", name="referrer", content="no-referrer"),
                element("title", shown(title)),
                element("style", style),
                "",
            ]
        ),
    )


@cache
def _style() -> tuple[Markup, str]:
    """The style sheet, which holds no character that an element would escape, and its SHA-256 in base64."""
    # Not at the top: every command imports the renderers, and few make a page.
    import base64
    import hashlib

    text = _STYLE.read_text(encoding="utf-8")
    return Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _header(report: Report) -> Markup:
    note = report.verdict
    return element(
        "header",
        element("p", element("span", f"gradience {report.kind}", class_="kind"), " ", report.title, class_="about"),
        element("h1", element("span", _word(note), class_="word"), " ", note.text),
        *(element("p", detail) for detail in note.details),
        class_=f"verdict {'ok' if note.severity is Severity.INFO else tone(note.severity)}",
    )


def _word(note: Note) -> str:
    return "OK" if note.severity is Severity.INFO else WORDS[note.severity]


def _section(section: Section, place: int, numbers: Numbers, links: dict[str, str], *, level: int) -> Markup:
    name = f"s{place}"
    heading = element(f"h{level}", section.title, id=name) if section.title else None
    begins = section.title in links and level == 2
    inside = blocks(section.blocks, numbers, {} if begins else links, name)
    labelled = name if section.title else None
    return element(
        "section", lines(["", *([heading] if heading else []), inside, ""]), aria_labelledby=labelled,
        class_="part" if begins else None,
    )  # fmt: skip


def _data(report: Report) -> Markup:
    """The JSON artifact as text that can be unfolded."""
    if not report.data:
        return element("footer")
    text = render_json(report)
    if len(text) > MAX_DATA:
        told = f"The data behind this page take {len(text):,} characters and are not in it; --format json writes them."
        return element("footer", element("p", told))
    summary = element("summary", f"Data as JSON ({len(text):,} characters)")
    return element("footer", element("details", summary, element("pre", verbatim(text.rstrip("\n")))))
