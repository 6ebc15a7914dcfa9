"""What the guard of a loop does not support is refused before it is applied, and telemetry works all the same."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_emit.controller import GradienceController, GuardUnsupportedError
from tests.emit.controller.loops import Training, events


def refusal(folder: Path, **parts: Any) -> str:
    """What a controller says that refuses these parts; the same parts are taken without the guard."""
    with pytest.raises(GuardUnsupportedError) as caught:
        GradienceController(folder, **parts)
    return caught.value.reason


def test_optimizers_that_compute_gradients_in_their_step(tmp_path: Path) -> None:
    """Given LBFGS, when a controller is made, then it is refused; without the guard it is not."""
    model = Training().model
    parts = {"model": model, "optimizer": torch.optim.LBFGS(model.parameters())}
    assert refusal(tmp_path, **parts) == "LBFGS, which computes gradients inside its step"
    GradienceController(tmp_path, **parts, enable_guard=False)


def test_more_than_one_optimizer(tmp_path: Path) -> None:
    """Given a list of optimizers, when a controller is made, then it is refused, with the guard and without."""
    model = Training().model
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model[0], model[-1])]
    assert refusal(tmp_path, model=model, optimizer=optimizers) == "more than one optimizer"
    with pytest.raises(TypeError, match="takes one optimizer"):
        GradienceController(tmp_path, model=model, optimizer=optimizers, enable_guard=False)


def test_an_optimizer_of_a_part_of_what_is_trained(tmp_path: Path) -> None:
    """Given trainable weights with gradients that are not in the optimizer, when it steps first, then it is refused."""
    model = Training().model
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    before = model[0].weight.detach().clone()
    model(torch.ones(2, 6)).sum().backward()
    controller = GradienceController(tmp_path, model=model, optimizer=optimizer)
    with (
        pytest.raises(GuardUnsupportedError, match="2 trainable parameters of the model are not in it"),
        controller.watch(),
    ):
        optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert events(tmp_path)[-1]["status"] == "error"


@pytest.mark.parametrize("keyword", [True, False])
def test_a_step_with_a_closure(tmp_path: Path, *, keyword: bool) -> None:
    """Given a closure, when the optimizer steps with it, then it is refused before the closure is called."""
    training = Training()

    def closure() -> float:
        pytest.fail("it is not called")

    step = functools.partial(training.optimizer.step, **({"closure": closure} if keyword else {}))
    arguments = () if keyword else (closure,)
    controller = GradienceController(tmp_path, **training.parts())
    with pytest.raises(GuardUnsupportedError, match="a closure"), controller.watch():
        step(*arguments)


def test_a_model_with_nothing_to_train(tmp_path: Path) -> None:
    """Given a model without parameters, when a controller is made, then it is refused."""
    weight = torch.nn.Parameter(torch.ones(1, device="meta"))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    assert refusal(tmp_path, model=torch.nn.ReLU(), optimizer=optimizer) == "parameters on the device meta"


def test_a_schedule_that_cannot_be_copied(tmp_path: Path) -> None:
    """Given a schedule whose state cannot be copied, when a controller is made, then it is refused."""

    class Uncopied:
        def state_dict(self) -> dict[str, Any]:
            return {"file": (line for line in ())}

    training = Training()
    reason = refusal(tmp_path, model=training.model, optimizer=training.optimizer, scheduler=Uncopied())
    assert "cannot pickle 'generator'" in reason


def test_the_message_says_what_to_do(tmp_path: Path) -> None:
    """Given a refusal, when it is read, then it names the option that turns the guard off."""
    model = Training().model
    with pytest.raises(GuardUnsupportedError, match=r"Telemetry works without it, with enable_guard=False\."):
        GradienceController(tmp_path, model=model, optimizer=torch.optim.LBFGS(model.parameters()))
