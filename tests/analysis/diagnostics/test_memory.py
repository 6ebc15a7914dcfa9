"""Memory near its limit, growing, or reserved and unused; and the shapes that healthy runs have."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.diagnostics.machine import began, by_code, diagnosed, ended, findings, logged, step


def run_with(values: Callable[[int], dict[str, Any]], last: int = 600, every: int = 20) -> list[Any]:
    """A run that logs its memory."""
    rows: list[Any] = [began()]
    for number in range(every, last + 1, every):
        rows += [step(number), logged(number, "memory", **values(number))]
    return [*rows, ended()]


def growth(folder: Path, size: Callable[[int], float], *, key: str = "rss_mb", last: int = 1_200) -> set[str]:
    """Codes of the findings about a run whose memory has this size at each step."""
    return set(by_code(findings(folder, run_with(lambda at: {key: size(at)}, last=last))))


HEALTHY: dict[str, Callable[[int], float]] = {
    "flat": lambda at: 478.0 + 0.2 * (at % 40 > 10),
    "grows at the start": lambda at: 478.0 + 300.0 * min(1.0, at / 200),
    "a cache that fills": lambda at: 478.0 + 200.0 * (1 - math.exp(-at / 100)),
    "one step up late": lambda at: 478.0 + (120.0 if at > 700 else 0.0),
    "sawtooth": lambda at: 478.0 + 2.0 * (at % 200),
    "falls": lambda at: 900.0 - 0.3 * at,
}


@pytest.mark.parametrize("shape", HEALTHY)
@pytest.mark.parametrize("key", ["rss_mb", "allocated_mb"])
def test_healthy_shapes_do_not_grow(tmp_path: Path, shape: str, key: str) -> None:
    """Given memory that is flat, fills at the start, steps or swings, when diagnosed, then it is not growing."""
    assert growth(tmp_path, HEALTHY[shape], key=key) == set()


@pytest.mark.parametrize(("per_100", "found"), [(4.0, False), (10.0, True), (40.0, True)])
def test_a_leak_of_the_process_is_found(tmp_path: Path, per_100: float, found: bool) -> None:
    """Given a resident set of 478 MiB that grows by 0.8%, 2% and 8% per 100 steps, when diagnosed, then above 1% is."""
    assert ("memory_growing" in growth(tmp_path, lambda at: 478.0 + per_100 * at / 100)) is found


@pytest.mark.parametrize(("last", "found"), [(300, False), (500, True)])
def test_a_short_run_is_not_called_a_leak(tmp_path: Path, last: int, found: bool) -> None:
    """Given the same slope over 240 and over 400 steps after the start, when diagnosed, then only the longer is."""
    assert ("memory_growing" in growth(tmp_path, lambda at: 478.0 + 0.2 * at, last=last)) is found


def test_few_logs_are_not_measured(tmp_path: Path) -> None:
    """Given a log every 200 steps, when measured, then growth is absent with its reason."""
    diagnosis = diagnosed(tmp_path, run_with(lambda at: {"rss_mb": 400.0 + at}, last=1_200, every=200))
    item = diagnosis.measurement("host_memory_growth")
    assert item.value is None
    assert "rss_mb" in item.reason


def test_a_resumed_process_is_no_growth(tmp_path: Path) -> None:
    """Given a second process of the same run that takes more memory, when diagnosed, then neither has grown."""
    first = run_with(lambda _: {"rss_mb": 400.0})[:-1]
    second = run_with(lambda _: {"rss_mb": 900.0})
    assert "memory_growing" not in by_code(findings(tmp_path, [*first, *second]))


@pytest.mark.parametrize(("peaks", "found"), [((0.96, 0.96), False), ((0.96, 0.96, 0.97), True), ((0.95,) * 9, False)])
def test_three_logs_near_the_limit(tmp_path: Path, peaks: tuple[float, ...], found: bool) -> None:
    """Given peaks around 95% in two, three and many logs, when diagnosed, then three above it are a finding."""
    rows = run_with(lambda at: {"peak_mb": 8e4 * peaks[at // 20 - 1], "total_mb": 8e4}, last=20 * len(peaks))
    result = by_code(findings(tmp_path, rows))
    assert ("memory_near_limit" in result) is found
    assert not found or len(result["memory_near_limit"].places) == 3


def test_what_lies_between_two_steps_is_no_fragmentation(tmp_path: Path) -> None:
    """Given 10 GiB between steps, a peak of 60 and 62 reserved of 80, when diagnosed, then nothing is said."""
    values = {"allocated_mb": 10_240.0, "peak_mb": 61_440.0, "reserved_mb": 63_488.0, "total_mb": 81_920.0}
    assert by_code(findings(tmp_path, run_with(lambda _: values))) == {}


def test_without_a_peak_the_allocated_memory_counts_and_is_doubted(tmp_path: Path) -> None:
    """Given no peak, when half of the device is reserved above what is allocated, then it is said with a caveat."""
    values = {"allocated_mb": 10_240.0, "reserved_mb": 51_200.0, "total_mb": 81_920.0}
    finding = by_code(findings(tmp_path, run_with(lambda _: values)))["memory_fragmented"]
    assert "no peak" in finding.caveat
    assert finding.confidence < 0.5


@pytest.mark.parametrize("total", [0.0, -1.0, None, "80 GB"])
def test_a_total_that_is_none_gives_no_share(tmp_path: Path, total: object) -> None:
    """Given a total of zero, below it, absent or a text, when measured, then the shares are absent."""
    diagnosis = diagnosed(tmp_path, run_with(lambda _: {"peak_mb": 7e4, "reserved_mb": 8e4, "total_mb": total}))
    assert diagnosis.measurement("memory_peak_share").value is None
    assert diagnosis.measurement("memory_unused_share").value is None


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"rss_mb": 9_100.0, "rss_limit_mb": 10_000.0, "host_total_mb": 64_000.0}, True),
        ({"rss_mb": 8_900.0, "rss_limit_mb": 10_000.0, "host_total_mb": 64_000.0}, False),
        ({"rss_mb": 9_100.0, "host_total_mb": 10_000.0}, True),
        ({"rss_mb": 9_100.0, "rss_limit_mb": 0}, False),
        ({"rss_mb": 9_100.0}, False),
    ],
)
def test_the_smallest_limit_of_the_host_counts(tmp_path: Path, values: dict[str, float], found: bool) -> None:
    """Given the container's and the host's limit, when the process nears the smaller one, then it is a finding."""
    assert ("host_memory_high" in by_code(findings(tmp_path, run_with(lambda _: values)))) is found


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("RuntimeError: DataLoader worker (pid 4711) is killed by signal: Killed.", True),
        ("RuntimeError: DataLoader worker (pid(s) 1, 2) exited unexpectedly", True),
        ("BrokenProcessPool: A process in the process pool was terminated abruptly", True),
        ("RuntimeError: unable to write: out of shared memory", True),
        ("ValueError: num_workers must be positive", False),
    ],
)
def test_a_dead_worker_is_told(tmp_path: Path, reason: str, found: bool) -> None:
    """Given an end that tells of a dead worker, when diagnosed, then that stands beside the error."""
    result = by_code(findings(tmp_path, [began(), step(1), ended("error", reason=reason)]))
    assert "run_error" in result
    assert ("host_memory_high" in result) is found
