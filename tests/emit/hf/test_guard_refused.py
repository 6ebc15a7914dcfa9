"""Trainings that the guard does not support are refused before their first step, and never passed over in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from gradience_emit.guard.recovery import Guard
from gradience_emit.hf import GradienceCallback, GuardUnsupportedError
from tests.emit.hf import faulty, tiny


class Becomes(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Makes of a trainer what cannot be had on this machine, when its own preparations are over."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        self.change = change
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Change it."""
        self.change(self.trainer)


def _guarded(out: Path, *before: Any, **options: Any) -> Any:
    return faulty.faulty(out, *before, GradienceCallback(None, enable_guard=True), **options)


def _changed(change: Callable[[Any], None]) -> Callable[[Path], Any]:
    def build(out: Path) -> Any:
        before = Becomes(change)
        before.trainer = _guarded(out, before, model=faulty.Adapter(), rows=faulty.points)
        return before.trainer

    return build


def _flag(name: str) -> Callable[[Path], Any]:
    return _changed(lambda trainer: setattr(trainer, name, True))


def _optimizer(make: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def build(out: Path) -> Any:
        model = faulty.Adapter()
        optimizer = make([p for p in model.parameters() if p.requires_grad])
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        return _guarded(out, model=model, rows=faulty.points, optimizers=(optimizer, schedule))

    return build


def _named(optimizer: str) -> Callable[[Path], Any]:
    """The name alone: the packages of these optimizers are not installed."""

    def build(out: Path) -> Any:
        model = faulty.Adapter()
        parameters = [p for p in model.parameters() if p.requires_grad]
        used = torch.optim.SGD(parameters, lr=0.1)
        schedule = torch.optim.lr_scheduler.ConstantLR(used)
        return _guarded(out, model=model, rows=faulty.points, optimizers=(used, schedule), optim=optimizer)

    return build


class Unsaveable(torch.optim.lr_scheduler.LambdaLR):
    """A schedule whose state cannot be copied."""

    def state_dict(self) -> dict[str, Any]:
        """With an open generator in it."""
        return {"last_epoch": self.last_epoch, "stream": (n for n in range(3))}


def _schedule(out: Path) -> Any:
    model = faulty.Adapter()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    schedule = Unsaveable(optimizer, lambda step: 1.0)
    return _guarded(out, model=model, rows=faulty.points, optimizers=(optimizer, schedule))


def _half_loaded(trainer: Any) -> None:
    trainer.model.unused = torch.nn.Parameter(torch.empty(3, device="meta"))


class Whole(torch.nn.Parameter):
    """A parameter that says, as a DTensor does, that it is a part of something."""

    def full_tensor(self) -> Any:
        """The whole."""
        return self


def _shard(out: Path) -> Any:
    model = faulty.Adapter()
    model.a.weight = Whole(model.a.weight.detach())
    return _guarded(out, model=model, rows=faulty.points)


def _frozen(out: Path) -> Any:
    model = faulty.Adapter()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    optimizer.param_groups[0]["params"].clear()
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    return _guarded(out, model=model.requires_grad_(False), rows=faulty.points, optimizers=(optimizer, schedule))


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "fsdp": (_flag("is_fsdp_enabled"), "FSDP"),
    "fsdp-xla": (_flag("is_fsdp_xla_enabled"), "FSDP on XLA"),
    "deepspeed": (_flag("is_deepspeed_enabled"), "DeepSpeed"),
    "tensor-parallel": (_flag("is_tp_enabled"), "tensor parallelism"),
    "lomo": (_named("lomo"), "the optimizer lomo, which updates the weights during the backward pass"),
    "adalomo": (_named("adalomo"), "the optimizer adalomo"),
    "layerwise": (_named("galore_adamw_layerwise"), "the optimizer galore_adamw_layerwise"),
    "lbfgs": (_optimizer(torch.optim.LBFGS), "LBFGS, which computes gradients inside its step"),
    "schedule": (_schedule, "this training"),
    "meta": (_changed(_half_loaded), "parameters on the device meta"),
    "dtensor": (_shard, "sharded parameters"),
    "nothing-trained": (_frozen, "a model without a trainable parameter"),
}


class Steps(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Counts the steps that begin."""

    begun = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count."""
        self.begun += 1


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_supported_is_refused_before_the_first_step(tmp_path: Path, case: str) -> None:
    """Given a training that the guard does not support, when it begins, then one sentence says what and what to do."""
    build, reason = CASES[case]
    trainer, steps = build(tmp_path), Steps()
    trainer.add_callback(steps)
    with pytest.raises(GuardUnsupportedError) as caught:
        trainer.train()
    assert reason in caught.value.reason
    assert str(caught.value).startswith("enable_guard=True: the guard does not support ")
    assert str(caught.value).endswith("Telemetry works without it, with enable_guard=False.")
    assert "\n" not in str(caught.value)
    assert steps.begun == 0
    end = tiny.events(tmp_path)[-1]
    assert (end["event"], end["status"]) == ("run_end", "error")
    assert end["reason"].startswith("GuardUnsupportedError: ")


def test_without_the_guard_none_of_it_is_refused(tmp_path: Path) -> None:
    """Given the same without the guard, when it trains, then it does."""
    optimizer = CASES["layerwise"][0](tmp_path).optimizer
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    options: dict[str, Any] = {"rows": faulty.points, "optimizers": (optimizer, schedule), "steps": 3}
    trainer = faulty.faulty(
        tmp_path, GradienceCallback(), model=faulty.Adapter(), optim="galore_adamw_layerwise", **options
    )
    trainer.train()
    assert trainer.state.global_step == 3


def test_a_guard_that_cannot_be_built_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a bug in the guard's construction, when training begins, then it is refused, and not left unguarded."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("in the guard")

    monkeypatch.setattr(Guard, "__init__", broken)
    trainer = _guarded(tmp_path, model=faulty.Adapter(), rows=faulty.points)
    with pytest.raises(GuardUnsupportedError, match="in the guard"):
        trainer.train()
