"""How a run begins and ends: errors, interrupts, early stops, resumes, second trainings, evaluations around them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from gradience_emit.hf import GradienceCallback
from tests.emit.hf import tiny

ROOT = Path(__file__).parents[3]


class At(TrainerCallback):  # type: ignore[misc]
    """Does something at the end of one step."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Do it."""
        if state.global_step == self.step:
            self.action(control)


def _raise(error: BaseException) -> Any:
    def act(_control: Any) -> None:
        raise error

    return act


def _stop(control: Any) -> None:
    control.should_training_stop = True


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("out of memory"), "error", "RuntimeError: out of memory"),
        (ValueError("user bob@example.com"), "error", "ValueError: user [EMAIL]"),
        (KeyboardInterrupt(), "aborted", "KeyboardInterrupt"),
    ],
)
def test_an_exception_leaves_its_run_end(tmp_path: Path, error: BaseException, status: str, reason: str) -> None:
    """Given an exception in training, when it leaves train(), then it is the same and run_end names it, redacted."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), At(2, _raise(error)))
    with pytest.raises(type(error)) as caught:
        trainer.train()
    assert caught.value is error
    end = tiny.events(tmp_path)[-1]
    assert (end["event"], end["status"], end["reason"], end["global_step"]) == ("run_end", status, reason, 2)
    assert "training_step" not in vars(trainer)
    assert "clip_grad_norm_" not in vars(trainer.accelerator)


def test_a_failure_before_the_first_step_is_recorded(tmp_path: Path) -> None:
    """Given training data that cannot be loaded, when train() fails at once, then there is a file that says so."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), train_dataset=None)
    with pytest.raises(ValueError, match="train_dataset"):
        trainer.train()
    start, end = tiny.events(tmp_path)
    assert (start["event"], start["config"]["lora"]["r"]) == ("run_start", 4)
    assert (end["status"], end["reason"]) == ("error", "ValueError: Trainer: training requires a train_dataset.")


def test_a_failure_of_a_second_training_before_it_began_gets_its_own_segment(tmp_path: Path) -> None:
    """Given a finished training, when the next call of train() fails at once, then the first file stays as it was."""
    trainer = tiny.trainer(tmp_path, GradienceCallback())
    trainer.train()
    before = (tmp_path / "run.jsonl").read_bytes()
    trainer.train_dataset = None
    with pytest.raises(ValueError, match="train_dataset"):
        trainer.train()
    assert (tmp_path / "run.jsonl").read_bytes() == before
    assert [r["event"] for r in tiny.events(tmp_path, "run.1.jsonl")] == ["run_start", "run_end"]


def test_a_stop_before_the_last_step_is_aborted(tmp_path: Path) -> None:
    """Given a callback that stops training at step 3 of 10, when it ends, then the status says aborted, and where."""
    tiny.trainer(tmp_path, GradienceCallback(), At(3, _stop), max_steps=10).train()
    end = tiny.events(tmp_path)[-1]
    assert (end["status"], end["reason"]) == ("aborted", "stopped early at step 3 of 10")


def test_a_stop_at_the_last_step_is_ok(tmp_path: Path) -> None:
    """Given a stop at the very last step, or epochs that run out, when training ends, then the status is ok."""
    tiny.trainer(tmp_path / "steps", GradienceCallback(), At(4, _stop)).train()
    tiny.trainer(tmp_path / "epochs", GradienceCallback(), max_steps=-1, num_train_epochs=2).train()
    for name in ("steps", "epochs"):
        end = tiny.events(tmp_path / name)[-1]
        assert (end["status"], end.get("reason")) == ("ok", None)


def test_a_resumed_run_is_a_new_segment_of_the_same_run(tmp_path: Path) -> None:
    """Given a checkpoint at step 2, when training resumes from it, then a new segment continues the run."""
    first = GradienceCallback()
    trainer = tiny.trainer(tmp_path, first, At(3, _raise(OSError("disk"))), save_strategy="steps", save_steps=2)
    with pytest.raises(OSError, match="disk"):
        trainer.train()
    earlier = hashlib.sha256((tmp_path / "run.jsonl").read_bytes()).digest()
    second = GradienceCallback()
    resumed = tiny.trainer(tmp_path, second, model=tiny.lora(), save_strategy="steps", save_steps=2)
    resumed.train(resume_from_checkpoint=True)
    assert hashlib.sha256((tmp_path / "run.jsonl").read_bytes()).digest() == earlier
    assert second.path == tmp_path / "run.1.jsonl"
    assert second.run_id == first.run_id
    records = tiny.events(tmp_path, "run.1.jsonl")
    meta = records[0]["meta"]
    assert (meta["resume_step"], meta["segment"], meta["parent_segment"]) == (2, 1, 0)
    assert [r["step"] for r in tiny.of(records, "train_step")] == [3, 4]
    assert records[-1]["status"] == "ok"


