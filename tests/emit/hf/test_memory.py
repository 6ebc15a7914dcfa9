"""Memory readings, held against what the system and torch say themselves."""

from __future__ import annotations

import ast
import builtins
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradience_emit import memory
from gradience_emit.memory import MIB, read_memory

ROOT = Path(__file__).parents[3]


def test_the_resident_set_is_that_of_the_system() -> None:
    """Given this process, when memory is read, then rss is the VmRSS line of /proc within a few MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    assert read_memory()["rss_mb"] == pytest.approx(int(line.split()[1]) / 1024, abs=8.0)


def test_without_proc_the_peak_has_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given no /proc, when memory is read, then the peak that is left is not passed off as the current value."""

    def refuse(_path: Path) -> bytes:
        raise OSError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    reading = read_memory()
    assert "rss_mb" not in reading
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reading["rss_peak_mb"] == pytest.approx(peak / 1024, rel=0.05)


def test_neither_proc_nor_resource_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a system with neither, when memory is read, then nothing is invented."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "resource":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert memory._resident_peak() == {}


def test_torch_is_not_imported_for_it() -> None:
    """Given a process without torch, when memory is read, then torch is still not imported."""
    code = "import sys, gradience_emit.memory as m; print(sorted(m.read_memory())); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'schema'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        {"host_total_mb", "rss_mb"} <= set(ast.literal_eval(done.stdout)) <= {"host_total_mb", "rss_limit_mb", "rss_mb"}
    )


@pytest.fixture
def fresh_limits() -> Iterator[None]:
    """Limits are read once a process; here they are read anew."""
    memory._host_limits.cache_clear()
    yield
    memory._host_limits.cache_clear()


@pytest.mark.usefixtures("fresh_limits")
def test_the_host_is_as_large_as_the_system_says() -> None:
    """Given this machine, when limits are read, then its memory is the MemTotal line of /proc."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert memory._host_limits()["host_total_mb"] == pytest.approx(int(line.split()[1]) / 1024, rel=0.01)


@pytest.mark.usefixtures("fresh_limits")
@pytest.mark.parametrize(
    ("groups", "file", "text", "expected"),
    [
        ("0::/a/b\n", "a/memory.max", "104857600", 100.0),
        ("0::/a/b\n", "a/b/memory.max", "max", None),
        ("5:cpu:/x\n4:memory,hugetlb:/a\n", "memory/a/memory.limit_in_bytes", "52428800", 50.0),
        ("4:memory:/a\n", "memory/a/memory.limit_in_bytes", "9223372036854771712", None),
        ("0::/\n", "elsewhere", "1", None),
    ],
)
def test_the_limit_is_that_of_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, file: str, text: str, expected: float | None
) -> None:
    """Given control groups of version 2 or 1, when read, then the real limit is there, or none."""
    (tmp_path / "own").write_text(groups)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    assert memory._host_limits().get("rss_limit_mb") == expected


class FakeCuda:
    """The part of torch.cuda that a reading uses; anything else fails."""

    @staticmethod
    def is_available() -> bool:
        """There is a card."""
        return True

    @staticmethod
    def is_initialized() -> bool:
        """It is in use."""
        return True

    @staticmethod
    def current_device() -> int:
        """The card in use."""
        return 1

    @staticmethod
    def memory_stats() -> dict[str, int]:
        """Sizes in bytes."""
        return {
            "allocated_bytes.all.current": 3 * MIB,
            "allocated_bytes.all.peak": 5 * MIB,
            "reserved_bytes.all.current": 8 * MIB,
        }

    @staticmethod
    def get_device_properties(index: int) -> Any:
        """The card's size."""
        assert index == 1
        return type("Properties", (), {"total_memory": 80 * 1024 * MIB})


def test_device_figures_are_in_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a card's allocator figures in bytes, when memory is read, then they are in MiB under their names."""
    monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": FakeCuda}))  # type: ignore[arg-type]
    assert memory._device_memory() == {
        "allocated_mb": 3.0,
        "reserved_mb": 8.0,
        "peak_mb": 5.0,
        "total_mb": 81920.0,
    }
