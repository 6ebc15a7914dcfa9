"""``summary.json`` beside the telemetry: what a guarded or monitored run came to, in one small file."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["SUMMARY_NAME", "summary_path", "write_summary"]

SUMMARY_NAME: Final = "summary.json"


def summary_path(telemetry: Path) -> Path:
    """Where the summary of a segment stands: ``summary.json`` beside it, of rank 3 ``summary.rank3.json``.

    A resumed run replaces the summary of the segment before, whose telemetry keeps it.
    """
    rank = "".join(part for part in telemetry.suffixes[:-1] if part.startswith(".rank"))
    return telemetry.with_name(f"summary{rank}.json")


def write_summary(
    path: Path,
    *,
    run_id: str | None,
    telemetry: str | None,
    total_steps: int,
    final_loss: float | None,
    guard: Mapping[str, Any] | None = None,
    spectral: Mapping[str, Any] | None = None,
) -> None:
    """Write the summary, whole or not at all.

    Args:
        path: the file; one that is there is replaced.
        run_id: the run.
        telemetry: name of the telemetry file beside it.
        total_steps: optimizer steps, dropped ones included.
        final_loss: the last training loss that was recorded; one that is not finite is written as its name.
        guard: what the guard did; None without one.
        spectral: ``final_kappa`` and ``final_risk_level``; None when they were not watched.

    Raises:
        OSError: the file cannot be written.
    """
    loss: float | str | None = final_loss
    if final_loss is not None and not math.isfinite(final_loss):
        loss = repr(float(final_loss))
    content = {
        "run_id": run_id,
        "telemetry": telemetry,
        "total_steps": total_steps,
        "final_loss": loss,
        "guard": None if guard is None else dict(guard),
        "spectral": None if spectral is None else dict(spectral),
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
