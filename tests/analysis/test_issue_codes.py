"""The codes of issues: those in the source, those that are explained, and those in the documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradience_analysis
from gradience_analysis.reports.issue_codes import GROUPS, meanings
from gradience_schema import Severity

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "validating.md"
ROOMS = ("sources", "telemetry", "importers", "tables", "runs")
SLUG = re.compile(r"[a-z]+(_[a-z0-9]+)*")
# Classes whose first argument is a code, beside a sentence and not beside a severity.
FAULTS = {"UndecodableError", "Tolerated", "Fault"}


def constant(node: ast.expr | None) -> str | None:
    """A slug that stands there as a literal, or None."""
    text = node.value if isinstance(node, ast.Constant) else None
    return text if isinstance(text, str) and SLUG.fullmatch(text) else None


def severity(node: ast.expr) -> str | None:
    """`error` for `Severity.ERROR`, else None."""
    is_one = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Severity"
    return node.attr.lower() if is_one and isinstance(node, ast.Attribute) else None


def codes_in(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Each code that a module can give, with its severity where it stands beside it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for before, after in zip(node.args, node.args[1:], strict=False):
                if constant(before) and severity(after):
                    yield str(constant(before)), severity(after)
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in FAULTS and node.args and constant(node.args[0]):
                yield str(constant(node.args[0])), None
        elif isinstance(node, ast.ClassDef):
            values = {
                target.id: item.value
                for item in node.body
                if isinstance(item, ast.Assign)
                for target in item.targets
                if isinstance(target, ast.Name)
            }
            if "code" in values and "severity" in values:
                yield str(constant(values["code"])), severity(values["severity"])
        elif isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["_CODES"]:
            assert isinstance(node.value, ast.Dict)
            yield from ((str(constant(value)), None) for value in node.value.values)


def in_source() -> dict[str, set[str]]:
    """Every code of the readers, with the severities that stand beside it."""
    found: dict[str, set[str]] = {}
    folder = Path(gradience_analysis.__file__).parent
    for path in (path for room in ROOMS for path in (folder / room).rglob("*.py")):
        for code, level in codes_in(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(code, set()).update({level} if level else set())
    return found


def in_page() -> dict[str, tuple[str, str, str]]:
    """Every code of the documentation: its severity, what it stands for, what to do."""
    rows = re.findall(
        r"^\| `([a-z0-9_]+)` \| (\w+) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {code: (level, text, remedy) for code, level, text, remedy in rows}


def test_every_code_in_the_source_is_explained_and_no_other() -> None:
    """Given the readers' source, when its codes are collected, then they are those of the table."""
    explained = [meaning.code for group in GROUPS.values() for meaning in group]
    assert len(explained) == len(set(explained))
    found = in_source()
    assert len(found) > 30
    assert sorted(found) == sorted(explained)


def test_the_documentation_has_the_same_table() -> None:
    """Given docs/validating.md, when its rows are read, then code, meaning, remedy and severity are ours."""
    rows = in_page()
    explained = {meaning.code: (meaning.text, meaning.remedy) for group in GROUPS.values() for meaning in group}
    assert {code: (text, remedy) for code, (_, text, remedy) in rows.items()} == explained
    source = in_source()
    for code, (level, _, _) in rows.items():
        assert level in set(Severity)
        assert level in (source[code] or {level}), f"{code} is {source[code]} in the source"


def test_every_explanation_is_a_sentence() -> None:
    """Given each code, when its meaning and remedy are read, then both are plain sentences that fit a line."""
    for group in GROUPS.values():
        for meaning in group:
            for text in (meaning.text, meaning.remedy):
                assert text[0].isupper() or text.startswith("`"), meaning
                assert text.endswith("."), meaning
                assert len(text) <= 100, meaning


def test_meanings_come_for_the_codes_that_were_asked_for() -> None:
    """Given two known codes and an unknown one, when looked up, then the two come, in the order of the table."""
    assert [meaning.code for meaning in meanings(["seq_gap", "nonsense", "invalid_json"])] == [
        "invalid_json",
        "seq_gap",
    ]


def test_every_command_in_the_documentation_is_one_that_there_is() -> None:
    """Given docs/validating.md, when its command lines are parsed by the command line, then each option exists."""
    import shlex

    import typer.main

    from gradience_cli.app import build

    command: Any = typer.main.get_command(build())
    validate = command.commands["validate"]
    blocks = re.findall(r"^```(?:bash|yaml)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.findall(r"gradience validate (.*)", block)]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line, comments=True)
        parsed = validate.make_context("validate", words if "strict" not in line else [*words, "-"]).params
        assert parsed["paths"]
        assert parsed["fmt"] in {"text", "github", "junit", "sarif"}
