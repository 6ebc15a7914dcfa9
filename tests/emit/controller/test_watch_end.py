"""How a watched run ends: of itself, by the guard, by an exception, by a process that just goes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from gradience_emit.controller import GradienceController, GuardAbortError
from gradience_schema import load_schema, registry
from tests.emit.controller import loops
from tests.emit.controller.loops import Training, events, watched

ROOT = Path(__file__).parents[3]
PERSISTENT = dict.fromkeys(range(5, 21), "nan_batch")


def finite(training: Training) -> bool:
    """Whether every weight is finite."""
    return all(bool(torch.isfinite(p).all()) for p in training.model.parameters())


def test_a_run_is_written_whole(tmp_path: Path) -> None:
    """Given a watched loop that tells its loss, when it ended, then each record validates and the summary agrees."""
    training = Training("lambda", tells_loss=True)
    summary = watched(tmp_path, training, {7: "nan_batch"}, notes="a note", log_every=5)
    validator = jsonschema.Draft202012Validator(load_schema(), registry=registry())
    records = events(tmp_path)
    for record in records:
        validator.validate(record)
    config = records[0]["config"]
    assert (config["optimizer"]["name"], config["optimizer"]["lr"]) == ("AdamW", 1e-2)
    assert (config["training"]["lr_scheduler"], config["notes"]) == ("LambdaLR", "a note")
    steps = [r for r in records if r["event"] == "train_step"]
    assert [r["step"] for r in steps] == [5, 10, 15, 20]
    assert all(math.isfinite(r["loss"]) and r["grad_norm"] > 0 for r in steps)
    assert [r["lr"] for r in steps] == pytest.approx([1e-2 / (1 + 0.1 * n) for n in (4, 8, 13, 18)])  # one was dropped
    assert (records[-1]["event"], records[-1]["status"], records[-1]["global_step"]) == ("run_end", "ok", 20)
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == summary
    assert summary["total_steps"] == 20
    assert summary["final_loss"] == steps[-1]["loss"]
    assert (summary["run_id"], summary["telemetry"]) == (records[0]["run_id"], "run.jsonl")
    assert summary["guard"]["total_skips"] == summary["guard"]["total_recoveries"] == 1


def test_the_logged_loss_is_the_mean_of_what_was_applied(tmp_path: Path) -> None:
    """Given losses that the loop tells, when they are logged, then as their mean since the last log, dropped ones out.

    The oracle sees the losses where the loop computes them.
    """
    seen: list[float] = []

    class Telling(GradienceController):
        def saw_loss(self, loss: Any) -> None:
            seen.append(float(loss.detach()))
            super().saw_loss(loss)

    training = Training(tells_loss=True, accumulation=2, updates=6)
    controller = Telling(tmp_path, **training.parts(), log_every=3)
    with controller.watch():
        training.run({5: "nan_batch"}, controller=controller)
    losses = [r["loss"] for r in events(tmp_path) if r["event"] == "train_step"]
    kept = [seen[6:8], seen[10:12]]
    assert losses == pytest.approx([sum(seen[:6]) / 6, sum(kept[0] + kept[1]) / 4])


def test_persistent_faults_end_in_an_error_of_the_guards(tmp_path: Path) -> None:
    """Given a loop that is bad for good, when the guard gives up, then the loop is left, with finite weights."""
    training = Training()
    with pytest.raises(GuardAbortError, match="step 9: 5 bad steps in a row") as caught:
        watched(tmp_path, training, PERSISTENT, guard_max_skips=5)
    assert (caught.value.step, caught.value.reason) == (9, "5 bad steps in a row")
    assert finite(training)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["guard"]["integrity_status"] == "aborted"
    assert summary["guard"]["gave_up"] == "5 bad steps in a row"
    last = events(tmp_path)[-1]
    assert (last["event"], last["status"]) == ("run_end", "aborted")
    assert last["reason"] == "stopped by the guard (5 bad steps in a row) at step 9"


def test_an_abort_that_does_not_stop(tmp_path: Path) -> None:
    """Given guard_on_abort="continue", when the guard gives up, then the loop goes on without it, to its own end."""
    training = Training()
    summary = watched(tmp_path, training, PERSISTENT, guard_max_skips=5, guard_on_abort="continue")
    assert not finite(training)
    assert summary["guard"]["integrity_status"] == "corrupted"
    assert summary["total_steps"] == 20
    assert events(tmp_path)[-1]["status"] == "ok"


def test_a_loop_that_catches_the_error_is_not_guarded_again(tmp_path: Path) -> None:
    """Given a loop that swallows the guard's error, when it steps again, then it is raised again."""
    training = Training(updates=1)
    controller = GradienceController(tmp_path, **training.parts(), guard_max_skips=1)
    raised = 0

    def stubborn() -> None:
        nonlocal raised
        for _ in range(3):
            try:
                training.run({1: "nan_batch"})
            except GuardAbortError:
                raised += 1
        training.run()

    with pytest.raises(GuardAbortError), controller.watch():
        stubborn()
    assert raised == 3


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("no such column"), "error", "ValueError: no such column"),
        (KeyboardInterrupt(), "aborted", "KeyboardInterrupt"),
        (SystemExit(2), "aborted", "SystemExit: 2"),
    ],
)
def test_an_exception_is_the_end(tmp_path: Path, error: BaseException, status: str, reason: str) -> None:
    """Given an exception inside the block, when it leaves it, then it is itself, and run_end and summary say so."""
    training = Training(updates=4)
    controller = GradienceController(tmp_path, **training.parts())

    def fails() -> None:
        training.run()
        raise error

    with pytest.raises(type(error)) as caught, controller.watch():
        fails()
    assert caught.value is error
    last = events(tmp_path)[-1]
    assert (last["event"], last["status"], last["reason"]) == ("run_end", status, reason)
    assert controller.summary is not None
    assert controller.summary["guard"]["integrity_status"] == "not_checked"
    assert controller.summary["total_steps"] == 4


