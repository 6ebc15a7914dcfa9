"""Faults strike where they are told to, do what they say, and leave nothing behind."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradience_train.faults import Fault, FaultInjection, FaultKind, striking
from tests.emit.hf import tiny

pytestmark = [
    pytest.mark.hf,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

STEPS = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple)
Passed = tuple[torch.Tensor, list[torch.Tensor]]


@pytest.fixture
def model() -> Any:
    """Give a LoRA model without dropout, none of whose factors is zero, so that every gradient is there."""
    made = tiny.lora(lora_dropout=0.0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    return made


def passed(model: Any, *faults: Fault) -> Passed:
    """Give loss and gradients of one batch, struck by the faults; no gradient stays."""
    batch = torch.stack([row["input_ids"] for row in tiny.rows(4)])
    if faults:
        with striking(model, faults[0]):
            loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
    else:
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [parameter.grad.clone() for parameter in trained]
    model.zero_grad(set_to_none=True)
    return loss.detach(), gradients


def same(one: Passed, other: Passed) -> bool:
    """Whether two passes are equal bit for bit."""
    return torch.equal(one[0], other[0]) and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def nans(tensors: list[torch.Tensor]) -> int:
    """Count the entries that are NaN."""
    return sum(int(tensor.isnan().sum()) for tensor in tensors)


@given(steps=STEPS, persistent=st.booleans(), step=st.integers(1, 60))
def test_it_strikes_its_steps(steps: tuple[int, ...], persistent: bool, step: int) -> None:
    """Given any steps, when one is asked about, then it is struck if named, or if after the first and lasting."""
    struck = set(range(min(steps), 61)) if persistent else set(steps)
    assert Fault(FaultKind.NAN_LOSS, steps, persistent=persistent).strikes(step) == (step in struck)


@pytest.mark.parametrize("steps", [(), (0,), (3, -1)])
def test_a_fault_needs_steps(steps: tuple[int, ...]) -> None:
    """Given no step, or one below 1, when a fault is made, then the error says what it needs."""
    with pytest.raises(ValueError, match="steps of at least 1"):
        Fault(FaultKind.NAN_LOSS, steps)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_an_explosion_has_a_size(factor: float) -> None:
    """Given a factor that is none, when a fault is made, then the error names it."""
    with pytest.raises(ValueError, match="factor must be finite and above 0"):
        Fault(FaultKind.EXPLOSION, (1,), factor=factor)


def test_a_nan_loss_spoils_every_gradient(model: Any) -> None:
    """Given a NaN loss, when the batch is passed back, then all gradients are NaN."""
    loss, gradients = passed(model, Fault(FaultKind.NAN_LOSS, (1,)))
    assert loss.isnan()
    assert nans(gradients) == sum(gradient.numel() for gradient in gradients)


def test_a_nan_gradient_is_one_entry(model: Any) -> None:
    """Given a NaN in a gradient, when the batch is passed back, then the rest is that of a clean one, bit for bit."""
    clean_loss, clean = passed(model)
    loss, gradients = passed(model, Fault(FaultKind.NAN_GRADIENT, (1,)))
    assert torch.equal(loss, clean_loss)
    assert nans(gradients) == 1
    assert gradients[0].isnan().any()
    gradients[0] = torch.where(gradients[0].isnan(), clean[0], gradients[0])
    assert same((loss, gradients), (clean_loss, clean))


def test_an_explosion_multiplies_every_gradient(model: Any) -> None:
    """Given an explosion, when the batch is passed back, then each gradient is the clean one times the factor."""
    clean_loss, clean = passed(model)
    loss, gradients = passed(model, Fault(FaultKind.EXPLOSION, (1,), factor=1000.0))
    assert torch.equal(loss, clean_loss)
    assert all(torch.equal(gradient, 1000.0 * one) for gradient, one in zip(gradients, clean, strict=True))


def test_a_nan_weight_stays(model: Any) -> None:
    """Given a NaN in a weight, when the block is left, then one entry of one trainable weight is NaN."""
    with striking(model, Fault(FaultKind.NAN_WEIGHTS, (1,))):
        pass
    assert nans([parameter.detach() for parameter in model.parameters()]) == 1
    assert nans([parameter.detach() for parameter in model.parameters() if parameter.requires_grad]) == 1


@pytest.mark.parametrize("kind", [FaultKind.NAN_LOSS, FaultKind.NAN_GRADIENT, FaultKind.EXPLOSION])
def test_nothing_stays_on_the_model(model: Any, kind: FaultKind) -> None:
    """Given a fault that struck, when the next batch is passed, then it is that of a clean model, bit for bit."""
    clean = passed(model)
    passed(model, Fault(kind, (1,)))
    assert same(passed(model), clean)


def test_it_goes_when_the_block_is_left_by_an_exception(model: Any) -> None:
    """Given an exception inside the block, when the next batch is passed, then nothing strikes."""
    clean = passed(model)
    with pytest.raises(KeyError), striking(model, Fault(FaultKind.NAN_LOSS, (1,))):
        raise KeyError
    assert same(passed(model), clean)


def test_a_loss_in_a_tuple_is_found() -> None:
    """Given a model that returns a tuple, when a NaN loss strikes, then its first member is NaN, and only that."""

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
            return self.weight.sum(), self.weight * 2

    plain = Plain()
    with striking(plain, Fault(FaultKind.NAN_LOSS, (1,))):
        loss, other = plain()
    assert loss.isnan()
    assert torch.equal(other, torch.full((2,), 2.0))


def test_logits_are_struck_where_there_is_no_loss(model: Any) -> None:
    """Given a batch without labels, when a NaN loss strikes, then the logits that its loss is taken from are NaN."""
    batch = tiny.rows(1)[0]["input_ids"][None]
    with striking(model, Fault(FaultKind.NAN_LOSS, (1,))):
        logits = model(input_ids=batch).logits
    assert logits.isnan().all()


def test_a_frozen_model_cannot_be_struck() -> None:
    """Given a model with nothing to train, when a fault is to strike it, then the error says so."""
    model = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"), striking(model, Fault(FaultKind.NAN_LOSS, (1,))):
        pass


def losses(trainer: Any) -> list[float]:
    """Read the logged losses."""
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_a_trainer_is_struck_at_the_step_and_before_it_not(tmp_path: Path) -> None:
    """Given a NaN loss at step 3, when a trainer runs, then steps 1 and 2 are a clean run's, and step 3 is NaN."""
    clean = tiny.trainer(tmp_path / "clean")
    clean.train()
    injection = FaultInjection(Fault(FaultKind.NAN_LOSS, (3,)))
    struck = tiny.trainer(tmp_path / "struck", injection, logging_nan_inf_filter=False)
    struck.train()
    assert losses(struck)[:2] == losses(clean)[:2]
    assert math.isnan(losses(struck)[2])
    assert injection.struck == [3]


def test_a_fault_that_does_not_come_changes_nothing(tmp_path: Path) -> None:
    """Given a fault after the last step, when a trainer runs, then it ends bit for bit as without one."""
    clean = tiny.trainer(tmp_path / "clean")
    clean.train()
    injection = FaultInjection(Fault(FaultKind.EXPLOSION, (5,)))
    other = tiny.trainer(tmp_path / "other", injection)
    other.train()
    assert injection.struck == []
    assert tiny.same_weights(tiny.weights(other.model), tiny.weights(clean.model))


def test_evaluations_are_spared(tmp_path: Path) -> None:
    """Given an explosion in every step, when the trainer evaluates between them, then only gradients are struck."""
    injection = FaultInjection(
        Fault(FaultKind.EXPLOSION, (1,), persistent=True, factor=2.0), Fault(FaultKind.NAN_LOSS, (4,))
    )
    trainer = tiny.trainer(tmp_path, injection, eval_strategy="steps", eval_steps=1, max_grad_norm=0.0)
    trainer.train()
    found = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert injection.struck == [1, 2, 3, 4, 4]
    assert all(math.isfinite(loss) for loss in found[:3])
    assert math.isnan(found[3])  # the weights are NaN by then
