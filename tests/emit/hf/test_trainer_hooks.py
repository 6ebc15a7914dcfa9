"""Reaching the trainer: found on the stack, hooked on the instance, left without a trace."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainerCallback

from gradience_emit.hf import GradienceCallback
from gradience_emit.hf.trainer import MethodHook, StepHook, TrainHook, find_trainer
from tests.emit.hf import tiny


class Finder(TrainerCallback):  # type: ignore[misc]
    """Notes the trainer it finds at each event."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look."""
        self.found["init"] = find_trainer(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look."""
        self.found["train"] = find_trainer(self)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look."""
        self.found["evaluate"] = find_trainer(self)


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Only reference counts free objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_the_trainer_is_found_at_every_beginning(tmp_path: Path) -> None:
    """Given a callback passed at construction, when its events fire, then each finds that very trainer."""
    finder = Finder()
    trainer = tiny.trainer(tmp_path, finder)
    trainer.train()
    trainer.evaluate()
    assert finder.found == {"init": trainer, "train": trainer, "evaluate": trainer}


def test_a_callback_added_later_finds_it_when_training_begins(tmp_path: Path) -> None:
    """Given add_callback after construction, when training begins, then the trainer is found."""
    finder = Finder()
    trainer = tiny.trainer(tmp_path)
    trainer.add_callback(finder)
    trainer.train()
    assert finder.found == {"train": trainer}


def test_a_subclass_is_found_and_a_strangers_trainer_is_not(tmp_path: Path) -> None:
    """Given a subclass, and a trainer without the callback on the stack, when asked, then only the own one counts."""

    class Mine(Trainer):  # type: ignore[misc]
        def look(self, callback: object) -> Any:
            return find_trainer(callback)

    finder = Finder()
    trainer = tiny.trainer(tmp_path, finder, kind=Mine)
    assert finder.found["init"] is trainer
    assert trainer.look(finder) is trainer
    assert trainer.look(Finder()) is None
    assert find_trainer(finder) is None


def test_the_hooks_are_gone_or_harmless_after_training(tmp_path: Path) -> None:
    """Given a finished training, when the trainer is inspected, then its methods are its own again."""
    trainer = tiny.trainer(tmp_path, GradienceCallback())
    assert isinstance(vars(trainer)["train"], TrainHook)
    assert inspect.signature(trainer.train) == inspect.signature(Trainer.train.__get__(trainer))
    assert trainer.train.__doc__ == Trainer.train.__doc__
    trainer.train()
    assert "training_step" not in vars(trainer)
    assert "clip_grad_norm_" not in vars(trainer.accelerator)
    vars(trainer)["train"].remove()
    assert "train" not in vars(trainer)


@pytest.mark.parametrize("use", ["train", "evaluate"])
def test_a_trainer_is_freed_without_the_garbage_collector(tmp_path: Path, no_gc: None, use: str) -> None:
    """Given a recorded training or evaluation, when the last reference goes, then trainer and model go too."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(train_eval_samples=2), eval_strategy="steps", eval_steps=2)
    getattr(trainer, use)()
    alive = weakref.ref(trainer), weakref.ref(trainer.model)
    del trainer
    assert [reference() for reference in alive] == [None, None]


def test_a_trainer_that_nobody_holds_can_train(tmp_path: Path, no_gc: None) -> None:
    """Given Trainer(...).train() in one expression, when it runs, then the trainer lives to its end."""
    tiny.trainer(tmp_path, GradienceCallback()).train()
    assert tiny.events(tmp_path)[-1]["status"] == "ok"


def test_a_removed_callback_records_nothing(tmp_path: Path) -> None:
    """Given a callback taken away before training, when the trainer trains, then no file appears."""
    trainer = tiny.trainer(tmp_path, GradienceCallback())
    trainer.remove_callback(GradienceCallback)
    trainer.train()
    assert not list(tmp_path.glob("*.jsonl"))


def test_two_callbacks_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Given two callbacks with files of their own, when training fails, then both record it and no hook stays."""

    class Fails(Trainer):  # type: ignore[misc]
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == 2:
                raise RuntimeError("no loss")
            return super().compute_loss(*args, **kwargs)

    callbacks = [GradienceCallback(filename=f"{name}.jsonl") for name in "ab"]
    trainer = tiny.trainer(tmp_path, *callbacks, kind=Fails)
    with pytest.raises(RuntimeError, match="no loss"):
        trainer.train()
    for name in "ab":
        records = tiny.events(tmp_path, f"{name}.jsonl")
        assert [r["nonfinite_loss_steps"] for r in tiny.of(records, "train_step")] == [0, 0]
        assert records[-1]["reason"] == "RuntimeError: no loss"
    assert "training_step" not in vars(trainer)


def test_somebody_elses_wrapper_survives(tmp_path: Path) -> None:
    """Given a training_step that the user replaced on the instance, when training ends, then it is there again."""
    trainer = tiny.trainer(tmp_path, GradienceCallback())
    calls: list[int] = []
    original = trainer.training_step

    def mine(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    trainer.training_step = mine
    trainer.train()
    assert len(calls) == 4
    assert vars(trainer)["training_step"] is mine


class Owner:
    """Something with a method to hook."""

    def __init__(self) -> None:
        self.callback_handler = self
        self.callbacks: list[object] = [self]

    def training_step(self, value: int) -> int:
        """Return one more."""
        return value + 1

    def batch_trained(self, loss: int) -> None:
        """Note the result."""
        self.seen = loss


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_hooks_over_hooks_can_be_removed_in_any_order(order: tuple[int, int]) -> None:
    """Given two hooks on one method, when they are removed in either order, then the method is bare again."""
    owner = Owner()
    hooks = [StepHook(owner, owner), StepHook(owner, owner)]
    assert owner.training_step(1) == 2
    assert owner.seen == 2
    for index in order:
        hooks[index].remove()
        assert owner.training_step(2) == 3
    assert "training_step" not in vars(owner)


def test_a_hook_travels_with_its_owner() -> None:
    """Given a hooked object, when it is pickled or copied deeply, then the copy's hook works on the copy."""
    owner = Owner()
    StepHook(owner, owner)
    for other in (pickle.loads(pickle.dumps(owner)), copy.deepcopy(owner)):
        assert isinstance(vars(other)["training_step"], MethodHook)
        assert other.training_step(4) == 5
        assert other.seen == 5
    assert not hasattr(owner, "seen")


def test_a_callback_travels_with_its_options() -> None:
    """Given a callback, when it is pickled, then the copy has the options and no open file."""
    copied = pickle.loads(pickle.dumps(GradienceCallback(notes="n")))
    assert copied.config.notes == "n"
    assert copied.path is None
