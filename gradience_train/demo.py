"""The demo: a real LoRA fine-tune on two CPU cores, recorded by the callback, with nothing downloaded."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from gradience_emit.hf import GradienceCallback, GradienceCallbackConfig
from gradience_emit.summary import summary_path
from gradience_train.embedded import WARM_START_STEPS, EmbeddedTask, tiny_qa
from gradience_train.faults import Fault, FaultInjection
from gradience_train.tasks.scoring import answer_accuracy, keep_best_token
from gradience_train.tasks.templated_qa import DATASET_NAME
from gradience_train.tiny_models import one_thread

DEFAULT_STEPS = 160
DEFAULT_SEED = 42
_EVALUATIONS = 8
_LOGGED_STEPS = 32
_TRAIN_EVAL_SAMPLES = 96
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

Progress = Callable[[str, int, int], None]
"""Told the phase (`"base model"`, `"fine-tuning"`, `"without fault"`), the steps done and the steps in all."""


@dataclass(frozen=True, slots=True)
class FineTune:
    """How a fine-tune ended.

    Attributes:
        seconds: What it took, its evaluations included.
        steps: Optimizer steps, dropped ones included.
        train_loss: Training loss as it was logged last.
        val_loss: Loss on the validation split, of the last evaluation.
        test_loss: Loss on the test split, after the end.
    """

    seconds: float
    steps: int
    train_loss: float | None
    val_loss: float | None
    test_loss: float | None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Where the demo left its files, and how it ended.

    Attributes:
        out_dir: The directory of the run.
        telemetry: The recorded run, telemetry/v1.
        adapter: The LoRA adapter in PEFT's format.
        base: The base model and its tokenizer, which the adapter belongs to.
        training_args: The trainer's arguments as JSON.
        summary: What the guard did, `summary.json`; None without the guard.
        run: How the recorded run ended.
        without_fault: How the same fine-tune ends without the fault and without the guard; None unless a fault was put
            into a guarded run.
    """

    out_dir: Path
    telemetry: Path
    adapter: Path
    base: Path
    training_args: Path
    summary: Path | None
    run: FineTune
    without_fault: FineTune | None


def run_demo(
    out_dir: str | Path,
    *,
    max_steps: int = DEFAULT_STEPS,
    seed: int = DEFAULT_SEED,
    device: str = "cpu",
    enable_guard: bool = False,
    fault: Fault | None = None,
    on_progress: Progress | None = None,
) -> DemoResult:
    """Fine-tune a tiny causal LM on the templated questions, and record it.

    With the guard and a fault it is fine-tuned a second time, from the same weights on the same batches, with neither,
    to see what the fault cost; that one is not recorded.

    Args:
        out_dir: Directory of the run. A second run there writes a new telemetry segment and replaces the adapter.
        max_steps: Optimizer steps of the fine-tune, at least 1.
        seed: Decides the weights, the data and their order.
        device: `"cpu"`, or `"cuda"` for the first GPU.
        enable_guard: Whether the guard is on.
        fault: What goes wrong, and when; None for nothing.
        on_progress: Told about every step.

    Returns:
        The paths of what was written, and how it ended.

    Raises:
        ValueError: `max_steps` is below 1, or the fault strikes only after it.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    if fault is not None and min(fault.steps) > max_steps:
        raise ValueError(f"the fault strikes at step {min(fault.steps)}, after the last step {max_steps}")
    out = Path(out_dir)
    tell = on_progress or _silent
    callback = _callback(out, enable_guard)
    with one_thread():
        task = tiny_qa(seed, device=device, on_step=lambda done: tell("base model", done, WARM_START_STEPS))
        task.model.save_pretrained(out / "base")
        task.tokenizer.save_pretrained(out / "base")
        model = _with_adapter(task.model)
        beside = copy.deepcopy(model) if enable_guard and fault is not None else None
        arguments = _training_arguments(out, max_steps, seed, device)
        injected = [] if fault is None else [FaultInjection(fault)]
        reporter = _StepReporter("fine-tuning", tell)
        trainer, run = _fine_tune(model, task, arguments, [*injected, callback, reporter])
        without_fault = None
        if beside is not None:
            _, without_fault = _fine_tune(beside, task, arguments, [_StepReporter("without fault", tell)])
    return _save(trainer, arguments, callback, run, without_fault)


def _silent(phase: str, done: int, total: int) -> None:
    del phase, done, total


class _StepReporter(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Tells the progress of a fine-tune."""

    def __init__(self, phase: str, tell: Progress) -> None:
        self._phase, self._tell = phase, tell

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Pass on the step that just ended."""
        del args, control, kwargs
        self._tell(self._phase, state.global_step, state.max_steps)


def _callback(out: Path, enable_guard: bool) -> Any:
    config = GradienceCallbackConfig(
        output_dir=str(out),
        dataset_name=DATASET_NAME,
        task_profile="generation",
        train_eval_samples=_TRAIN_EVAL_SAMPLES,
        enable_guard=enable_guard,
    )
    return GradienceCallback(config)


def _training_arguments(out: Path, max_steps: int, seed: int, device: str) -> Any:
    return TrainingArguments(
        output_dir=str(out),
        max_steps=max_steps,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=128,
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        warmup_steps=min(10, max_steps // 2),
        logging_steps=max(1, max_steps // _LOGGED_STEPS),
        logging_first_step=True,
        eval_strategy="steps",
        eval_steps=max(1, max_steps // _EVALUATIONS),
        save_strategy="no",
        label_names=["labels"],
        seed=seed,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
    )


def _with_adapter(model: Any) -> Any:
    return get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=_TARGETS, task_type="CAUSAL_LM")
    )


def _fine_tune(model: Any, task: EmbeddedTask, arguments: Any, callbacks: list[Any]) -> tuple[Any, FineTune]:
    train: Any = task.train  # any sized sequence of rows serves as a data set
    val: Any = task.val
    trainer: Any = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=val,
        compute_metrics=answer_accuracy,
        preprocess_logits_for_metrics=keep_best_token,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    test = trainer.evaluate(task.test, metric_key_prefix="test")
    history = trainer.state.log_history
    return trainer, FineTune(
        seconds=seconds,
        steps=trainer.state.global_step,
        train_loss=_last(history, "loss"),
        val_loss=_last(history, "eval_loss"),
        test_loss=test.get("test_loss"),
    )


def _last(history: list[dict[str, float]], name: str) -> float | None:
    return next((row[name] for row in reversed(history) if name in row), None)


def _save(trainer: Any, arguments: Any, callback: Any, run: FineTune, without_fault: FineTune | None) -> DemoResult:
    out, telemetry = Path(arguments.output_dir), callback.path
    result = DemoResult(
        out_dir=out,
        telemetry=telemetry,
        adapter=out / "peft",
        base=out / "base",
        training_args=out / "training" / "training_args.json",
        summary=summary_path(telemetry) if callback.config.enable_guard else None,
        run=run,
        without_fault=without_fault,
    )
    # The base's embeddings are not trained; "auto" would ask the hub whether its vocabulary was changed.
    trainer.model.save_pretrained(result.adapter, save_embedding_layers=False)
    result.training_args.parent.mkdir(parents=True, exist_ok=True)
    result.training_args.write_text(arguments.to_json_string() + "\n", encoding="utf-8")
    return result
