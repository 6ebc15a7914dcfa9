"""The comment: read back by a Markdown parser, and by the rules by which GitHub makes links of what is left."""

from __future__ import annotations

import html
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gradience_analysis.model import Chart, Curve, Field, Fields, Note, Notes, Report, Section, Table
from gradience_analysis.render import RENDERERS
from gradience_analysis.render.inert import inert
from gradience_analysis.render.markdown import MAX_CHARACTERS, render_markdown
from gradience_schema import Severity
from tests.analysis.render.blocks import LOSS, every_block, of
from tests.analysis.render.judged import FRAGMENTS

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SIGNS = (
    "*", "**", "_", "__", "`", "```", "~~", "[x](http://e.example)", "![x](y)", "<b>", "</td>", "<!-- x -->", "|",
    "<table x", "<!-- y", "<script ",
    "\\|", "\\", "@octocat", "@org/team", "a@b.example", "#12", "o/r#3", "GH-4", "https://e.example", "www.e.example",
    ":tada:", "mailto:a@b.example", "javascript:alert(1)", "&lt;", "&#64;x", "# h", "- l", "1. n", "> q", "---", "===",
    "[^1]", "[x]: http://e.example", "$x$", "$$", "{{x}}", "    code", "\t", "[ ]", "==x==", "\x00",
    "\u202e", "\n\n# h", "x" * 2_000,
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from((*SIGNS, *FRAGMENTS, " ", "a", "1")), max_size=6).map("".join)
SIMPLE = frozenset({"text", "softbreak", "html_inline", "text_special"})
# What GitHub links once Markdown is done: mentions, issues, addresses, mail, emoji, mathematics.
LINKED = re.compile(
    r"(?<![\w`])@[a-z0-9]|[\w.+-]@[\w-]+\.\w|#\d|\bGH-\d|\w://|www\.|mailto:\w|xmpp:\w|:[a-z0-9_+-]+:", re.IGNORECASE
)


def tokens(text: str) -> list[Any]:
    """Every token of a text, those inside lines too."""
    return [inner for token in MARKDOWN.parse(text) for inner in (token, *(token.children or ()))]


def shape(text: str) -> list[str]:
    """Which elements a text has: those of a line as one where text is all there is."""
    return [
        token.type for token in tokens(text) if token.type not in {"text", "softbreak", "html_inline", "text_special"}
    ]


def shown(text: str) -> str:
    """What a reader sees, a line for each stretch of text."""
    inline = [token.children or () for token in MARKDOWN.parse(text) if token.type == "inline"]
    return "\n".join(
        "".join("\n" if token.type == "hardbreak" else token.content for token in found if token.type != "html_inline")
        for found in inline
    )


def test_markdown_is_registered() -> None:
    """Given the renderers, when asked for md, then this one is meant."""
    assert RENDERERS["md"](every_block()) == render_markdown(every_block())


def test_a_report_reads_as_it_was_approved() -> None:
    """Given one of each block, when rendered, then the text is the approved one, without charts."""
    notes = Notes(
        (Note(Severity.WARNING, "The loss jumped. [loss_spike]", ("1. Look at it.",)), Note(Severity.INFO, "b"))
    )
    table = Table(("", "last", "curve"), (("loss", "1.2 @ 40", LOSS), ("a|b", "-", Curve(()))), frozenset({"last"}))
    sections = (
        Section("", (Fields((Field("Model", "tiny_llama"), Field("Status", "ok"))),)),
        Section("Findings", (notes,)),
        Section("Curves", (Chart("Loss", "loss", (LOSS,)),)),
        Section("Training", (table, Fields((Field("Speed", "3 steps/s"),)))),
    )
    report = Report("monitor", "out/run.jsonl", Note(Severity.WARNING, "The loss jumped."), sections)
    assert render_markdown(report) == (
        "<!-- gradience monitor -->\n"
        "### Warning: The loss jumped.\n\n"
        "`gradience monitor` · out/run.jsonl\n\n"
        "**Model** tiny\\_llama\\\n**Status** ok\n\n"
        "#### Findings\n\n"
        "- **Warning** The loss jumped. \\[loss\\_spike\\]\n  - 1\\. Look at it.\n- **Note** b\n\n"
        "#### Training\n\n"
        "|  | last | curve |\n| --- | ---: | --- |\n"
        "| loss | 1.2 @ 40 | ██▇▆▅▄▃▂▁ |\n"
        "| a&#124;b | - |  |\n\n"
        "**Speed** 3 steps/s\n"
    )


@given(HOSTILE)
def test_no_text_is_markdown_html_or_a_link(text: str) -> None:
    """Given hostile text in every place, when read back, then the elements are those of plain text, and none links."""
    given_text = text.strip() or "x"
    out = render_markdown(every_block(given_text))
    assert shape(out) == shape(render_markdown(every_block("x" * len(given_text))))
    kinds = {token.type for token in tokens(out)}
    assert not kinds & {"link_open", "image", "code_block", "fence", "hr", "s_open"}
    raw = {token.content.strip() for token in tokens(out) if token.type in {"html_inline", "html_block"}}
    assert {item for item in raw if item not in {"<span>", "</span>"}} == {out.partition("\n")[0]}
    assert not LINKED.search(shown(out))
    assert not [char for char in out if char != "\n" and not char.isprintable()]


@given(HOSTILE)
def test_a_reader_sees_the_text(text: str) -> None:
    """Given any text in a cell, when read back, then it is there, character by character, however it was written."""
    out = render_markdown(of(Table(("a", "b"), (("x", text[:900]),))))
    cells = [token.children for token in MARKDOWN.parse(out) if token.type == "inline"]
    seen = "".join(token.content for token in cells[-1] or () if not token.type.startswith("html")).replace(
        "\u200b", ""
    )
    assert html.unescape(seen) == html.unescape(inert(text[:900]).strip())


def test_a_comment_is_never_too_long() -> None:
    """Given a report on a thousand runs, when rendered, then it fits a comment and says what was left out."""
    sections = tuple(Section(f"run {n}", (Fields((Field("Verdict", "x" * 500),)),)) for n in range(1_000))
    out = render_markdown(Report("monitor", "t", Note(Severity.INFO, "v"), sections))
    assert len(out) <= MAX_CHARACTERS + 100
    left = re.search(r"_(\d+) of 1000 sections are left out", out)
    assert left is not None
    assert out.count("#### run") == 1_000 - int(left[1])
