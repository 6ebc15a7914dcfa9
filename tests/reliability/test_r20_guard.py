"""R20: one NaN batch at each of 100 steps leaves no trace: 100 of 100 runs are the run that never saw the batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.lengths import lengths

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.emit.hf import faulty, tiny  # noqa: E402 - both need transformers

pytestmark = pytest.mark.hf
STEPS = 100


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _with_a_nan(step: int) -> list[dict[str, Any]]:
    rows = faulty.points(faulty.BATCH * STEPS)
    rows[faulty.BATCH * (step - 1) + 1]["x"][3] = math.nan
    return rows


@lengths("after", 3, STEPS)
@pytest.mark.parametrize("first", range(1, STEPS + 1, 10), ids=lambda first: f"steps-{first}-to-{first + 9}")
def test_a_nan_batch_leaves_no_trace(tmp_path: Path, first: int, after: int) -> None:
    """Given a NaN in one batch, when training ends, then every bit is that of the run that never saw the batch."""
    for step in range(first, first + 10):
        rows, stop = _with_a_nan(step), min(step + after, STEPS)
        options: dict[str, Any] = {"steps": STEPS, "stop": stop, "logging_strategy": "no"}
        guarded = faulty.guarded(
            tmp_path / f"{step}", {}, rows=lambda _, rows=rows: rows, model=faulty.Adapter(), **options
        )
        spared = faulty.unguarded(
            tmp_path / f"{step}-without", without=[step], rows=faulty.points, model=faulty.Adapter(), **options
        )
        assert [(act["step"], act["action"]) for act in faulty.acts(tmp_path / f"{step}")] == [(step, "skip")]
        assert guarded.state.global_step == spared.state.global_step + 1 == stop
        assert faulty.differences(faulty.state_of(guarded), faulty.state_of(spared)) == []
        assert faulty.is_finite(guarded)


def test_the_nan_batch_ruins_the_run_without_the_guard(tmp_path: Path) -> None:
    """Given the same batch and no guard, when training ends, then no adapter weight is finite."""
    rows = _with_a_nan(50)
    trainer = faulty.unguarded(tmp_path, rows=lambda _: rows, model=faulty.Adapter(), steps=STEPS, stop=53)
    assert all(bool(parameter.isnan().all()) for parameter in faulty.trained(trainer))


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_nan_loss_of_a_language_model_leaves_no_trace(tmp_path: Path, step: int) -> None:
    """Given a LoRA of a language model and a NaN loss, when 100 steps are done, then it is the run without it."""
    guarded = faulty.guarded(tmp_path / "with", {step: faulty.nan_loss}, model=tiny.lora(), steps=STEPS)
    spared = faulty.unguarded(tmp_path / "without", without=[step], model=tiny.lora(), steps=STEPS)
    assert faulty.differences(faulty.state_of(guarded), faulty.state_of(spared)) == []
    assert faulty.is_finite(guarded)
