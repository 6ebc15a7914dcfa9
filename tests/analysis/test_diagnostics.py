"""Diagnostics: what each measures, and what a policy makes of it; a healthy run gives no finding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import gradience_analysis.diagnostics as package
from gradience_analysis.diagnostics import DIAGNOSTICS, Diagnosis, diagnose
from gradience_analysis.errors import PolicyError
from gradience_analysis.model import Finding
from gradience_analysis.policy import Policy, load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.records import end, evaluation, healthy_run, record, start, train, troubled_run, write

POLICY = load_policy()


def diagnosis_of(folder: Path, records: list[Any], policy: Policy = POLICY) -> Diagnosis:
    """What is measured and found in a file with these records."""
    return diagnose(load_run(write(folder / "run.jsonl", records)), DIAGNOSTICS, policy)


def found(diagnosis: Diagnosis) -> dict[str, Severity]:
    """Findings by code."""
    return {finding.code: finding.severity for finding in diagnosis.findings}


def only(diagnosis: Diagnosis) -> Finding:
    """The one finding."""
    (finding,) = diagnosis.findings
    return finding


def test_every_diagnostic_file_is_registered() -> None:
    """Given the files of the package, when compared with DIAGNOSTICS, then each has its line there."""
    folder = Path(package.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "audit_record", "base", "every"}
    listed = {getattr(item, "__name__", "").rpartition(".")[2] for item in DIAGNOSTICS}
    assert files == listed, "add the module to DIAGNOSTICS in diagnostics/every.py"


def test_healthy_run_has_no_finding(tmp_path: Path) -> None:
    """Given a healthy run, when diagnosed, then there is no finding and every measurement says its source."""
    diagnosis = diagnosis_of(tmp_path, healthy_run())
    assert diagnosis.findings == ()
    assert all(item.source or item.reason for item in diagnosis.measurements)
    assert all((item.value is None) == bool(item.reason) for item in diagnosis.measurements)


def test_measurements_never_change_with_the_policy(tmp_path: Path) -> None:
    """Given two policies, when a run is diagnosed with each, then the measurements are equal."""
    strict = diagnosis_of(tmp_path, troubled_run(), POLICY.with_gap_threshold(0.5))
    assert strict.measurements == diagnosis_of(tmp_path, troubled_run()).measurements


def test_troubled_run_has_its_findings_worst_first(tmp_path: Path) -> None:
    """Given NaN, an alert, a gap and an error, when diagnosed, then each is found, and errors come first."""
    diagnosis = diagnosis_of(tmp_path, troubled_run())
    assert found(diagnosis) == {
        "out_of_memory": Severity.ERROR,
        "nonfinite_loss": Severity.ERROR,
        "memorization": Severity.WARNING,
        "guard_rollbacks": Severity.WARNING,
    }
    assert [finding.severity for finding in diagnosis.findings] == [Severity.ERROR] * 2 + [Severity.WARNING] * 2
    for finding in diagnosis.findings:
        assert finding.evidence
        assert finding.advice
        assert 0 < finding.confidence <= 1
        assert finding.basis


@pytest.mark.parametrize(("ratio", "expected"), [(1.49, False), (1.5, False), (1.51, True)])
def test_gap_above_the_threshold_is_a_warning(tmp_path: Path, ratio: float, expected: bool) -> None:
    """Given gaps around 1.5, when judged, then only what lies above is a finding."""
    rows = [start(), evaluation(10, "train", ppl=2.0), evaluation(10, "val", ppl=2.0 * ratio), end()]
    diagnosis = diagnosis_of(tmp_path, rows)
    assert ("generalization_gap" in found(diagnosis)) is expected
    assert diagnosis.measurement("generalization_gap").value == pytest.approx(ratio)


def test_gap_finding_names_its_numbers_and_its_doubts(tmp_path: Path) -> None:
    """Given a gap from a logged loss of a classifier, when judged, then basis and caveat say so."""
    rows = [start(), *train(range(1, 6), loss=0.1), evaluation(5, "val", loss=1.2, accuracy=0.5)]
    rows += [evaluation(6, "val", loss=2.0, accuracy=0.4), end()]
    finding = only(diagnosis_of(tmp_path, rows))
    assert finding.evidence["at_last"]["step"] == 6
    assert finding.evidence["at_best"]["step"] == 5
    assert "step 5" in finding.advice
    assert "perplexities" in finding.caveat
    assert "logged" in finding.basis
    assert "not calibrated" in finding.basis


def test_gap_beyond_a_double_is_still_a_finding(tmp_path: Path) -> None:
    """Given a loss difference of 5000, when judged, then the value is absent with its reason, and a warning given."""
    rows = [start(), evaluation(1, "train", loss=0.0), evaluation(1, "val", loss=5000.0), end()]
    diagnosis = diagnosis_of(tmp_path, rows)
    gap = diagnosis.measurement("generalization_gap")
    assert gap.value is None
    assert "5e+03" in gap.reason
    assert found(diagnosis) == {"generalization_gap": Severity.WARNING}


NAN = math.nan
NONFINITE = {
    "mark": [record("train_step", 7, ts=5.0, loss=None, nonfinite={"/loss": "nan"})],
    "bare token": [record("train_step", 7, ts=5.0, loss=NAN)],
    "gradient": [record("train_step", 7, ts=5.0, loss=1.0, grad_norm=None, nonfinite={"/grad_norm": "inf"})],
    "evaluation": [evaluation(7, "val", loss=NAN)],
    "counter": [record("train_step", 7, ts=5.0, loss=0.0, nonfinite_loss_steps=3)],
    "counter at the end": [end(nonfinite_grad_steps=2)],
    "alert": [
        record(
            "alert", 7, ts=5.0, severity="info", code="GUARD_TRIGGERED", message="m", context={"trigger": "nan_loss"}
        )
    ],
}


SAID = {
    "gradient": "grad_norm_exploding",
    "counter": "hidden_nonfinite",
    "counter at the end": "grad_norm_exploding",
}
"""Where another code than that of a non-finite loss says it."""


@pytest.mark.parametrize("kind", NONFINITE)
def test_nonfinite_values_are_found_wherever_they_stand(tmp_path: Path, kind: str) -> None:
    """Given a non-finite value in each of its places, when diagnosed, then it is an error with its evidence."""
    rows = [start(), *train([1, 2, 3]), *NONFINITE[kind]]
    if rows[-1]["event"] != "run_end":
        rows.append(end())
    diagnosis = diagnosis_of(tmp_path, rows)
    assert found(diagnosis)[SAID.get(kind, "nonfinite_loss")] is Severity.ERROR


def test_counters_are_summed_over_segments(tmp_path: Path) -> None:
    """Given cumulative counters that start anew after a resume, when measured, then their highest values add up."""
    count = [record("train_step", s, ts=s + 1.0, loss=1.0, nonfinite_loss_steps=n) for s, n in ((1, 0), (2, 2), (3, 2))]
    write(tmp_path / "run.jsonl", [start(), *count])
    more = [record("train_step", s, ts=50.0 + s, loss=1.0, nonfinite_loss_steps=n) for s, n in ((4, 0), (5, 3))]
    write(tmp_path / "run.1.jsonl", [start(ts=50.0), *more, end()])
    diagnosis = diagnose(load_run(tmp_path), DIAGNOSTICS, POLICY)
    assert diagnosis.measurement("nonfinite_loss_steps").value == 5


def test_counters_at_zero_are_no_finding(tmp_path: Path) -> None:
    """Given counters that stayed at 0, when diagnosed, then the value is a measured 0."""
    rows = [start(), record("train_step", 1, loss=1.0, nonfinite_loss_steps=0, nonfinite_grad_steps=0), end()]
    diagnosis = diagnosis_of(tmp_path, rows)
    assert diagnosis.findings == ()
    assert diagnosis.measurement("nonfinite_loss_steps").value == 0
    assert "every step" in diagnosis.measurement("nonfinite_loss_steps").source


def test_nothing_logged_is_not_measured_zero(tmp_path: Path) -> None:
    """Given a run without losses, when measured, then the count is absent with a reason, and not 0."""
    item = diagnosis_of(tmp_path, [start(), end()]).measurement("nonfinite_loss_steps")
    assert item.value is None
    assert item.reason


@pytest.mark.parametrize(
    ("severity", "code"), [("warning", "alerts_warning"), ("error", "alerts_error"), ("critical", "alerts_critical")]
)
def test_alerts_keep_their_own_severity(tmp_path: Path, severity: str, code: str) -> None:
    """Given two alerts of a severity, when diagnosed, then one finding of that severity counts them by code."""
    alert = record("alert", 1, severity=severity, code="DISK", message="m")
    finding = only(diagnosis_of(tmp_path, [start(), alert, alert, end()]))
    assert (finding.code, finding.severity) == (code, Severity(severity))
    assert "DISK (2 times)" in finding.message


def test_default_policy_has_unit_and_source_for_each_threshold() -> None:
    """Given the shipped policy, when loaded, then each threshold says its unit, its meaning and its source."""
    assert POLICY["generalization_gap.ratio"].value == 1.5
    for threshold in POLICY.thresholds.values():
        assert threshold.unit
        assert threshold.meaning
        assert threshold.source


DEFAULT = Path(package.__file__).parents[1] / "policy" / "v1" / "default.toml"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("value = 1.5", 'value = "1.5"', "must be a finite number"),
        ("value = 1.5", "value = true", "must be a finite number"),
        ("value = 1.5", "value = nan", "must be a finite number"),
        ("value = 1.5", "", "must be a finite number"),
        (
            "[telemetry_quality.events_lost]",
            "[telemetry_quality.event_lost]",
            "Did you mean telemetry_quality.events_lost",
        ),
        ("[telemetry_quality.events_lost]", "[events_lost]", "events_lost.value is no table"),
        ("version = 1", "version = 2", "version must be 1"),
        ("version = 1", "version = ", "cannot be read"),
        ("calibrated = false", "calibrated = false\nlevel = 3", "unknown key 'level'"),
    ],
)
def test_faulty_policy_is_an_error_that_names_the_place(tmp_path: Path, old: str, new: str, words: str) -> None:
    """Given a policy file with one fault, when loaded, then the error names it."""
    path = tmp_path / "policy.toml"
    path.write_text(DEFAULT.read_text().replace(old, new, 1))
    with pytest.raises(PolicyError, match=words):
        load_policy(path)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_gap_threshold_must_make_sense(value: float) -> None:
    """Given a threshold that no gap can be held against, when set, then it is refused."""
    with pytest.raises(PolicyError, match="finite ratio above 0"):
        POLICY.with_gap_threshold(value)
