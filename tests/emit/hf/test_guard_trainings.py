"""The guard in trainings of every kind: adapters, optimizers, schedules, resumes, half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from gradience_emit.hf import GradienceCallback
from tests.emit.hf import faulty, tiny

pytestmark = [
    # the newer name of the option is not known to the oldest transformers that is supported
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning"),
    # and these come from the oldest peft, about a base model that is only in memory
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]
STEPS, FAULTY = 8, 5


def _compare(
    out: Path, build: Callable[[], dict[str, Any]], fault: faulty.Fault, *, step: int = FAULTY, **options: Any
) -> list[str]:
    """What differs between the guarded run with a fault and the run without what the guard dropped."""
    options = {"steps": STEPS} | options
    trainer = faulty.guarded(out / "with", {step: fault}, guard_snapshot_every=2, **build(), **options)
    dropped = faulty.dropped(out / "with")
    assert step in dropped
    assert faulty.is_finite(trainer)
    reference = faulty.unguarded(out / "without", without=dropped, **build(), **options)
    return faulty.differences(faulty.state_of(trainer), faulty.state_of(reference))


def _biased() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        attention_bias=True, pad_token_id=0,
    )  # fmt: skip
    lora = LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj"], bias="all", task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM(config), lora)


def _checkpointed() -> Any:
    model = tiny.lora()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


ADAPTERS: dict[str, Callable[[], dict[str, Any]]] = {
    "modules-to-save": lambda: {"model": tiny.lora(modules_to_save=["lm_head"])},
    "dora": lambda: {"model": tiny.lora(use_dora=True)},
    "bias": lambda: {"model": _biased()},
    "whole-model": lambda: {"model": tiny.base()},
    "gradient-checkpointing": lambda: {"model": _checkpointed()},
}


@pytest.mark.parametrize("fault", [faulty.nan_loss, faulty.nan_weights], ids=["skip", "rollback"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_trained_tensor_comes_back(tmp_path: Path, adapter: str, fault: faulty.Fault) -> None:
    """Given trained tensors besides LoRA factors, when a fault is undone, then all are those without the batch."""
    assert _compare(tmp_path, ADAPTERS[adapter], fault) == []


def test_each_adapter_trains_what_its_name_says() -> None:
    """Given the adapters above, when their trained tensors are listed, then the special ones are among them."""
    names = {
        key: {name for name, p in ADAPTERS[key]()["model"].named_parameters() if p.requires_grad} for key in ADAPTERS
    }
    assert any("modules_to_save" in name for name in names["modules-to-save"])
    assert any("magnitude" in name for name in names["dora"])
    assert any(name.endswith("bias") for name in names["bias"])
    assert not any("lora" in name for name in names["whole-model"])
    assert _checkpointed().is_gradient_checkpointing


class Normalised(faulty.Adapter):
    """With running statistics, which a bad batch spoils in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(8)

    def forward(self, x: Any, labels: Any) -> dict[str, Any]:
        """Mean squared error on normalised inputs."""
        return super().forward(self.norm(x), labels)


@pytest.mark.parametrize("fault", [faulty.nan_loss, faulty.nan_weights], ids=["skip", "rollback"])
def test_running_statistics_do_not_remember_the_batch(tmp_path: Path, fault: faulty.Fault) -> None:
    """Given batch normalisation, when a batch is dropped, then its statistics are those of the other batches."""
    assert _compare(tmp_path, lambda: {"model": Normalised(), "rows": faulty.points}, fault) == []


