"""The 80 rules: each has a case that trips it, one near it that does not, code that makes its finding, and a page."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from gradience_analysis.catalogue import RULES, Rule, Stage, rule
from gradience_analysis.catalogue.rule import Category
from tests.rules.case import Case

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
MODULES = sorted(path.stem for path in FOLDER.glob("cases_*.py"))
IDS = [one.id for one in RULES]
LETTERS = {
    Category.DATA: "D",
    Category.MODEL: "M",
    Category.GPU: "G",
    Category.CONFIG: "C",
    Category.PROCESS: "P",
    Category.FILE: "Q",
    Category.FLOW: "T",
    Category.CODE: "V",
}


def cases() -> dict[str, Case]:
    """Every case of every module of cases; a rule has one."""
    found: dict[str, Case] = {}
    for name in MODULES:
        several: dict[str, Case] = importlib.import_module(f"tests.rules.{name}").CASES
        twice = found.keys() & several.keys()
        assert not twice, f"{name} has cases of rules that have theirs elsewhere: {sorted(twice)}"
        found |= several
    return found


CASES = cases()


def test_there_are_ten_rules_of_each_of_eight_categories() -> None:
    """Given the catalogue, when its rules are counted, then there are ten of each category, named by its letter."""
    assert [f"{letter}{number:02d}" for letter in LETTERS.values() for number in range(1, 11)] == IDS
    assert all(LETTERS[one.category] == one.id[0] for one in RULES)
    assert len({one.code for one in RULES}) == len(RULES)


def test_every_rule_has_its_cases() -> None:
    """Given the modules of cases, when put together, then every rule is there and nothing else."""
    assert sorted(CASES) == sorted(IDS), f"add a Case to one of tests/rules/cases_*.py: {set(IDS) ^ set(CASES)}"


@pytest.mark.parametrize("identifier", IDS)
def test_rule_trips_on_its_fixture(identifier: str, tmp_path: Path) -> None:
    """Given input that breaks a rule, when examined, then a finding follows the rule, with its code and severity."""
    expected = rule(identifier)
    mine = [finding for finding in CASES[identifier].trips(tmp_path) if finding.rule == identifier]
    assert mine, f"no finding follows {identifier}"
    for finding in mine:
        assert finding.code == expected.code
        assert finding.severity in expected.severities
        assert finding.message.endswith(".")
        assert finding.advice or finding.changes, "a rule says what to do"
        assert finding.evidence, "a finding rests on numbers"
        assert finding.basis, "a confidence has its basis"


@pytest.mark.parametrize("identifier", IDS)
def test_rule_does_not_trip_beside_it(identifier: str, tmp_path: Path) -> None:
    """Given input close to the limit of a rule, when examined, then no finding follows the rule."""
    assert not [finding for finding in CASES[identifier].passes(tmp_path) if finding.rule == identifier]


@pytest.mark.parametrize("one", RULES, ids=IDS)
def test_rule_says_what_is_wrong_and_what_to_do(one: Rule) -> None:
    """Given a rule, when read, then title and fix are sentences, and it has a stage and a severity."""
    assert one.title.endswith(".")
    assert one.fix.endswith(".")
    assert one.stages
    assert set(one.stages) <= set(Stage)
    assert one.severities


@pytest.mark.parametrize("one", RULES, ids=IDS)
def test_rule_has_its_page(one: Rule) -> None:
    """Given a rule, when its page is looked for, then it is there, and names the code of its findings."""
    page = ROOT / "docs" / "rules" / f"{one.id}.md"
    assert page.is_file(), "run `python scripts/diagnostics_docs.py`"
    assert one.code in page.read_text(encoding="utf-8")
