"""Freeing memory: what is asked of the device, in which order, and what is said about what stays."""

from __future__ import annotations

import ast
import gc
import logging
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from gradience_emit.memory import MIB, clean_up_device_memory

ROOT = Path(__file__).parents[3]
HOST = {"rss_mb", "host_total_mb", "rss_limit_mb"}


class FakeCard:
    """The part of torch.cuda and torch.xpu that a clean-up uses; anything else fails. Sizes in MiB."""

    def __init__(self, *, living: int, cached: int, others: int, total: int = 1000) -> None:
        self.living, self.cached, self.others, self.total = living, cached, others, total
        self.calls: list[str] = []
        self.in_use = True

    def is_available(self) -> bool:
        """There is a card."""
        return True

    def is_initialized(self) -> bool:
        """Whether this process has used it."""
        return self.in_use

    def current_device(self) -> int:
        """The card in use."""
        return 0

    def memory_stats(self) -> dict[str, int]:
        """Bookkeeping of the allocator, in bytes."""
        return {
            "allocated_bytes.all.current": self.living * MIB,
            "allocated_bytes.all.peak": 900 * MIB,
            "reserved_bytes.all.current": (self.living + self.cached) * MIB,
        }

    def get_device_properties(self, index: int) -> Any:
        """The card's size."""
        assert index == 0
        return type("Properties", (), {"total_memory": self.total * MIB})

    def mem_get_info(self) -> tuple[int, int]:
        """Free and total bytes, as the driver sees all processes."""
        return (self.total - self.living - self.cached - self.others) * MIB, self.total * MIB

    def empty_cache(self) -> None:
        """Give back what no tensor lives in."""
        self.calls.append("empty_cache")
        self.cached = 0

    def synchronize(self) -> None:
        """Wait."""
        self.calls.append("synchronize")


class FakeMetal:
    """The part of torch.mps that a clean-up uses."""

    def __init__(self, *, living: int, cached: int) -> None:
        self.living, self.cached = living, cached
        self.calls: list[str] = []

    def current_allocated_memory(self) -> int:
        """Bytes of tensors."""
        return self.living * MIB

    def driver_allocated_memory(self) -> int:
        """Bytes of this process."""
        return (self.living + self.cached) * MIB

    def recommended_max_memory(self) -> int:
        """Bytes that Metal recommends as the most."""
        return 1000 * MIB

    def empty_cache(self) -> None:
        """Give back what no tensor lives in."""
        self.calls.append("empty_cache")
        self.cached = 0

    def synchronize(self) -> None:
        """Wait."""
        self.calls.append("synchronize")


def pretend(monkeypatch: pytest.MonkeyPatch, **backends: Any) -> None:
    """Put a torch of the given backends where an imported one is."""
    answer = type("Mps", (), {"is_available": staticmethod(lambda: "mps" in backends)})
    attributes = {"backends": type("Backends", (), {"mps": answer}), **backends}
    monkeypatch.setitem(sys.modules, "torch", type("Torch", (), attributes))  # type: ignore[arg-type]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What ``gradience_emit`` logs, from INFO upwards."""
    caplog.set_level(logging.INFO, "gradience_emit")
    return caplog


def warnings_in(log: pytest.LogCaptureFixture) -> list[str]:
    """The warnings."""
    return [record.getMessage() for record in log.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("name", ["cuda", "xpu"])
def test_the_cache_is_emptied_and_the_device_waited_for(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, name: str
) -> None:
    """Given a card with 200 MiB in tensors, 150 cached and 100 of others, then 150 are freed and 300 stay in use."""
    card = FakeCard(living=200, cached=150, others=100)
    pretend(monkeypatch, **{name: card})
    figures = clean_up_device_memory()
    assert card.calls == ["empty_cache", "synchronize"]
    assert {key: value for key, value in figures.items() if key not in HOST} == {
        "allocated_mb": 200.0,
        "reserved_mb": 200.0,
        "peak_mb": 900.0,
        "total_mb": 1000.0,
        "used_mb": 300.0,
        "freed_mb": 150.0,
    }
    assert figures.keys() >= {"rss_mb", "host_total_mb"}
    (said,) = (record.getMessage() for record in log.records)
    assert "allocated_mb 200" in said
    assert "freed_mb 150" in said


@pytest.mark.parametrize(("others", "warned"), [(300, False), (301, True)])
def test_more_than_half_in_use_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, others: int, warned: bool
) -> None:
    """Given 200 of 1000 MiB here and others beside, then half in use is no warning, and one MiB more is one."""
    pretend(monkeypatch, cuda=FakeCard(living=200, cached=700, others=others))
    clean_up_device_memory()
    said = warnings_in(log)
    assert len(said) == warned
    if warned:
        assert "501 of the device's 1,000 MiB (50%)" in said[0]
        assert "200 of them in this process, 200 for living tensors" in said[0]


