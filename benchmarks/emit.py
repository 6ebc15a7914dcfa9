"""Cost of one telemetry event beside the peers, and of importing the emitter; prints Markdown.

    python benchmarks/emit.py

Every figure of a table comes from one run. The contenders take turns in short rounds, so that a slow moment of a shared
machine falls on all of them. "Paced" is one event each 2 ms, as in training: caches are cold then.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradience_emit import TelemetryWriter, encode

ROUNDS, EVENTS, PACED = 30, 500, 800
WAIT_S = 0.002
Event = Callable[[int], None]
OPEN = contextlib.ExitStack()
_FAST = (encode._orjson_dumps, encode._Fragment)  # noqa: SLF001 - the benchmark forces the standard library path
AUDIT: dict[str, Any] = {
    f"model.layers.{layer}.self_attn.{module}": {
        "stable_rank": 3.1 + layer / 7,
        "utilization": 0.2 + layer / 90,
        "r": 16,
    }
    for layer in range(35)
    for module in ("q_proj", "k_proj", "v_proj", "o_proj")
}


def fields(step: int) -> dict[str, float]:
    """The numbers of one training step."""
    return {"loss": 2.1 / (step + 1), "lr": 1.5e-4, "grad_norm": 0.31 + step * 1e-7, "epoch": step / 1000}


def emitter(folder: Path, *, use_orjson: bool, audit: bool = False) -> Event:
    """Our writer, redaction on; with or without orjson."""
    writer = TelemetryWriter(folder / "emit" / "run.jsonl")
    writer.run_start({"model_name": "m"})

    def event(step: int) -> None:
        if audit:
            writer.metrics(step, kind="lora_audit", metrics=AUDIT)
        else:
            writer.train_step(step, loss=2.1 / (step + 1), lr=1.5e-4, grad_norm=0.31 + step * 1e-7, epoch=step / 1000)

    def slow(step: int) -> None:
        event(step)

    slow.prepare = lambda: _force((None, None))  # type: ignore[attr-defined]
    event.prepare = lambda: _force(_FAST)  # type: ignore[attr-defined]
    OPEN.callback(writer.close)
    return event if use_orjson else slow


def _force(functions: tuple[Any, Any]) -> None:
    encode._orjson_dumps, encode._Fragment = functions  # noqa: SLF001


def json_flush(folder: Path, *, audit: bool = False) -> Event:
    """json.dumps, write, flush: what a hand-written logger does."""
    file = (folder / "plain.jsonl").open("w", encoding="utf-8")

    def event(step: int) -> None:
        payload = {"kind": "lora_audit", "metrics": AUDIT} if audit else fields(step)
        record = {
            "schema": "gradience.vnext.telemetry/v1",
            "ts": time.time(),
            "run_id": "0" * 36,
            "event": "train_step",
        }
        file.write(json.dumps({**record, "step": step, **payload}) + "\n")
        file.flush()

    return event


def tensorboard(folder: Path) -> Event:
    """Three scalars by tensorboardX."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def event(step: int) -> None:
        row = fields(step)
        for name in ("loss", "lr", "grad_norm"):
            writer.add_scalar(name, row[name], step)

    return event


def trackio(folder: Path) -> Event:
    """Trackio, offline, in a folder of its own."""
    os.environ |= {"TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1", "TRACKIO_LOG_LEVEL": "ERROR"}
    import trackio as peer

    with contextlib.redirect_stdout(io.StringIO()):
        run = peer.init(project="benchmark", embed=False)

    def event(step: int) -> None:
        run.log(fields(step), step=step)

    return event


def time_in_turns(
    contenders: dict[str, Event], *, rounds: int, events: int, wait_s: float = 0.0
) -> dict[str, list[int]]:
    """Nanoseconds of each event of each contender, the contenders taking turns."""
    clock = time.perf_counter_ns
    times: dict[str, list[int]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, event in contenders.items():
            getattr(event, "prepare", lambda: None)()
            for step in range(turn * events, (turn + 1) * events):
                if wait_s:
                    time.sleep(wait_s)
                start = clock()
                event(step)
                elapsed = clock() - start
                if step >= events // 5:  # the first events of a run warm caches up
                    times[name].append(elapsed)
    return times


def table(tight: dict[str, list[int]], paced: dict[str, list[int]], base: str) -> str:
    """The Markdown table: medians and 99th percentiles in µs, and the ratio to the base contender."""
    rows = [
        "| one event, µs | tight median | p99 | ratio | paced median | p99 | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, values in tight.items():
        row = [name]
        for times, reference in ((values, tight[base]), (paced[name], paced[base])):
            median, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
            row += [f"{median / 1e3:.1f}", f"{p99 / 1e3:.1f}", f"{median / statistics.median(reference):.2f}x"]
        rows.append("| " + " | ".join(row) + " |")
    return "\n".join(rows)


def import_cost() -> str:
    """CPU milliseconds that ``import gradience_emit`` adds to a bare interpreter, the median of 15 pairs."""
    added = []
    for _ in range(15):
        bare, ours = (_cpu_of(code) for code in ("pass", "import gradience_emit"))
        added.append((ours - bare) * 1e3)
    median, best = statistics.median(added), min(added)
    return f"`import gradience_emit`: {median:.0f} ms of CPU over a bare interpreter (best {best:.0f})."


def _cpu_of(code: str) -> float:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def report() -> str:
    """Run the benchmark and return its Markdown."""
    notes = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, OPEN:
        folder = Path(name)
        (folder / "stdlib").mkdir()
        contenders: dict[str, Event] = {"json.dumps + write + flush": json_flush(folder)}
        if importlib.util.find_spec("orjson"):
            contenders["gradience_emit, orjson"] = emitter(folder, use_orjson=True)
        else:
            notes.append("orjson is not installed.")
        contenders["gradience_emit, standard library"] = emitter(folder / "stdlib", use_orjson=False)
        for module, title, make in (
            ("tensorboardX", "tensorboardX, 3 scalars", tensorboard),
            ("trackio", "trackio, offline", trackio),
        ):
            if importlib.util.find_spec(module) is None:
                notes.append(f"{module} is not installed.")
                continue
            contenders[title] = make(folder)
        base = next(iter(contenders))
        tight = time_in_turns(contenders, rounds=ROUNDS, events=EVENTS)
        paced = time_in_turns(contenders, rounds=2, events=PACED // 2, wait_s=WAIT_S)
        audits = {
            "json.dumps + write + flush": json_flush(folder, audit=True),
            "gradience_emit": emitter(folder / "audit", use_orjson=True, audit=True),
        }
        audit_tight = time_in_turns(audits, rounds=10, events=50)
        audit_paced = time_in_turns(audits, rounds=2, events=100, wait_s=WAIT_S)
        size = len(json.dumps(AUDIT)) / 1e3
    return "\n\n".join(
        [
            "A `train_step` of four numbers, redaction on.",
            table(tight, paced, base),
            f"A `metrics` event of {size:.0f} KB (an audit of {len(AUDIT)} modules).",
            table(audit_tight, audit_paced, base),
            import_cost(),
            *notes,
        ]
    )


if __name__ == "__main__":
    print(report())
