"""Gradient norm: bursts against noise, zeros, fading, clipping."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.diagnostics import gradient_norm
from gradience_analysis.series.robust import median
from gradience_schema import Severity
from tests.analysis.diagnostics.steps import declared, diagnosis, ended, findings, logs


def noisy(step: int) -> float:
    """A norm with the spread of a real run, the same for a step each time."""
    return random.Random(step).lognormvariate(0.0, 0.5)


@pytest.mark.parametrize(("bursts", "expected"), [(2, False), (3, True)])
def test_three_bursts_are_an_explosion(tmp_path: Path, bursts: int, expected: bool) -> None:
    """Given norms 300 times above the usual, when diagnosed, then the third makes a finding with its steps."""
    high = [100, 120, 140][:bursts]
    rows = [declared(), *logs(range(1, 201), grad_norm=lambda step: 300.0 if step in high else noisy(step))]
    found = findings(tmp_path, ended(rows))
    assert ("grad_norm_exploding" in found) is expected
    if expected:
        finding = found["grad_norm_exploding"]
        assert (finding.rule, finding.severity) == ("T03", Severity.ERROR)
        assert {place.step for place in finding.places} >= set(high)


def test_heavy_tails_are_no_explosion(tmp_path: Path) -> None:
    """Given norms that vary by factors at every step, when diagnosed, then high ones are noise."""
    rows = [declared(), *logs(range(1, 501), grad_norm=lambda step: random.Random(step).lognormvariate(0.0, 1.5))]
    assert "grad_norm_exploding" not in findings(tmp_path, ended(rows))


@pytest.mark.parametrize(("loss_falls", "expected"), [(False, True), (True, False)])
def test_lasting_rise_is_an_explosion_unless_the_loss_falls(tmp_path: Path, loss_falls: bool, expected: bool) -> None:
    """Given norms that rise a thousandfold and stay, when the loss rises too, then the finding marks the rise."""
    rows = logs(
        range(1, 201),
        grad_norm=lambda step: noisy(step) * (1000.0 if step > 120 else 1.0),
        loss=lambda step: 2.0 if step <= 120 else 1.0 if loss_falls else 3.0,
    )
    finding = findings(tmp_path, ended([declared(), *rows])).get("grad_norm_exploding")
    assert (finding is not None) is expected
    assert finding is None or all(120 < (place.step or 0) < 150 for place in finding.places)


def test_bursts_far_apart_are_no_explosion(tmp_path: Path) -> None:
    """Given single high norms hundreds of logs apart, when diagnosed, then they are hard batches."""
    rows = [declared(), *logs(range(1, 801), grad_norm=lambda step: 300.0 if step % 200 == 0 else noisy(step))]
    assert "grad_norm_exploding" not in findings(tmp_path, ended(rows))


@given(st.lists(st.floats(0.0, 1e6), max_size=140))
def test_ratios_are_those_of_the_plain_definition(values: list[float]) -> None:
    """Given any norms, when the running ratios are taken, then they are those of a median of each window."""
    expected = []
    for place, value in enumerate(values):
        window = values[max(0, place - 50) : place]
        if len(window) >= 5 and value > median(window) > 0:
            expected.append((value / median(window), place))
    assert gradient_norm._ratios(values) == expected


@pytest.mark.parametrize(("zeros", "expected"), [(9, False), (10, True)])
def test_ten_zeros_in_a_row_are_an_error(tmp_path: Path, zeros: int, expected: bool) -> None:
    """Given norms of exactly 0 with a loss above 0, when diagnosed, then ten in a row are T08."""
    rows = [declared(), *logs(range(1, 31), grad_norm=lambda step: 0.0 if 5 <= step < 5 + zeros else 1.0)]
    found = findings(tmp_path, ended(rows))
    assert ("grad_norm_zero" in found) is expected
    if expected:
        assert (found["grad_norm_zero"].rule, found["grad_norm_zero"].places[0].step) == ("T08", 5)


@pytest.mark.parametrize(("loss_falls", "expected"), [(False, True), (True, False)])
def test_fading_norm_matters_when_the_loss_stays(tmp_path: Path, loss_falls: bool, expected: bool) -> None:
    """Given a norm that falls ten-thousandfold, when diagnosed, then it is a finding only with a loss that stays."""
    rows = logs(
        range(1, 101),
        grad_norm=lambda step: 10.0 ** (-step / 20),
        loss=lambda step: 3.0 * 0.95**step if loss_falls else 3.0,
    )
    assert ("grad_norm_vanishing" in findings(tmp_path, ended([declared(), *rows]))) is expected


@pytest.mark.parametrize(("norm", "expected"), [(4.0, True), (2.0, False), (0.5, False)])
def test_clipping_is_said_as_information(tmp_path: Path, norm: float, expected: bool) -> None:
    """Given norms above the limit in every log, when diagnosed, then a large factor is worth an information."""
    said = diagnosis(tmp_path, ended([declared(max_grad_norm=1.0), *logs(range(1, 41), grad_norm=norm)]))
    assert said.measurement("clipped_share").value == (1.0 if norm > 1 else 0.0)
    severities = [finding.severity for finding in said.findings if finding.code == "mostly_clipped"]
    assert severities == ([Severity.INFO] if expected else [])


@pytest.mark.parametrize(("limit", "words"), [(None, "no clipping limit"), (0.0, "off"), (math.nan, "off")])
def test_clipping_is_not_measured_without_a_limit(tmp_path: Path, limit: float | None, words: str) -> None:
    """Given no limit, or clipping switched off, when measured, then there is a reason and no share."""
    said = diagnosis(tmp_path, ended([declared(max_grad_norm=limit), *logs(range(1, 5))]))
    assert said.measurement("clipped_share").value is None
    assert words in said.measurement("clipped_share").reason


def test_without_norms_nothing_is_measured(tmp_path: Path) -> None:
    """Given a run that logs no norm, when measured, then each quantity says what to log."""
    said = diagnosis(tmp_path, ended([declared(max_grad_norm=1.0), *logs(range(1, 30), grad_norm=None)]))
    for name in (
        "nonfinite_gradient_alone",
        "grad_norm_burst",
        "grad_norm_zero_logs",
        "grad_norm_late_share",
        "clipped_share",
    ):
        assert said.measurement(name).value is None
        assert "grad_norm" in said.measurement(name).reason
