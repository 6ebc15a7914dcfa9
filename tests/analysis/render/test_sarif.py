"""SARIF 2.1.0: the properties that the standard requires and allows, the limits, and text that is only text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given

from gradience_analysis.model import Issue
from gradience_analysis.model.report import Result
from gradience_analysis.render import render_sarif
from gradience_schema import Severity
from tests.analysis.render.judged import PLAIN, STEERS, fault, hostile_results, judged, result

# Of each object: the properties it must have, and those of the standard that it may have besides.
OBJECTS: dict[str, tuple[set[str], set[str]]] = {
    "log": ({"version", "runs"}, {"$schema"}),
    "run": ({"tool"}, {"results", "invocations", "automationDetails"}),
    "tool": ({"driver"}, set()),
    "driver": ({"name"}, {"rules", "version", "informationUri"}),
    "rule": ({"id"}, {"shortDescription", "fullDescription", "help"}),
    "result": ({"message"}, {"ruleId", "ruleIndex", "level", "locations"}),
    "location": (set(), {"physicalLocation"}),
    "physical": (set(), {"artifactLocation", "region"}),
    "artifact": (set(), {"uri", "uriBaseId"}),
    "region": (set(), {"startLine", "byteOffset"}),
    "invocation": ({"executionSuccessful"}, {"toolExecutionNotifications"}),
    "notification": ({"message"}, {"level", "locations"}),
    "message": ({"text"}, set()),
    "details": (set(), {"id"}),
}
URI = re.compile(r"(?:file:///)?(?:[A-Za-z0-9\-._~!$&'()*+,;=@/]|%[0-9A-F]{2})*")
LEVELS = {"none", "note", "warning", "error"}


def has(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    """The object, after its properties were held against the standard."""
    required, allowed = OBJECTS[kind]
    assert required <= set(value) <= required | allowed, (kind, sorted(value))
    return value


def run_of(text: str) -> dict[str, Any]:
    """The one run of a log, after the whole of it was held against the standard."""
    log = has("log", json.loads(text, parse_constant=pytest.fail))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    has("run", run)
    has("details", run["automationDetails"])
    rules = [has("rule", rule) for rule in has("driver", has("tool", run["tool"])["driver"])["rules"]]
    for rule in rules:
        assert all(is_message(rule[key]) for key in ("shortDescription", "fullDescription", "help") if key in rule)
    for one in run["results"]:
        has("result", one)
        assert is_message(one["message"])
        assert one["level"] in LEVELS
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        assert all(is_location(location) for location in one["locations"])
    for invocation in run["invocations"]:
        assert isinstance(has("invocation", invocation)["executionSuccessful"], bool)
        for told in invocation["toolExecutionNotifications"]:
            has("notification", told)
            assert is_message(told["message"])
            assert told["level"] in LEVELS
            assert all(is_location(location) for location in told.get("locations", ()))
    return run  # type: ignore[no-any-return]


def is_message(value: dict[str, Any]) -> bool:
    """Whether an object is a message without a link and without a placeholder."""
    text = has("message", value)["text"]
    bare = re.sub(r"\\[\\\[\]]", "", text)
    return isinstance(text, str) and not re.search(r"[\\\[\]]", bare) and not re.search(r"(?<!\{)\{\d+\}(?!\})", bare)


def is_location(value: dict[str, Any]) -> bool:
    """Whether an object is a location with a well-formed URI, and a region that the standard allows."""
    physical = has("physical", has("location", value)["physicalLocation"])
    artifact = has("artifact", physical["artifactLocation"])
    region = has("region", physical.get("region", {"startLine": 1}))
    whole = isinstance(region["startLine"], int) and region["startLine"] >= 1 and region.get("byteOffset", 0) >= 0
    absolute = artifact["uri"].startswith("file:///")
    return whole and bool(URI.fullmatch(artifact["uri"])) and absolute == ("uriBaseId" not in artifact)


def shown(message: dict[str, str]) -> str:
    """The text that a viewer shows."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"\{\{(\d+)\}\}", r"{\1}", message["text"]))


