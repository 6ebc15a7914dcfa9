"""Out of memory: whether want of memory ended the run, and whether it was the device's or the host's.

The reason of `run_end` and the alerts from warning up are searched for the names that such an end has: `CUDA out of
memory`, `OutOfMemoryError`, `MPS backend out of memory`, HIP and cuBLAS allocation failures, `RESOURCE_EXHAUSTED`,
Python's `MemoryError`, `Cannot allocate memory`, and the marks of a kill by the system (`OOMKilled`, `oom-kill`).

It is a finding (G05) when the last segment of a rank names one and did not end well. An attempt that ran out of
memory and was followed by one that did not (a smaller batch, say) is counted and no finding, and so is a run that
went on to its end. Nothing is said where the reason was too long to be written: then only the type of the exception
is left of it. A process that the system kills says nothing itself; see *run status*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gradience_analysis.model import Change, Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.readings import complaints
from gradience_schema import Severity

CODES: Mapping[str, str] = {"out_of_memory": "The run ended for want of memory."}
COVERS: Mapping[str, frozenset[str]] = {"out_of_memory": frozenset({"run_error"})}
NAME = "out_of_memory"
_DEVICE = re.compile(
    r"(cuda|hip|mps|xpu|npu|gpu|device|vram|rocm)\W.{0,200}?out of memory|out of memory.{0,200}?\b(gpu|device|vram)\b"
    r"|(cuda|hip)\w*(out_?of_?memory|memory_?allocation)"
    r"|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|RESOURCE_EXHAUSTED",
    re.IGNORECASE | re.DOTALL,
)
_HOST = re.compile(
    r"(?<!OutOf)MemoryError|cannot allocate memory|can't allocate memory|unable to allocate [\d.]+ ?[kmgt]i?b\b"
    r"|not enough memory: you tried to allocate|std::bad_alloc|\boom[-_ ]?kill|\bkilled\b.{0,40}\b(oom|out of memory)\b"
    r"|\boom\b.{0,40}\bkilled\b",
    re.IGNORECASE | re.DOTALL,
)
_EITHER = re.compile(r"out[ _-]of[ _-]memory|outofmemory|\bOOM\b", re.IGNORECASE)
_SHOWN_CHARS = 120
_PLACES = 5


def measure(run: Run) -> tuple[Measurement, ...]:
    """Ends and alerts that name want of memory; those of a last segment that did not end well are told apart."""
    found = [(item, memory) for item in complaints(run) if (memory := _memory(item.text))]
    fatal = [(item, memory) for item, memory in found if item.final and item.failed]
    config = run.config
    details = {
        "all": len(found),
        "memory": fatal[0][1] if fatal else None,
        "text": fatal[0][0].text[:_SHOWN_CHARS] if fatal else None,
        "last_step": run.last_step,
        "batch_size": None if config is None else config.training.batch_size,
        "gradient_accumulation": None if config is None else config.training.gradient_accumulation,
    }
    places = tuple(item.place for item, _ in fatal[:_PLACES])
    return (Measurement(NAME, len(fatal), "texts", "run_end.reason and alerts", details=details, places=places),)


def _memory(text: str) -> str | None:
    """Whose memory a text says is out: `device`, `host` or `unknown`; None when it says nothing of the kind."""
    if _HOST.search(text):
        return "host"
    if _DEVICE.search(text):
        return "device"
    return "unknown" if _EITHER.search(text) else None


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for a run that want of memory ended."""
    (item,) = measurements
    if not item.value:
        return []
    host = item.details["memory"] == "host"
    step = item.details["last_step"]
    whose = {"host": "of the host's memory", "device": "of the device's memory"}.get(
        item.details["memory"], "of memory"
    )
    return [
        Finding(
            code=NAME,
            rule="G05",
            severity=Severity.ERROR,
            message=f"Training ran out {whose}{'' if step is None else f' after step {step}'}.",
            evidence={name: value for name, value in item.details.items() if value is not None},
            advice=(
                "Try fewer data-loader workers, or data that is read in pieces; look at how memory grew before."
                if host
                else "Try half the batch with twice the accumulation, which trains the same; then gradient "
                "checkpointing, or a smaller maximum length."
            ),
            confidence=0.95,
            basis="the run says so",
            places=item.places,
            changes=() if host else _changes(item),
        )
    ]


def _changes(item: Measurement) -> tuple[Change, ...]:
    batch, accumulation = item.details["batch_size"], item.details["gradient_accumulation"]
    if not isinstance(batch, int) or batch < 2:
        return ()
    why = "the same number of examples a step takes about half the memory for activations"
    smaller = Change("training.batch_size", str(batch), str(batch // 2), why)
    if batch % 2 or not isinstance(accumulation, int):
        return (smaller,)
    return smaller, Change("training.gradient_accumulation", str(accumulation), str(2 * accumulation), why)
