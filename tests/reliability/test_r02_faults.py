"""R2: no failing system call stops or hangs training; the first warns, and what was lost is told."""

from __future__ import annotations

import errno
import importlib
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_emit import TelemetryWriter, segments
from tests.emit import oracle
from tests.reliability.lengths import lengths

MAX_STEPS = 50
FAULTS = ["EIO", "ENOSPC", "ESTALE", "EAGAIN", "EROFS", "short write"]
CALLS: dict[str, Callable[[TelemetryWriter, int, float], None]] = {
    "run_start": lambda writer, step, loss: writer.run_start({"model_name": "m"}, {"step": step}),
    "train_step": lambda writer, step, loss: writer.train_step(step, loss=loss, lr=0.1),
    "eval": lambda writer, step, loss: writer.eval(step, split="val", metrics={"loss": loss}),
    "metrics": lambda writer, step, loss: writer.metrics(step, kind="guard", metrics={"action": "snapshot"}),
    "alert": lambda writer, step, loss: writer.alert(severity="error", code="C", message="m", step=step),
    "recommendation": lambda writer, step, loss: writer.recommendation([{"action": "a"}], step=step),
    "log": lambda writer, step, loss: writer.log("my_event", step, loss=loss),
    "run_end": lambda writer, step, loss: writer.run_end() if step == MAX_STEPS - 1 else writer.train_step(step),
}


class FaultyCall:
    """A system call of `segments` that fails at some of its turns."""

    def __init__(self, name: str, fault: str, first: int, last: int) -> None:
        self.turn = 0
        self.hits = 0
        self._real = getattr(segments, name)
        self._fault, self._first, self._last = fault, first, last

    def __call__(self, *arguments: Any) -> Any:
        """The real call, or the fault."""
        self.turn += 1
        if not self._first <= self.turn <= self._last:
            return self._real(*arguments)
        self.hits += 1
        if self._fault == "short write":
            descriptor, data = arguments
            return self._real(descriptor, data[: len(data) // 2])
        code = getattr(errno, self._fault)
        raise OSError(code, os.strerror(code))


class LoraLoop:
    """A real training loop: a frozen linear layer with a rank-2 adapter, trained by SGD."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(4, 4, generator=generator)
        self.a = torch.randn(2, 4, generator=generator, requires_grad=True)
        self.b = torch.zeros(4, 2, requires_grad=True)
        self.inputs = torch.randn(8, 4, generator=generator)
        self.optimizer = torch.optim.SGD([self.a, self.b], lr=0.1)

    def step(self) -> float:
        """One optimizer step; the loss before it."""
        loss = (self.inputs @ (self.weight + self.b @ self.a).T).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The warnings of thousands of provoked faults are counted elsewhere."""
    logging.getLogger("gradience_emit").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("gradience_emit").setLevel(logging.NOTSET)


def train(path: Path, call: Callable[[TelemetryWriter, int, float], None]) -> tuple[int, TelemetryWriter]:
    """Train for MAX_STEPS with one call a step, and one run_start; the steps done and the writer, closed."""
    loop = LoraLoop()
    done = 0
    with TelemetryWriter(path, retry_every_s=0.0) as writer:
        writer.run_start({"model_name": "tiny"})
        for step in range(MAX_STEPS):
            call(writer, step, loop.step())
            done += 1
    return done, writer


def assert_no_silent_loss(writer: TelemetryWriter, attempted: int, *, outage: bool) -> None:
    """What was read and what is reported lost make what was attempted, and an outage is announced."""
    records = oracle.read_strict(writer.path)
    gaps = [record for record in records if record.get("code") == "telemetry_gap"]
    assert len(records) - len(gaps) + writer.dropped == attempted
    assert bool(gaps) == outage


@lengths("numbers", [1, 2, 3, 17, 34, 50], range(1, 51))
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_training_reaches_max_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str, fault: str, numbers: range
) -> None:
    """Given a fault at one write of one public call, when training runs, then it finishes and no event is lost."""
    for number in numbers:
        faulty = FaultyCall("_write", fault, number, number)
        with monkeypatch.context() as patch:
            patch.setattr(segments, "_write", faulty)
            done, writer = train(tmp_path / f"{number}.jsonl", CALLS[call])
        assert (done, faulty.hits, writer.dropped) == (MAX_STEPS, 1, 0)
        assert_no_silent_loss(writer, MAX_STEPS + 1 + (call != "run_end"), outage=True)


@pytest.mark.parametrize("system_call", ["_write", "_sync", "_truncate", "_open"])
@pytest.mark.parametrize("fault", FAULTS[:-1])
def test_training_survives_a_system_call_that_never_works_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system_call: str, fault: str
) -> None:
    """Given a call that fails from its first or tenth turn on, when training runs, then it ends, losses count."""
    for first in (1, 10):
        faulty = FaultyCall(system_call, fault, first, 10**9)
        with monkeypatch.context() as patch:
            patch.setattr(segments, system_call, faulty)
            done, writer = train(tmp_path / f"{first}.jsonl", CALLS["alert"])
        assert done == MAX_STEPS
        written = oracle.read_strict(writer.path) if writer.path.exists() else []
        gaps = sum(record.get("code") == "telemetry_gap" for record in written)
        assert len(written) - gaps + writer.dropped >= MAX_STEPS + 2
        assert len({record["seq"] for record in written}) == len(written)


