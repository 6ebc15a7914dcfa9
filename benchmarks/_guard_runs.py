"""Trainings with and without the guard, and the state of an 8B adapter; shared by the guard's two benchmarks."""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from audit import factors
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

from gradience_emit.hf import GradienceCallback

EVENTS: Final = ("step_began", "saw_loss", "saw_norm", "before_update", "updated", "step_ended")
"""What the guard is called for in a step, in this order."""


@dataclass(frozen=True)
class Size:
    """A model and its batches."""

    name: str
    hidden: int
    inner: int
    layers: int
    rank: int
    batch: int
    length: int


def build_model(size: Size) -> Any:
    """A Llama of random weights with LoRA on every linear layer."""
    set_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=size.hidden,
            intermediate_size=size.inner,
            num_hidden_layers=size.layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=size.length,
        )
    )
    return get_peft_model(base, LoraConfig(r=size.rank, target_modules="all-linear", task_type="CAUSAL_LM"))


def state_bytes(model: Any) -> int:
    """Bytes of the trainable weights and of Adam's two moments of them."""
    return 3 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


class Clock(TrainerCallback):  # type: ignore[misc]
    """The time from the end of one step to that of the next, by the clock given."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._last = now, 0.0
        self.steps: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note it; the first step is left out, whose beginning is not a step's end."""
        del args, control, kwargs
        now = self._now()
        if state.global_step > 1:
            self.steps.append(now - self._last)
        self._last = now


class Metered(GradienceCallback):
    """The callback, with the time spent inside the guard noted for every event."""

    def __init__(self, now: Callable[[], float], **options: Any) -> None:
        super().__init__(**options)
        self.spent: dict[str, list[float]] = defaultdict(list)
        self._watch: Any = _Timed(self._watch, self.spent, now)


class _Timed:
    """Stands in for the part of the callback that guards, and times what it is called for."""

    def __init__(self, watch: Any, spent: dict[str, list[float]], now: Callable[[], float]) -> None:
        self._watch = watch
        for event in EVENTS:
            setattr(self, event, self._timed(getattr(watch, event), spent[event], now))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watch, name)

    @staticmethod
    def _timed(method: Any, spent: list[float], now: Callable[[], float]) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = now()
            result = method(*args, **kwargs)
            spent.append(now() - began)
            return result

        return call


class CloneWeights(TrainerCallback):  # type: ignore[misc]
    """The older design: every ``every`` steps `torch.clone` of whatever has "lora" in its name, five kept."""

    def __init__(self, now: Callable[[], float], every: int) -> None:
        self._now, self._every = now, every
        self._kept: list[dict[str, torch.Tensor]] = []
        self.spent: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Copy when it is time; as in the guard's ring, what is kept first goes first."""
        del args, control
        began = self._now()
        if state.global_step % self._every == 0:
            named = kwargs["model"].named_parameters()
            self._kept.append({name: weight.detach().cpu().clone() for name, weight in named if "lora" in name})
            del self._kept[:-5]
        self.spent.append(self._now() - began)


def rows(size: Size, steps: int) -> list[dict[str, torch.Tensor]]:
    """Random rows for that many steps: one epoch, as the guard looks at the state at the end of each."""
    ids = torch.randint(0, 512, (steps * size.batch, size.length), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in ids]


def train(size: Size, steps: int, callbacks: list[Any], *, cpu: bool = True, logging_steps: int = 50) -> None:
    """One training, whose files are thrown away."""
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            max_steps=steps,
            per_device_train_batch_size=size.batch,
            logging_steps=logging_steps,
            save_strategy="no",
            report_to="none",
            use_cpu=cpu,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer: Any = Trainer(build_model(size), arguments, train_dataset=rows(size, steps), callbacks=callbacks)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()


@dataclass
class Inside:
    """Seconds per step spent inside something that does more at some steps than at others.

    Attributes:
        usual: the median step.
        extra: the median of the steps at which it does more.
        per_step: both at the rate at which they come.
        share: of the step's other time in the same run.
        by_event: the median step by the events of the trainer.
    """

    usual: float
    extra: float
    per_step: float
    share: float
    by_event: dict[str, float] = field(default_factory=dict)


def inside(totals: list[float], steps: list[float], every: int, first: int) -> Inside:
    """Put the medians together.

    Args:
        totals: seconds inside, by step.
        steps: seconds of each step but the first, those inside included.
        every: at how many steps it does more.
        first: the first place in ``totals``, from 0, at which it does. Place 0 is never counted: what is done there for
            the first time takes its memory from the system.
    """
    special = set(range(first, len(totals), every)) - {0}
    extra = statistics.median(totals[place] for place in special)
    ordinary = [total for place, total in enumerate(totals) if place and place not in special]
    usual = statistics.median(ordinary) if ordinary else extra
    per_step = usual + (extra - usual) / every
    return Inside(usual, extra, per_step, per_step / (statistics.median(steps) - statistics.median(totals)))


def inside_guard(metered: Metered, steps: list[float], every: int) -> Inside:
    """The same of a guard, which takes a snapshot before the first update and then every ``every`` steps."""
    totals = [sum(times) for times in zip(*(metered.spent[event] for event in EVENTS), strict=True)]
    found = inside(totals, steps, every, first=0)
    found.by_event = {event: statistics.median(metered.spent[event][1:]) for event in EVENTS}
    return found


def adapter_8b(device: str) -> tuple[Any, Any]:
    """The trainable weights of an 8B model's adapter (r 16 on seven layers of 32 blocks, float32), and their AdamW."""
    torch.manual_seed(0)
    weights = [0.02 * torch.randn(shape, device=device) for _, shape in factors("8B r16")]
    model = torch.nn.ParameterList(torch.nn.Parameter(weight) for weight in weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for parameter in model:
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def tensors_of(model: Any, optimizer: Any) -> Iterator[torch.Tensor]:
    """The weights and the tensors of the optimizer's state."""
    for parameter in model.parameters():
        yield parameter.detach()
        yield from (value for value in optimizer.state[parameter].values() if isinstance(value, torch.Tensor))


def median_ms(action: Callable[[], Any], repeat: int, now: Callable[[], float] = time.process_time) -> float:
    """Milliseconds of an action: the median of several, after one that is not counted."""
    action()
    taken: list[float] = []
    for _ in range(repeat):
        began = now()
        action()
        taken.append(now() - began)
    return 1e3 * statistics.median(taken)
