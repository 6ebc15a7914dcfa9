"""Write `fixtures/foreign/`: training logs of other tools, most of them made by really running the tool.

Run it from the root of the repository, with the extras `train` and `dev` and with lightning installed:

    python scripts/make_foreign_fixtures.py

It trains tiny models with random weights on the CPU, without a network, in about a minute. What the tools write is kept
as it came, so a new run of the script changes times and speeds. The LLaMA-Factory logs are the exception: that tool is
not run here. Their lines are built in the form that its `LogCallback` writes (0.9.5), from numbers that
transformers logged in this very script.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from gradience_train.offline import offline_and_quiet

offline_and_quiet()  # before the lines below import transformers

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import (  # noqa: E402
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from gradience_train.embedded import EmbeddedTask, tiny_qa  # noqa: E402
from gradience_train.tasks.templated_qa import vocabulary  # noqa: E402
from gradience_train.tiny_models import one_thread, tiny_causal_lm, word_tokenizer  # noqa: E402

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "foreign"
STEPS = 20
DIVERGES_AT = 12

SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "learning_rate": 5e-3,
    "warmup_steps": 4,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 10,
    "save_strategy": "no",
    "seed": 7,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
    "disable_tqdm": True,
    "report_to": "none",
}


class Stop(TrainerCallback):
    """Ends training at a step: as a rule for early stopping does, or as a power cut."""

    def __init__(self, step: int, *, fails: bool = False) -> None:
        self.step = step
        self.fails = fails

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for the stop, or raise."""
        del args, kwargs
        if state.global_step == self.step:
            if self.fails:
                raise RuntimeError("the machine went away")
            control.should_training_stop = True


class DivergingTrainer(Trainer):
    """Its loss is NaN from some step on, as that of a model that has diverged."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Multiply by NaN where the divergence has begun."""
        loss: Any = super().compute_loss(*args, **kwargs)
        return loss * float("nan") if self.model.training and self.state.global_step >= DIVERGES_AT else loss


def plain_trainer(out: str, *callbacks: Any, kind: Any = Trainer, evaluation: Any = None, **settings: Any) -> Any:
    """A transformers Trainer on a tiny random model."""
    task: EmbeddedTask = tiny_qa(3, warm_start_steps=0)
    trainer = kind(
        model=task.model,
        args=TrainingArguments(output_dir=out, **SETTINGS | settings),
        train_dataset=task.train[:256],
        eval_dataset=task.val[:32] if evaluation is None else evaluation(task),
        data_collator=default_data_collator,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.test_rows = task.test[:32]
    return trainer


def transformers_trained() -> Path:
    """Train to the end, then evaluate the test set under its own prefix."""
    trainer = plain_trainer("trained", include_num_input_tokens_seen=True)
    trainer.train()
    trainer.evaluate(trainer.test_rows, metric_key_prefix="test")
    trainer.save_state()
    return Path("trained/trainer_state.json")


def transformers_several_eval_sets() -> Path:
    """Evaluate two sets by name."""
    trainer = plain_trainer("several", evaluation=lambda task: {"easy": task.val[:32], "hard_shifted": task.test[:32]})
    trainer.train()
    trainer.save_state()
    return Path("several/trainer_state.json")


def transformers_hidden_nan() -> Path:
    """Diverge while `logging_nan_inf_filter` (on by default) keeps NaN out of the log."""
    trainer = plain_trainer("hidden", kind=DivergingTrainer, logging_nan_inf_filter=True)
    trainer.train()
    trainer.save_state()
    return Path("hidden/trainer_state.json")


def transformers_open_nan() -> Path:
    """Diverge with the filter off: the log holds NaN tokens."""
    trainer = plain_trainer("open", kind=DivergingTrainer, logging_nan_inf_filter=False)
    trainer.train()
    trainer.save_state()
    return Path("open/trainer_state.json")


def transformers_stopped_early() -> Path:
    """Stop before the last step."""
    trainer = plain_trainer("early", Stop(14))
    trainer.train()
    trainer.save_state()
    return Path("early/trainer_state.json")


def transformers_checkpoint() -> Path:
    """Take the state inside a checkpoint: training was still going on."""
    trainer = plain_trainer("checkpoint", save_strategy="steps", save_steps=10, load_best_model_at_end=True)
    trainer.train()
    return Path("checkpoint/checkpoint-10/trainer_state.json")


def sentences(count: int, field: str = "text") -> Any:
    """A data set of word sequences."""
    words = list(vocabulary())
    rows = [" ".join(words[(start * 7 + place * 3) % len(words)] for place in range(12)) for start in range(count)]
    return Dataset.from_list([{field: row} for row in rows])


def tiny_model() -> tuple[Any, Any]:
    """A tokenizer and a random model for TRL."""
    tokenizer = word_tokenizer(vocabulary())
    return tokenizer, tiny_causal_lm(tokenizer, 5)


def trl_sft(out: str, *callbacks: Any, **settings: Any) -> Any:
    """An SFTTrainer on a tiny random model."""
    from trl import SFTConfig, SFTTrainer

    tokenizer, model = tiny_model()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=out, max_length=32, **SETTINGS | settings),
        train_dataset=sentences(128),
        eval_dataset=sentences(16),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def trl_sft_resumed() -> Path:
    """Fail at step 14, go on from the checkpoint at step 10."""
    saving = {"save_strategy": "steps", "save_steps": 10}
    try:
        trl_sft("sft", Stop(14, fails=True), **saving).train()
    except RuntimeError as error:
        print(f"  as it should, training failed: {error}")
    trainer = trl_sft("sft", **saving)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    return Path("sft/trainer_state.json")


