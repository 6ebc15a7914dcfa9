"""What a plain training leaves behind, held against the trainer's own log history."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gradience_emit.hf import GradienceCallback
from gradience_schema import load_schema, registry
from tests.emit.hf import tiny

_SAME = ("loss", "grad_norm", "epoch")


def test_one_line_of_code_records_the_run(tmp_path: Path) -> None:
    """Given a bare callback, when training ends, then every logged step is there with the trainer's own numbers."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), eval_strategy="steps", eval_steps=2)
    trainer.train()
    records = tiny.events(tmp_path)
    logged = [row for row in trainer.state.log_history if "loss" in row]
    steps = tiny.of(records, "train_step")
    assert [step["step"] for step in steps] == [1, 2, 3, 4] == [row["step"] for row in logged]
    for step, row in zip(steps, logged, strict=True):
        assert {key: step[key] for key in _SAME} == {key: row[key] for key in _SAME}
        assert step["lr"] == row["learning_rate"]
        assert (step["nonfinite_loss_steps"], step["nonfinite_grad_steps"]) == (0, 0)
    assert [record["event"] for record in records][:1] == ["run_start"]
    assert records[-1]["event"] == "run_end"
    assert (records[-1]["status"], records[-1]["global_step"]) == ("ok", 4)


def test_every_line_validates(tmp_path: Path) -> None:
    """Given a run with every kind of record, when each line meets the published schema, then none fails."""
    records = tiny.record(
        tmp_path,
        callback={"telemetry_interval": 2, "train_eval_samples": 4},
        eval_strategy="steps",
        eval_steps=2,
        include_num_input_tokens_seen="all",
    )
    validator = Draft202012Validator(load_schema(), registry=registry())
    assert [error.message for record in records for error in validator.iter_errors(record)] == []
    assert {r.get("kind") for r in tiny.of(records, "metrics")} == {"throughput", "memory", "train_summary"}
    assert [record["seq"] for record in records] == list(range(len(records)))
    recorded = [record["step"] for record in records if record["step"] is not None]
    assert recorded == sorted(recorded)


def test_the_summary_row_is_no_training_step(tmp_path: Path) -> None:
    """Given token counting (rows then carry train_runtime too), when training ends, then the summary stands apart."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), include_num_input_tokens_seen="all")
    trainer.train()
    records = tiny.events(tmp_path)
    assert [r["step"] for r in tiny.of(records, "train_step")] == [1, 2, 3, 4]
    (summary,) = tiny.of(records, "metrics", kind="train_summary")
    assert summary["metrics"]["train_loss"] == trainer.state.log_history[-1]["train_loss"]
    assert [r["tokens"] for r in tiny.of(records, "train_step")] == [32, 64, 96, 128]


def test_evaluations_are_named_by_what_they_evaluated(tmp_path: Path) -> None:
    """Given several evaluation sets and a prediction, when they run, then each has its split and its own numbers."""
    sets = {"easy": tiny.rows(4, seed=2), "hard": tiny.rows(6, seed=3)}
    trainer = tiny.trainer(tmp_path, GradienceCallback(), eval_dataset=sets, eval_strategy="steps", eval_steps=4)
    trainer.train()
    predicted = trainer.predict(tiny.rows(5, seed=4)).metrics
    trainer.evaluate(tiny.rows(3, seed=5))
    trainer.evaluate(tiny.rows(3, seed=5), metric_key_prefix="holdout")
    evals = tiny.of(tiny.events(tmp_path), "eval")
    assert [(e["split"], e["metrics"]["n"]) for e in evals] == [
        ("easy", 4),
        ("hard", 6),
        ("test", 5),
        ("val", 3),
        ("holdout", 3),
    ]
    logged = {key: value for row in trainer.state.log_history for key, value in row.items()}
    assert evals[0]["metrics"]["loss"] == logged["eval_easy_loss"]
    assert evals[1]["metrics"]["loss"] == logged["eval_hard_loss"]
    assert evals[2]["metrics"]["loss"] == predicted["test_loss"]
    assert all(e["metrics"]["ppl"] == pytest.approx(math.exp(e["metrics"]["loss"])) for e in evals)
    assert not any(key.startswith(("eval_", "test_")) for e in evals for key in e["metrics"])


def test_a_users_own_rows_are_kept(tmp_path: Path) -> None:
    """Given rows logged before and after training, when the file is read, then they are there, and no training step."""
    trainer = tiny.trainer(tmp_path, GradienceCallback())
    trainer.log({"vocabulary": 28})
    assert not (tmp_path / "run.jsonl").exists()
    trainer.train()
    trainer.log({"judge": 0.5, "step": 9})
    records = tiny.events(tmp_path)
    before, after = (record["metrics"] for record in tiny.of(records, "metrics", kind="log"))
    assert before["vocabulary"] == 28
    assert (after["judge"], after["step"]) == (0.5, 9)
    assert len(tiny.of(records, "train_step")) == 4


def test_values_named_like_the_writers_parameters_survive(tmp_path: Path) -> None:
    """Given a training row with the keys step, event and self, when it is recorded, then nothing is lost."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), logging_strategy="no")
    trainer.train()
    records = tiny.events(tmp_path)
    assert tiny.of(records, "train_step") == []

    class Chatty(type(trainer)):  # type: ignore[misc]
        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log({**logs, "step": 99, "event": 1.5, "self": 2.5, "loss_type": "nll"}, start_time)

    records = tiny.record(tmp_path / "second", kind=Chatty)
    first = tiny.of(records, "train_step")[0]
    assert first["step"] == 1
    assert (first["x_step"], first["x_event"], first["x_self"], first["loss_type"]) == (99, 1.5, 2.5, "nll")


