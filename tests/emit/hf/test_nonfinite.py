"""The truth about NaN and infinity, whatever the trainer's log says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Trainer

from gradience_emit.hf import GradienceCallback
from gradience_emit.hf import probe as hf_probe
from gradience_emit.hf import session as hf_session
from gradience_emit.hf.probe import NonfiniteProbe
from tests.emit.hf import tiny


def _poisoned(*bad: tuple[int, float]) -> type[Trainer]:
    """A trainer whose loss has the given values at the given micro-batches (0, 1, …)."""

    class Poisoned(Trainer):  # type: ignore[misc]
        calls = -1

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            if self.model.training:
                self.calls += 1
                loss = loss * dict(bad).get(self.calls, 1.0)
            return loss

    return Poisoned


@pytest.mark.parametrize("filtered", [True, False])
def test_a_nan_loss_is_counted_with_and_without_the_filter(tmp_path: Path, filtered: bool) -> None:
    """Given a NaN loss at step 3 of 5, when the trainer hides it or not, then counts and alerts are the same."""
    trainer = tiny.trainer(
        tmp_path,
        GradienceCallback(),
        kind=_poisoned((2, math.nan)),
        max_steps=5,
        logging_nan_inf_filter=filtered,
    )
    trainer.train()
    records = tiny.events(tmp_path)
    steps = tiny.of(records, "train_step")
    # the weights are NaN after step 3, so every loss from there on is
    assert [s["nonfinite_loss_steps"] for s in steps] == [0, 0, 1, 2, 3]
    assert [s["nonfinite_grad_steps"] for s in steps] == [0, 0, 1, 2, 3]
    assert all((s["loss"] is None) == (not filtered and s["step"] >= 3) for s in steps)
    alerts = tiny.of(records, "alert")
    assert [(a["code"], a["severity"], a["step"]) for a in alerts] == [
        ("NONFINITE_LOSS", "error", 3),
        ("NONFINITE_GRAD", "error", 3),
    ]
    assert alerts[0]["context"] == {
        "nonfinite_loss_steps": 1,
        "nonfinite_grad_steps": 1,
        "logging_nan_inf_filter": filtered,
        "fp16_grad_scaler": False,
    }
    assert ("hides" in alerts[0]["message"]) == filtered
    assert (records[-1]["nonfinite_loss_steps"], records[-1]["nonfinite_grad_steps"]) == (3, 3)


def test_one_bad_micro_batch_is_one_bad_step(tmp_path: Path) -> None:
    """Given accumulation over 3 and infinities in two micro-batches of step 2, when counted, then it is one step."""
    trainer = tiny.trainer(
        tmp_path,
        GradienceCallback(),
        kind=_poisoned((3, math.inf), (4, -math.inf)),
        gradient_accumulation_steps=3,
        max_steps=2,
    )
    trainer.train()
    assert [s["nonfinite_loss_steps"] for s in tiny.of(tiny.events(tmp_path), "train_step")] == [0, 1]


def test_what_was_not_logged_any_more_is_in_run_end(tmp_path: Path) -> None:
    """Given a NaN after the last logged step, when training ends, then alert and run_end have it."""
    kind = _poisoned((3, math.nan))
    tiny.trainer(tmp_path, GradienceCallback(), kind=kind, logging_steps=3).train()
    records = tiny.events(tmp_path)
    assert [s["nonfinite_loss_steps"] for s in tiny.of(records, "train_step")] == [0]
    assert [(a["code"], a["step"]) for a in tiny.of(records, "alert")] == [("NONFINITE_LOSS", 4), ("NONFINITE_GRAD", 4)]
    assert records[-1]["nonfinite_loss_steps"] == 1


def test_gradients_are_watched_without_the_trainers_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given no trainer to be found, when gradients become NaN, then they are counted, and the unseen loss is absent."""
    monkeypatch.setattr(hf_session, "find_trainer", lambda _callback: None)
    tiny.trainer(tmp_path, GradienceCallback(), kind=_poisoned((2, math.nan))).train()
    records = tiny.events(tmp_path)
    steps = tiny.of(records, "train_step")
    assert [s["nonfinite_grad_steps"] for s in steps] == [0, 0, 1, 2]
    assert not any("nonfinite_loss_steps" in s for s in steps)
    assert records[-1]["status"] == "ok"


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_norm_is_taken_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float) -> None:
    """Given a trainer that takes the norm, or none (an old one that does not clip), when watched, then one is taken."""
    taken: list[str] = []
    by_trainer, by_probe = Accelerator.clip_grad_norm_, hf_probe.torch.nn.utils.get_total_norm

    def trainers(*args: Any, **kwargs: Any) -> Any:
        taken.append("trainer")
        return by_trainer(*args, **kwargs)

    def probes(*args: Any, **kwargs: Any) -> Any:
        taken.append("probe")
        return by_probe(*args, **kwargs)

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", trainers)
    monkeypatch.setattr(hf_probe.torch.nn.utils, "get_total_norm", probes)
    records = tiny.record(tmp_path, max_grad_norm=clip)
    assert [s["nonfinite_grad_steps"] for s in tiny.of(records, "train_step")] == [0, 0, 0, 0]
    assert taken in (["trainer"] * 4, *([["probe"] * 4] if clip == 0.0 else []))


