"""JUnit: what a CI server reads from it, whatever the files held."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from hypothesis import given

from gradience_analysis.model.report import Result
from gradience_analysis.render import render_junit
from gradience_schema import Severity
from tests.analysis.render.judged import HOSTILE, PLAIN, STEERS, fault, hostile_results, judged, result

CHILDREN = {"failure", "error", "system-out"}


def suite(text: str) -> ET.Element:
    """The one test suite of the document, after its structure was checked."""
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    (found,) = root
    assert found.tag == "testsuite"
    assert {"name", "tests", "failures", "errors", "skipped"} == set(found.attrib)
    cases = list(found)
    assert [case.tag for case in cases] == ["testcase"] * len(cases)
    assert all({"classname", "name"} == set(case.attrib) and len(case) <= 1 for case in cases)
    assert {child.tag for case in cases for child in case} <= CHILDREN
    for element in (root, found):
        assert int(element.get("tests", "")) == len(cases)
        assert int(element.get("failures", "")) == len(found.findall("testcase/failure"))
        assert int(element.get("errors", "")) == len(found.findall("testcase/error"))
    return found


def test_each_file_is_a_case_with_its_outcome() -> None:
    """Given a clean, a warned, a bad and an unreadable file, when rendered, then: pass, output, failure, error."""
    report = judged(
        result("clean.jsonl"),
        result("warned.jsonl", fault(Severity.WARNING, "seq")),
        result("bad.jsonl", fault(), fault(Severity.WARNING, "seq", line=None), more=7),
        result("absent.jsonl", unmeasured="absent.jsonl: does not exist."),
    )
    clean, warned, bad, absent = suite(render_junit(report))
    assert [case.get("name") for case in (clean, bad)] == ["clean.jsonl", "bad.jsonl"]
    assert clean.get("classname") == "gradience.validate"
    assert list(clean) == []
    assert warned[0].tag == "system-out"
    assert warned[0].text == "run.jsonl:1: warning: is bad on line 1. [seq]"
    assert bad[0].attrib == {"type": "invalid_json", "message": "8 errors and 1 warning"}
    assert (bad[0].text or "").splitlines() == [
        "run.jsonl:1: error: is bad on line 1. [invalid_json]",
        "run.jsonl: warning: is bad on line None. [seq]",
        "and 7 more of invalid_json (error)",
    ]
    assert absent[0].tag == "error"
    assert absent[0].get("message") == absent[0].text == "absent.jsonl: does not exist."


def test_a_report_without_results_is_an_empty_suite() -> None:
    """Given a report that judged nothing, when rendered, then the document holds no case."""
    assert list(suite(render_junit(judged()))) == []


@given(hostile_results())
def test_no_text_from_files_breaks_the_document(results: Sequence[Result]) -> None:
    """Given hostile text in every field, when parsed back, then the cases are the results, and nothing steers."""
    text = render_junit(judged(*results))
    assert text.isascii()
    cases = suite(text)
    expected = ["error" if one.unmeasured else "failure" if one.breached else "" for one in results]
    assert [next((child.tag for child in case if child.tag != "system-out"), "") for case in cases] == expected
    words = [word for element in cases.iter() for word in (element.text or "", *element.attrib.values())]
    assert not {unicodedata.category(char) for word in words for char in word if char != "\n"} & STEERS


@given(PLAIN, HOSTILE)
def test_plain_text_comes_back_as_it_was(name: str, other: str) -> None:
    """Given any printable name beside a hostile one, when parsed back, then it is the same text."""
    plain, _ = suite(render_junit(judged(result(name, unmeasured=f"{name} is <gone> & 'lost'"), result(other))))
    assert plain.get("name") == name
    assert plain[0].text == f"{name} is <gone> & 'lost'"
