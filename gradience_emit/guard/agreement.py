"""One verdict for all ranks: the worst that any of them saw."""

from __future__ import annotations

import sys
from typing import Any, Final

from gradience_emit.guard.triggers import Trigger, Verdict

__all__ = ["agree", "is_distributed"]

_TRIGGERS: Final = tuple(Trigger)
_NONE: Final = len(_TRIGGERS)


def is_distributed() -> bool:
    """Whether this process trains together with others."""
    distributed: Any = sys.modules.get("torch.distributed")
    return bool(
        distributed is not None
        and distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def agree(verdict: Verdict, trigger: Trigger | None) -> tuple[Verdict, Trigger | None]:
    """The worst verdict of all ranks, and what was seen there: one all-reduce (max) of one integer.

    Every rank must call it at the same steps; in a single process it costs nothing.
    """
    if not is_distributed():
        return verdict, trigger
    import torch

    distributed: Any = torch.distributed
    # NCCL and its kin carry tensors of their device only; all others, mixed ones included, carry those of the CPU
    backend = str(distributed.get_backend())
    kind = torch.accelerator.current_accelerator() if "ccl" in backend and "gloo" not in backend else None
    device = "cpu" if kind is None else kind.type
    own = int(verdict) * (_NONE + 1) + (_NONE if trigger is None else _TRIGGERS.index(trigger))
    box = torch.tensor([own], dtype=torch.int64, device=device)
    distributed.all_reduce(box, op=distributed.ReduceOp.MAX)
    worst, seen = divmod(int(box.item()), _NONE + 1)
    return Verdict(worst), None if seen == _NONE else _TRIGGERS[seen]
