"""The page: a tree that needs no mending, one place where text becomes markup, nothing that runs or is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given

from gradience_analysis.model import Chart, Curve, Field, Fields, Mark, Note, Notes, Report, Section, Table
from gradience_analysis.render import RENDERERS
from gradience_analysis.render.html import GENERATOR, MAX_DATA, render_html
from gradience_analysis.render.page.markup import MAX_TEXT, Markup, element, lines
from gradience_schema import Severity
from tests.analysis.render.blocks import LOSS, WARNED, every_block, of
from tests.analysis.render.dom import Node, parse
from tests.analysis.render.judged import HOSTILE, STEERS

# Attributes that hold text of a report; every other value is of our own making.
TEXTS = frozenset({"aria-label", "title", "data-label"})


def shape(node: Node) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    """The tree without its text: tags, attributes, and the values that hold no text of the report."""
    return [
        (one.tag, tuple((name, None if name in TEXTS else value) for name, value in one.attributes.items()))
        for one in node.all()
    ]


def test_html_is_registered() -> None:
    """Given the renderers, when asked for html, then this one is meant."""
    assert RENDERERS["html"](every_block()) == render_html(every_block())


def test_the_page_stands_alone() -> None:
    """Given every block, when rendered, then nothing runs or is fetched, and one style sheet applies by its hash."""
    page = render_html(every_block())
    root = parse(page)
    assert page.startswith('<!doctype html>\n<html lang="en">')
    (style,) = root.all("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    metas = {node.attributes.get("http-equiv") or node.attributes.get("name"): node for node in root.all("meta")}
    assert metas["Content-Security-Policy"].attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert metas["viewport"].attributes["content"] == "width=device-width, initial-scale=1"
    assert root.one("head").children[0].attributes == {"charset": "utf-8"}
    assert GENERATOR in page[:1_000]
    assert not {"script", "img", "link", "iframe", "object", "base", "form", "use", "image"} & {
        n.tag for n in root.all()
    }
    for node in root.all():
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            assert name not in {"style", "src", "srcset", "xlink:href", "action"}
            assert name != "href" or re.fullmatch(r"#(s\d+|note-\d+)", value or "")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_the_page_is_in_order() -> None:
    """Given every block, when rendered, then headings are in order, ids are unique, and references meet one."""
    root = parse(render_html(every_block()))
    levels = [int(node.tag[1]) for node in root.all() if re.fullmatch(r"h[1-6]", node.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [node.attributes["id"] for node in root.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for node in root.all():
        for name in ("aria-labelledby", "href"):
            for target in (node.attributes.get(name) or "").split():
                assert target.removeprefix("#") in ids
    for node in root.all("svg"):
        named = node.attributes.get("aria-label") or node.attributes.get("aria-labelledby")
        assert node.attributes.get("aria-hidden") or named or "curves" in node.classes
    for node in root.all("thead"):
        assert all(cell.attributes["scope"] == "col" for cell in node.all("th"))
    assert [cell.attributes["scope"] for body in root.all("tbody") for cell in body.all("th")] == ["row", "row"]


def test_the_verdict_comes_first() -> None:
    """Given a report, when rendered, then its verdict is the first heading, and the title says it too."""
    for severity, word in ((Severity.INFO, "OK"), (Severity.CRITICAL, "Critical")):
        root = parse(render_html(Report("check", "a.json", Note(severity, "It is so.", ("Because.",)), ())))
        assert root.one("h1").text == f"{word} It is so." or root.one("h1").text == f" It is so.{word}"
        assert root.one("title").text == f"{word} · a.json · gradience check"
        assert root.one("body").children[0].tag == "header"


@given(HOSTILE)
def test_no_text_changes_the_tree(text: str) -> None:
    """Given hostile text in every place, when rendered, then the tree is that of plain text and nothing steers."""
    page = render_html(every_block(text or "x"))
    plain = render_html(every_block("x" * len(text or "x")))
    assert shape(parse(page)) == shape(parse(plain))
    style = parse(page).one("style").text
    assert not [char for char in page.replace(style, "") if char != "\n" and unicodedata.category(char) in STEERS]


def test_text_is_shown_as_it_is() -> None:
    """Given markup in a value, when rendered, then a reader sees those very characters."""
    root = parse(render_html(of(Fields((Field("a & b", "<b>\"x\" &amp; 'y'</b>"),)))))
    assert root.one("dt").text == "a & b"
    assert root.one("dd").text == "<b>\"x\" &amp; 'y'</b>"


def test_a_long_text_is_cut_and_says_so() -> None:
    """Given a text of a million characters, when rendered, then the page stays small and says how long it was."""
    page = render_html(of(Fields((Field("x", "y" * 1_000_000),))))
    assert len(page) < 30_000
    assert f"{'y' * MAX_TEXT}… (1,000,000 characters)" in page


def test_escaping_cannot_be_forgotten() -> None:
    """Given strings and markup, when put into elements, then only what an element made is left as it is."""
    inner = element("b", "<i>")
    assert inner == "<b>&lt;i&gt;</b>"
    assert element("p", inner, "<i>", None, "") == "<p><b>&lt;i&gt;</b>&lt;i&gt;</p>"
    assert element("p", class_="a\"b'<", data_x=None, tabindex=0) == '<p class="a&quot;b&#39;&lt;" tabindex="0"></p>'
    assert not isinstance(inner + "<i>", Markup)
    assert element("p", inner + "<i>") == "<p>&lt;b&gt;&amp;lt;i&amp;gt;&lt;/b&gt;&lt;i&gt;</p>"
    assert lines(["<", inner]) == "&lt;\n<b>&lt;i&gt;</b>"


def test_the_data_are_in_the_page_as_text() -> None:
    """Given an artifact, when small, then the page carries it, folded; when large, the page says how to get it."""
    report = Report("monitor", "t", Note(Severity.INFO, "v"), (), {"schema": "x/v1", "a": ["</pre><script>", math.nan]})
    root = parse(render_html(report))
    assert json.loads(root.one("pre").text) == {
        "schema": "x/v1", "a": ["</pre><script>", None], "nonfinite": {"/a/1": "nan"},
    }  # fmt: skip
    assert root.one("details").attributes == {}
    large = Report("monitor", "t", Note(Severity.INFO, "v"), (), {"a": "x" * MAX_DATA})
    root = parse(render_html(large))
    assert not list(root.all("pre"))
    assert "--format json writes them" in root.one("footer").text


def test_a_mark_has_the_number_of_the_note_that_says_it() -> None:
    """Given notes and marks, when rendered, then a marked note has a number, and the chart and its list show it."""
    chart = Chart(
        "Loss", "loss", (LOSS,), (Mark(20.0, Severity.WARNING, WARNED), Mark(30.0, Severity.ERROR, "Something else."))
    )
    notes = Notes((Note(Severity.INFO, "Not in a chart."), Note(Severity.WARNING, f"{WARNED} [loss_spike]")))
    root = parse(render_html(of(notes, chart)))
    (badge,) = [node for node in root.all("li") if node.attributes.get("id") == "note-1"]
    assert "The loss jumped" in badge.text
    marks = [node for node in root.all("g") if "mark" in node.classes]
    assert [(node.classes - {"mark"}, node.one("text").text, node.one("title").text) for node in marks] == [
        ({"warning"}, "1", f"20: {WARNED}"),
        ({"error"}, "2", "30: Something else."),
    ]
    assert [node.one("line").attributes["x1"] for node in marks] == ["50%", "75%"]
    (listed,) = [node for node in root.all("ul") if "marked" in node.classes]
    assert [node.text for node in listed.all("li")] == [" step 201", " step 30: Something else.2"]
    assert listed.one("a").attributes["href"] == "#note-1"


def test_numbers_that_would_touch_stand_in_rows() -> None:
    """Given marks close together, when drawn, then numbers are above each other, each once, and few in one place."""
    labels = ("a", "a", "b", "c", "d", "e")
    marks = tuple(Mark(20.0 + place / 10, Severity.WARNING, label) for place, label in enumerate(labels))
    root = parse(render_html(of(Chart("Loss", "loss", (LOSS,), (*marks, Mark(40.0, Severity.ERROR, "a"))))))
    drawn = [node for node in root.all("g") if "mark" in node.classes]
    badges = [[(circle.attributes["cx"], circle.attributes["cy"]) for circle in node.all("circle")] for node in drawn]
    assert badges == [
        [("50%", "-10")], [], [("50.5%", "-28")], [("50.75%", "-46")], [("51%", "-64")], [], [("100%", "-10")],
    ]  # fmt: skip
    assert all(len(list(node.all("line"))) == 1 for node in drawn)
    (plot,) = [node for node in root.all("div") if "plot" in node.classes]
    assert "rows4" in plot.classes


def test_marks_of_two_runs_belong_to_their_own_notes() -> None:
    """Given the same finding in two parts of a report, when rendered, then each chart refers to the note beside it."""
    chart = Chart("Loss", "loss", (LOSS,), (Mark(20.0, Severity.WARNING, WARNED),))
    parts = tuple(Section(name, (Notes((Note(Severity.WARNING, WARNED),)), Chart(**fields(chart)))) for name in "ab")
    table = Section("Overview", (Table(("run", "findings"), (("a", "1"), ("b", "1"))),))
    root = parse(render_html(Report("monitor", "2 runs", Note(Severity.WARNING, "v"), (table, *parts))))
    marks = [node.one("text").text for node in root.all("g") if "mark" in node.classes]
    assert marks == ["1", "2"]
    assert [node.attributes["href"] for node in root.all("a")] == ["#s1", "#s2", "#note-1", "#note-2"]


def fields(chart: Chart) -> dict[str, object]:
    """What it takes to make an equal chart that is another object."""
    return {name: getattr(chart, name) for name in ("title", "y_label", "curves", "marks", "x_label", "log")}


def test_sections_that_a_table_names_begin_parts() -> None:
    """Given an overview that names sections, when rendered, then it links to them, and what follows is below them."""
    sections = (
        Section("Overview", (Table(("run",), (("a<b",), ("c",))),)),
        Section("a<b", (Fields((Field("Verdict", "fine"),)),)),
        Section("Training", ()),
        Section("c", ()),
        Section("Training", ()),
    )
    root = parse(render_html(Report("monitor", "2 runs", Note(Severity.INFO, "v"), sections)))
    found = [(node.tag, node.text) for node in root.all() if node.tag in {"h2", "h3"}]
    assert found == [("h2", "Overview"), ("h2", "a<b"), ("h3", "Training"), ("h2", "c"), ("h3", "Training")]
    assert [(node.text, node.attributes["href"]) for node in root.all("a")] == [("a<b", "#s1"), ("c", "#s3")]


@pytest.mark.parametrize(
    "curve",
    [
        Curve((), "nothing"),
        Curve(((1.0, 2.0),), "one point"),
        Curve(((1.0, math.nan), (2.0, math.inf)), "nothing finite"),
        Curve(tuple((float(x), 0.0) for x in range(100)), "zeros"),
        Curve(((0.0, -1e308), (1.0, 1e308)), "from end to end"),
        Curve(((0.0, 5e-324), (1.0, 1e-323)), "hardly anything"),
        Curve(((0.0, 1.0), (0.0, 2.0), (0.0, 3.0)), "one x"),
        Curve(((3.0, 1.0), (1.0, math.nan), (2.0, 2.0)), "out of order"),
        Curve(((-1e308, 1.0), (math.nan, 2.0), (math.inf, 3.0), (5.0, 4.0)), "x without a place"),
        Curve(((10**400, 1.0), (1, 2.0), (2, 3.0)), "an x that is no double"),
        Curve(tuple((float(x), math.nan if x % 2 else 1.0) for x in range(9_000)), "every other value"),
    ],
    ids=lambda curve: curve.label,
)
@pytest.mark.parametrize("log", [False, True])
def test_any_curve_can_be_drawn(curve: Curve, log: bool) -> None:
    """Given odd curves, when drawn on both scales and in a table, then every place is inside the picture."""
    marks = (Mark(2.0, Severity.INFO, "a"), Mark(math.nan, Severity.INFO, "b"), Mark(1e308, Severity.INFO, "c"))
    chart = Chart("T", "y", (curve, Curve((), "empty")), marks, log=log)
    root = parse(render_html(of(chart, Table(("a", "curve"), (("x", curve),)), curve)))
    for node in root.all("path"):
        if any("curves" in one.classes for one in root.all("svg") if node in one.children):
            x = y = 0
            for move in re.findall(r"[Mlv][^Mlv]*", node.attributes["d"] or ""):
                numbers = [int(word) for word in re.findall(r"-?\d+", move)]
                if move[0] == "v":
                    y += numbers[0]
                elif move[0] == "M":
                    x, y = numbers
                else:
                    for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
                        x, y = x + dx, y + dy
                        assert 0 <= x <= 2000
                        assert 0 <= y <= 1000
                assert 0 <= x <= 2000
                assert 0 <= y <= 1000
    for node in root.all():
        for name in ("x", "x1", "x2", "cx", "y1", "y2"):
            value = node.attributes.get(name) or "0"
            assert re.fullmatch(r"-?\d+(\.\d+)?%?", value), value


def test_a_spike_survives_thinning() -> None:
    """Given 100,000 points with one spike and one gap, when drawn, then both are in a page that stays small."""
    points = [(float(x), 1.0 + (x % 7) / 10) for x in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    points[77_777] = (77_777.0, math.nan)
    page = render_html(
        of(Chart("T", "y", (Curve(tuple(points), "c"),)), Table(("", "c"), (("a", Curve(tuple(points))),)))
    )
    assert len(page) < 60_000
    root = parse(page)
    (drawn,) = [node for node in root.all("path") if "dense" in node.classes]
    start, moves = re.findall(r"M(\d+ \d+)l(.*?)(?=M|$)", drawn.attributes["d"] or "")[0]
    x, y = map(int, start.split())
    heights = {}
    numbers = [int(word) for word in re.findall(r"-?\d+", moves)]
    for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
        x, y = x + dx, y + dy
        heights[x] = min(y, heights.get(x, 1000))
    top = min(heights, key=lambda place: heights[place])
    assert top == round(54_321 / 99_999 * 2000)
    assert heights[top] <= 1000 * (1 - 9 / 10) + 1
    (gap,) = [node for node in root.all("path") if node.classes == {"gap"}]
    assert gap.attributes["d"] == f"M{round(77_777 / 99_999 * 2000)} 1000v-45"


def test_curves_of_one_name_look_the_same_in_every_chart() -> None:
    """Given charts that share curves, when drawn, then a name has one look, and the x axes are the same."""
    short = Curve(((10.0, 1.0), (20.0, 2.0)), "val")
    charts = (Chart("Loss", "loss", (LOSS, short)), Chart("Perplexity", "ppl", (short,)))
    root = parse(render_html(of(*charts)))
    figures = list(root.all("figure"))
    looks = [
        [node.classes & {"c1", "c2"} for node in figure.all("path") if "line" in node.classes] for figure in figures
    ]
    assert looks == [[{"c1"}, {"c2"}], [{"c2"}]]
    axes = [[node.text for node in figure.all("text") if node.classes == {"x"}] for figure in figures]
    assert axes[0] == axes[1] == ["step 0", "10", "20", "30", "40"]
