"""What a training loop of one's own records with `TelemetryWriter`: losses, rates, norms, evaluations, and the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gradience import TelemetryWriter


class PlainRecorder(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Writes `run.jsonl` with the fields that everybody logs; no counters, no speed, no memory, no training split.

    Args:
        out: Folder of the telemetry.
        run_id: Identifier of the run.
        dataset_name: Name of the data.
        declared: What is declared of the training in place of the truth.
    """

    def __init__(self, out: Path, run_id: str, dataset_name: str, declared: dict[str, Any]) -> None:
        self.writer = TelemetryWriter(out / "run.jsonl", run_id)
        self._dataset_name = dataset_name
        self._declared = declared

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Declare the run."""
        del control
        model: Any = kwargs["model"]
        lora = model.peft_config["default"]
        training = {
            "seed": args.seed,
            "batch_size": args.per_device_train_batch_size,
            "gradient_accumulation": args.gradient_accumulation_steps,
            "max_steps": state.max_steps,
            "lr_scheduler": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
            "warmup_steps": args.get_warmup_steps(state.max_steps),
            "max_grad_norm": args.max_grad_norm,
        }
        self.writer.run_start(
            {
                "model_name": model.name_or_path,
                "dataset_name": self._dataset_name,
                "optimizer": {"name": "adamw", "lr": args.learning_rate, "weight_decay": args.weight_decay},
                "lora": {"r": lora.r, "alpha": lora.lora_alpha, "target_modules": sorted(lora.target_modules)},
                "training": training | self._declared,
            },
            {"framework": "torch"},
        )

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write a training step."""
        del args, control
        logs: dict[str, Any] = kwargs["logs"]
        if "loss" in logs:
            self.writer.train_step(
                state.global_step, loss=logs["loss"], lr=logs["learning_rate"], grad_norm=logs["grad_norm"]
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write an evaluation."""
        del args, control
        names = {"eval_loss": "loss", "eval_accuracy": "accuracy", "eval_n": "n"}
        metrics: dict[str, Any] = kwargs["metrics"]
        found = {names[key]: value for key, value in metrics.items() if key in names}
        self.writer.eval(state.global_step, split="val", metrics=found)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the end."""
        del args, control, kwargs
        self.writer.run_end(status="ok", step=state.global_step)
