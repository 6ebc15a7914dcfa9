"""The train split: the trainer's own evaluation on a fixed part of the training data."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from gradience_emit.hf import GradienceCallback
from gradience_emit.hf.train_split import why_not_measured
from tests.emit.hf import tiny


def test_it_is_the_same_quantity_as_the_evaluation_loss(tmp_path: Path) -> None:
    """Given the subset by hand, when the trainer evaluates it as any other set, then loss and ppl are the same."""
    callback = GradienceCallback(train_eval_samples=6, train_eval_seed=3)
    trainer = tiny.trainer(tmp_path, callback, eval_strategy="steps", eval_steps=4)
    trainer.train()
    records = tiny.events(tmp_path)
    (measured,) = tiny.of(records, "eval", split="train")
    chosen = sorted(random.Random(3).sample(range(16), 6))
    expected = trainer.evaluate([trainer.train_dataset[i] for i in chosen])
    assert measured["metrics"]["loss"] == expected["eval_loss"]
    assert measured["metrics"]["n"] == 6
    assert measured["step"] == 4
    assert records[0]["meta"]["train_eval"] == {"samples": 6, "seed": 3}


def test_once_per_step_however_many_evaluations(tmp_path: Path) -> None:
    """Given two evaluation sets and evaluations before and after, when they run, then each step has one train split."""
    sets = {"a": tiny.rows(4, 2), "b": tiny.rows(4, 3)}
    callback = GradienceCallback(train_eval_samples=100)
    trainer = tiny.trainer(tmp_path, callback, eval_dataset=sets, eval_strategy="steps", eval_steps=2)
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    measured = tiny.of(tiny.events(tmp_path), "eval", split="train")
    assert [m["step"] for m in measured] == [0, 2, 4]
    assert {m["metrics"]["n"] for m in measured} == {16}


def test_the_users_metrics_are_taken_too(tmp_path: Path) -> None:
    """Given compute_metrics, when the train split is evaluated, then its metrics are there under plain names."""
    trainer = tiny.trainer(
        tmp_path,
        GradienceCallback(train_eval_samples=5),
        compute_metrics=lambda prediction: {"seen": len(prediction.predictions)},
    )
    trainer.evaluate()
    metrics = {e["split"]: e["metrics"]["seen"] for e in tiny.of(tiny.events(tmp_path), "eval")}
    assert metrics == {"val": 8, "train": 5}


def test_a_datasets_dataset_loses_its_extra_columns(tmp_path: Path) -> None:
    """Given a `datasets` data set with a text column, when the train split is evaluated, then it works as elsewhere."""
    plain = [{key: value.tolist() for key, value in row.items()} | {"text": "x"} for row in tiny.rows(8)]
    data = Dataset.from_list(plain)
    trainer = tiny.trainer(tmp_path, GradienceCallback(train_eval_samples=4), train_dataset=data, eval_dataset=data)
    trainer.evaluate()
    assert [e["split"] for e in tiny.of(tiny.events(tmp_path), "eval")] == ["val", "train"]


def test_the_trainer_is_left_as_it_was(tmp_path: Path) -> None:
    """Given persistent workers, when the train split was evaluated, then the evaluation loader is unchanged."""
    trainer = tiny.trainer(
        tmp_path,
        GradienceCallback(train_eval_samples=3),
        dataloader_num_workers=1,
        dataloader_persistent_workers=True,
    )
    trainer.evaluate()
    first = trainer._eval_dataloaders["eval"]
    assert len(first.dataset) == 8
    trainer.evaluate()
    assert trainer._eval_dataloaders == {"eval": first}
    assert trainer.callback_handler.eval_dataloader is first
    assert "on_prediction_step" not in vars(trainer.callback_handler)
    assert {e["metrics"]["n"] for e in tiny.of(tiny.events(tmp_path), "eval", split="train")} == {3}


def test_a_stream_is_not_measured_and_says_so(tmp_path: Path) -> None:
    """Given an iterable training set, when a train split is asked for, then the file says why there is none."""

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(tiny.rows(16))

    records = tiny.record(
        tmp_path,
        callback={"train_eval_samples": 4},
        train_dataset=Stream(),
        eval_strategy="steps",
        eval_steps=2,
    )
    assert records[0]["meta"]["train_eval"] == {"not_measured": "a Stream cannot be indexed"}
    assert [e["split"] for e in tiny.of(records, "eval")] == ["val", "val"]
    assert records[0]["config"]["training"].get("num_train_examples") is None


def test_a_failure_is_told_once_and_training_goes_on(tmp_path: Path, caplog: Any) -> None:
    """Given training data that breaks under evaluation, when it is evaluated, then an alert says so, once."""

    class Breaks(list[Any]):
        def select(self, _indices: Any) -> Any:
            raise RuntimeError("no selecting")

    records = tiny.record(
        tmp_path,
        callback={"train_eval_samples": 4},
        train_dataset=Breaks(tiny.rows(16)),
        eval_strategy="steps",
        eval_steps=1,
    )
    (alert,) = tiny.of(records, "alert")
    assert (alert["code"], alert["severity"], alert["step"]) == ("TRAIN_EVAL_FAILED", "warning", 1)
    assert alert["context"]["error"] == "RuntimeError: no selecting"
    assert records[-1]["status"] == "ok"
    assert records[-1]["telemetry_faults"] == 1
    assert "no selecting" in caplog.text


def test_the_reasons_for_not_measuring() -> None:
    """Given no trainer, or one without data, when asked, then the reason is a sentence."""

    class Bare:
        train_dataset = None

    assert why_not_measured(None) == "the trainer was not found"
    assert why_not_measured(Bare()) == "the trainer has no train_dataset"