class Nested(torch.optim.Optimizer):
    """Momentum kept in nested lists beside numbers and words, and a counter that moves without a gradient too."""

    def __init__(self, parameters: Any, lr: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr, "calls": 0, "mean": torch.zeros(())})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Heavy ball; the step is shorter the more calls there were."""
        del closure
        for group in self.param_groups:
            group["calls"] += 1
            group["mean"] = group["mean"] * 0.9 + 0.1
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(parts=[torch.zeros_like(parameter), {"seen": (0, "none")}], scales=(1.0, [0.5]))
                momentum, rest = state["parts"]
                momentum.mul_(0.9).add_(parameter.grad)
                rest["seen"] = (rest["seen"][0] + 1, "some")
                state["scales"] = (state["scales"][0] * 0.99, [*state["scales"][1], 0.5][-3:])
                parameter.sub_(momentum * (group["lr"] * state["scales"][0] / group["calls"] * float(group["mean"])))


def _own(kind: str) -> dict[str, Any]:
    model = faulty.Adapter()
    parameters = [p for p in model.parameters() if p.requires_grad]
    if kind == "nested":
        optimizer: Any = Nested(parameters)
        schedule: Any = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    elif kind == "one-cycle":
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=STEPS + 1)
    elif kind == "sequential":
        optimizer = torch.optim.RMSprop(parameters, lr=0.01, momentum=0.5)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3)
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer, [warm, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)], [3]
        )
    else:
        optimizer = torch.optim.AdamW(parameters, lr=torch.tensor(0.01), foreach=False)
        schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4)
    return {"model": model, "rows": faulty.points, "optimizers": (optimizer, schedule)}


OPTIMIZERS: dict[str, Callable[[], dict[str, Any]]] = {
    **{kind: (lambda kind=kind: _own(kind)) for kind in ("nested", "one-cycle", "sequential", "tensor-rate")},
    "adafactor": lambda: {"model": tiny.lora(), "optim": "adafactor"},
    "sgd": lambda: {"model": tiny.lora(), "optim": "sgd", "optim_args": "momentum=0.9"},
}


@pytest.mark.parametrize("fault", [faulty.nan_loss, faulty.nan_weights], ids=["skip", "rollback"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_and_schedule_comes_back(tmp_path: Path, optimizer: str, fault: faulty.Fault) -> None:
    """Given another optimizer or one of the user's, when a fault is undone, then its state and rate are right too."""
    assert _compare(tmp_path, OPTIMIZERS[optimizer], fault) == []


@pytest.mark.parametrize("fault", [faulty.nan_loss, faulty.nan_weights], ids=["skip", "rollback"])
def test_a_schedule_that_waits_for_evaluations_comes_back(tmp_path: Path, fault: faulty.Fault) -> None:
    """Given a rate that falls on a plateau, when a fault is undone after an evaluation, then it fell as it should."""

    def build() -> dict[str, Any]:
        return {
            "model": faulty.Adapter(),
            "rows": faulty.points,
            "eval_dataset": faulty.points(8),
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "lr_scheduler_kwargs": {"patience": 0, "threshold": 0.9},
            "eval_strategy": "steps",
            "eval_steps": 2,
        }

    # it ends before the last step of its schedule, after which the trainer evaluates once more
    assert _compare(tmp_path, build, fault, step=7, stop=7) == []


def test_a_second_training_of_the_same_trainer_is_guarded_too(tmp_path: Path) -> None:
    """Given a trainer that trains twice, when the second training has a fault, then only that batch is missing."""
    trainers: list[Any] = []
    for name, guard in (("with", True), ("without", False)):
        callback = [GradienceCallback(None, enable_guard=True)] if guard else []
        trainer = faulty.faulty(tmp_path / name, *callback, model=tiny.lora(), steps=STEPS)
        trainer.train()
        if guard:
            trainer.faults = {FAULTY: faulty.nan_gradient}
            trainer.hurt = 0
        else:
            del trainer.train_dataset[faulty.BATCH * (FAULTY - 1) : faulty.BATCH * FAULTY]
            trainer.add_callback(faulty.StopAfter(STEPS - 1))
        trainer.train()
        trainers.append(trainer)
    assert faulty.differences(*(faulty.state_of(trainer) for trainer in trainers)) == []
    acts = tiny.of(tiny.events(tmp_path / "with", "run.1.jsonl"), "metrics", kind="guard")
    assert [(a["step"], a["metrics"]["action"]) for a in acts if a["metrics"]["action"] == "skip"] == [(FAULTY, "skip")]
    assert faulty.summary(tmp_path / "with")["total_skips"] == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, {7: faulty.nan_loss}), ({3: faulty.nan_loss}, {}), ({}, {8: faulty.nan_weights})],
    ids=["skip-after", "skip-before", "rollback-after"],
)
def test_a_resumed_run_is_guarded_too(tmp_path: Path, before: Any, after: Any) -> None:
    """Given a run that stopped at step 5 and was resumed, when a batch is dropped, then it alone is missing."""
    options: dict[str, Any] = {"steps": 10, "save_strategy": "steps", "save_steps": 5, "guard_snapshot_every": 1}
    faulty.guarded(tmp_path / "with", before, model=tiny.lora(), stop=5, **options)
    guard = {"enable_guard": True, "guard_snapshot_every": options.pop("guard_snapshot_every")}
    trainer = faulty.faulty(tmp_path / "with", GradienceCallback(None, **guard), model=tiny.lora(), **options)
    trainer.faults = after
    trainer.train(resume_from_checkpoint=True)
    skipped = list(before) or list(after)
    if 8 in after:
        records = tiny.of(tiny.events(tmp_path / "with", "run.1.jsonl"), "metrics", kind="guard")
        (rollback,) = [r["metrics"] for r in records if r["metrics"]["action"] == "rollback"]
        skipped = [7, 8]
        assert rollback["restored_step"] == 6
    reference = faulty.unguarded(tmp_path / "without", model=tiny.lora(), steps=10, without=skipped)
    assert faulty.differences(faulty.state_of(trainer), faulty.state_of(reference)) == []