def test_a_silent_driver_leaves_the_reserve_of_this_process(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """Given a driver that does not tell what is free, then what is in use is what torch has reserved here."""

    class Silent(FakeCard):
        def mem_get_info(self) -> tuple[int, int]:
            raise RuntimeError("not supported by this driver")

    pretend(monkeypatch, xpu=Silent(living=600, cached=10, others=300))
    figures = clean_up_device_memory()
    assert (figures["used_mb"], figures["total_mb"]) == (600.0, 1000.0)
    assert len(warnings_in(log)) == 1


@pytest.mark.parametrize(("living", "warned"), [(500, False), (501, True)])
def test_metal_is_cleaned_up_too(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, living: int, warned: bool
) -> None:
    """Given mps, then its cache is emptied, and what stays is held against what Metal recommends."""
    metal = FakeMetal(living=living, cached=300)
    pretend(monkeypatch, mps=metal)
    figures = clean_up_device_memory()
    assert metal.calls == ["empty_cache", "synchronize"]
    assert {key: value for key, value in figures.items() if key not in HOST} == {
        "allocated_mb": living,
        "reserved_mb": living,
        "total_mb": 1000.0,
        "used_mb": living,
        "freed_mb": 300.0,
    }
    assert len(warnings_in(log)) == warned


@pytest.mark.parametrize("method", ["empty_cache", "synchronize", "memory_stats", "is_available"])
def test_a_device_that_fails_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, method: str
) -> None:
    """Given a device in an error state, when cleaned up, then nothing is raised and the host's figures are left."""

    def fail() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    card = FakeCard(living=1, cached=1, others=1)
    setattr(card, method, fail)
    pretend(monkeypatch, cuda=card)
    assert clean_up_device_memory().keys() <= HOST
    assert warnings_in(log) == ["the device's memory could not be cleaned up"]


def test_a_device_that_is_not_in_use_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a card that this process never used, then it is not started for a clean-up."""
    card = FakeCard(living=0, cached=0, others=900)
    card.in_use = False
    pretend(monkeypatch, cuda=card)
    assert clean_up_device_memory().keys() <= HOST
    assert card.calls == []


def test_garbage_is_collected_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a cycle that holds memory, when cleaned up, then it is gone by the time the cache is emptied."""

    class Cycle:
        """Something that refers to itself."""

    cycle = Cycle()
    cycle.self = cycle  # type: ignore[attr-defined]
    alive = weakref.ref(cycle)
    seen: list[Any] = []
    card = FakeCard(living=1, cached=1, others=1)
    card.empty_cache = lambda: seen.append(alive())  # type: ignore[method-assign]
    pretend(monkeypatch, cuda=card)
    gc.disable()
    try:
        del cycle
        assert alive() is not None
        clean_up_device_memory()
    finally:
        gc.enable()
    assert seen == [None]


def test_without_torch_the_host_is_all_there_is() -> None:
    """Given a process without torch, when cleaned up, then torch is still not imported and no device is spoken of."""
    code = (
        "import sys, gradience_emit.memory as m; print(sorted(m.clean_up_device_memory()));"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'schema'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"rss_mb", "host_total_mb"} <= set(ast.literal_eval(done.stdout)) <= HOST
    assert done.stderr == ""


def test_a_real_torch_without_a_device_is_no_fault(log: pytest.LogCaptureFixture) -> None:
    """Given the torch of this machine, when cleaned up, then nothing is warned of unless a device in use is full."""
    import torch

    figures = clean_up_device_memory()
    on_device = torch.cuda.is_initialized() or torch.xpu.is_initialized() or torch.backends.mps.is_available()
    assert ("used_mb" in figures) == on_device
    assert "the device's memory could not be cleaned up" not in warnings_in(log)
