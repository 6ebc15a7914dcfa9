"""What the guard does about a fault of each kind, and what the fault costs with it and without.

    python examples/guard_faults.py

Every fault is put into the same small LoRA fine-tune (dropout on, cosine schedule), once with the guard and once
without. Where the guard dropped batches, a third run without guard and fault never sees them, and the trained weights
are compared: 0 means bit for bit. The last columns are losses on held-out questions. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradience_train.offline import offline_and_quiet

offline_and_quiet()

import torch  # noqa: E402 - taken off the network first
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from gradience import GradienceCallback, load_run  # noqa: E402
from gradience_train.embedded import EmbeddedTask, tiny_qa  # noqa: E402
from gradience_train.faults import Fault, FaultInjection, FaultKind  # noqa: E402
from gradience_train.tiny_models import one_thread  # noqa: E402

STEPS, BATCH = 50, 8
SNAPSHOT_EVERY = 10


@dataclass(frozen=True)
class Case:
    """A fault and the training it is put into."""

    name: str
    faults: tuple[Fault, ...]
    clip: float = 1.0


@dataclass
class Outcome:
    """What became of a training.

    Attributes:
        weights: the trained weights at the end.
        loss: on held-out questions.
        did: what the guard did, as in its summary; empty without one.
        dropped: steps whose update is not in the weights.
    """

    weights: list[torch.Tensor]
    loss: float
    did: dict[str, Any] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()


CASES = (
    Case("NaN loss", (Fault(FaultKind.NAN_LOSS, (25,)),)),
    Case("NaN gradient", (Fault(FaultKind.NAN_GRADIENT, (25,)),)),
    Case("NaN weight", (Fault(FaultKind.NAN_WEIGHTS, (25,)),)),
    Case("gradient x 10,000, no clipping", (Fault(FaultKind.EXPLOSION, (25,)),), clip=0.0),
    Case("gradient x 10,000, clipped to 1", (Fault(FaultKind.EXPLOSION, (25,)),)),
    Case("NaN loss from a step on", (Fault(FaultKind.NAN_LOSS, (25,), persistent=True),)),
    Case("NaN weight twice, in the cooldown", (Fault(FaultKind.NAN_WEIGHTS, (25, 29)),)),
    Case("NaN weight four times in the window", (Fault(FaultKind.NAN_WEIGHTS, (12, 24, 36, 48)),)),
)


class Batches(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    """The rows of the batches of certain steps, in order."""

    def __init__(self, rows: list[Any], steps: list[int]) -> None:
        self._rows, self._steps = rows, steps

    def __iter__(self) -> Iterator[Any]:
        for step in self._steps:
            yield from (self._rows[(step * BATCH + place) % len(self._rows)] for place in range(BATCH))


class StopAfter(TrainerCallback):  # type: ignore[misc]
    """Ends training early, on the schedule of the full length."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop when it is time."""
        del args, kwargs
        control.should_training_stop = control.should_training_stop or state.global_step >= self._steps


def train(
    task: EmbeddedTask, out: Path, clip: float, steps: list[int], callbacks: list[Any]
) -> tuple[list[Any], float]:
    """Fine-tune on the batches of these steps; the trained weights, and the loss on held-out questions."""
    torch.manual_seed(0)
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(copy.deepcopy(task.model), lora)
    arguments = TrainingArguments(
        output_dir=str(out), max_steps=STEPS, per_device_train_batch_size=BATCH, per_device_eval_batch_size=128,
        learning_rate=5e-3, lr_scheduler_type="cosine", max_grad_norm=clip, logging_steps=5, save_strategy="no",
        label_names=["labels"], use_cpu=True, dataloader_pin_memory=False, disable_tqdm=True, report_to="none",
    )  # fmt: skip
    data: Any = Batches(task.train, steps)
    held_out: Any = task.val
    trainer = Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=held_out, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    weights = [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]
    trainer.remove_callback(GradienceCallback)  # the last evaluation is ours, and no part of the run
    return weights, trainer.evaluate()["eval_loss"]


def guarded(task: EmbeddedTask, case: Case, out: Path) -> Outcome:
    """The training with the fault and the guard; what the guard did is read from the telemetry."""
    callback = GradienceCallback(output_dir=out, enable_guard=True, guard_snapshot_every=SNAPSHOT_EVERY)
    steps = list(range(STEPS))
    weights, loss = train(task, out, case.clip, steps, [FaultInjection(*case.faults), callback])
    did: dict[str, Any] = {}
    dropped: set[int] = set()
    for event in load_run(callback.path).segments[-1].events:
        if event.event == "metrics" and event.payload["kind"] == "guard":
            done = event.payload["metrics"]
            if done["action"] in {"skip", "rollback", "abort"}:
                dropped |= set(range(done.get("restored_step", event.step - 1) + 1, event.step + 1))
            elif done["action"] == "summary":
                did = done
    return Outcome(weights, loss, did, frozenset(dropped))


def without_them(task: EmbeddedTask, case: Case, out: Path, last: int, dropped: frozenset[int]) -> list[torch.Tensor]:
    """The weights after the same steps without guard, fault and the dropped batches."""
    steps = [step for step in range(last) if step + 1 not in dropped]
    return train(task, out, case.clip, steps, [StopAfter(len(steps))])[0]


def apart(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """The largest difference between two trainings' weights; NaN when a weight is."""
    return float(torch.cat([(ours - theirs).abs().flatten() for ours, theirs in zip(one, other, strict=True)]).max())


def counted(did: dict[str, Any]) -> str:
    """What the guard did, in words."""
    names = {"total_skips": "skipped", "total_rollbacks": "rolled back"}
    words = [f"{did[key]} {name}" for key, name in names.items() if did[key]]
    if did["gave_up"]:
        words.append(f"gave up ({did['gave_up']})")
    return ", ".join(words) or f"{did['total_triggers']} warned of"


def main() -> None:
    """Put in every fault, and print one table."""
    parser = argparse.ArgumentParser(description="The guard against a fault of each kind.")
    parser.add_argument("--out", help="keep the telemetry of the guarded runs in this folder")
    options = parser.parse_args()
    logging.getLogger("gradience_emit").setLevel(logging.CRITICAL)  # the table says it
    print("| fault | the guard | integrity | max difference | loss, guarded | unguarded |")
    print("|---|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder, one_thread():
        kept = Path(options.out or folder)
        task = tiny_qa(seed=0, warm_start_steps=120)
        references: dict[Any, list[torch.Tensor]] = {}
        for case in CASES:
            name = case.name.replace(" ", "-").replace(",", "")
            ours = guarded(task, case, kept / name)
            _, lost = train(task, Path(folder), case.clip, list(range(STEPS)), [FaultInjection(*case.faults)])
            difference = "-"
            if ours.dropped:
                last = max(ours.dropped) if ours.did["gave_up"] else STEPS
                key = (case.clip, last, ours.dropped)
                if key not in references:
                    references[key] = without_them(task, case, Path(folder), last, ours.dropped)
                difference = f"{apart(ours.weights, references[key]):g}"
            print(
                f"| {case.name} | {counted(ours.did)} | {ours.did['integrity_status']} | {difference} "
                f"| {ours.loss:.3f} | {lost:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
