"""`docs/diagnostics.md` and `docs/rules/` are what the code says, down to the counts of misses and false alarms."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from gradience_analysis.adapter_check import ADAPTER_CHECKS
from gradience_analysis.catalogue import RULES
from gradience_analysis.config_check import CHECKS
from gradience_analysis.diagnostics import DIAGNOSTICS
from gradience_analysis.policy import load_policy
from gradience_emit.guard import GuardOptions

ROOT = Path(__file__).resolve().parents[2]
EXAMINATIONS = [*DIAGNOSTICS, *CHECKS, *ADAPTER_CHECKS]
COMPARISON = "adapter_overlap"  # of two adapters, which labels modules and makes no findings
GUARD = "guard"  # of a run while it trains; `gradience guard simulate` plays it over recorded ones


def name_of(examination: object) -> str:
    """Name of the module that an examination is."""
    return str(getattr(examination, "__name__", "")).rpartition(".")[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("diagnostics_docs", ROOT / "scripts" / "diagnostics_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_what_the_code_says(script: ModuleType) -> None:
    """Given docstrings, policy, catalogue and recorded trainings, when the pages are written, then none changes."""
    written = script.pages(load_policy())
    stale = [name for name, text in written.items() if (ROOT / "docs" / name).read_text(encoding="utf-8") != text]
    assert not stale, "run `python scripts/diagnostics_docs.py`"
    on_disk = {f"rules/{path.name}" for path in (ROOT / "docs" / "rules").glob("*.md")}
    assert on_disk <= written.keys(), "pages of rules that do not exist"


@pytest.mark.parametrize("examination", EXAMINATIONS, ids=name_of)
def test_an_examination_says_what_it_is(examination: ModuleType) -> None:
    """Given an examination, when read, then it has a docstring, a sentence for each code, and covers known codes."""
    first = (examination.__doc__ or "").partition("\n")[0]
    assert ": " in first, "the first line is `Name: what it answers.`"
    assert first.endswith((".", "?"))
    codes: dict[str, str] = examination.CODES
    assert codes
    assert all(text.endswith(".") for text in codes.values())
    everything = {code for one in EXAMINATIONS for code in one.CODES}
    assert set(examination.COVERS) <= everything
    assert {code for several in examination.COVERS.values() for code in several} <= everything


def test_no_two_examinations_have_one_name() -> None:
    """Given every examination, when their names are compared, then none stands twice: thresholds go by them."""
    names = [name_of(one) for one in EXAMINATIONS]
    assert len(names) == len(set(names))


def test_every_threshold_belongs_to_an_examination() -> None:
    """Given the policy, when its names are looked up, then each begins with the name of a module that exists."""
    owners = {name.partition(".")[0] for name in load_policy().thresholds}
    assert owners <= {name_of(one) for one in EXAMINATIONS} | {COMPARISON, GUARD}


def test_every_threshold_is_used() -> None:
    """Given the policy, when its names are looked for in the code, then each stands there."""
    folders = ("diagnostics", "config_check", "adapter_check", "audit")
    files = [path for folder in folders for path in (ROOT / "gradience_analysis" / folder).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = [name for name in load_policy().thresholds if name not in code]
    unused = [name for name in names if f'"{name.partition(".")[2]}"' not in code]
    options = {f"{GUARD}.{field.name}" for field in dataclasses.fields(GuardOptions)}
    assert set(unused) <= options


def test_every_rule_has_code_that_follows_it() -> None:
    """Given the 80 rules, when their codes are looked up, then an examination of each stage that asks it makes them."""
    made = {code for one in EXAMINATIONS for code in one.CODES}
    assert {rule.code for rule in RULES} <= made