def test_an_evaluation_before_resuming_does_not_take_the_run_away(tmp_path: Path) -> None:
    """Given evaluate() before a resumed train(), when both are recorded, then training continues the old run."""
    first = GradienceCallback()
    tiny.trainer(tmp_path, first, save_strategy="steps", save_steps=2).train()
    second = GradienceCallback()
    trainer = tiny.trainer(tmp_path, second, save_strategy="steps", save_steps=2, max_steps=6)
    trainer.evaluate()
    trainer.train(resume_from_checkpoint=True)
    looked = tiny.events(tmp_path, "run.1.jsonl")
    assert [r["event"] for r in looked] == ["run_start", "eval", "run_end"]
    assert (looked[-1]["status"], looked[-1]["reason"]) == ("ok", "evaluation only")
    assert looked[0]["run_id"] != first.run_id
    assert second.run_id == first.run_id
    assert [r["step"] for r in tiny.of(tiny.events(tmp_path, "run.2.jsonl"), "train_step")] == [5, 6]


def test_a_fresh_training_in_an_old_folder_is_another_run(tmp_path: Path) -> None:
    """Given a folder with an old run, when a fresh training starts there, then it is a new run in a new segment."""
    tiny.record(tmp_path)
    before = (tmp_path / "run.jsonl").read_bytes()
    tiny.record(tmp_path)
    assert (tmp_path / "run.jsonl").read_bytes() == before
    new = tiny.events(tmp_path, "run.1.jsonl")
    assert new[0]["run_id"] != tiny.events(tmp_path)[0]["run_id"]
    assert not new[0]["meta"].keys() & {"segment", "parent_segment", "resume_step"}


def test_evaluations_around_training_share_its_file(tmp_path: Path) -> None:
    """Given evaluate() before and after train(), when all is done, then one file has one run_start and one run_end."""
    callback = GradienceCallback()
    trainer = tiny.trainer(tmp_path, callback)
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    records = tiny.events(tmp_path)
    assert list(tmp_path.glob("run*")) == [tmp_path / "run.jsonl"]
    events = [r["event"] for r in records if r["event"] not in {"train_step", "metrics"}]
    assert events == ["run_start", "eval", "run_end", "eval"]
    assert [e["step"] for e in tiny.of(records, "eval")] == [0, 4]
    (settled,) = tiny.of(records, "metrics", kind="schedule")
    assert settled["metrics"] == {"max_steps": 4, "epochs": None, "warmup_steps": 0}


