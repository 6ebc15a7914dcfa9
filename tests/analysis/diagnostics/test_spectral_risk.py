"""Spectral risk: the level by slope and volatility of kappa, and what was logged in its place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.diagnostics import spectral_risk
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.records import end, record, start, write

POLICY = load_policy()


def measured(folder: Path, kappas: list[Any], every: int = 10, **more: Any) -> tuple[Measurement, ...]:
    """What is measured in a run that logs these kappas."""
    rows = [
        record("metrics", place * every, kind="spectral", metrics={"kappa": kappa, **more})
        for place, kappa in enumerate(kappas)
    ]
    return spectral_risk.measure(load_run(write(folder / "run.jsonl", [start(), *rows, end()])))


def level(folder: Path, kappas: list[Any], every: int = 10) -> str | None:
    """The risk level of such a run."""
    return spectral_risk.risk_level(*measured(folder, kappas, every), POLICY)


def found(folder: Path, kappas: list[Any], **more: Any) -> list[Finding]:
    """The findings about such a run."""
    return spectral_risk.judge(measured(folder, kappas, **more), POLICY)


def line(slope: float, count: int = 20, every: int = 10) -> list[float]:
    """Kappas on a line whose slope over its mean is the one given."""
    middle = (count - 1) / 2 * every
    return [100 * (1 + slope * (place * every - middle)) for place in range(count)]


@pytest.mark.parametrize(
    ("slope", "expected", "severity"),
    [
        (-0.004, "STABLE", None),
        (0.0, "STABLE", None),
        (0.00049, "STABLE", None),
        (0.00051, "LEARNING", None),
        (0.00199, "LEARNING", None),
        (0.00201, "WARNING", Severity.INFO),
        (0.00399, "WARNING", Severity.INFO),
        (0.00401, "DANGER", Severity.INFO),
    ],
)
def test_level_follows_the_relative_slope(
    tmp_path: Path, slope: float, expected: str, severity: Severity | None
) -> None:
    """Given kappa on a line, when judged, then the level is that of its slope over its mean, whatever the scale."""
    for scale in (1e-3, 1.0, 1e9):
        kappas = [scale * kappa for kappa in line(slope)]
        assert level(tmp_path, kappas) == expected
        assert [finding.severity for finding in found(tmp_path, kappas)] == ([] if severity is None else [severity])


def test_slope_and_volatility_are_those_of_the_formula(tmp_path: Path) -> None:
    """Given a line, when measured, then the slope is its own and the volatility nothing."""
    rise, volatility = measured(tmp_path, line(0.001))
    assert rise.value == pytest.approx(0.001)
    assert volatility.value == pytest.approx(0, abs=1e-12)


def test_jumps_are_instability_whatever_the_slope(tmp_path: Path) -> None:
    """Given kappa that goes up and down by 8% every 10 steps, when judged, then it is INSTABILITY, a warning."""
    kappas = [100 * (1.04 if place % 2 else 0.96) for place in range(20)]
    (finding,) = found(tmp_path, kappas)
    assert (finding.severity, finding.evidence["level"]) == (Severity.INFO, "INSTABILITY")
    # Changes are +-8 per 10 steps at a mean of 100, so +-0.008 a step around a slope of about 0.
    assert finding.evidence["volatility"] == pytest.approx(1.4826 * 0.008, rel=0.05)


def test_one_outlier_moves_no_level(tmp_path: Path) -> None:
    """Given a steady kappa with one reading ten times as high, when judged, then the level stays."""
    kappas = [100 + 0.001 * place for place in range(20)]
    kappas[11] *= 10
    assert level(tmp_path, kappas) == "STABLE"


def test_only_the_last_readings_count(tmp_path: Path) -> None:
    """Given a wild start and twenty steady readings, when judged, then nothing is found."""
    assert found(tmp_path, [10.0 * 3**place for place in range(10)] + [100.0] * 20) == []


def test_early_logs_are_read(tmp_path: Path) -> None:
    """Given spectral_kappa of train steps, when measured, then that is the source."""
    rows = [record("train_step", place * 10, loss=1.0, spectral_kappa=kappa) for place, kappa in enumerate(line(0.005))]
    rise, _ = spectral_risk.measure(load_run(write(tmp_path / "run.jsonl", [start(), *rows, end()])))
    assert rise.source == "spectral_kappa of train_step records"
    assert rise.value == pytest.approx(0.005)


def test_recorded_level_is_evidence_and_decides_nothing(tmp_path: Path) -> None:
    """Given a recorded DANGER over a steady kappa, and STABLE over a rising one, when judged, then ours decides."""
    assert found(tmp_path, [100.0] * 20, risk_level="DANGER") == []
    (finding,) = found(tmp_path, line(0.005), risk_level="STABLE")
    assert finding.evidence["recorded_risk_level"] == "STABLE"
    assert "recorded 'STABLE'" in finding.caveat


def test_too_few_readings_are_not_measured(tmp_path: Path) -> None:
    """Given seven readings, when measured, then the reason says what to log, and nothing is found."""
    rise, volatility = measured(tmp_path, line(0.01, 7))
    assert rise.value is volatility.value is None
    assert "spectral" in rise.reason
    assert spectral_risk.judge((rise, volatility), POLICY) == []


@pytest.mark.parametrize("wrong", ["1.5", None, True, [1], {"a": 1}, -1.0, 0, 10**400, math.nan, math.inf])
def test_wrong_values_are_left_out(tmp_path: Path, wrong: Any) -> None:
    """Given readings of a wrong type or value among good ones, when measured, then they are counted and left out."""
    kappas: list[Any] = line(0.001, 40)
    kappas[5] = kappas[39] = wrong
    rise, _ = measured(tmp_path, kappas)
    assert rise.details["readings"] == 38
    assert rise.value is not None


def test_finding_says_that_it_is_not_calibrated(tmp_path: Path) -> None:
    """Given a finding, when read, then basis and caveat say that the limits are not calibrated."""
    (finding,) = found(tmp_path, line(0.005))
    assert "not calibrated" in finding.basis
    assert "not calibrated" in finding.caveat
    assert finding.confidence < 0.5
    assert finding.places[0].step == 190
    assert finding.places[0].line == 21
