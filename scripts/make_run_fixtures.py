"""Write `fixtures/runs/`: telemetry of five small runs, each of them really trained and really recorded.

Run it from the root of the repository, with the extra `train` installed:

    python scripts/make_run_fixtures.py

It takes about half a minute on two CPU cores. What it writes is kept as it came: run ids, times and versions
are those of the moment, so a new run of the script changes every file.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradience_train.offline import offline_and_quiet

offline_and_quiet()  # before the lines below import transformers

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import (  # noqa: E402
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from gradience import GradienceCallback  # noqa: E402
from gradience_train.embedded import EmbeddedTask, tiny_qa  # noqa: E402
from gradience_train.tasks.encoding import IGNORED_LABEL  # noqa: E402
from gradience_train.tiny_models import one_thread  # noqa: E402

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "runs"
STEPS = 40
BAD_BATCH = 15

Batch = dict[str, torch.Tensor]


class StopAt(TrainerCallback):
    """Stops training from outside after some step, as an early-stopping rule does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for the stop."""
        del args, kwargs
        if state.global_step == self.step:
            control.should_training_stop = True


class FaultyTrainer(Trainer):
    """Collates its training rows as usual, and does something else with one batch."""

    fault: tuple[int, Callable[[Batch], Batch]] | None = None

    def get_train_dataloader(self) -> Any:
        """Build the loader of training batches; those of evaluations stay as they are."""
        if self.fault is None:
            return super().get_train_dataloader()
        bad, change = self.fault
        numbers = itertools.count(1)
        self.data_collator = lambda rows: (
            change(default_data_collator(rows)) if next(numbers) == bad else default_data_collator(rows)
        )
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = default_data_collator


def without_labels(batch: Batch) -> Batch:
    """Mask every label: the mean over no token is NaN. Truncated prompts do this to real runs."""
    return batch | {"labels": torch.full_like(batch["labels"], IGNORED_LABEL)}


def broken(batch: Batch) -> Batch:
    """Fail as a reader of a damaged data set does."""
    raise RuntimeError(f"row {len(batch['labels'])} of the shard cannot be decoded")


def trainer_for(seed: int, out: Path, *callbacks: Any, fault: Any = None, **arguments: Any) -> Any:
    """Set up one small fine-tune that records itself in `out`."""
    task: EmbeddedTask = tiny_qa(seed, warm_start_steps=120)
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    settings: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "learning_rate": 5e-3,
        "warmup_steps": 4,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 10,
        "save_strategy": "no",
        "seed": seed,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
    }
    trainer: Any = FaultyTrainer(
        model=get_peft_model(task.model, lora),
        args=TrainingArguments(output_dir=str(out), **settings | arguments),
        train_dataset=task.train,
        eval_dataset=task.val,
        data_collator=default_data_collator,
        callbacks=[
            GradienceCallback(dataset_name="embedded:templated-qa", train_eval_samples=64, telemetry_interval=20),
            *callbacks,
        ],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.fault = fault
    trainer.test_rows = task.test
    return trainer


def healthy(out: Path) -> None:
    """Train to the end, and evaluate on the shifted split."""
    trainer = trainer_for(1, out)
    trainer.train()
    trainer.evaluate(trainer.test_rows, metric_key_prefix="test")


def stopped_early(out: Path) -> None:
    """Stop before the last step."""
    trainer_for(2, out, StopAt(24)).train()


def raised(out: Path) -> None:
    """Fail in the middle of training."""
    try:
        trainer_for(3, out, fault=(BAD_BATCH, broken)).train()
    except RuntimeError as error:
        print(f"  as it should, training failed: {error}")


def nan_batch(out: Path) -> None:
    """Meet one batch with a NaN loss while the trainer hides such losses from its log."""
    trainer_for(4, out, fault=(BAD_BATCH, without_labels), logging_nan_inf_filter=True).train()


def resumed(out: Path) -> None:
    """Fail, and go on from the last checkpoint in a second segment."""
    saving = {"save_strategy": "steps", "save_steps": 10}
    try:
        trainer_for(5, out, fault=(24, broken), **saving).train()
    except RuntimeError as error:
        print(f"  as it should, training failed: {error}")
    trainer_for(5, out, **saving).train(resume_from_checkpoint=True)


def main() -> None:
    """Write every fixture anew."""
    with tempfile.TemporaryDirectory() as scratch, one_thread():
        for run in (healthy, stopped_early, raised, nan_batch, resumed):
            print(run.__name__)
            run(Path(scratch) / run.__name__)
        for old in FIXTURES.rglob("*.jsonl"):
            old.unlink()
        for written in sorted(Path(scratch).glob("*/run*.jsonl")):
            target = FIXTURES / written.parent.name / written.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(written, target)
            print(f"{target.relative_to(FIXTURES.parents[1])}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
