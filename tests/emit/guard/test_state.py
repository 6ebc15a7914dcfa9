"""What is saved of a training and restored: every tensor in its place, in memory that is used again."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.guard.state import TrainingState


def model() -> Any:
    """Two layers, the first one frozen, with running statistics between them."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    layers[0].requires_grad_(False)
    return layers


def trained(steps: int = 3, kind: Any = torch.optim.AdamW, **options: Any) -> tuple[Any, Any, Any, TrainingState]:
    """A model after some steps, with its optimizer, schedule and state."""
    layers = model()
    optimizer = kind([p for p in layers.parameters() if p.requires_grad], lr=0.1, **options)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for _ in range(steps):
        train(layers, optimizer, schedule)
    return layers, optimizer, schedule, TrainingState(layers, optimizer, schedule)


def train(layers: Any, optimizer: Any, schedule: Any) -> None:
    """One step."""
    optimizer.zero_grad()
    layers(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    schedule.step()


def everything(layers: Any, optimizer: Any, schedule: Any) -> Any:
    """A copy of weights, optimizer and schedule."""
    return copy.deepcopy((dict(layers.named_parameters()), optimizer.state_dict(), schedule.state_dict()))


def equal(one: Any, other: Any) -> bool:
    """Whether two nested values are the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(type(one) is type(other) and one == other)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.AdamW, {}),
        (torch.optim.AdamW, {"amsgrad": True, "foreach": False}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.SGD, {}),
        (torch.optim.Adafactor, {}),
        (torch.optim.RMSprop, {"centered": True, "momentum": 0.1}),
        (torch.optim.ASGD, {}),
        (torch.optim.Rprop, {}),
    ],
    ids=lambda value: getattr(value, "__name__", "-".join(value) if isinstance(value, dict) else ""),
)
def test_what_was_trained_on_after_saving_is_undone(kind: Any, options: dict[str, Any]) -> None:
    """Given any optimizer of torch, when it trains on and is restored, then it goes on as it did the first time."""
    layers, optimizer, schedule, state = trained(kind=kind, **options)
    saved, start = state.save(None), state.start()
    before = everything(layers, optimizer, schedule)
    for _ in range(2):
        train(layers, optimizer, schedule)
    after = everything(layers, optimizer, schedule)
    assert not equal(after, before)
    state.load(saved)
    state.restart(start)
    assert equal(everything(layers, optimizer, schedule), before)
    for _ in range(2):
        train(layers, optimizer, schedule)
    assert equal(everything(layers, optimizer, schedule), after)


def test_a_state_before_the_first_step_is_restored_to_nothing() -> None:
    """Given a copy from before the first step, when it is restored, then the optimizer knows nothing again."""
    layers, optimizer, schedule, state = trained(steps=0)
    saved = state.save(None)
    train(layers, optimizer, schedule)
    assert len(optimizer.state) == 4
    state.load(saved)
    assert len(optimizer.state) == 0


def test_what_the_optimizer_has_lost_is_made_anew() -> None:
    """Given an optimizer whose state was cleared, when a copy is restored, then all of it is there."""
    layers, optimizer, schedule, state = trained()
    saved, before = state.save(None), everything(layers, optimizer, schedule)
    optimizer.state.clear()
    state.load(saved)
    assert equal(everything(layers, optimizer, schedule), before)
    moments = next(iter(optimizer.state.values()))["exp_avg"]
    moments.add_(1.0)
    state.load(saved)
    assert equal(everything(layers, optimizer, schedule), before), "what was made anew is not the copy itself"


def test_restoring_keeps_every_tensor_that_somebody_may_hold() -> None:
    """Given tensors of the state, when a copy is restored, then they are the same objects with the old content."""
    layers, optimizer, schedule, state = trained()
    saved = state.save(None)
    held = [id(p) for p in layers.parameters()]
    entries = {id(entry): {key: id(value) for key, value in entry.items()} for entry in optimizer.state.values()}
    train(layers, optimizer, schedule)
    state.load(saved)
    assert [id(p) for p in layers.parameters()] == held
    assert {id(e): {key: id(value) for key, value in e.items()} for e in optimizer.state.values()} == entries


@pytest.mark.parametrize("counts", [False, True], ids=["tensors", "tensors-and-numbers"])
def test_the_memory_of_an_older_copy_is_used_again(counts: bool) -> None:
    """Given an older copy, when a new one is made into it, then no tensor is allocated and the content is new."""
    layers, optimizer, schedule, state = trained()
    for number, entry in enumerate(optimizer.state.values()):
        entry.update(count=number) if counts else None
    older = state.save(None)
    places = {path: tensor.data_ptr() for path, tensor in older.copies.tensors.items()}
    train(layers, optimizer, schedule)
    for entry in optimizer.state.values():
        entry.update(count=100) if counts else None
    newer = state.save(older)
    assert newer is older
    assert {path: tensor.data_ptr() for path, tensor in newer.copies.tensors.items()} == places
    before = everything(layers, optimizer, schedule)
    train(layers, optimizer, schedule)
    state.load(newer)
    assert equal(everything(layers, optimizer, schedule), before)


def test_a_copy_is_one_of_what_is_trained_and_its_size_is_that() -> None:
    """Given frozen weights, when the state is copied, then it holds trained weights, two moments, step counts."""
    layers, _, _, state = trained()
    numbers = sum(p.numel() for p in layers.parameters() if p.requires_grad)
    assert state.size(state.save(None)) == 4 * (3 * numbers + len(state.parameters))
    assert state.parts() == ("weights", "optimizer", "scheduler", "statistics", "rng")


def test_tied_and_optimised_weights_are_taken_once() -> None:
    """Given a shared weight and a frozen one in the optimizer, when they are listed, then each is there once."""
    layers = model()
    layers.tied = torch.nn.Linear(4, 2)
    layers.tied.weight = layers[2].weight
    frozen = layers[0].weight
    optimizer = torch.optim.SGD([frozen, layers[2].weight], lr=0.1)
    parameters = TrainingState(layers, optimizer).parameters
    assert len(parameters) == len({id(p) for p in parameters})
    assert {id(p) for p in parameters} == {id(frozen), *(id(p) for p in layers.parameters() if p.requires_grad)}


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.floats(allow_nan=False))
TENSORS = st.builds(
    lambda values, dtype: torch.tensor(values).to(dtype),
    st.lists(st.integers(0, 99), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8]),
)
ENTRIES = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        st.one_of(PLAIN, TENSORS),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.one_of(st.integers(), st.text(max_size=2)), inner, max_size=3),
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def ruin(value: Any) -> Any:
    """Every tensor written over in place, every list emptied, every dictionary with one key more."""
    if isinstance(value, torch.Tensor):
        value.fill_(7)
    elif isinstance(value, dict):
        for member in value.values():
            ruin(member)
        value["ruined"] = torch.ones(2)
    elif isinstance(value, (list, tuple)):
        for member in value:
            ruin(member)
        if isinstance(value, list):
            value.clear()


@given(ENTRIES, ENTRIES)
def test_any_nesting_in_an_optimizer_comes_back(entry: dict[str, Any], other: dict[str, Any]) -> None:
    """Given nested state of any kind, when it is ruined and restored, twice, then it is what it was."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.state[weight], optimizer.state["of no parameter"] = entry, other  # type: ignore[index]
    before = copy.deepcopy((entry, other))
    state = TrainingState(torch.nn.ParameterList([weight]), optimizer)
    saved = state.save(None)
    for _ in range(2):
        ruin(optimizer.state[weight])
        ruin(optimizer.state["of no parameter"])  # type: ignore[index]
        state.load(saved)
        assert equal((optimizer.state[weight], optimizer.state["of no parameter"]), before)  # type: ignore[index]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("place", ["weight", "moment", "nested"])
def test_one_bad_entry_anywhere_is_found(value: float, dtype: torch.dtype, place: str) -> None:
    """Given one NaN or infinity in a weight or in the optimizer's state, when the state is checked, then it is seen."""
    weight, moment = torch.nn.Parameter(torch.ones(5, dtype=dtype)), torch.ones(3, dtype=dtype)
    optimizer = torch.optim.SGD([weight, torch.nn.Parameter(torch.ones(2))], lr=0.1)
    optimizer.state[weight] = {"moment": moment, "parts": [{"deep": (torch.ones(4, dtype=dtype), 1)}]}
    state = TrainingState(torch.nn.ParameterList([weight]), optimizer)
    assert state.is_finite()
    bad = {"weight": weight.detach(), "moment": moment, "nested": optimizer.state[weight]["parts"][0]["deep"][0]}[place]
    bad[-1] = value
    assert not state.is_finite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_whose_norm_overflows_are_finite(dtype: torch.dtype) -> None:
    """Given finite values so large that their norm is not, when the state is checked, then nothing is wrong."""
    weight = torch.nn.Parameter(torch.full((64,), torch.finfo(dtype).max, dtype=dtype))
    assert TrainingState(torch.nn.ParameterList([weight]), torch.optim.SGD([weight], lr=0.1)).is_finite()


def test_what_cannot_be_nan_is_not_asked() -> None:
    """Given integers and booleans in the optimizer's state, when it is checked, then it is finite."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.state[weight] = {"codes": torch.ones(3, dtype=torch.uint8), "mask": torch.ones(2, dtype=torch.bool)}
    assert TrainingState(torch.nn.ParameterList([weight]), optimizer).is_finite()


def test_memory_of_another_shape_is_not_used() -> None:
    """Given a moment that has become another one, when a copy is made into an older one, then it has the new shape."""
    layers, optimizer, schedule, state = trained()
    older = state.save(None)
    optimizer.state[layers[2].weight]["exp_avg"] = torch.ones(7)
    newer, before = state.save(older), everything(layers, optimizer, schedule)
    assert newer is not older
    optimizer.state[layers[2].weight]["exp_avg"] = torch.zeros(7)
    state.load(newer)
    assert equal(everything(layers, optimizer, schedule), before)


class Quantized(torch.Tensor):
    """A tensor of a class of its own."""


def test_a_tensor_of_a_class_of_its_own_stays_one() -> None:
    """Given a tensor subclass in the optimizer's state, when it is restored, then it is of that class, as it was."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.state[weight] = {"moment": torch.arange(4.0).as_subclass(Quantized)}
    state = TrainingState(torch.nn.ParameterList([weight]), optimizer)
    saved = state.save(None)
    optimizer.state[weight]["moment"].fill_(0)
    state.load(saved)
    assert type(optimizer.state[weight]["moment"]) is Quantized
    assert optimizer.state[weight]["moment"].tolist() == [0, 1, 2, 3]


def test_the_norm_is_that_of_all_gradients() -> None:
    """Given gradients of three tensors, when their norm is taken, then it is the root of the sum of all squares."""
    layers, _, _, state = trained()
    expected = math.sqrt(sum(float(p.grad.double().square().sum()) for p in layers.parameters() if p.grad is not None))
    norm = state.gradient_norm()
    assert norm is not None
    assert float(norm) == pytest.approx(expected, rel=1e-6)
    state.drop_gradients()
    assert all(p.grad is None for p in layers.parameters())
    assert state.gradient_norm() is None


def test_a_dropped_gradient_moves_nothing() -> None:
    """Given weight decay and momentum, when the gradients are dropped, then the optimizer's step changes no bit."""
    layers, optimizer, schedule, state = trained(weight_decay=0.1)
    before = everything(layers, optimizer, schedule)
    layers(torch.randn(8, 4)).square().mean().backward()
    state.drop_gradients()
    optimizer.step()
    assert equal(everything(layers, optimizer, schedule), before)


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1)], ids=["number", "tensor"])
def test_a_held_schedule_does_not_move(rate: Any) -> None:
    """Given a schedule that was held, when it has moved and is released, then the next rate is the one it skipped."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=9, cycle_momentum=False)
    state = TrainingState(torch.nn.ParameterList([weight]), optimizer, schedule)
    kept = optimizer.param_groups[0]["lr"]
    hold, held = state.hold(), float(kept)
    optimizer.step()
    schedule.step()
    moved = float(optimizer.param_groups[0]["lr"])
    state.release(hold)
    assert float(optimizer.param_groups[0]["lr"]) == held != moved
    assert isinstance(rate, float) or optimizer.param_groups[0]["lr"] is kept
    schedule.step()
    assert float(optimizer.param_groups[0]["lr"]) == moved


@pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_a_lowered_rate_is_set_back(rate: Any) -> None:
    """Given two groups, when their rate is lowered and set back, then the schedule's own rates are there again."""
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.25}], lr=rate)
    state = TrainingState(torch.nn.ParameterList(weights), optimizer)
    undo = state.scale_lr(0.5)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.25, 0.125]
    undo()
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5, 0.25]
    assert optimizer.param_groups[0]["lr"] is rate