def test_a_second_training_is_a_second_run(tmp_path: Path) -> None:
    """Given train() twice on one trainer, when both end, then each has a whole file of its own."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), At(9, _stop))
    trainer.train()
    trainer.train()
    first, second = tiny.events(tmp_path), tiny.events(tmp_path, "run.1.jsonl")
    assert first[0]["run_id"] != second[0]["run_id"]
    for records in (first, second):
        assert [r["step"] for r in tiny.of(records, "train_step")] == [1, 2, 3, 4]
        assert records[-1]["event"] == "run_end"


def test_an_exception_in_the_second_training_is_seen_too(tmp_path: Path) -> None:
    """Given a training that ended well, when the next one fails, then its own file says so."""
    stop = At(-1, _raise(RuntimeError("later")))
    trainer = tiny.trainer(tmp_path, GradienceCallback(), stop)
    trainer.train()
    stop.step = 2
    with pytest.raises(RuntimeError, match="later"):
        trainer.train()
    assert tiny.events(tmp_path)[-1]["status"] == "ok"
    assert tiny.events(tmp_path, "run.1.jsonl")[-1]["reason"] == "RuntimeError: later"


def test_a_smaller_batch_after_an_out_of_memory_error_continues_the_run(tmp_path: Path) -> None:
    """Given auto_find_batch_size and a batch too large, when the trainer tries again, then both tries are one run."""

    class Hungry(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.train_batch_size > 4 and state.global_step == 2:
                raise RuntimeError("CUDA out of memory.")

    trainer = tiny.trainer(
        tmp_path, GradienceCallback(), Hungry(), auto_find_batch_size=True, per_device_train_batch_size=8
    )
    trainer.train()
    segments = len(list(tmp_path.glob("*.jsonl")))
    names = ["run.jsonl", *(f"run.{index}.jsonl" for index in range(1, segments))]
    *failed, last = (tiny.events(tmp_path, name) for name in names)
    assert {(f[-1]["status"], f[-1]["reason"]) for f in failed} == {
        ("error", "training was started again before it had finished")
    }
    assert {f[0]["run_id"] for f in failed} == {last[0]["run_id"]}
    sizes = [f[0]["config"]["training"]["extras"]["effective_batch_size"] for f in (*failed, last)]
    assert sizes in ([8, 7, 6, 5, 4], [8, 4])  # accelerate takes a tenth off; before 1.9 it took the half
    assert (last[0]["meta"]["segment"], last[-1]["status"]) == (len(failed), "ok")
    assert [r["step"] for r in tiny.of(last, "train_step")] == [1, 2, 3, 4]


def test_one_callback_on_two_trainers_keeps_their_runs_apart(tmp_path: Path) -> None:
    """Given a callback shared by two trainers built before either trains, when both train, then each has its file."""
    callback = GradienceCallback()
    one = tiny.trainer(tmp_path / "one", callback)
    two = tiny.trainer(tmp_path / "two", callback)
    one.train()
    two.train()
    for name in ("one", "two"):
        records = tiny.events(tmp_path / name)
        assert len(tiny.of(records, "train_step")) == 4
        assert records[-1]["status"] == "ok"


_SCRIPT = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from gradience_emit.hf import GradienceCallback
from tests.emit.hf import tiny
from tests.emit.hf.test_lifecycle import ENDINGS, At, _raise
out = Path(sys.argv[1])
for name, body in ENDINGS.items():
    if os.fork() == 0:
        trainer = tiny.trainer(out / name, At(2, _raise(LookupError("gone"))))
        trainer.add_callback(GradienceCallback())
        exec(body)
        break
    else:
        (out / f"{name}.status").write_text(str(os.waitstatus_to_exitcode(os.wait()[1])))
"""
ENDINGS = {
    "evaluates": "trainer.evaluate()",
    "dies": "trainer.train()",
    "swallows": """
try:
    trainer.train()
except LookupError:
    pass
del trainer
""",
}
"""Ends of a process that only its end shows: ``train`` could not be hooked before it was called."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """Exit status and records of a process per ending; they share the seconds that the imports take."""
    folder = tmp_path_factory.mktemp("endings")
    (folder / "script.py").write_text(_SCRIPT)
    path = os.pathsep.join(str(ROOT / part) for part in (".", "schema"))
    subprocess.run(
        [sys.executable, str(folder / "script.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        timeout=120,
        check=True,
    )
    return {name: (int((folder / f"{name}.status").read_text()), tiny.events(folder / name)) for name in ENDINGS}


def test_a_script_that_only_evaluates_ends_ok(ended: dict[str, Any]) -> None:
    """Given a script without training, when the process ends, then run_end is ok and says evaluation only."""
    status, records = ended["evaluates"]
    assert status == 0
    assert [r["event"] for r in records] == ["run_start", "eval", "run_end"]
    assert (records[-1]["status"], records[-1]["reason"]) == ("ok", "evaluation only")


def test_a_callback_added_late_still_records_the_exception_at_exit(ended: dict[str, Any]) -> None:
    """Given add_callback after construction, when the script dies of an exception, then run_end says of which."""
    status, records = ended["dies"]
    assert status == 1
    end = records[-1]
    assert (end["event"], end["status"], end["reason"]) == ("run_end", "error", "LookupError: gone")


def test_an_exit_in_the_middle_of_training_is_an_error(ended: dict[str, Any]) -> None:
    """Given an exception that the script swallows and no hook on train, when the process ends, then run_end says so."""
    status, records = ended["swallows"]
    assert status == 0
    assert (records[-1]["status"], records[-1]["reason"]) == ("error", "process ended before training finished")
