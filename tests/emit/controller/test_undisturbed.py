"""Nothing that goes wrong in the controller, and nothing that it does to a model, reaches the loop."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gradience_emit.controller import GradienceController, description
from gradience_emit.controller.journal import Journal
from gradience_emit.controller.schedule import LoopState
from gradience_emit.guard.state import TrainingState
from tests.emit.controller.loops import Training, differences, events, watched


def broken(*_: Any, **__: Any) -> Any:
    """Fail, as a bug would."""
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (LoopState, "gradient_norm"),
        (LoopState, "note_place"),
        (LoopState, "compare_place"),
        (LoopState, "learning_rates"),
        (TrainingState, "start"),
        (TrainingState, "is_finite"),
        (TrainingState, "save"),
        (Journal, "step_ended"),
        (Journal, "open"),
    ],
)
def test_a_fault_inside_never_reaches_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Given a bug anywhere in here, when a loop is watched, then it ends bit for bit as the loop alone."""
    monkeypatch.setattr(owner, name, broken)
    summary = watched(tmp_path, trained := Training("one_cycle"))
    assert differences(trained, Training("one_cycle").run()) == []
    assert summary["total_steps"] == 20


def test_a_bug_in_the_snapshot_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a model whose configuration cannot be read, when it is watched, then only that part is unknown."""
    training = Training(updates=3)
    training.model.peft_config = {"default": object()}  # an adapter, but no PEFT model
    monkeypatch.setattr(description, "snapshot_lora", broken)
    watched(tmp_path, training)
    config = events(tmp_path)[0]["config"]
    assert config["optimizer"]["name"] == "AdamW"
    assert config["lora"]["r"] is None
    assert events(tmp_path)[-1]["telemetry_faults"] > 0


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Given a file where the folder should be, when a loop is watched, then it is guarded all the same."""
    (tmp_path / "out").write_text("in the way", encoding="utf-8")
    with caplog.at_level(logging.CRITICAL, logger="gradience_emit"):
        summary = watched(tmp_path / "out", trained := Training("lambda"), {7: "nan_batch"})
    assert differences(trained, Training("lambda").run(left_out=(7,))) == []
    assert summary["guard"]["total_skips"] == 1


@pytest.mark.parametrize("loss", ["a word", None, torch.ones(3), torch.tensor(float("inf")), object()])
def test_any_loss_is_taken(tmp_path: Path, loss: Any) -> None:
    """Given a loss that is none, when it is told, then the loop goes on."""
    training = Training(updates=3)
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        controller.saw_loss(loss)
        training.run()
    assert events(tmp_path)[-1]["status"] == "ok"


class Answer(torch.nn.Module):
    """A model that returns its loss, as those of transformers do."""

    def __init__(self, inner: torch.nn.Module, answer: Callable[..., Any]) -> None:
        super().__init__()
        self.inner, self.answer = inner, answer

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> Any:
        """The loss, in whatever it comes in."""
        return self.answer(loss=torch.nn.functional.mse_loss(self.inner(inputs), targets))


@pytest.mark.parametrize("answer", [SimpleNamespace, dict])
def test_a_loss_that_the_model_returns_is_seen(tmp_path: Path, answer: Callable[..., Any]) -> None:
    """Given a model that returns its loss, when the loop throws bad batches away itself, then none other is lost.

    Its own check comes before the backward pass; the NaN that was seen must not be held against the next batch.
    """

    def train(model: Any, optimizer: Any, left_out: set[int]) -> list[float]:
        data, losses = torch.Generator().manual_seed(3), []
        for number in range(1, 13):
            inputs, targets = torch.randn(8, 6, generator=data), torch.randn(8, 3, generator=data)
            if number in left_out:
                continue
            output = model(inputs * (float("nan") if number in {4, 8} else 1.0), targets)
            loss = output["loss"] if isinstance(output, dict) else output.loss
            if not bool(torch.isfinite(loss)):
                continue
            losses.append(float(loss.detach()))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return losses

    guarded, alone = Training(dropout=0.0), Training(dropout=0.0)
    controller = GradienceController(
        tmp_path, model=(model := Answer(guarded.model, answer)), optimizer=guarded.optimizer, log_every=1
    )
    with controller.watch():
        losses = train(model, guarded.optimizer, set())
    assert train(Answer(alone.model, answer), alone.optimizer, {4, 8}) == losses
    assert differences(guarded, alone) == []
    assert [e["loss"] for e in events(tmp_path) if e["event"] == "train_step"] == losses
    assert controller.summary is not None
    assert controller.summary["guard"]["integrity_status"] == "ok"


def test_a_copied_or_pickled_model_takes_no_listener_along(tmp_path: Path) -> None:
    """Given a watched model, when it is copied and saved whole, then the copies work and nobody listens to them."""
    training = Training(updates=2)
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        training.run()
        twin = copy.deepcopy(training.model)
        buffer = io.BytesIO()
        torch.save(training.model, buffer)
        buffer.seek(0)
        stored = torch.load(buffer, weights_only=False)
        for copied in (twin.eval(), stored.eval()):
            copied(torch.ones(2, 6)).sum().backward()
        training.run()
    again = Training(updates=2).run()
    again.run()
    assert differences(training, again) == []
    assert events(tmp_path)[-1]["global_step"] == 4


def test_a_forgotten_controller_does_nothing(tmp_path: Path) -> None:
    """Given a controller that nobody holds, when its model trains, then it trains as alone, and nothing is written."""
    training = Training(updates=3)
    GradienceController(tmp_path / "out", **training.parts())
    training.run()
    assert differences(training, Training(updates=3).run()) == []
    assert not (tmp_path / "out").exists()
