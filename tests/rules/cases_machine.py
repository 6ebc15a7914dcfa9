"""Rules about the machine and its processes: runs near each limit, on both of its sides."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_emit import origin
from tests.analysis.diagnostics.machine import T0, Records, alert, began, ended, findings, logged, step, steps
from tests.analysis.records import CONFIG, record, write
from tests.rules.case import Case, Fixture


def _run(make: Callable[[], Records], *, now: float = 0.0) -> Fixture:
    """A file of these records, monitored `now` seconds after its first."""
    return lambda folder: findings(folder, make(), now=now)


def _memory(values: Callable[[int], dict[str, Any]], last: int = 600, every: int = 20) -> Records:
    """A run that logs its memory."""
    rows: Records = [began()]
    for number in range(every, last + 1, every):
        rows += [step(number), logged(number, "memory", **values(number))]
    return [*rows, ended()]


def _near_limit(logs: int) -> Records:
    """A peak of 96% of the device in so many logs, of 94% before."""
    return _memory(lambda at: {"peak_mb": 0.96e5 if at > 200 - 20 * logs else 0.94e5, "total_mb": 1e5}, last=200)


def _growing(per_100: float, last: int) -> Records:
    """Memory that grows by so many MiB per 100 steps above 1,000 MiB."""
    return _memory(lambda at: {"allocated_mb": 1_000.0 + per_100 * at / 100}, last=last)


def _fragmented(reserved: float) -> Records:
    """Memory that is reserved above a peak of 40 of 100 GiB; what is allocated between steps is far less."""
    return _memory(lambda _: {"allocated_mb": 1e4, "peak_mb": 4e4, "reserved_mb": reserved, "total_mb": 1e5})


def _loss_scale(lowest: float) -> Records:
    """A loss scale that is halved again and again."""
    return [began(), *(step(at, loss_scale=max(lowest, 65_536.0 / 2**at)) for at in range(1, 40)), ended()]


def _slower(factor: float) -> Records:
    """Steps of a second that take that many times as long in the second half of 400."""
    rows: Records = [began()]
    for number in range(10, 401, 10):
        rows += [step(number), logged(number, "throughput", step_s=factor if number > 200 else 1.0)]
    return [*rows, ended()]


def _silent() -> Records:
    """A run that wrote every ten seconds for twenty minutes, and then no more."""
    return [began(), *(step(at, after=10.0 * at) for at in range(1, 121))]


def _of_a_process(**meta: Any) -> Fixture:
    """A run without an end, written by the process that `meta` names."""
    return lambda folder: findings(folder, [began(**meta), *steps(5)], now=6.0)


def _here() -> dict[str, Any]:
    return {**origin.machine(), **origin.process()}


def _other_boot(folder: Path) -> Collection[Finding]:
    return _of_a_process(**{**_here(), "boot_id": "sha256:000000000000"})(folder)


def _alive(folder: Path) -> Collection[Finding]:
    return _of_a_process(**_here())(folder)


def _ranks(present: tuple[int, ...]) -> Fixture:
    """Files of these ranks of a run that has four."""
    config = {**CONFIG, "training": {**CONFIG["training"], "world_size": 4}}

    def fixture(folder: Path) -> Collection[Finding]:
        for rank in present:
            head = record("run_start", ts=T0, config=config, meta={"rank": rank} if rank else {})
            name = "run.jsonl" if rank == 0 else f"run.rank{rank}.jsonl"
            write(folder / name, [head, *steps(5), ended(after=6.0)])
        return diagnose(load_run(folder, now=T0), DIAGNOSTICS, load_policy()).findings

    return fixture


def _jump(seconds: float) -> Records:
    """Stamps that jump by so many seconds after step 5."""
    return [began(), *(step(at, after=at + (seconds if at > 5 else 0.0)) for at in range(1, 11))]


def _rss(share: float) -> Records:
    """A process that takes this share of its container's memory."""
    return _memory(lambda _: {"rss_mb": 1e4 * share, "rss_limit_mb": 1e4, "host_total_mb": 1e5}, last=100)


OOM = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
WITHOUT_MEMORY = "RuntimeError: the memory of the dialogue is out of sync"

CASES: dict[str, Case] = {
    "G03": Case(_run(lambda: _near_limit(3)), _run(lambda: _near_limit(2))),
    "G04": Case(_run(lambda: _growing(15.0, 600)), _run(lambda: _growing(9.0, 600))),
    "G05": Case(
        _run(lambda: [began(), *steps(5), ended("error", reason=OOM)]),
        _run(lambda: [began(), *steps(5), ended("error", reason=WITHOUT_MEMORY)]),
    ),
    "G06": Case(_run(lambda: _loss_scale(1.0)), _run(lambda: _loss_scale(2.0))),
    "G08": Case(_run(lambda: _fragmented(7.1e4)), _run(lambda: _fragmented(6.9e4))),
    "G09": Case(_run(lambda: _slower(1.6)), _run(lambda: _slower(1.4))),
    "G10": Case(
        _run(lambda: [began(), *steps(5), alert(5, "NVRM: Xid 79: GPU has fallen off the bus"), ended("error")]),
        _run(lambda: [began(), *steps(5), logged(5, "device", ecc_uncorrected=0, temperature_c=94.0), ended()]),
    ),
    "P04": Case(_run(_silent, now=1_200.0 + 601.0), _run(_silent, now=1_200.0 + 599.0)),
    "P05": Case(_other_boot, _alive),
    "P07": Case(_ranks((0, 1, 3)), _ranks((0, 1, 2, 3))),
    "P08": Case(_run(lambda: [*_jump(-3.0), ended()]), _run(lambda: [*_jump(23 * 3600.0), ended(after=1e5)])),
    "P10": Case(_run(lambda: _rss(0.91)), _run(lambda: _rss(0.89))),
}