@pytest.mark.parametrize("fault", FAULTS[:-1])
def test_a_short_write_that_cannot_be_cut_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str) -> None:
    """Given half a line on the disk and a failing truncate, when writing works again, then none is fused."""
    monkeypatch.setattr(segments, "_write", FaultyCall("_write", "short write", 5, 7))
    monkeypatch.setattr(segments, "_truncate", FaultyCall("_truncate", fault, 1, 10**9))
    done, writer = train(tmp_path / "run.jsonl", CALLS["train_step"])
    assert done == MAX_STEPS
    whole, torn = [], 0
    for line in writer.path.read_bytes().split(b"\n")[:-1]:
        try:
            whole.append(oracle.strict_loads(line)["seq"])
        except ValueError:
            torn += 1
    assert whole == list(range(MAX_STEPS + 3))
    assert torn == 3


def test_the_first_fault_warns_once_and_run_end_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Given a bug inside the emitter, when it strikes at five events, then one warning; run_end has both counts."""
    logging.getLogger("gradience_emit").setLevel(logging.WARNING)
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start({})
        with monkeypatch.context() as patch:
            patch.setattr(writer._encoder, "encode", lambda *_: 1 / 0)
            for step in range(5):
                writer.train_step(step)
        writer.train_step(5)
    records = oracle.read_strict(writer.path)
    assert [record.get("dropped_events") for record in records] == [None, 5, 5]
    assert records[-1]["telemetry_faults"] == 5
    assert caplog.text.count("ZeroDivisionError") == 1


@pytest.mark.hf
@lengths("grid", [(1, "EIO"), (3, "short write"), (5, "ESTALE")], [*itertools.product(range(1, 11), FAULTS)])
def test_a_trainer_with_the_callback_reaches_max_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grid: list[tuple[int, str]]
) -> None:
    """Given the Hugging Face Trainer and a fault at a write, when it trains, then it reaches max_steps."""
    transformers = pytest.importorskip("transformers")
    from gradience_emit.hf import GradienceCallback

    config = transformers.LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    rows = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 12
    for number, fault in grid:
        output = Path(tempfile.mkdtemp(dir=tmp_path))
        arguments = transformers.TrainingArguments(
            output_dir=str(output), max_steps=6, logging_steps=1, per_device_train_batch_size=2, report_to=[],
            save_strategy="no", eval_strategy="steps", eval_steps=3, disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        faulty = FaultyCall("_write", fault, number, number)
        with monkeypatch.context() as patch:
            patch.setattr(segments, "_write", faulty)
            trainer = transformers.Trainer(
                transformers.LlamaForCausalLM(config), arguments, train_dataset=rows, eval_dataset=rows[:4],
                callbacks=[GradienceCallback()],
            )  # fmt: skip
            trainer.train()
        assert faulty.hits == 1
        assert trainer.state.global_step == 6
        records = oracle.read_strict(output / "run.jsonl")
        assert [record["step"] for record in records if record["event"] == "train_step"] == [1, 2, 3, 4, 5, 6]


# What the guard calls while it works: module of `gradience_emit.guard`, then the name in it. A fault in the first group
# shows in every training, one in the second only where something is undone, one in the third when training is over.
WATCHING = [
    "state.TrainingState.start", "state.TrainingState.save", "state.TrainingState.save_sound",
    "state.TrainingState.size", "state.TrainingState.is_finite", "state.Copies", "state.Layout",
    "copies.Copies.fill", "copies.Copies.are_finite", "copies._copy_all", "copies.without_tensors",
    "randomness._device_states", "snapshots.SnapshotRing.prepare", "snapshots.SnapshotRing.keep",
    "snapshots.SnapshotRing.is_due", "triggers.Triggers.judge", "policy.Policy.decide", "recovery.agree",
    "recovery.Guard._mark_loss", "recovery.Guard._signals", "record.GuardRecord.began", "record.GuardRecord.noticed",
    "record.GuardRecord.took_snapshot", "record.GuardRecord.went_on",
]  # fmt: skip
UNDOING = [
    "state.TrainingState.load", "state.TrainingState.restart", "state.TrainingState.drop_gradients",
    "state.TrainingState.release", "state.TrainingState.scale_lr", "state.with_tensors", "state.in_place",
    "randomness.RandomState.restore", "snapshots.SnapshotRing.restore", "snapshots.SnapshotRing.drop",
    "policy.Policy.back_off",
]  # fmt: skip
ENDING = ["snapshots.SnapshotRing.clear", "record.GuardRecord.ended"]
SILENT = {"record.GuardRecord.acted"}
"""Where the fault is in what would write it down."""


class BrokenCall:
    """A function of the guard that raises from one of its turns on, or at that one alone."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, first: int, *, once: bool) -> None:
        self.hits = 0
        module, _, attribute = name.rpartition(".")
        owner: Any = importlib.import_module(f"gradience_emit.guard.{module.split('.')[0]}")
        owner = getattr(owner, module.split(".")[1]) if "." in module else owner
        real, turn = getattr(owner, attribute), 0

        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal turn
            turn += 1
            if turn == first or (turn > first and not once):
                self.hits += 1
                raise ZeroDivisionError(f"in {name}")
            return real(*arguments, **keywords)

        patch.setattr(owner, attribute, call)


