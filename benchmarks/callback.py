"""What the callback costs a training step: the same tiny Trainer run with and without it, in CPU time.

The model is far smaller than any that is worth training, so the share shown is an upper bound; the microseconds per
step are what a real run pays too. Steps are timed from the end of the first one; what the run's beginning costs (the
configuration, the versions, git) is shown apart. Runs alternate, and the fastest of each kind are compared; on a busy
machine that ratio still moves by some per cent, so the time spent inside the callback is measured directly too.

Usage: ``python benchmarks/callback.py [--steps 200] [--repeats 5]``
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
import warnings
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

from gradience_emit.hf import GradienceCallback


def _model(hidden: int, layers: int) -> Any:
    set_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
        )
    )
    return get_peft_model(base, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))


def _rows(count: int, length: int) -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(0, 512, (count, length), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in ids]


class _Stopwatch(TrainerCallback):  # type: ignore[misc]
    """CPU time of the beginning (until the end of the first step) and of the steps after it."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        del args, state, control, kwargs
        self.marks.append(time.process_time())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the first step and the last."""
        del args, control, kwargs
        if state.global_step in {1, state.max_steps}:
            self.marks.append(time.process_time())


class _Metered(GradienceCallback):
    """The callback, with the time spent inside it after the first step added up."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0.0
        self._depth = 0
        self._begun = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the run's beginning out."""
        del args, control, kwargs
        self._begun = state.global_step > 0

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return self._timed(value) if name.startswith(_ENTRANCES) else value

    def _timed(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            self._depth += 1
            try:
                return method(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0 and self._begun:
                    self.inside += time.perf_counter() - started

        return call


_ENTRANCES = ("on_substep", "on_pre", "on_step_end", "on_log", "batch_trained", "norm_computed")


def _train(hidden: int, layers: int, steps: int, *callbacks: Any, logging_steps: int) -> tuple[float, float]:
    """CPU seconds of the beginning, and of a step after it."""
    watch = _Stopwatch()
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            max_steps=steps,
            per_device_train_batch_size=8,
            logging_steps=logging_steps,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer: Any = Trainer(
            _model(hidden, layers), arguments, train_dataset=_rows(64, 32), callbacks=[watch, *callbacks]
        )
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    start, first, last = watch.marks
    return first - start, (last - first) / (steps - 1)


def _compare(name: str, hidden: int, layers: int, steps: int, repeats: int, logging_steps: int) -> None:
    without: list[tuple[float, float]] = []
    with_callback: list[tuple[float, float]] = []
    inside: list[float] = []
    for _ in range(repeats):
        without.append(_train(hidden, layers, steps, logging_steps=logging_steps))
        with_callback.append(_train(hidden, layers, steps, GradienceCallback(), logging_steps=logging_steps))
        metered = _Metered()
        _train(hidden, layers, steps, metered, logging_steps=logging_steps)
        inside.append(metered.inside / (steps - 1))
    (start, bare), (start_with, recorded) = (
        (min(times) for times in zip(*runs, strict=True)) for runs in (without, with_callback)
    )
    spent = statistics.median(inside)
    print(
        f"| {name} | {logging_steps} | {1e3 * bare:.2f} | {1e3 * recorded:.2f} | {recorded / bare:.3f} "
        f"| {1e6 * spent:.0f} | {100 * spent / bare:.2f}% | {1e3 * (start_with - start):+.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    _train(64, 2, 20, GradienceCallback(), logging_steps=10)  # the first run pays for imports
    print(
        "| model | logging steps | without, ms/step | with, ms/step | ratio | inside, µs/step | share | beginning, ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    _compare("hidden 64, 2 layers", 64, 2, options.steps, options.repeats, 10)
    _compare("hidden 64, 2 layers", 64, 2, options.steps, options.repeats, 1)
    _compare("hidden 256, 4 layers", 256, 4, options.steps, options.repeats, 10)


if __name__ == "__main__":
    main()
