"""Every kind of fault in every kind of training: the run that never saw the batch, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.emit.hf import faulty, tiny

STEPS, FAULTY = 9, 6
FAULTS = {
    "nan-gradient": (faulty.nan_gradient, {"max_grad_norm": 1.0}, "skip"),
    "nan-loss": (faulty.nan_loss, {"max_grad_norm": 1.0}, "skip"),
    "explosion-unclipped": (faulty.explosion, {"max_grad_norm": 0.0}, "skip"),
    "nan-weights": (faulty.nan_weights, {"max_grad_norm": 1.0}, "rollback"),
    "nan-moments": (faulty.nan_moments, {"max_grad_norm": 1.0}, "rollback"),
    "infinite-moments": (faulty.infinite_moments, {"max_grad_norm": 0.0}, "rollback"),
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"lr_scheduler_type": "constant"},
    "linear": {"lr_scheduler_type": "linear", "warmup_steps": 2},
    "cosine": {"lr_scheduler_type": "cosine"},
    "linear-dropout": {"lr_scheduler_type": "linear"},
}
Reference = Callable[[str, int, float, Sequence[int]], dict[str, Any]]


def _options(schedule: str, accumulation: int, max_grad_norm: float) -> dict[str, Any]:
    return {
        "model": tiny.lora(lora_dropout=0.1 if schedule == "linear-dropout" else 0.0),
        "steps": STEPS,
        "gradient_accumulation_steps": accumulation,
        "max_grad_norm": max_grad_norm,
        **SCHEDULES[schedule],
    }


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The state of an unguarded run without some batches, trained once for each."""
    known: dict[Any, dict[str, Any]] = {}

    def find(schedule: str, accumulation: int, max_grad_norm: float, dropped: Sequence[int]) -> dict[str, Any]:
        key = (schedule, accumulation, max_grad_norm, *dropped)
        if key not in known:
            options = _options(schedule, accumulation, max_grad_norm)
            trainer = faulty.unguarded(tmp_path_factory.mktemp("without"), without=dropped, **options)
            known[key] = faulty.state_of(trainer)
        return known[key]

    return find


@pytest.mark.parametrize("accumulation", [1, 2], ids=["single", "accumulated"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_left_is_the_run_without_the_batch(
    tmp_path: Path, fault: str, schedule: str, accumulation: int, without: Reference
) -> None:
    """Given one fault, when the guard drops what it spoilt, then nothing differs from the run without those batches."""
    hurt, clipping, expected = FAULTS[fault]
    options = _options(schedule, accumulation, clipping["max_grad_norm"])
    trainer = faulty.guarded(tmp_path, {FAULTY: hurt}, guard_snapshot_every=3, **options)
    assert [act["action"] for act in faulty.acts(tmp_path)] == [expected]
    dropped = faulty.dropped(tmp_path)
    assert FAULTY in dropped
    reference = without(schedule, accumulation, clipping["max_grad_norm"], dropped)
    assert faulty.differences(faulty.state_of(trainer), reference) == []
    assert faulty.is_finite(trainer)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_explosion_that_is_clipped_is_left_alone(tmp_path: Path, schedule: str) -> None:
    """Given clipping, when the gradient explodes and stays finite, then the run is the unguarded one, with a note."""
    options = _options(schedule, 1, 1.0)
    trainer = faulty.guarded(tmp_path / "with", {FAULTY: faulty.explosion}, **options)
    options = _options(schedule, 1, 1.0)
    reference = faulty.unguarded(tmp_path / "without", faults={FAULTY: faulty.explosion}, **options)
    assert faulty.differences(faulty.state_of(trainer), faulty.state_of(reference)) == []
    (note,) = tiny.of(tiny.events(tmp_path / "with"), "alert", code="GUARD_TRIGGERED")
    assert (note["step"], note["severity"], note["context"]["trigger"]) == (FAULTY, "info", "gradient_cap")
    assert faulty.acts(tmp_path / "with") == []


def test_an_explosion_that_is_clipped_is_dropped_when_asked_for(tmp_path: Path) -> None:
    """Given clipping and on_clipped_spike="skip", when the gradient explodes, then it is the run without the batch."""
    trainer = faulty.guarded(
        tmp_path / "with", {FAULTY: faulty.explosion}, guard_on_clipped_spike="skip", **_options("linear", 1, 1.0)
    )
    reference = faulty.unguarded(tmp_path / "without", without=[FAULTY], **_options("linear", 1, 1.0))
    assert faulty.differences(faulty.state_of(trainer), faulty.state_of(reference)) == []


def test_an_explosion_is_a_spike_once_the_guard_knows_the_run(tmp_path: Path) -> None:
    """Given 17 known norms, when the gradient explodes, then it stands out of them, and its batch leaves no trace."""
    options: dict[str, Any] = {"model": None, "steps": 19, "max_grad_norm": 0.0}
    trainer = faulty.guarded(tmp_path / "with", {18: faulty.explosion}, **options)
    (act,) = faulty.acts(tmp_path / "with")
    assert (act["action"], act["step"], act["trigger"]) == ("skip", 18, "gradient_spike")
    assert act["grad_norm"] > act["limit"] > 0
    reference = faulty.unguarded(tmp_path / "without", without=[18], **options)
    assert faulty.differences(faulty.state_of(trainer), faulty.state_of(reference)) == []


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    """Given runs without two different batches, when they are compared, then weights and moments differ."""
    one = faulty.unguarded(tmp_path / "one", without=[FAULTY], **_options("linear", 1, 1.0))
    other = faulty.unguarded(tmp_path / "other", without=[FAULTY - 1], **_options("linear", 1, 1.0))
    different = faulty.differences(faulty.state_of(one), faulty.state_of(other))
    assert {name.split()[0] for name in different} >= {"weight", "state"}


def test_the_fault_does_harm_without_the_guard(tmp_path: Path) -> None:
    """Given a NaN gradient and no guard, when training ends, then weights and moments are not finite."""
    faults = {FAULTY: faulty.nan_gradient}
    trainer = faulty.unguarded(tmp_path, faults=faults, **_options("linear", 1, 1.0))
    assert not faulty.is_finite(trainer)
