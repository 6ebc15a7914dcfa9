"""R15: text from files never drives the terminal, a page, a comment or a log of continuous integration."""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pyte
import pytest
from markdown_it import MarkdownIt

from gradience_analysis.model import Report
from gradience_analysis.policy import load_policy
from gradience_analysis.render import RENDERERS
from gradience_analysis.reports.monitor import monitor_report
from gradience_analysis.reports.validate import validate_report
from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.validate import validate
from gradience_cli.terminal import render_text
from tests.analysis.records import write
from tests.analysis.render.dom import Node, parse, start_tags
from tests.cli.command import gradience
from tests.reliability.browser import browser, dump, serving
from tests.reliability.hostile_text import OWNED, harmless, hostile_run, payloads

PAYLOADS = payloads()
STEERS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Attributes of a page that hold text of a report.
TEXTS = frozenset({"aria-label", "title", "data-label"})
WIDTH = 100
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
POLICY = load_policy()


def named(text: str) -> str:
    """A payload as the name of a test."""
    return f"{PAYLOADS.index(text):03}"


every_payload = pytest.mark.parametrize("text", PAYLOADS, ids=named)


@cache
def report(text: str) -> Report:
    """The monitor report, in full, of a run with this text in every field."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "run.jsonl", hostile_run(text))
        return monitor_report([load_run(path)], POLICY, verbose=True, page=True)


@cache
def validation(text: str) -> Report:
    """The report of `validate` on such a run, with a broken line for good measure."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "run.jsonl", [*hostile_run(text), b'{"a": "\x1b[2J'])
        return validate_report([validate(path, max_issues=100)], [], examples=100)


def steering(output: str) -> list[str]:
    """Characters of an output that could drive what shows it."""
    if all(line.isprintable() for line in output.split("\n")):
        return []
    return [char for char in output if char != "\n" and unicodedata.category(char) in STEERS]


def lone_surrogate(text: str) -> bool:
    """Whether a text holds half a character."""
    return any(unicodedata.category(char) == "Cs" for char in text)


def alike(made: Report, plain: Report, text: str) -> None:
    """The pages have the same tree; but a lone surrogate is a fault of the record, so its page has more notes."""
    shapes = [shape(page_of(one)) for one in (made, plain)]
    if lone_surrogate(text):
        assert len(shapes[0]) > len(shapes[1])
        kinds = [{(tag, tuple(name for name, _ in attributes)) for tag, attributes in one} for one in shapes]
        assert kinds[0] <= kinds[1]
    else:
        assert shapes[0] == shapes[1]


_PAGES: dict[int, tuple[Report, str]] = {}


def page_of(made: Report) -> str:
    """Its page; many are compared with the same plain one."""
    if id(made) not in _PAGES:
        _PAGES[id(made)] = made, RENDERERS["html"](made)
    return _PAGES[id(made)][1]


@cache
def shape(page: str) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    """Every element of a page with its attributes, without the text."""
    root: Node = parse(page)
    return [
        (one.tag, tuple((name, None if name in TEXTS else value) for name, value in one.attributes.items()))
        for one in root.all()
    ]


def test_there_are_two_hundred() -> None:
    """Given the payloads, when counted, then there are at least 200, all different."""
    assert len(PAYLOADS) == len(set(PAYLOADS)) >= 200


@every_payload
def test_a_terminal_shows_text_and_does_nothing(text: str) -> None:
    """Given a payload in every field, when a terminal emulator is fed the report, then it is only lines of text."""
    for made in (report(text), validation(text)):
        output = render_text(made, width=WIDTH)
        assert steering(output) == []
        lines = output.splitlines()
        screen = pyte.HistoryScreen(WIDTH + 1, len(lines) + 2, history=10)
        mode = set(screen.mode)
        pyte.Stream(screen).feed(output.replace("\n", "\r\n"))
        assert [_bare(line) for line in screen.display][: len(lines)] == [_bare(line) for line in lines]
        assert (screen.title, screen.icon_name) == ("", "")
        assert (screen.cursor.y, screen.cursor.x, screen.cursor.hidden) == (len(lines), 0, False)
        assert screen.mode == mode
        attributes = {
            (cell.fg, cell.bg, cell.bold, cell.reverse) for row in screen.buffer.values() for cell in row.values()
        }
        assert attributes <= {("default", "default", False, False)}


def _bare(line: str) -> str:
    """A line without the marks that emulators put onto the letter before in ways of their own."""
    return "".join(char for char in unicodedata.normalize("NFD", line) if unicodedata.category(char)[0] != "M").rstrip()


@every_payload
def test_a_page_keeps_its_tree(text: str) -> None:
    """Given a payload in every field, when made a page, then its elements and attributes are those of plain text."""
    for made, plain in (
        (report(text), report(harmless(text))),
        (validation(text), validation(harmless(text))),
    ):
        alike(made, plain, text)
        assert steering(page_of(made)) == []


@every_payload
def test_a_comment_keeps_its_elements(text: str) -> None:
    """Given a payload in every field, when made a comment, then its elements are those of plain text; none links."""
    made, plain = (RENDERERS["md"](report(one)) for one in (text, harmless(text)))
    assert steering(made) == []
    found, expected = (MARKDOWN.parse(one) for one in (made, plain))
    # A comment that is too long loses its last sections, and a long text of escapes is longer than a plain one.
    if not lone_surrogate(text) and len(text) <= 1_000:
        assert [token.type for token in found] == [token.type for token in expected]
    inside = {child.type for token in found for child in token.children or ()}
    assert not inside & {"link_open", "image"}
    shown = "\n".join(child.content for token in found for child in token.children or () if child.type == "text")
    assert not re.search(r"(?<!\w)@\w|(?<!\w)#\d|://|www\.", shown)


@every_payload
def test_programs_get_whole_documents(text: str) -> None:
    """Given a payload in every field, when written for programs, then each format parses and nothing steers."""
    made, checked = report(text), validation(text)
    plain = validation(harmless(text))
    if not lone_surrogate(text):
        assert json.loads(RENDERERS["json"](made))["runs"][0]["config"]["model_name"] == text
    assert json.loads(RENDERERS["sarif"](checked))["version"] == "2.1.0"
    tags = [[node.tag for node in ET.fromstring(RENDERERS["junit"](one).encode()).iter()] for one in (checked, plain)]
    assert tags[0] == tags[1]
    commands = [[line.split(" ")[0] for line in RENDERERS["github"](one).splitlines()] for one in (checked, plain)]
    assert commands[0] == commands[1] or (lone_surrogate(text) and set(commands[0]) <= {*commands[1], "::warning"})
    for name in ("json", "sarif", "junit", "github"):
        assert steering(RENDERERS[name](checked)) == []


def check_output(output: str) -> None:
    """Every escape code is one of the styles of ours, and nothing else steers."""
    for piece in output.split("\x1b")[1:]:
        assert re.match(r"\[[0-9;]*m", piece), ascii(piece[:20])
    assert steering(output.replace("\x1b", "")) == []


def commands_on(folder: Path, texts: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command on a run of each text."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for text in texts:
        path = write(folder / "run.jsonl", hostile_run(text))
        for arguments in (
            ("monitor", "--verbose"), ("monitor", "--format", "md"), ("monitor", "--format", "html"),
            ("monitor", "--json"), ("validate",), ("validate", "--strict", "--format", "github"),
            ("validate", "--format", "sarif"), ("validate", "--format", "junit"), ("runs",), ("runs", "--json"),
        ):  # fmt: skip
            result = gradience(*arguments, path)
            assert result.returncode in {0, 1}
            check_output(result.stdout)
            check_output(result.stderr)


def test_commands_are_not_driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given one payload in twenty, when shown by each command in colour, then every escape code is a style of ours."""
    commands_on(tmp_path, PAYLOADS[::20], monkeypatch)


@pytest.mark.soak
def test_commands_are_not_driven_by_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given every payload, when shown by each command in colour, then every escape code is a style of ours."""
    commands_on(tmp_path, PAYLOADS, monkeypatch)


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
def test_a_browser_runs_nothing_and_asks_nobody(tmp_path: Path) -> None:
    """Given a page on a run for each payload, when a browser opens it, then nothing ran, and nothing was asked for."""
    program = browser()
    assert program is not None
    with serving() as server:
        texts = payloads(server.address)
        runs = [load_run(write(tmp_path / f"{n}.jsonl", hostile_run(text))) for n, text in enumerate(texts)]
        parts = {f"/{at}": monitor_report(runs[at : at + 50], POLICY, page=True) for at in range(0, len(runs), 50)}
        server.pages = {path: RENDERERS["html"](made).encode() for path, made in parts.items()}
        for path, made in parts.items():
            tree, log = dump(program, server.address + path, tmp_path / f"profile{path[1:]}")
            title = f"<title>Error · {len(made.data['runs'])} runs · gradience monitor</title>"
            assert title in tree
            assert start_tags(tree) == start_tags(server.pages[path].decode())
            assert "Refused" not in log
            assert "CONSOLE" not in log
        assert server.asked == []


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
def test_the_browser_would_have_told(tmp_path: Path) -> None:
    """Given payloads in a page that does not escape, when a browser opens it, then scripts run and load."""
    program = browser()
    assert program is not None
    with serving() as server:
        texts = [text for text in payloads(server.address) if text.startswith(("<script", "<img"))]
        server.pages["/raw"] = f"<!doctype html><title>page</title>{''.join(texts)}".encode()
        tree, _ = dump(program, f"{server.address}/raw", tmp_path / "profile")
    assert f"<title>{OWNED}</title>" in tree
    assert server.asked


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
def test_the_policy_of_the_page_stops_what_escaping_missed(tmp_path: Path) -> None:
    """Given a page of ours with raw markup put in, when a browser opens it, then its policy lets nothing run."""
    program = browser()
    assert program is not None
    with serving() as server:
        raw = "".join(
            text for text in payloads(server.address) if text.startswith(("<script", "<img", "<svg", "<link"))
        )
        page = RENDERERS["html"](report("plain"))
        server.pages["/raw"] = page.replace("<main>", f"<main>{raw}").encode()
        tree, _ = dump(program, f"{server.address}/raw", tmp_path / "profile")
    assert f"<title>{OWNED}</title>" not in tree
    assert server.asked == []
