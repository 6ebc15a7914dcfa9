"""TRL's SFTTrainer: found, recorded, and left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from datasets import Dataset
from peft import LoraConfig
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from gradience_emit.hf import GradienceCallback
from tests.emit.hf import tiny

_TEXTS = [" ".join(tiny.WORDS[(i + j) % 28] for j in range(6 + i % 5)) for i in range(16)]
_RECOMPUTE = next(name for name in ("activation_checkpointing", "gradient_checkpointing") if hasattr(SFTConfig, name))
"""The option that TRL turns on by itself; newer versions of transformers warn of its old name."""


def _trainer(out: Path, *callbacks: Any, **options: Any) -> Any:
    set_seed(7)
    defaults: dict[str, Any] = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "max_length": 32,
        "bf16": False,
        _RECOMPUTE: False,
    }
    return SFTTrainer(
        model=tiny.base(),
        args=SFTConfig(str(out), **defaults | options),
        train_dataset=Dataset.from_dict({"text": _TEXTS}),
        eval_dataset=Dataset.from_dict({"text": _TEXTS[:8]}),
        processing_class=tiny.tokenizer(),
        peft_config=LoraConfig(
            r=4, lora_alpha=16, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=list(callbacks),
    )


def test_an_sft_run_is_recorded(tmp_path: Path) -> None:
    """Given an SFTTrainer with an adapter it makes itself, when it trains, then steps, splits and adapter are there."""
    trainer = _trainer(tmp_path, GradienceCallback(train_eval_samples=4, telemetry_interval=2))
    trainer.train()
    records = tiny.events(tmp_path)
    logged = [row for row in trainer.state.log_history if "loss" in row]
    steps = tiny.of(records, "train_step")
    assert [s["loss"] for s in steps] == [row["loss"] for row in logged]
    assert [s["tokens"] for s in steps] == [row["num_tokens"] for row in logged]
    assert [s["mean_token_accuracy"] for s in steps] == [row["mean_token_accuracy"] for row in logged]
    assert [(e["step"], e["split"]) for e in tiny.of(records, "eval")] == [
        (2, "val"),
        (2, "train"),
        (4, "val"),
        (4, "train"),
    ]
    own = {"mean_token_accuracy", "entropy"}
    handed_on = {name for name in own if f"eval_{name}" in trainer.evaluate()}  # an old TRL only logs its own metrics
    for evaluation in tiny.of(records, "eval"):
        expected = {"loss", "ppl", "n"} | (own if evaluation["split"] == "train" else handed_on)
        assert evaluation["metrics"].keys() >= expected
    config = records[0]["config"]
    assert (config["lora"]["r"], config["lora"]["scaling"]) == (4, 4.0)
    assert config["lora"]["target_modules"] == sorted(config["lora"]["target_modules"])
    assert config["training"]["max_length"] == 32
    assert config["training"]["num_train_examples"] == 16
    assert records[0]["meta"]["trainer"] == "SFTTrainer"
    assert records[-1]["status"] == "ok"
    assert "tokens_per_s" in tiny.of(records, "metrics", kind="throughput")[-1]["metrics"]


def test_the_train_split_is_what_the_trainer_would_measure(tmp_path: Path) -> None:
    """Given the whole training data as train split, when the trainer evaluates it itself, then all metrics agree."""
    trainer = _trainer(tmp_path, GradienceCallback(train_eval_samples=16))
    trainer.train()
    measured = tiny.of(tiny.events(tmp_path), "eval", split="train", step=4)[0]["metrics"]
    trainer.evaluate(trainer.train_dataset)
    expected = trainer.state.log_history[-1]
    for name in ("loss", "entropy", "mean_token_accuracy"):
        assert measured[name] == pytest.approx(expected[f"eval_{name}"], rel=1e-6)


def test_an_sft_run_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    """Given TRL's own averages in the log, when the callback evaluates the train split too, then nothing differs."""

    def run(out: Path, *callbacks: Any) -> tuple[Any, Any]:
        trainer = _trainer(out, *callbacks)
        trainer.train()
        rows = [
            {k: v for k, v in row.items() if "runtime" not in k and "per_second" not in k}
            for row in trainer.state.log_history
        ]
        return tiny.weights(trainer.model), rows

    weights, rows = run(tmp_path / "without")
    weights_with, rows_with = run(tmp_path / "with", GradienceCallback(train_eval_samples=8, telemetry_interval=1))
    assert tiny.same_weights(weights, weights_with)
    assert rows == rows_with


def test_a_loss_that_is_no_cross_entropy_has_no_perplexity(tmp_path: Path) -> None:
    """Given the dft loss, when the model is evaluated, then there is a loss and no perplexity."""
    _trainer(tmp_path, GradienceCallback(), loss_type="dft").evaluate()
    (evaluation,) = tiny.of(tiny.events(tmp_path), "eval")
    assert "loss" in evaluation["metrics"]
    assert "ppl" not in evaluation["metrics"]


def test_an_exception_in_sft_leaves_its_run_end(tmp_path: Path) -> None:
    """Given a loss that fails at step 3, when the exception leaves train(), then run_end names it."""

    class Fails(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == 2:
                raise RuntimeError("no loss")
            return super().compute_loss(*args, **kwargs)

    trainer = _trainer(tmp_path, GradienceCallback())
    trainer.__class__ = Fails
    with pytest.raises(RuntimeError, match="no loss"):
        trainer.train()
    assert tiny.events(tmp_path)[-1]["reason"] == "RuntimeError: no loss"
