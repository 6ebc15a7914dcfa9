"""Muon ratio: as logged, or from weight decay and spectral norms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.diagnostics import muon_ratio
from gradience_analysis.model import Measurement
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.records import CONFIG, end, record, write

POLICY = load_policy()


def measured(folder: Path, *rows: dict[str, Any], **optimizer: Any) -> Measurement:
    """What is measured in a run with these records."""
    first = record("run_start", config={**CONFIG, "optimizer": {"name": "muon", "weight_decay": 0.1, **optimizer}})
    (found,) = muon_ratio.measure(load_run(write(folder / "run.jsonl", [first, *rows, end()])))
    return found


def spectral(step: int, sigma: Any) -> dict[str, Any]:
    """A record of spectral norms."""
    return record("metrics", step, kind="spectral", metrics={"sigma_max": sigma})


def test_ratio_is_decay_times_mean_norm(tmp_path: Path) -> None:
    """Given weight decay 0.1 and norms of mean 4, when measured, then the ratio is 0.4 and no finding."""
    found = measured(tmp_path, spectral(1, 2.0), spectral(2, [5.0, 7.0, "x"]))
    assert found.value == pytest.approx(0.4)
    assert muon_ratio.judge([found], POLICY) == []


def test_logged_ratio_comes_first(tmp_path: Path) -> None:
    """Given a logged ratio, when measured, then it is taken, the last one that is a number."""
    rows = [
        record("metrics", step, kind="structural", metrics={"muon_ratio": value})
        for step, value in ((1, 0.2), (2, 0.9), (3, "x"))
    ]
    found = measured(tmp_path, spectral(1, 50.0), *rows)
    assert found.value == 0.9
    assert "step 2" in found.source


@pytest.mark.parametrize(("sigma", "expected"), [(9.9, 0), (10.0, 0), (10.1, 1)])
def test_ratio_above_one_is_an_info(tmp_path: Path, sigma: float, expected: int) -> None:
    """Given norms around 1 / weight decay, when judged, then only a ratio above 1 is an info."""
    found = muon_ratio.judge([measured(tmp_path, spectral(1, sigma))], POLICY)
    assert [one.severity for one in found] == [Severity.INFO] * expected


def test_other_optimizer_lowers_the_confidence(tmp_path: Path) -> None:
    """Given AdamW, when judged, then the caveat says that the bound is Muon's."""
    (found,) = muon_ratio.judge([measured(tmp_path, spectral(1, 50.0), name="adamw_torch")], POLICY)
    assert found.confidence < 0.5
    assert "Muon" in found.caveat


@pytest.mark.parametrize(
    ("sigma", "decay"), [(None, 0.1), ("5", 0.1), (-1, 0.1), (10**400, 0.1), (5.0, None), (5.0, "0.1")]
)
def test_without_numbers_it_is_not_measured(tmp_path: Path, sigma: Any, decay: Any) -> None:
    """Given no norm or no decay that is a number, when measured, then the reason says what to log."""
    found = measured(tmp_path, spectral(1, sigma), weight_decay=decay)
    assert found.value is None
    assert "Log" in found.reason
    assert muon_ratio.judge([found], POLICY) == []