def test_results_have_rules_levels_and_regions() -> None:
    """Given an error, a warning and a remark on a file, when rendered, then each has its rule, level and place."""
    issues = (fault(line=12), fault(Severity.WARNING, "seq", line=3), fault(Severity.INFO, "whole", line=None))
    run = run_of(render_sarif(judged(result("run.jsonl", *issues))))
    places = [one["locations"][0]["physicalLocation"] for one in run["results"]]
    assert [(one["ruleId"], one["level"]) for one in run["results"]] == [
        ("invalid_json", "error"), ("seq", "warning"), ("whole", "note"),
    ]  # fmt: skip
    assert [place.get("region") for place in places] == [
        {"startLine": 12, "byteOffset": 1200}, {"startLine": 3, "byteOffset": 300}, None,
    ]  # fmt: skip
    assert places[0]["artifactLocation"] == {"uri": "run.jsonl", "uriBaseId": "%SRCROOT%"}
    assert run["tool"]["driver"]["rules"][0]["help"] == {"text": "Write JSON."}
    assert run["tool"]["driver"]["rules"][1]["shortDescription"] == {"text": "seq"}
    assert run["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]


def test_what_cannot_be_read_is_a_failed_execution() -> None:
    """Given an unreadable file, when rendered, then the run was not successful and a notification says why."""
    run = run_of(render_sarif(judged(result("a b.jsonl", unmeasured="a b.jsonl: is a FIFO."))))
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    (told,) = invocation["toolExecutionNotifications"]
    assert (told["level"], told["message"]["text"]) == ("error", "a b.jsonl: is a FIFO.")
    assert told["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.jsonl"


def test_at_most_five_thousand_results_the_worst_of_them() -> None:
    """Given 6,001 kept and 100 further issues, when rendered, then 5,000 are there and the rest is counted."""
    issues = [fault(Severity.WARNING, line=line) for line in range(1, 6001)]
    run = run_of(render_sarif(judged(result("a", *issues, more=100), result("b", fault(path="b")))))
    assert len(run["results"]) == 5000
    assert run["results"][0]["level"] == "error"
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"] == "1,101 more issues of severity warning not listed here."


@pytest.mark.parametrize("text", ["x" * 5000, "\u202e" * 5000, "[" * 5000, "模" * 5000])
def test_at_most_ten_megabytes(text: str) -> None:
    """Given 5,000 issues of endless text and 300 unreadable files, when rendered, then it is below 10 MB and whole."""
    path = "模" * 1300
    issues = [Issue("invalid_json", Severity.ERROR, text, path, line, 0) for line in range(1, 5001)]
    unread = [result(path, unmeasured=text)] * 300
    document = render_sarif(judged(result(path, *issues), *unread))
    assert len(document.encode()) <= 10_000_000
    run = run_of(document)
    told = [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    left = 5000 - len(run["results"])
    assert run["results"]
    assert told[-1] == f"{left:,} more issues of severity error not listed here."
    assert "200 more files could not be read." in told


@given(hostile_results())
def test_no_text_from_files_breaks_the_document(results: Sequence[Result]) -> None:
    """Given hostile text in every field, when held against the standard, then it keeps it, and nothing steers."""
    text = render_sarif(judged(*results))
    assert text.isascii()
    run = run_of(text)
    assert len(run["results"]) == sum(len(one.issues) for one in results)
    words = [one["message"]["text"] for one in run["results"]] + [one["ruleId"] for one in run["results"]]
    assert not {unicodedata.category(char) for word in words for char in word} & STEERS


@given(PLAIN, PLAIN)
def test_plain_text_comes_back_as_it_was(path: str, message: str) -> None:
    """Given any printable path and message, when read as a viewer does, then they are the same."""
    run = run_of(render_sarif(judged(result(path, Issue("x", Severity.ERROR, message, path, 1, 0)))))
    (one,) = run["results"]
    uri = one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    parts = urlsplit(uri)
    assert unquote(parts.path).lstrip("/") == path.lstrip("/")
    assert (parts.netloc, parts.query, parts.fragment) == ("", "", "")
    assert shown(one["message"]) == message
