"""Ends for want of memory: the words of every backend, and what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.model import Change
from tests.analysis.diagnostics.machine import T0, alert, began, by_code, ended, findings, judged, steps
from tests.analysis.records import end, start, train, write

DEVICE = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB",
    "OutOfMemoryError: [REDACTED 412 chars]",
    "RuntimeError: CUDA error: out of memory",
    "RuntimeError: CUDA driver error: out of memory",
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.00 GiB",
    "RuntimeError: MPS backend out of memory (MPS allocated: 17.00 GB, other allocations: 1.00 GB)",
    "RuntimeError: XPU out of memory. Tried to allocate 2.00 GiB",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "XlaRuntimeError: RESOURCE_EXHAUSTED: Attempting to reserve 3.10G at the bottom of memory.",
)
HOST = (
    "MemoryError",
    "MemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000, 1000) and data type float64",
    "OSError: [Errno 12] Cannot allocate memory",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried",
    "container killed: OOMKilled",
    "the job step was killed by the oom-killer",
)
NEITHER = (
    "RuntimeError: the size of tensor a (5) must match the size of tensor b (7)",
    "ValueError: room for 12 items, boom",
    "the scheduler is out of steps; memory is fine",
)


@pytest.mark.parametrize(("texts", "whose"), [(DEVICE, "device's"), (HOST, "host's")])
def test_each_backend_is_understood(tmp_path: Path, texts: tuple[str, ...], whose: str) -> None:
    """Given the reason that each backend gives, when diagnosed, then memory ended it, and no bare error is said."""
    for text in texts:
        found = by_code(findings(tmp_path, [began(), *steps(5), ended("error", reason=text)]))
        assert list(found) == ["out_of_memory"], text
        assert whose in found["out_of_memory"].message, text


@pytest.mark.parametrize("text", NEITHER)
def test_other_errors_stay_errors(tmp_path: Path, text: str) -> None:
    """Given an error of another kind, when diagnosed, then it is a run error."""
    assert list(by_code(findings(tmp_path, [began(), *steps(5), ended("error", reason=text)]))) == ["run_error"]


def test_an_alert_before_a_kill_says_it_too(tmp_path: Path) -> None:
    """Given an alert about memory and no run_end, when diagnosed, then memory ended it."""
    found = by_code(findings(tmp_path, [began(), *steps(5), alert(5, "CUDA out of memory")], now=6.0))
    assert "out_of_memory" in found


@pytest.mark.parametrize(
    "rows",
    [
        [alert(5, "CUDA out of memory; batch skipped", severity="warning"), ended()],
        [alert(5, "out of memory is not expected", severity="info"), ended("error", reason="boom")],
    ],
)
def test_what_the_run_survived_is_no_end(tmp_path: Path, rows: list[Any]) -> None:
    """Given memory named by an alert of a run that went on, or in passing, when diagnosed, then it did not end it."""
    assert "out_of_memory" not in by_code(findings(tmp_path, [began(), *steps(5), *rows]))


def test_a_second_attempt_that_worked_is_no_finding(tmp_path: Path) -> None:
    """Given a segment that ran out of memory and one that ran to its end, when diagnosed, then nothing is said."""
    write(tmp_path / "run.jsonl", [began(), *steps(5), ended("error", after=9, reason=DEVICE[0])])
    write(tmp_path / "run.1.jsonl", [start(ts=T0 + 10, segment=1), *train(range(1, 9), ts=T0 + 11), end(ts=T0 + 20)])
    diagnosis = judged(tmp_path)
    assert diagnosis.findings == ()
    assert diagnosis.measurement("out_of_memory").details["all"] == 1


def test_the_change_keeps_the_examples_of_a_step(tmp_path: Path) -> None:
    """Given a batch of 4 with accumulation 2, when it ran out of memory, then 2 and 4 are suggested."""
    found = by_code(findings(tmp_path, [began(), *steps(5), ended("error", reason=DEVICE[0])]))
    changes = {change.setting: (change.current, change.suggested) for change in found["out_of_memory"].changes}
    assert changes == {"training.batch_size": ("4", "2"), "training.gradient_accumulation": ("2", "4")}
    assert all(isinstance(change, Change) and change.why for change in found["out_of_memory"].changes)
