"""One rank of guarded trainings, started by torchrun from `test_guard_ranks`: faults on rank 1, and references."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from gradience_emit.guard.recovery import Guard
from tests.emit.hf import faulty

STEPS = 8
SCENARIOS: dict[str, tuple[dict[int, faulty.Fault], dict[str, Any]]] = {
    "nan-batch": ({5: faulty.nan_loss}, {}),
    "nan-gradient": ({5: faulty.nan_gradient}, {}),
    "nan-weights": ({5: faulty.nan_weights}, {"guard_snapshot_every": 2}),
    "explosion": ({5: faulty.explosion}, {"max_grad_norm": 0.0}),
    "stays-nan": (dict.fromkeys(range(3, 9), faulty.nan_loss), {"guard_max_skips": 3}),
    "saved": ({4: faulty.nan_moments}, {"guard_snapshot_every": 2, "save_strategy": "steps", "save_steps": 4}),
    "last-update": ({STEPS: faulty.nan_moments}, {"guard_snapshot_every": 2}),
}
GUARD_FAULTS = ("_examine", "_mark_loss")
"""Methods of the guard that raise on rank 1 alone, at its third call."""


def _train(out: Path, rank: int, faults: dict[int, faulty.Fault], **options: Any) -> Any:
    shared: dict[str, Any] = {"model": faulty.Adapter(), "rows": faulty.points, "ddp_backend": "gloo", "steps": STEPS}
    return faulty.guarded(out, faults if rank == 1 else {}, rank_telemetry=True, **(shared | options))


def _reference(out: Path, name: str, rank: int, dropped: list[int], **options: Any) -> None:
    options = {key: value for key, value in options.items() if not key.startswith(("guard_", "save_"))}
    shared: dict[str, Any] = {"model": faulty.Adapter(), "rows": faulty.points, "ddp_backend": "gloo", "steps": STEPS}
    trainer = faulty.unguarded(out / f"{name}-without", without=dropped, **(shared | options))
    torch.save(faulty.state_of(trainer), out / f"{name}-without.{rank}.pt")


def _with_a_broken_guard(out: Path, rank: int, method: str) -> Any:
    real, calls = getattr(Guard, method), 0

    def broken(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if rank == 1 and calls == 3:
            raise ZeroDivisionError("in the guard of rank 1")
        return real(*args)

    setattr(Guard, method, broken)
    try:
        return _train(out / method, rank, {})
    finally:
        setattr(Guard, method, real)


def main() -> None:
    """Train every scenario with the guard and without its dropped batches, and save the states of both."""
    torch.set_num_threads(1)
    out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    for name, (faults, options) in SCENARIOS.items():
        trainer = _train(out / name, rank, faults, **options)
        torch.save(faulty.state_of(trainer), out / f"{name}.{rank}.pt")
        torch.distributed.barrier()
        dropped = sorted({*faulty.dropped(out / name), *range(trainer.state.global_step + 1, STEPS + 1)})
        _reference(out, name, rank, dropped, **options)
    for method in GUARD_FAULTS:
        torch.save(faulty.state_of(_with_a_broken_guard(out, rank, method)), out / f"{method}.{rank}.pt")
    _reference(out, "healthy", rank, [])
    torch.distributed.barrier()


if __name__ == "__main__":
    main()
    # every file is complete; gloo's teardown can wait for itself while DDP models are freed, seen once in ten runs
    os._exit(0)
