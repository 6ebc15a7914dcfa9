"""Restraint: advice by task profile, before a run and after it, always as a range with both sides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.diagnostics import restraint
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import ConfigSnapshot, Severity
from tests.analysis.records import end, record, train, write

POLICY = load_policy()


def config(profile: str = "hard_reasoning", lr: Any = 5e-5, r: Any = 8, **lora: Any) -> dict[str, Any]:
    """A cautious configuration, but for what is given."""
    adapter = {"r": r, "alpha": 16, "target_modules": ["q_proj", "v_proj"], **lora}
    return {"task_profile": profile, "optimizer": {"lr": lr}, "lora": adapter}


def before(*args: Any, **kwargs: Any) -> dict[str, Finding]:
    """Advice about a configuration before its run, by code."""
    measured = restraint.measure_config(ConfigSnapshot.from_dict(config(*args, **kwargs)))
    assert all((item.value is None) == bool(item.reason) for item in measured)
    return {finding.code: finding for finding in restraint.judge(measured, POLICY)}


def after(folder: Path, *args: Any, **kwargs: Any) -> dict[str, Finding]:
    """Advice about a run that was made with it, by code."""
    rows = [record("run_start", config=config(*args, **kwargs)), *train(range(1, 9)), end()]
    measured = restraint.measure(load_run(write(folder / "run.jsonl", rows)))
    return {finding.code: finding for finding in restraint.judge(measured, POLICY)}


def test_cautious_configuration_gets_no_advice() -> None:
    """Given the settings of cautious advice, when judged, then nothing is said."""
    assert before() == {}


@pytest.mark.parametrize(
    ("lr", "words"), [(5.1e-5, "upper part"), (1e-4, "upper part"), (1.1e-4, "above the cautious")]
)
def test_learning_rate_has_two_levels(lr: float, words: str) -> None:
    """Given hard reasoning, when the learning rate is above either limit, then an info says which."""
    found = before(lr=lr)["step_size_restraint"]
    assert words in found.message
    assert found.severity is Severity.INFO


def test_advice_on_lr_is_a_range_with_both_sides() -> None:
    """Given advice on a learning rate, when read, then it is a range to compare, and names who says otherwise."""
    found = before(lr=3e-4)["step_size_restraint"]
    (change,) = found.changes
    assert (change.setting, change.current, change.suggested) == ("optimizer.lr", "0.0003", "5e-05 to 0.0001")
    assert change.why
    assert "Compare" in found.advice
    for source in ("Schulman et al. 2025", "arXiv 2405.09673", "not calibrated"):
        assert source in found.caveat


@pytest.mark.parametrize(
    ("lr", "alpha", "rslora", "expected"),
    [(3e-4, 16, False, False), (3e-4, 17, False, True), (3e-4, 6, True, True), (5e-5, 64, False, False)],
)
def test_factor_counts_at_a_high_learning_rate(lr: float, alpha: float, rslora: bool, expected: bool) -> None:
    """Given a factor above 2, by either scaling, when the learning rate is high, then it is a change to try."""
    found = before(lr=lr, alpha=alpha, use_rslora=rslora).get("step_size_restraint")
    assert (found is not None and "lora.alpha" in {change.setting for change in found.changes}) == expected


@pytest.mark.parametrize(("r", "expected"), [(31, 0), (32, 1)])
def test_rank_for_hard_reasoning(r: int, expected: int) -> None:
    """Given hard reasoning, when the rank is 32 or more, then an info says so."""
    assert len(before(r=r, alpha=r)) == expected


@pytest.mark.parametrize("name", ["up_proj", "model.layers.0.mlp.down_proj", "fc1", "all-linear"])
def test_mlp_targets_for_hard_reasoning(name: str) -> None:
    """Given hard reasoning, when MLP modules are targets, then an info names them and those who advise them."""
    found = before(target_modules=["q_proj", name])["capacity_restraint"]
    assert name in found.message
    assert "all linear" in found.caveat


@pytest.mark.parametrize(("r", "expected"), [(16, 0), (17, 1)])
def test_rank_for_easy_classification(r: int, expected: int) -> None:
    """Given an easy classification, when the rank is above 16, then an info says so, and nothing else is said."""
    found = before("easy_classification", lr=1e-3, r=r, target_modules=["up_proj"])
    assert len(found) == expected
    assert all(one.severity is Severity.INFO for one in found.values())


def test_unknown_profile_gets_a_calibration_run_before_it_only(tmp_path: Path) -> None:
    """Given an unknown task, when judged, then a calibration run is advised before the run, and nothing after it."""
    found = before("unknown", lr=1e-2, r=256)
    assert list(found) == ["calibration_advised"]
    assert after(tmp_path, "unknown", lr=1e-2, r=256) == {}


def test_run_gets_two_notes_at_most(tmp_path: Path) -> None:
    """Given everything bold at once, when the run is judged, then there are two infos, with four changes."""
    found = after(tmp_path, lr=1e-3, r=64, alpha=256, target_modules=["q_proj", "up_proj"])
    assert list(found) == ["step_size_restraint", "capacity_restraint"]
    assert sum(len(one.changes) for one in found.values()) == 4
    assert {one.severity for one in found.values()} == {Severity.INFO}


def test_training_without_an_adapter_gets_no_advice() -> None:
    """Given no adapter, when judged, then advice on LoRA is not given."""
    measured = restraint.measure_config(
        ConfigSnapshot.from_dict({"task_profile": "hard_reasoning", "optimizer": {"lr": 1.0}})
    )
    assert restraint.judge(measured, POLICY) == []


@pytest.mark.parametrize("wrong", ["x", True, [1], {"a": 1}, -1, 0, 10**400, math.nan, math.inf, None])
def test_wrong_values_never_raise(tmp_path: Path, wrong: Any) -> None:
    """Given a wrong value in any setting, when measured and judged, then nothing raises."""
    for key in ("lr", "r", "alpha", "target_modules"):
        before(**{key: wrong})
        after(tmp_path, **{"lr": 1e-3, key: wrong})
    before(profile=wrong)
