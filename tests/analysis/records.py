"""Builds telemetry lines by hand: nothing here comes from the emitter or the reader under test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SCHEMA = "gradience.vnext.telemetry/v1"
CONFIG: dict[str, Any] = {
    "model_name": "tiny-llama",
    "dataset_name": "templated-qa",
    "task_profile": "generation",
    "optimizer": {"name": "adamw_torch", "lr": 2e-4, "weight_decay": 0.01},
    "lora": {"r": 8, "alpha": 16.0, "alpha_over_r": 2.0, "target_modules": ["q_proj", "v_proj"]},
    "training": {"seed": 7, "batch_size": 4, "gradient_accumulation": 2, "max_steps": 40, "dtype": "float32"},
}


def record(
    event: str, step: int | None = None, *, ts: float = 0.0, run_id: str = "run-1", **fields: Any
) -> dict[str, Any]:
    """One record with its envelope."""
    return {"schema": SCHEMA, "ts": ts, "run_id": run_id, "event": event, "step": step, **fields}


def start(*, ts: float = 0.0, run_id: str = "run-1", **meta: Any) -> dict[str, Any]:
    """A run_start with the usual configuration."""
    return record("run_start", ts=ts, run_id=run_id, config=CONFIG, meta=meta)


def train(steps: Iterable[int], *, ts: float = 1.0, run_id: str = "run-1", loss: float = 2.0) -> list[dict[str, Any]]:
    """Train steps one second apart, with a loss that falls a little each step."""
    return [
        record("train_step", step, ts=ts + place, run_id=run_id, loss=loss - 0.01 * step, lr=1e-4, grad_norm=1.0)
        for place, step in enumerate(steps)
    ]


def evaluation(
    step: int | None, split: str, *, ts: float = 500.0, run_id: str = "run-1", **metrics: Any
) -> dict[str, Any]:
    """An evaluation."""
    return record("eval", step, ts=ts, run_id=run_id, split=split, metrics=metrics)


def end(status: str = "ok", *, ts: float = 1000.0, run_id: str = "run-1", **fields: Any) -> dict[str, Any]:
    """A run_end."""
    return record("run_end", ts=ts, run_id=run_id, status=status, **fields)


def numbered(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records with seq 0, 1, 2."""
    return [{**item, "seq": seq} for seq, item in enumerate(records)]


def lines(records: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Each record as a line of JSON, with bare NaN where a value is NaN."""
    return [json.dumps(item).encode() for item in records]


def write(path: Path, records: Iterable[Mapping[str, Any] | bytes | str]) -> Path:
    """Records, or raw lines, as a file."""
    raw = [
        item.encode() if isinstance(item, str) else item if isinstance(item, bytes) else json.dumps(item).encode()
        for item in records
    ]
    path.write_bytes(b"".join(line + b"\n" for line in raw))
    return path


def healthy_run() -> list[dict[str, Any]]:
    """A short language-model run with everything logged that a report can show."""
    records = [start()]
    for step in range(5, 41, 5):
        loss = 2.5 * 0.93**step + 0.5
        records.append(
            record(
                "train_step", step, ts=float(step), loss=loss, lr=2e-4 * (1 - step / 40), grad_norm=1.2, epoch=step / 20
            )
        )
        if step % 10 == 0:
            records.append(
                record("metrics", step, ts=step + 0.1, kind="throughput", metrics={"tokens_per_s": 900 + step})
            )
            records.append(
                record("metrics", step, ts=step + 0.1, kind="memory", metrics={"peak_mb": 512.0, "rss_mb": 800.0})
            )
            for split, more in (("train", 0.0), ("eval", 0.05)):
                records.append(
                    evaluation(step, split, ts=step + 0.2, loss=loss + more, ppl=2.718281828 ** (loss + more), n=64)
                )
    return numbered([*records, end(ts=42.0)])


def troubled_run() -> list[dict[str, Any]]:
    """A run with a NaN, a guard alert, a growing gap and no clean end."""
    records = [start()]
    for step in range(5, 41, 5):
        fields: dict[str, Any] = {"loss": 2.0 - step / 25, "lr": 2e-4, "grad_norm": 1.0}
        if step == 30:
            fields |= {"loss": None, "nonfinite": {"/loss": "nan"}}
        records.append(record("train_step", step, ts=float(step), **fields))
        if step % 10 == 0:
            records.append(
                evaluation(step, "train", ts=step + 0.2, loss=2.0 - step / 25, ppl=2.718281828 ** (2.0 - step / 25))
            )
            records.append(
                evaluation(step, "val", ts=step + 0.3, loss=1.6 + step / 100, ppl=2.718281828 ** (1.6 + step / 100))
            )
    alert = {
        "severity": "warning",
        "code": "GUARD_ROLLBACK",
        "message": "rolled back to step 20",
        "context": {"trigger": "nan_loss"},
    }
    records.append(record("alert", 40, ts=41.0, **alert))
    return numbered([*records, end("error", ts=42.0, reason="RuntimeError: CUDA out of memory")])