def test_a_gradient_scaler_is_held_and_restored() -> None:
    """Given a gradient scaler, when its scale has changed, then releasing and restoring bring the old one back."""
    layers, optimizer, schedule, _ = trained()
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    state = TrainingState(layers, optimizer, schedule, scaler)
    assert "scaler" in state.parts()
    scaler.scale(torch.ones(()))  # the scale is on the device from here on
    saved, hold = state.save(None), state.hold()
    scaler.update(new_scale=2.0)
    state.release(hold)
    assert scaler.get_scale() == 512
    scaler.update(new_scale=2.0)
    state.load(saved)
    assert scaler.get_scale() == 512
    unused = TrainingState(layers, optimizer, schedule, torch.amp.GradScaler("cpu", enabled=False))
    assert "scaler" not in unused.parts()
    unused.release(unused.hold())


def test_a_forward_pass_is_taken_back() -> None:
    """Given dropout and running statistics, when a pass is taken back, then the next draws and counts as it did."""
    layers = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4), torch.nn.BatchNorm1d(4))
    layers[2].track_running_stats = False
    state = TrainingState(layers, torch.optim.SGD(layers.parameters(), lr=0.1))
    inputs, start = torch.randn(8, 4), state.start()
    first, buffers = layers(inputs), copy.deepcopy(dict(layers[1].named_buffers()))
    state.restart(start)
    assert int(layers[1].num_batches_tracked) == 0
    assert torch.equal(layers(inputs), first)
    assert equal(dict(layers[1].named_buffers()), buffers)