def test_throughput_and_memory_every_interval_and_at_the_end(tmp_path: Path) -> None:
    """Given an interval of 2 in 5 steps, when training ends, then steps 2, 4 and the last one have figures."""
    records = tiny.record(tmp_path, callback={"telemetry_interval": 2}, max_steps=5, gradient_accumulation_steps=2)
    speeds = tiny.of(records, "metrics", kind="throughput")
    assert [speed["step"] for speed in speeds] == [2, 4, 5]
    assert [m["step"] for m in tiny.of(records, "metrics", kind="memory")] == [2, 4, 5]
    for speed in speeds[:2]:
        figures = speed["metrics"]
        assert figures["samples_per_s"] == pytest.approx(8 / figures["step_s"])
        assert "tokens_per_s" not in figures
    assert all(m["metrics"]["rss_mb"] > 50 for m in tiny.of(records, "metrics", kind="memory"))


def test_throughput_leaves_evaluation_and_saving_out(tmp_path: Path) -> None:
    """Given evaluations that take half a second, when the speed is taken, then it does not contain them."""
    import time

    def slow(_prediction: Any) -> dict[str, float]:
        time.sleep(0.5)
        return {"accuracy": 0.5}

    records = tiny.record(
        tmp_path,
        callback={"telemetry_interval": 4},
        compute_metrics=slow,
        eval_strategy="steps",
        eval_steps=1,
        include_num_input_tokens_seen="all",
    )
    (speed,) = tiny.of(records, "metrics", kind="throughput")
    assert speed["metrics"]["step_s"] < 0.25
    assert speed["metrics"]["tokens_per_s"] == pytest.approx(32 / speed["metrics"]["step_s"], rel=1e-6)


def test_interval_zero_writes_neither(tmp_path: Path) -> None:
    """Given an interval of 0, when training ends, then there is no speed and no memory record."""
    records = tiny.record(tmp_path, callback={"telemetry_interval": 0})
    assert {r["kind"] for r in tiny.of(records, "metrics")} == {"train_summary"}


def test_output_dir_and_filename_of_the_callback_win(tmp_path: Path) -> None:
    """Given a folder and a name of the callback's own, when it records, then there and only there."""
    callback = GradienceCallback(output_dir=str(tmp_path / "logs"), filename="flight.jsonl", run_id="mine")
    assert callback.path is None
    tiny.trainer(tmp_path / "out", callback).train()
    assert callback.path == tmp_path / "logs" / "flight.jsonl"
    assert callback.run_id == "mine"
    assert {r["run_id"] for r in tiny.events(tmp_path / "logs", "flight.jsonl")} == {"mine"}
    assert not list((tmp_path / "out").glob("*.jsonl"))
