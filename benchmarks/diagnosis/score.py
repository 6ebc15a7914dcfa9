"""Scores the diagnostics on the recorded runs: recall of what was planted, and false alarms over the healthy runs.

    python -m benchmarks.diagnosis.score [--half tune|report|all] [--json | --markdown | --runs]

Needs nothing but the extra `analysis`. A planted condition counts as recalled in a run when at least one of its
expected codes is found, whatever its severity. A false alarm is a finding of warning or above in a healthy run.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.diagnosis.cells import FIXTURES, REPORT, TUNE, Cell
from benchmarks.diagnosis.conditions import CONDITIONS, Condition
from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.policy import Policy, load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity

ALL = "all"
_ALARMING = (Severity.CRITICAL, Severity.ERROR, Severity.WARNING)
_SHOWN = (*_ALARMING, Severity.INFO)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the diagnostics found in one run.

    Attributes:
        cell: Which run.
        found: Code and severity of every finding, in the order of the report.
    """

    cell: Cell
    found: tuple[tuple[str, Severity], ...]

    def recalls(self, condition: Condition) -> bool:
        """Whether one of the expected codes is among them."""
        return any(code in condition.expected for code, _ in self.found)

    @property
    def alarms(self) -> tuple[tuple[str, Severity], ...]:
        """Findings of warning or above."""
        return tuple(item for item in self.found if item[1] in _ALARMING)


@dataclass(frozen=True, slots=True)
class Score:
    """The outcomes of one condition.

    Attributes:
        condition: What is planted.
        outcomes: Its runs of the chosen half.
    """

    condition: Condition
    outcomes: tuple[Outcome, ...]

    @property
    def recalled(self) -> int:
        """Runs in which an expected finding is there."""
        return sum(outcome.recalls(self.condition) for outcome in self.outcomes)

    @property
    def alarmed(self) -> int:
        """Runs with a finding of warning or above."""
        return sum(bool(outcome.alarms) for outcome in self.outcomes)

    def codes(self, severities: Iterable[Severity] = _SHOWN) -> list[tuple[str, Severity, int]]:
        """Findings with the number of runs that have them, most frequent first."""
        wanted = set(severities)
        counts = Counter(item for outcome in self.outcomes for item in set(outcome.found) if item[1] in wanted)
        return sorted(((code, level, number) for (code, level), number in counts.items()), key=_most_first)


def _most_first(item: tuple[str, Severity, int]) -> tuple[int, int, str]:
    code, level, number = item
    return _SHOWN.index(level), -number, code


def score(half: str = ALL, *, root: Path = FIXTURES, policy: Policy | None = None) -> list[Score]:
    """Diagnose the runs of a half, or of both, by condition.

    Args:
        half: `tune` (odd seeds), `report` (even seeds) or `all`.
        root: Folder of the runs.
        policy: Thresholds; by default those that the package ships.
    """
    policy = policy or load_policy()
    return [
        Score(condition, tuple(outcome_of(cell, root, policy) for cell in condition.cells if half in {ALL, cell.half}))
        for condition in CONDITIONS
    ]


def outcome_of(cell: Cell, root: Path, policy: Policy) -> Outcome:
    """Diagnose one run."""
    findings = diagnose(load_run(cell.path(root)), DIAGNOSTICS, policy).findings
    return Outcome(cell, tuple((finding.code, finding.severity) for finding in findings))