def trl_dpo() -> Path:
    """Train on preferences."""
    from trl import DPOConfig, DPOTrainer

    tokenizer, model = tiny_model()
    words = list(vocabulary())
    rows = [
        {
            "prompt": " ".join(words[n : n + 4]),
            "chosen": " ".join(words[n + 4 : n + 7]),
            "rejected": " ".join(words[n + 1 : n + 4]),
        }
        for n in range(len(words) - 7)
    ]
    trainer = DPOTrainer(
        model=model,
        ref_model=tiny_model()[1],
        args=DPOConfig(output_dir="dpo", max_length=32, **SETTINGS),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:16]),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_state()
    return Path("dpo/trainer_state.json")


def lightning_csv_logger() -> Path:
    """Fit, validate and test a linear model; a NaN comes in the last epoch; the learning rate is watched."""
    import lightning
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    class Line(lightning.LightningModule):
        """y = ax + b."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def loss(self, batch: Any) -> Any:
            """Mean squared error."""
            x, y = batch
            return torch.nn.functional.mse_loss(self.layer(x), y)

        def training_step(self, batch: Any, index: int) -> Any:
            """One batch."""
            loss = self.loss(batch)
            shown = loss * float("nan") if self.global_step >= 21 else loss
            self.log("train_loss", shown, on_step=True, on_epoch=True)
            self.log("samples_seen", float(8 * (index + 1)))
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            """One batch of the validation set."""
            del index
            self.log("val_loss", self.loss(batch))
            self.log("val_accuracy", 0.5)

        def test_step(self, batch: Any, index: int) -> None:
            """One batch of the test set."""
            del index
            self.log("test_loss", self.loss(batch))

        def configure_optimizers(self) -> Any:
            """SGD with a falling rate."""
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=24)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    lightning.seed_everything(11, verbose=False)
    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 3 * x + 1), batch_size=8)
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=1,
        logger=CSVLogger("lightning_logs", name="line"),
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[LearningRateMonitor("step")],
    )
    model = Line()
    trainer.fit(model, loader, loader)
    trainer.test(model, loader, verbose=False)
    return Path("lightning_logs/line/version_0/metrics.csv")


def llama_factory(rows: Iterable[Mapping[str, Any]], *, total: int, seconds: float = 0.4) -> list[dict[str, Any]]:
    """What LLaMA-Factory's `LogCallback` makes of the rows that its trainer logs."""
    made: list[dict[str, Any]] = []
    for row in rows:
        step, tokens = row["step"], row.get("num_input_tokens_seen")
        elapsed = step * seconds
        logs = {
            "current_steps": step,
            "total_steps": total,
            "loss": row.get("loss"),
            "eval_loss": row.get("eval_loss"),
            "predict_loss": None,
            "reward": None,
            "accuracy": None,
            "lr": row.get("learning_rate"),
            "epoch": row["epoch"],
            "percentage": round(step / total * 100, 2),
            "elapsed_time": str(timedelta(seconds=int(elapsed))),
            "remaining_time": str(timedelta(seconds=int((total - step) * seconds))),
        }
        if tokens:
            logs |= {"throughput": round(tokens / elapsed, 2), "total_tokens": tokens}
            logs |= {"vram_allocated": 1.25, "vram_reserved": 1.5}
        made.append(logs)
    return made


