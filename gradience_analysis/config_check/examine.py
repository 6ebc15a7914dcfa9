"""The pre-flight as a whole: every check, the adapter's own findings, and a word when there is nothing to say."""

from __future__ import annotations

from gradience_analysis.config_check import CHECKS
from gradience_analysis.config_check.keys import ALIASES
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.diagnostics.base import Diagnosis, diagnose
from gradience_analysis.model import Finding, plural
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CONFIG_OK = "config_ok"


def examine(subject: Preflight, policy: Policy, adapter: Diagnosis | None = None) -> Diagnosis:
    """Measure and judge; with nothing to say about something that was looked at, there is `config_ok`.

    Args:
        subject: What was read and gathered.
        policy: The thresholds.
        adapter: What the files of an adapter showed; its findings stand among the others.
    """
    diagnosis = diagnose(subject, CHECKS, policy)
    measurements, findings = list(diagnosis.measurements), list(diagnosis.findings)
    if adapter is not None:
        measurements += adapter.measurements
        said = {(one.code, one.message) for one in findings}
        findings += [one for one in adapter.findings if (one.code, one.message) not in said]
        findings.sort(key=lambda one: SEVERITY_RANK[one.severity])
    if not findings and has_anything(subject):
        findings.append(_config_ok(subject, adapter is not None))
    return Diagnosis(tuple(measurements), tuple(findings))


def has_anything(subject: Preflight) -> bool:
    """Whether there is anything to judge: a known setting, or a fact of data, base model, checkpoint or machine."""
    machine = subject.machine is not None and bool(subject.machine.looked or subject.machine.names)
    facts = (subject.data, subject.base_model, subject.checkpoint)
    return bool(known_settings(subject)) or machine or any(one is not None for one in facts)


def known_settings(subject: Preflight) -> int:
    """How many settings were read that a check may look at."""
    return sum(key in ALIASES for key in subject.settings)


def looked_at(subject: Preflight, *, adapter: bool = False) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """What was checked, and what was not with how to have it checked, in words."""
    machine = subject.machine is not None and subject.machine.looked
    parts = (
        (plural(known_settings(subject), "setting"), "", bool(known_settings(subject))),
        ("training data", "--data FILE", subject.data is not None and subject.data.train is not None),
        ("evaluation data", "--eval-data FILE", subject.data is not None and subject.data.evaluation is not None),
        ("base model", "--model DIR", subject.base_model is not None),
        ("adapter weights", "--peft-dir DIR", adapter),
        ("checkpoint", "--resume-from DIR", subject.checkpoint is not None),
        ("machine", "--env", machine),
    )
    optional = {"adapter weights", "checkpoint"}
    return (
        tuple(name for name, _, seen in parts if seen),
        tuple((name, how) for name, how, seen in parts if not seen and how and name not in optional),
    )


def _config_ok(subject: Preflight, adapter: bool) -> Finding:
    seen, unseen = looked_at(subject, adapter=adapter)
    checked = _listed(seen)
    left = f"; not looked at: {_listed([name for name, _ in unseen])}" if unseen else ""
    return Finding(
        code=CONFIG_OK,
        severity=Severity.INFO,
        message=f"Nothing stands against {checked}{left}.",
        evidence={"checked": list(seen), "not_checked": [name for name, _ in unseen]},
        confidence=0.5,
        basis="no check has found anything; most faults show only in training",
    )


def _listed(names: tuple[str, ...] | list[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last