def to_json(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the scores as plain JSON types."""
    healthy = _healthy(scores)
    return {
        "healthy": {
            "runs": len(healthy.outcomes),
            "runs_with_an_alarm": healthy.alarmed,
            "findings": [_plain(item) for item in healthy.codes()],
        },
        "conditions": [
            {
                "name": item.condition.name,
                "planted": item.condition.planted,
                "expected": sorted(item.condition.expected),
                "runs": len(item.outcomes),
                "recalled": None if item.condition.healthy else item.recalled,
                "runs_with_an_alarm": item.alarmed,
                "findings": [_plain(found) for found in item.codes()],
            }
            for item in scores
        ],
    }


def _plain(item: tuple[str, Severity, int]) -> dict[str, Any]:
    code, level, number = item
    return {"code": code, "severity": str(level), "runs": number}


def _healthy(scores: Sequence[Score]) -> Score:
    """All healthy runs as one."""
    outcomes = tuple(outcome for item in scores if item.condition.healthy for outcome in item.outcomes)
    first = next(item.condition for item in scores if item.condition.healthy)
    return Score(first, outcomes)


def to_markdown(scores: Sequence[Score]) -> str:
    """Return the two tables of the documentation."""
    healthy = _healthy(scores)
    lines = [
        "| planted | one of these is expected | runs | recalled |",
        "|---|---|---:|---:|",
        *(
            f"| {item.condition.planted} | {', '.join(f'`{code}`' for code in sorted(item.condition.expected))} "
            f"| {len(item.outcomes)} | {item.recalled} |"
            for item in scores
            if not item.condition.healthy
        ),
        "",
        "| healthy | runs | with a finding of warning or above | which |",
        "|---|---:|---:|---|",
        *(
            f"| {item.condition.planted} | {len(item.outcomes)} | {item.alarmed} | {_named(item) or 'none'} |"
            for item in scores
            if item.condition.healthy
        ),
        f"| **all** | {len(healthy.outcomes)} | {healthy.alarmed} | {_named(healthy) or 'none'} |",
    ]
    return "\n".join(lines)


def _named(item: Score) -> str:
    return ", ".join(f"`{code}` ({level}, {number})" for code, level, number in item.codes(_ALARMING))


def to_text(scores: Sequence[Score]) -> str:
    """Return what a person reads at the terminal."""
    lines = ["recall: condition, recalled of runs, what is found in how many"]
    for item in scores:
        if not item.condition.healthy:
            found = ", ".join(f"{code} {number}" for code, _, number in item.codes())
            lines.append(f"  {item.condition.name:26} {item.recalled:2} of {len(item.outcomes):2}   {found}")
    lines += ["", "healthy: condition, alarmed of runs, warnings and above"]
    for item in [*(item for item in scores if item.condition.healthy), _healthy(scores)]:
        shown = ", ".join(f"{code} ({level}) {number}" for code, level, number in item.codes(_ALARMING))
        name = item.condition.name if len(item.outcomes) <= len(item.condition.cells) else "all of them"
        lines.append(f"  {name:26} {item.alarmed:2} of {len(item.outcomes):3}  {shown}")
    infos = ", ".join(f"{code} {number}" for code, _, number in _healthy(scores).codes((Severity.INFO,)))
    return "\n".join([*lines, f"  of severity info: {infos or 'none'}"])


def to_listing(scores: Sequence[Score]) -> str:
    """Return one line a run: its half, whether it is as expected, and every finding."""
    return "\n".join(
        f"{outcome.cell.half:6} {_verdict(item.condition, outcome):6} {item.condition.name}/{outcome.cell.name}: "
        + (", ".join(f"{code}({level})" for code, level in outcome.found) or "nothing")
        for item in scores
        for outcome in item.outcomes
    )


def _verdict(condition: Condition, outcome: Outcome) -> str:
    if condition.healthy:
        return "ALARM" if outcome.alarms else "quiet"
    return "found" if outcome.recalls(condition) else "MISSED"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description="Score the diagnostics on the runs of the diagnosis benchmark.")
    parser.add_argument("--half", choices=(TUNE, REPORT, ALL), default=ALL, help="odd seeds, even seeds, or all runs")
    parser.add_argument("--root", type=Path, default=FIXTURES, help="folder of the runs (default: fixtures/diagnosis)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print plain JSON")
    form.add_argument("--markdown", action="store_true", help="print the tables of the documentation")
    form.add_argument("--runs", action="store_true", help="print the findings of each run")
    options = parser.parse_args(arguments)
    scores = score(options.half, root=options.root)
    if options.json:
        print(json.dumps(to_json(scores), indent=2))
    elif options.markdown:
        print(to_markdown(scores))
    else:
        print(to_listing(scores) if options.runs else to_text(scores))


if __name__ == "__main__":
    main()
