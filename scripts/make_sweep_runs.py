"""Write `fixtures/sweep/`: telemetry of a small sweep over LoRA rank, learning rate and seed, really trained.

Run it from the root of the repository, with the extra `train` installed:

    python scripts/make_sweep_runs.py

It takes about a minute on one CPU core. The base model and the data are the same in every cell; the seed of a cell
decides the adapter's first weights and the order of the batches. Run ids are the names of the cells.

Training is deterministic: on one machine a second run of the script gives the same losses bit for bit, and only times,
versions and memory differ. Another processor sums in another order, and training amplifies that: with the vector
instructions of older processors, the losses of lr 0.001 moved by up to 4 %, and those of lr 0.03 by as much as another
seed moves them. `tests/train/test_sweep_runs.py` reruns the cell `r8_lr0.001_s1`, which moved by 1.2 %, and allows 5 %.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradience_train.offline import offline_and_quiet

offline_and_quiet()  # before the lines below import transformers

from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed  # noqa: E402

from gradience import GradienceCallback  # noqa: E402
from gradience_train.embedded import EmbeddedTask, tiny_qa  # noqa: E402
from gradience_train.tasks.scoring import answer_accuracy, keep_best_token  # noqa: E402
from gradience_train.tasks.templated_qa import DATASET_NAME  # noqa: E402
from gradience_train.tiny_models import one_thread  # noqa: E402

SWEEP = Path(__file__).resolve().parents[1] / "fixtures" / "sweep"
RANKS = (2, 8, 32)
LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = (1, 2)
STEPS = 160
TASK_SEED = 42
TRAIN_EVAL_SAMPLES = 128


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One run of the sweep: LoRA rank, peak learning rate, and the seed of adapter and batches."""

    rank: int
    lr: float
    seed: int

    @property
    def name(self) -> str:
        """Run id and folder, such as `r8_lr0.003_s1`."""
        return f"r{self.rank}_lr{self.lr:g}_s{self.seed}"


CELLS = tuple(Cell(*cell) for cell in itertools.product(RANKS, LEARNING_RATES, SEEDS))


def shared_task() -> EmbeddedTask:
    """Pre-train the base that every cell starts from, and make its data: some ten seconds."""
    return tiny_qa(TASK_SEED)


def train(cell: Cell, task: EmbeddedTask, out: Path) -> Path:
    """Fine-tune a copy of the task's base as `cell` says, and return the telemetry file under `out`."""
    set_seed(cell.seed)  # the adapter's first weights
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=cell.rank, lora_alpha=2 * cell.rank, target_modules=["q_proj", "v_proj", "down_proj"]
    )
    data: Any = task  # any sized sequence of rows serves as a data set
    trainer: Any = Trainer(
        model=get_peft_model(copy.deepcopy(task.model), lora),
        args=_arguments(cell, out),
        train_dataset=data.train,
        eval_dataset=data.val,
        compute_metrics=answer_accuracy,
        preprocess_logits_for_metrics=keep_best_token,
        callbacks=[
            GradienceCallback(
                dataset_name=DATASET_NAME,
                train_eval_samples=TRAIN_EVAL_SAMPLES,
                telemetry_interval=STEPS // 2,
                run_id=cell.name,
            )
        ],
    )
    trainer.remove_callback(PrinterCallback)
    with one_thread():
        trainer.train()
        trainer.evaluate(data.test, metric_key_prefix="test")
    return out / "run.jsonl"


def _arguments(cell: Cell, out: Path) -> Any:
    return TrainingArguments(
        output_dir=str(out),
        max_steps=STEPS,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=128,
        learning_rate=cell.lr,
        lr_scheduler_type="cosine",
        warmup_steps=6,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=20,
        save_strategy="no",
        label_names=["labels"],
        seed=cell.seed,
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the cells, and replace what `--out` holds of them."""
    parser = argparse.ArgumentParser(description="Train the sweep and write its telemetry.")
    parser.add_argument("--out", type=Path, default=SWEEP, help="folder of the runs (default: fixtures/sweep)")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="cells to train, by name (default: all)")
    options = parser.parse_args(arguments)
    chosen = [cell for cell in CELLS if not options.only or cell.name in options.only]
    if unknown := set(options.only or ()) - {cell.name for cell in CELLS}:
        parser.error(f"no such cell: {', '.join(sorted(unknown))}; one is called {CELLS[0].name}")
    task = shared_task()
    with tempfile.TemporaryDirectory() as scratch:
        for cell in chosen:
            began = time.perf_counter()
            written = train(cell, task, Path(scratch) / cell.name)
            target = options.out / cell.name / "run.jsonl"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(written, target)
            print(f"{cell.name}: {time.perf_counter() - began:.1f} s, {target.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