def llama_factory_logs(state: Path) -> dict[str, list[dict[str, Any]]]:
    """The three layouts of `trainer_log.jsonl`, from the rows of a real state."""
    history = json.loads(state.read_text())["log_history"]
    rows = [row for row in history if "test_loss" not in row]
    full = llama_factory(rows, total=STEPS)
    current = [{key: value for key, value in row.items() if value is not None} for row in full]
    first = [row for row in current if row["current_steps"] <= 14]
    again = [row for row in current if row["current_steps"] > 10]
    older = [
        {("learning_rate" if key == "lr" else key): value for key, value in row.items() if not key.startswith("vram")}
        for row in full
    ]
    steps = [row for row in rows if "loss" in row]
    v1 = [{k: v for k, v in row.items() if k != "step"} | {"step": row["step"], "total_steps": STEPS} for row in steps]
    return {"current": current, "appended": [*first, *again], "older": older, "v1_layout": v1}


RUNS: Mapping[str, Callable[[], Path]] = {
    "transformers/trained": transformers_trained,
    "transformers/several_eval_sets": transformers_several_eval_sets,
    "transformers/hidden_nan": transformers_hidden_nan,
    "transformers/open_nan": transformers_open_nan,
    "transformers/stopped_early": transformers_stopped_early,
    "transformers/checkpoint": transformers_checkpoint,
    "trl/sft_resumed": trl_sft_resumed,
    "trl/dpo": trl_dpo,
    "lightning/csv_logger": lightning_csv_logger,
}


def keep(made: Path, folder: str) -> Path:
    """Copy what a tool wrote into the fixtures."""
    target = FIXTURES / folder / made.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, target)
    return target


def main() -> None:
    """Write every fixture anew."""
    warnings.filterwarnings("ignore")
    logging.getLogger("trl").setLevel(logging.ERROR)
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch, one_thread():
        os.chdir(scratch)  # states hold the path of their checkpoints: relative ones name no machine
        try:
            for folder, run in RUNS.items():
                print(folder)
                keep(run(), folder)
            for name, rows in llama_factory_logs(Path("trained/trainer_state.json")).items():
                made = Path("trainer_log.jsonl")
                made.write_text("".join(json.dumps(row) + "\n" for row in rows))
                keep(made, f"llama_factory/{name}")
        finally:
            os.chdir(home)
    files = sorted(path for path in FIXTURES.rglob("*") if path.is_file() and path.suffix != ".md")
    for path in files:
        print(f"{path.relative_to(FIXTURES.parents[1])}: {path.stat().st_size} bytes")
    print(f"{sum(path.stat().st_size for path in files)} bytes in all")


if __name__ == "__main__":
    main()
