"""GitHub annotations: read back by the rules of the runner, which no text from files may bend."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given

from gradience_analysis.model import Issue
from gradience_analysis.model.report import Result
from gradience_analysis.render import render_github
from gradience_schema import Severity
from tests.analysis.render.judged import PLAIN, STEERS, fault, hostile_results, judged, result


class Command(NamedTuple):
    """A workflow command as the runner understands it."""

    name: str
    properties: dict[str, str]
    message: str


def command_in(line: str) -> Command | None:
    """What the runner makes of a line: `::name key=value,key=value::message` at its start, else nothing."""
    text = line.lstrip()
    if not text.startswith("::"):
        return None
    head, found, message = text[2:].partition("::")
    if not found:
        return None
    name, _, given = head.partition(" ")
    pairs = [pair.partition("=") for pair in given.split(",") if pair.strip()]
    properties = {key.strip(): decoded(value, more=True) for key, _, value in pairs}
    return Command(name, properties, decoded(message))


def decoded(text: str, *, more: bool = False) -> str:
    """The text that an escaped one stands for."""
    for escape, char in (("%0D", "\r"), ("%0A", "\n"), *((("%3A", ":"), ("%2C", ",")) if more else ())):
        text = text.replace(escape, char)
    return text.replace("%25", "%")


def commands(text: str) -> tuple[str, list[Command]]:
    """The line for the log, and the annotations after it, once each line was seen to be exactly one."""
    assert text.endswith("\n")
    first, *rest = text[:-1].split("\n")
    assert command_in(first) is None
    assert "##[" not in first
    found = [command_in(line) for line in rest]
    assert None not in found
    return first, [one for one in found if one is not None]


def test_annotations_stand_at_their_lines() -> None:
    """Given two issues and an unreadable file, when rendered, then each is an annotation in its place."""
    report = judged(
        result("a.jsonl", unmeasured="a.jsonl: is a FIFO."),
        result("b.jsonl", fault(path="b.jsonl", line=3), fault(Severity.INFO, "crlf", "b.jsonl", None)),
    )
    first, found = commands(render_github(report))
    assert first == "gradience validate: Some words."
    assert found == [
        Command("error", {"file": "a.jsonl", "title": "not read"}, "a.jsonl: is a FIFO."),
        Command("error", {"file": "b.jsonl", "line": "3", "title": "invalid_json"}, "is bad on line 3. (byte 300)"),
        Command("notice", {"file": "b.jsonl", "title": "crlf"}, "is bad on line None."),
    ]


def test_a_report_without_findings_has_no_annotation() -> None:
    """Given clean results, when rendered, then there is the verdict and nothing else."""
    assert render_github(judged(result("a.jsonl"))) == "gradience validate: Some words.\n"


def test_ten_fit_and_of_eleven_the_worst_nine_are_shown() -> None:
    """Given 10 and 11 issues, when rendered, then 10 are shown, or the worst 9 and how many more there are."""
    ten = [fault(Severity.WARNING, line=line) for line in range(1, 11)]
    assert [one.name for one in commands(render_github(judged(result("a", *ten))))[1]] == ["warning"] * 10
    _, found = commands(render_github(judged(result("a", *ten, fault(line=99)))))
    assert len(found) == 10
    assert found[0].properties["line"] == "99"
    assert found[-1] == Command("warning", {"title": "gradience validate"}, "2 more: 2 warnings.")


def test_what_was_not_kept_is_counted_among_the_rest() -> None:
    """Given 5 kept of 1,005 errors and 40 files that cannot be read, when rendered, then all are in the numbers."""
    many = result("a", *[fault(line=line) for line in range(1, 6)], more=1000)
    _, found = commands(render_github(judged(many)))
    assert len(found) == 6
    assert found[-1].message == "1,000 more: 1,000 errors."
    _, found = commands(render_github(judged(*(result(f"{n}", unmeasured="gone") for n in range(40)), many)))
    assert [one.message for one in found] == ["gone"] * 9 + ["1,036 more: 31 not read, 1,005 errors."]


def test_each_code_and_file_has_its_turn() -> None:
    """Given a file with 50 issues of one code and others with one, when rendered, then the others are shown."""
    flood = result("flood", *[fault(path="flood", line=line) for line in range(1, 51)])
    others = [result(name, fault(code=name, path=name)) for name in ("x", "y", "z")]
    _, found = commands(render_github(judged(flood, *others)))
    assert [one.properties.get("file") for one in found[:4]] == ["flood", "x", "y", "z"]


@given(hostile_results())
def test_no_text_from_files_starts_a_command(results: Sequence[Result]) -> None:
    """Given hostile text in every field, when read as the runner reads it, then the commands are ours alone."""
    text = render_github(judged(*results, text="::error::x\n::add-mask::y ##[error]z"))
    _, found = commands(text)
    total = sum(bool(one.unmeasured) for one in results) + sum(count.count for one in results for count in one.counts)
    assert len(found) <= 10
    assert bool(found) == bool(total)
    for one in found:
        assert one.name in {"error", "warning", "notice"}
        assert set(one.properties) <= {"file", "line", "title"}
        assert one.properties.get("line", "1").isdigit()
    assert not {unicodedata.category(char) for char in text if char != "\n"} & STEERS


@given(PLAIN, PLAIN)
def test_plain_text_comes_back_as_it_was(path: str, message: str) -> None:
    """Given any printable path and message, when read back, then they are the same."""
    _, (found,) = commands(render_github(judged(result(path, unmeasured=message))))
    assert (found.properties["file"], found.message) == (path, message)


def test_the_signs_of_the_format_itself_come_back_as_they_were() -> None:
    """Given a path and a message made of the format's own signs, when read back, then they are the same."""
    path, message = "a::b,c=d%0A::error file=x::%25.jsonl", "100% of %0A::error::x, y: %25"
    for one in (result(path, unmeasured=message), result(path, Issue("x", Severity.ERROR, message, path))):
        _, (found,) = commands(render_github(judged(one)))
        assert (found.properties["file"], found.message) == (path, message)
