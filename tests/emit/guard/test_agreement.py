"""One verdict for all ranks: the worst. Two real ranks are in tests/emit/hf/test_guard_ranks.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.guard import agreement
from gradience_emit.guard.triggers import Trigger, Verdict

TRIGGERS: dict[Verdict, list[Trigger | None]] = {
    Verdict.GOOD: [None],
    Verdict.WARN: [Trigger.GRADIENT_CAP, Trigger.GRADIENT_SPIKE],
    Verdict.SCALED: [Trigger.NONFINITE_GRADIENT],
    Verdict.SKIP: [Trigger.NONFINITE_LOSS, Trigger.NONFINITE_GRADIENT, Trigger.GRADIENT_CAP, Trigger.GRADIENT_SPIKE],
    Verdict.RESTORE: [Trigger.NONFINITE_STATE, Trigger.SPECTRAL],
    Verdict.FAILED: [Trigger.GUARD_FAULT],
}
RANKS = st.lists(
    st.sampled_from(Verdict).flatmap(lambda verdict: st.tuples(st.just(verdict), st.sampled_from(TRIGGERS[verdict]))),
    min_size=2,
    max_size=5,
)


class Ranks:
    """`torch.distributed` of several ranks, one after the other: each reduction is over all that were announced."""

    def __init__(self, backend: str, announced: list[int]) -> None:
        self.backend, self.announced = backend, announced
        self.calls = 0

    def get_backend(self) -> str:
        """Its name."""
        return self.backend

    class ReduceOp:
        """The one that is used."""

        MAX = "max"

    def all_reduce(self, box: Any, op: str) -> None:
        """The largest of all, or, in the first round, a note of this one."""
        assert op == "max"
        assert box.numel() == 1
        self.calls += 1
        if self.backend == "announcing":
            self.announced.append(int(box.item()))
        else:
            box.fill_(max(self.announced))


@given(RANKS)
def test_all_ranks_agree_on_the_worst(seen: list[tuple[Verdict, Trigger | None]]) -> None:
    """Given any verdicts, when the ranks agree, then all have the worst, with a trigger that one of them saw."""
    announced: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "is_distributed", lambda: True)
        patch.setattr(torch, "distributed", Ranks("announcing", announced))
        for verdict, trigger in seen:
            agreement.agree(verdict, trigger)
        ranks = Ranks("gloo", announced)
        patch.setattr(torch, "distributed", ranks)
        agreed = {agreement.agree(verdict, trigger) for verdict, trigger in seen}
    assert len(agreed) == 1
    assert ranks.calls == len(seen)
    (result,) = agreed
    assert result in seen
    assert result[0] is max(verdict for verdict, _ in seen)


def test_a_process_alone_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given one process, when it asks, then its own verdict comes back, and nothing is sent."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_, **__: pytest.fail("sent"))
    assert not agreement.is_distributed()
    for verdict, triggers in TRIGGERS.items():
        for trigger in triggers:
            assert agreement.agree(verdict, trigger) == (verdict, trigger)


@pytest.mark.parametrize(("initialised", "size", "expected"), [(False, 2, False), (True, 1, False), (True, 2, True)])
def test_several_ranks_are_those_of_a_started_group(
    monkeypatch: pytest.MonkeyPatch, initialised: bool, size: int, expected: bool
) -> None:
    """Given a process group or none, when it is asked for, then only a group of two or more counts."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: initialised)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
    assert agreement.is_distributed() is expected


@pytest.mark.parametrize(
    ("backend", "device"), [("gloo", "cpu"), ("nccl", "meta"), ("cpu:gloo,cuda:nccl", "cpu"), ("undefined", "cpu")]
)
def test_the_verdict_travels_where_the_backend_can_carry_it(
    monkeypatch: pytest.MonkeyPatch, backend: str, device: str
) -> None:
    """Given a backend for devices only, when ranks agree, then the number lies on the device, else on the CPU."""
    used: list[str] = []

    class Watching(Ranks):
        def all_reduce(self, box: Any, op: str) -> None:
            used.append(box.device.type)
            raise RuntimeError("seen enough")  # a meta tensor, which stands in for a GPU's, has no content

    monkeypatch.setattr(agreement, "is_distributed", lambda: True)
    monkeypatch.setattr(torch, "distributed", Watching(backend, []))
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    with pytest.raises(RuntimeError, match="seen enough"):
        agreement.agree(Verdict.GOOD, None)
    assert used == [device]