def guarded_training(folder: Path, faults: Mapping[int, Any]) -> Any:
    """Ten guarded steps with something to warn of at the seventh; telemetry in ``folder``."""
    pytest.importorskip("transformers")
    from tests.emit.hf import faulty

    torch.set_num_threads(1)
    options: dict[str, Any] = {"guard_snapshot_every": 3, "guard_lr_backoff": 0.5, "max_grad_norm": 1.0}
    return faulty.guarded(
        folder, {7: faulty.explosion, **faults}, rows=faulty.points, model=faulty.Adapter(), **options
    )


@pytest.fixture
def unguarded_state(tmp_path: Path) -> dict[str, Any]:
    """Every bit of the same training without the guard."""
    pytest.importorskip("transformers")
    from tests.emit.hf import faulty

    torch.set_num_threads(1)
    options: dict[str, Any] = {"rows": faulty.points, "model": faulty.Adapter(), "max_grad_norm": 1.0}
    return faulty.state_of(faulty.unguarded(tmp_path / "plain", faults={7: faulty.explosion}, **options))


def assert_guard_is_off(records: list[dict[str, Any]], *, told: set[int]) -> None:
    """The run is whole, it says that the guard failed, and the guard did nothing after that."""
    alerts = [record for record in records if record.get("code") == "GUARD_FAULT"]
    acts = [r["step"] for r in records if r.get("kind") == "guard" and r["metrics"]["action"] in {"skip", "rollback"}]
    assert len(alerts) in told
    assert all(step <= alert["step"] for alert in alerts for step in acts)
    end = records[-1]
    assert (end["event"], end["status"], end["global_step"]) == ("run_end", "ok", 10)
    assert end["telemetry_faults"] >= 1


@pytest.mark.hf
@lengths("turns", [1, 4], range(1, 30))
@pytest.mark.parametrize("name", WATCHING)
def test_a_guard_that_fails_while_it_watches_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unguarded_state: dict[str, Any], name: str, turns: Sequence[int]
) -> None:
    """Given an exception anywhere in the guard, when there is nothing to undo, then it is the training without it."""
    from tests.emit.hf import faulty

    for turn, once in itertools.product(turns, (True, False)):
        folder = tmp_path / f"{turn}-{once}"
        with monkeypatch.context() as patch:
            broken = BrokenCall(patch, name, turn, once=once)
            trainer = guarded_training(folder, {})
        assert faulty.differences(faulty.state_of(trainer), unguarded_state) == []
        if broken.hits:
            said = faulty.summary(folder)
            at_the_end = said["integrity_status"] == "not_checked"  # it may have been too late for an alert
            assert_guard_is_off(oracle.read_strict(folder / "run.jsonl"), told={0, 1} if at_the_end else {1})
            assert said["gave_up"] == "the guard itself failed"
        assert broken.hits or turn > 1


