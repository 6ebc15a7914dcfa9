"""R2: no failing system call stops or hangs training; the first warns, and what was lost is told."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
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