def test_what_was_not_observed_is_absent() -> None:
    """Given neither a loss, nor a norm, nor gradients, when the counts are read, then none is invented."""
    probe = NonfiniteProbe()
    probe.saw_loss(None)
    probe.saw_norm(None)

    class Empty:
        param_groups = ({"params": [torch.nn.Parameter(torch.ones(2))]},)

    probe.saw_gradients(Empty())
    probe.step_is_complete()
    assert probe.read().fields() == {}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.5, -2.0, 1e10, math.nan, math.inf, -math.inf]), min_size=1, max_size=4), max_size=8
    ),
    st.booleans(),
)
def test_the_count_is_that_of_plain_python(steps: list[list[float]], as_numbers: bool) -> None:
    """Given any losses in any micro-batches, when counted on tensors, then the count equals that of math.isfinite."""
    probe = NonfiniteProbe()
    parameter = torch.nn.Parameter(torch.zeros(2))

    class Optimizer:
        param_groups = ({"params": [parameter]},)

    for losses in steps:
        for loss in losses:
            probe.saw_loss(loss if as_numbers else torch.tensor(loss, requires_grad=True))
        parameter.grad = torch.tensor([losses[-1], 1.0])
        probe.saw_gradients(Optimizer())
        probe.step_is_complete()
    counts = probe.read()
    if steps:
        assert counts.loss_steps == sum(any(not math.isfinite(loss) for loss in losses) for losses in steps)
        assert counts.grad_steps == sum(not math.isfinite(losses[-1]) for losses in steps)
    else:
        assert counts.fields() == {}


class NoWaiting(TorchDispatchMode):
    """Notes every operation that would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note and run the operation."""
        name = str(func)
        if any(word in name for word in ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal")):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


def test_watching_a_step_never_waits_for_the_device() -> None:
    """Given losses and gradients, when a step is watched, then no operation reads a value back; reading does."""
    probe = NonfiniteProbe()
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(4)]
    for parameter in parameters:
        parameter.grad = torch.ones(3)

    class Optimizer:
        param_groups = ({"params": parameters},)

    with NoWaiting() as mode:
        for _ in range(3):
            probe.saw_loss(torch.tensor(math.nan))
            probe.saw_loss(torch.tensor(1.0))
            probe.saw_gradients(Optimizer())
            probe.step_is_complete()
            probe.saw_norm(torch.tensor(1.0))
            probe.step_is_complete()
        assert mode.waits == []
    assert probe.read().fields() == {"nonfinite_loss_steps": 3, "nonfinite_grad_steps": 0}


def test_counts_on_a_device_are_not_waited_for_on_failure() -> None:
    """Given counters that live on a device, when read without waiting, then it is the last reading."""
    probe = NonfiniteProbe()
    probe.saw_loss(torch.tensor(math.nan))
    probe.step_is_complete()
    assert probe.read().loss_steps == 1
    probe._loss_steps = torch.zeros((), dtype=torch.int64, device="meta")
    assert probe.read(wait=False).loss_steps == 1