class Coded(torch.Tensor):
    """A quantized tensor as optimizers have them: codes and scales, and no operation that copies it."""

    codes: torch.Tensor
    scale: torch.Tensor

    @staticmethod
    def __new__(cls, codes: torch.Tensor, scale: torch.Tensor) -> Any:
        """A tensor of the codes' shape."""
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["codes", "scale"], ()

    @classmethod
    def __tensor_unflatten__(cls, inner: dict[str, Any], context: Any, shape: Any, stride: Any) -> Any:
        return cls(inner["codes"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(func)


def test_a_tensor_made_of_others_is_taken_apart() -> None:
    """Given codes and scales in one tensor, when it breaks or goes, then it is seen, and both come back in place."""
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    moment = Coded(torch.arange(4, dtype=torch.uint8), torch.tensor([0.5]))
    optimizer.state[weight] = {"moment": moment}
    state = TrainingState(torch.nn.ParameterList([weight]), optimizer)
    saved = state.save(None)
    assert state.is_finite()
    moment.codes.zero_()
    moment.scale.fill_(math.nan)
    assert not state.is_finite()
    state.load(saved)
    assert optimizer.state[weight]["moment"] is moment
    optimizer.state[weight].clear()
    state.load(saved)
    for restored in (moment, optimizer.state[weight]["moment"]):
        assert type(restored) is Coded
        assert (restored.codes.tolist(), restored.scale.tolist()) == ([0, 1, 2, 3], [0.5])
    assert state.is_finite()