@pytest.mark.hf
@lengths("turns", [1], range(1, 8))
@pytest.mark.parametrize("name", [*UNDOING, *SILENT])
def test_a_guard_that_fails_while_it_undoes_a_fault_lets_training_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, turns: Sequence[int]
) -> None:
    """Given NaN and an exception in the guard, when training runs, then it reaches its end, with one warning."""
    pytest.importorskip("transformers")
    from tests.emit.hf import faulty

    for turn, once in itertools.product(turns, (True, False)):
        folder = tmp_path / f"{turn}-{once}"
        caplog.clear()
        logging.getLogger("gradience_emit").setLevel(logging.WARNING)
        with monkeypatch.context() as patch:
            broken = BrokenCall(patch, name, turn, once=once)
            trainer = guarded_training(folder, {4: faulty.nan_loss, 6: faulty.nan_weights})
        assert trainer.state.global_step == 10
        if broken.hits:
            assert_guard_is_off(
                oracle.read_strict(folder / "run.jsonl"), told={0} if name in SILENT and not once else {1}
            )
            assert caplog.text.count("reported once") == 1
            assert faulty.summary(folder)["gave_up"] == "the guard itself failed"
        assert broken.hits or turn > 1


@pytest.mark.hf
@pytest.mark.parametrize("name", ENDING)
def test_a_guard_that_fails_at_the_end_leaves_the_run_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unguarded_state: dict[str, Any], name: str
) -> None:
    """Given an exception when training is over, when the run is closed, then run_end and summary.json are there."""
    from tests.emit.hf import faulty

    broken = BrokenCall(monkeypatch, name, 1, once=True)
    trainer = guarded_training(tmp_path, {})
    assert broken.hits == 1
    assert faulty.differences(faulty.state_of(trainer), unguarded_state) == []
    end = oracle.read_strict(tmp_path / "run.jsonl")[-1]
    assert (end["event"], end["status"], end["telemetry_faults"]) == ("run_end", "ok", 1)
    assert faulty.summary(tmp_path)["total_snapshots"] == 4


@pytest.mark.hf
@lengths("numbers", [1, 3, 6], range(1, 30))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_guard_whose_records_cannot_be_written_guards_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, numbers: Sequence[int]
) -> None:
    """Given a fault of the disk at a write, when the guard acts, then it acts as it would, and no event is lost."""
    pytest.importorskip("transformers")
    from tests.emit.hf import faulty

    faults = {4: faulty.nan_loss, 6: faulty.nan_weights}
    expected = faulty.state_of(guarded_training(tmp_path / "well", faults))
    writes = len(oracle.read_strict(tmp_path / "well" / "run.jsonl"))
    for number in (number for number in numbers if number <= writes):
        call = FaultyCall("_write", fault, number, number)
        with monkeypatch.context() as patch:
            patch.setattr(segments, "_write", call)
            trainer = guarded_training(tmp_path / f"{number}", faults)
        assert call.hits == 1
        assert faulty.differences(faulty.state_of(trainer), expected) == []
        records = oracle.read_strict(tmp_path / f"{number}" / "run.jsonl")
        assert [act["action"] for act in faulty.acts(tmp_path / f"{number}")] == ["skip", "rollback"]
        assert [record["status"] for record in records if record["event"] == "run_end"] == ["ok"]
        assert sorted(record["seq"] for record in records) == list(range(len(records)))


@pytest.mark.hf
def test_a_summary_that_cannot_be_written_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given a folder in which no summary can be made, when training is over, then the run ends as ever."""
    pytest.importorskip("transformers")
    from gradience_emit import summary

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(summary.tempfile, "mkstemp", full)
    trainer = guarded_training(tmp_path, {})
    assert trainer.state.global_step == 10
    end = oracle.read_strict(tmp_path / "run.jsonl")[-1]
    assert (end["status"], end["telemetry_faults"]) == ("ok", 1)
    assert not (tmp_path / "summary.json").exists()