def test_nothing_is_left_on_the_model_and_the_optimizer(tmp_path: Path) -> None:
    """Given a run that ended, when the loop goes on, then nobody listens, and a damaged update is not stopped."""
    training = Training(updates=3)
    summary = watched(tmp_path, training)
    before = (tmp_path / "run.jsonl").read_bytes()
    training.run({2: "nan_batch"})
    assert not finite(training)
    assert (tmp_path / "run.jsonl").read_bytes() == before
    assert summary["total_steps"] == 3
    assert not training.model._forward_pre_hooks  # torch has no public list of its hooks
    assert not training.model._forward_hooks
    assert not training.optimizer._optimizer_step_pre_hooks
    assert not training.optimizer._optimizer_step_post_hooks


def test_a_run_ends_once(tmp_path: Path) -> None:
    """Given a run that ended, when it is finalized again or watched again, then nothing new, and a clear error."""
    training = Training(updates=3)
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        training.run()
    before = (tmp_path / "run.jsonl").read_bytes()
    assert controller.finalize() is controller.summary
    assert (tmp_path / "run.jsonl").read_bytes() == before
    with pytest.raises(RuntimeError, match="the run has ended: make a controller for each run"), controller.watch():
        pytest.fail("the block is not entered")


def test_a_process_that_goes_without_a_word(tmp_path: Path) -> None:
    """Given a loop that never calls finalize, when its process ends or fails, then run_end says which."""
    program = """
import sys
import torch
from gradience_emit.controller import GradienceController
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
controller = GradienceController(sys.argv[1], model=model, optimizer=optimizer)
for _ in range(3):
    loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    if controller.before_step(loss):
        optimizer.step()
    optimizer.zero_grad()
    controller.after_step()
if sys.argv[2] == "fail":
    raise ValueError("at the end")
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "schema")])}
    for how in ("fail", "leave"):
        command = [sys.executable, "-c", program, str(tmp_path / how), how]
        subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    failed, left = events(tmp_path / "fail")[-1], events(tmp_path / "leave")[-1]
    assert (failed["event"], failed["status"], failed["reason"]) == ("run_end", "error", "ValueError: at the end")
    assert (left["status"], left["reason"]) == ("error", "the process ended before finalize() was called")
    assert left["global_step"] == 3


def test_an_evaluation_is_written_at_its_step(tmp_path: Path) -> None:
    """Given a loop that evaluates, when it tells so, then the record has the split, the metrics and the step."""
    training = Training(updates=4)
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        training.run()
        controller.eval("val", {"loss": 1.5})
    [record] = [r for r in events(tmp_path) if r["event"] == "eval"]
    assert (record["step"], record["split"], record["metrics"]) == (4, "val", {"loss": 1.5})


def test_a_run_that_goes_on_counts_on(tmp_path: Path) -> None:
    """Given a run resumed at step 100, when it trains, then its steps count from there."""
    summary = watched(tmp_path, Training(updates=10), initial_step=100)
    assert summary["total_steps"] == 110
    assert events(tmp_path)[0]["meta"]["resume_step"] == 100
    assert [r["step"] for r in events(tmp_path) if r["event"] == "train_step"] == [110]


def test_the_adapter_is_described(tmp_path: Path) -> None:
    """Given a PEFT model, when it is watched, then run_start has its rank and what is trained of it."""
    peft = pytest.importorskip("peft")
    training = Training(updates=2)
    training.model = peft.get_peft_model(training.model, peft.LoraConfig(r=2, lora_alpha=4, target_modules=["0", "3"]))
    training.optimizer = torch.optim.AdamW([p for p in training.model.parameters() if p.requires_grad])
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        training.model(torch.ones(2, 6)).sum().backward()
        training.optimizer.step()
    lora = loops.events(tmp_path)[0]["config"]["lora"]
    assert (lora["r"], lora["alpha"], lora["target_modules"]) == (2, 4, ["0", "3"])
    assert lora["trainable_params"] == 2 * (6 + 8) + 2 * (8 + 3)