class Hungry(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Has no memory for batches above a size, at the second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Fail."""
        if state.train_batch_size > 2 and state.global_step == 2:
            raise RuntimeError("CUDA out of memory.")


def test_a_training_that_starts_again_with_smaller_batches_is_guarded_anew(tmp_path: Path) -> None:
    """Given auto_find_batch_size, when the second try has a fault, then it is dropped, and one guard is on."""
    trainer = tiny.trainer(
        tmp_path,
        GradienceCallback(None, enable_guard=True, guard_snapshot_every=1),
        Hungry(),
        kind=faulty.Faulty,
        auto_find_batch_size=True,
        max_steps=5,
    )
    trainer.faults = {4: faulty.nan_gradient}
    trainer.train()
    last = max(tmp_path.glob("run.*.jsonl"), key=lambda path: int(path.suffixes[0][1:]))
    actions = [r["metrics"]["action"] for r in tiny.of(tiny.events(tmp_path, last.name), "metrics", kind="guard")]
    assert actions == ["init", "snapshot", "snapshot", "snapshot", "skip", "snapshot", "summary"]
    assert faulty.is_finite(trainer)


def _in_half_precision(out: Path, *callbacks: Any, **options: Any) -> Any:
    """A trainer with a gradient scaler, which accelerate would not make on the CPU."""
    trainer = faulty.faulty(out, *callbacks, model=faulty.Adapter(), rows=faulty.points, **options)
    accelerator = trainer.accelerator
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    accelerator.native_amp = True
    accelerator.state._mixed_precision = "fp16"
    return trainer


def _scaler(trainer: Any) -> tuple[float, int]:
    state = trainer.accelerator.scaler.state_dict()
    return state["scale"], state["_growth_tracker"]


def overflow(trainer: Any) -> None:
    """The scaled gradient overflows half precision; the loss does not."""
    next(p for p in faulty.trained(trainer) if p.grad is not None).grad.view(-1)[0] = torch.inf


@pytest.fixture
def _no_fp16_left(request: pytest.FixtureRequest) -> Any:
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=False)


@pytest.mark.usefixtures("_no_fp16_left")
@pytest.mark.parametrize("clip", [1.0, 0.0], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("fault", [faulty.nan_loss, faulty.nan_weights], ids=["skip", "rollback"])
def test_a_gradient_scaler_does_not_see_a_dropped_batch(tmp_path: Path, fault: faulty.Fault, clip: float) -> None:
    """Given half precision and a NaN loss, when its batch is dropped, then the scale is what it was."""
    options: dict[str, Any] = {"steps": STEPS, "max_grad_norm": clip}
    guard = GradienceCallback(None, enable_guard=True, guard_snapshot_every=2)
    trainer = _in_half_precision(tmp_path / "with", guard, faults={FAULTY: fault}, **options)
    trainer.train()
    dropped = faulty.dropped(tmp_path / "with")
    reference = _in_half_precision(tmp_path / "without", without=dropped, **options)
    reference.train()
    assert _scaler(trainer) == _scaler(reference)
    assert _scaler(reference)[0] > 1024
    assert faulty.differences(faulty.state_of(trainer), faulty.state_of(reference)) == []
    assert trainer.state.global_step == STEPS


@pytest.mark.usefixtures("_no_fp16_left")
def test_an_overflow_is_left_to_the_gradient_scaler(tmp_path: Path) -> None:
    """Given half precision and an overflow under a finite loss, when the step ends, then it is the unguarded run."""
    guard = GradienceCallback(None, enable_guard=True, guard_snapshot_every=2)
    faulty.AFTER_BACKWARD.add(overflow)
    trainers: list[Any] = []
    for name, callbacks in (("with", [guard]), ("without", [])):
        trainers.append(_in_half_precision(tmp_path / name, *callbacks, faults={FAULTY: overflow}, steps=STEPS))
        trainers[-1].train()
    assert _scaler(trainers[0]) == _scaler(trainers[1])
    assert faulty.differences(*(faulty.state_of(trainer) for trainer in trainers)) == []
    assert faulty.acts(tmp_path / "with") == []
    assert faulty.summary(tmp_path / "with")["integrity_status"] == "ok"
