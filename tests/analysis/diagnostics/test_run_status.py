"""How a run ended, and what is said of one that did not: that it goes on, is silent, or has crashed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.model import Finding
from gradience_analysis.telemetry.assemble import load_run
from gradience_emit import origin
from gradience_schema import Severity
from tests.analysis.diagnostics.machine import T0, began, by_code, diagnosed, ended, findings, judged, step, steps
from tests.analysis.records import end, evaluation, start, train, write


@pytest.mark.parametrize(
    ("records", "code", "severity"),
    [
        ([], "no_run_end", Severity.WARNING),
        ([end("error", reason="boom")], "run_error", Severity.ERROR),
        ([end("aborted", reason="early stopping")], "run_aborted", Severity.INFO),
    ],
)
def test_each_way_to_end_has_its_finding(tmp_path: Path, records: list[Any], code: str, severity: Severity) -> None:
    """Given no end, an error, an early stop, when diagnosed, then each has its severity and its reason."""
    path = write(tmp_path / "run.jsonl", [start(), *train([1, 2]), *records])
    (finding,) = judged(path, now=None).findings
    assert (finding.code, finding.severity) == (code, severity)
    assert not records or records[0]["reason"] in finding.message
    assert finding.places[0].line == len(records) + 3


@pytest.mark.parametrize(
    ("gap", "silence", "silent"),
    [(1.0, 599.0, False), (1.0, 601.0, True), (90.0, 899.0, False), (90.0, 901.0, True)],
)
def test_silence_is_held_against_the_pace(tmp_path: Path, gap: float, silence: float, silent: bool) -> None:
    """Given records 1 s and 90 s apart, when read later, then ten minutes or ten gaps are the limit."""
    rows = [began(), *(step(at, after=gap * at) for at in range(1, 21))]
    found = by_code(findings(tmp_path, rows, now=20 * gap + silence))
    assert list(found) == ["run_silent" if silent else "no_run_end"]


def test_the_message_does_not_change_with_the_time_of_reading(tmp_path: Path) -> None:
    """Given a silent run, when read an hour and a year later, then the findings are equal, word for word."""
    rows = [began(), *steps(20)]
    soon, late = (findings(tmp_path, rows, now=seconds) for seconds in (3_600.0, 3.2e7))
    assert soon == late
    assert "2026-01-14 14:13:40 UTC (step 20)" in soon[0].message
    assert "10 min" in soon[0].message


def test_bursts_of_records_do_not_make_the_pace(tmp_path: Path) -> None:
    """Given steps half an hour apart with three records each, when read an hour later, then it is not silent."""
    rows = [began()]
    for at in range(1, 8):
        rows += [step(at, after=1_800.0 * at), *(evaluated(at, 1_800.0 * at + 0.1 * n) for n in range(3))]
    assert list(by_code(findings(tmp_path, rows, now=7 * 1_800.0 + 3_600.0))) == ["no_run_end"]


def evaluated(number: int, after: float) -> dict[str, Any]:
    """An evaluation at a time."""
    return evaluation(number, "val", ts=T0 + after, loss=1.0)


def test_a_pause_that_the_run_makes_again_and_again_is_no_silence(tmp_path: Path) -> None:
    """Given an evaluation of 20 minutes every ten steps, when read 30 minutes into one, then it is not silent."""
    rows: list[Any] = [began()]
    rows += [step(at, after=at + 1_200.0 * (at // 10)) for at in range(1, 40)]
    last = 39 + 1_200.0 * 3
    assert list(by_code(findings(tmp_path, rows, now=last + 1_800.0))) == ["no_run_end"]
    assert list(by_code(findings(tmp_path, rows, now=last + 2_500.0))) == ["run_silent"]


@pytest.mark.parametrize(("silence", "code"), [(3_500.0, "no_run_end"), (3_700.0, "run_silent")])
def test_a_run_without_a_pace_has_an_hour(tmp_path: Path, silence: float, code: str) -> None:
    """Given a run that has only begun, when nothing follows, then an hour is the limit."""
    finding = by_code(findings(tmp_path, [began(), step(1)], now=1 + silence))[code]
    assert code == "no_run_end" or finding.confidence < 0.8


def test_stamps_of_another_clock_say_nothing_about_silence(tmp_path: Path) -> None:
    """Given stamps that count from 0, when read by the clock, then silence is not measured, with what to log."""
    run = load_run(write(tmp_path / "run.jsonl", [start(), *train([1, 2])]))
    assert run.read_at is None
    silence = judged(tmp_path, now=None).measurement("silence")
    assert silence.value is None
    assert "Unix seconds" in silence.reason


def test_the_log_of_another_tool_is_never_silent(tmp_path: Path) -> None:
    """Given an imported log with old times and no end, when diagnosed, then it is not called silent."""
    rows = [began(source_format="llama_factory", ts_source="file"), *steps(20)]
    assert list(by_code(findings(tmp_path, rows, now=1e6))) == ["no_run_end"]


def test_other_ranks_break_the_silence(tmp_path: Path) -> None:
    """Given rank 0 silent and rank 1 writing, when read, then the run is not silent."""
    write(tmp_path / "run.rank1.jsonl", [began(rank=1), *steps(2_000, 100)])
    write(tmp_path / "run.jsonl", [began(), *steps(20)])
    found = judged(tmp_path, now=2_001.0).findings
    assert "run_silent" not in {finding.code for finding in found}


def test_a_run_that_ended_is_neither_silent_nor_crashed(tmp_path: Path) -> None:
    """Given a run_end and a process that is gone, when read a year later, then there is no finding."""
    diagnosis = diagnosed(tmp_path, [began(**gone()), *steps(20), ended()], now=3e7)
    assert diagnosis.findings == ()
    assert not {"silence", "writer"} & {item.name for item in diagnosis.measurements}


def gone() -> dict[str, Any]:
    """The meta of a process of this machine before its last start."""
    return {**origin.machine(), **origin.process(), "boot_id": "sha256:000000000000"}


WRITER = """
import sys, time
from gradience_emit import TelemetryWriter
writer = TelemetryWriter(sys.argv[1])
writer.run_start({"model_name": "m"})
for step in range(1, 6):
    writer.train_step(step, loss=1.0)
print("written", flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_process_is_a_crash_and_a_living_one_is_not(tmp_path: Path) -> None:
    """Given a real process that writes and is killed, when read before and after, then only then has it crashed."""
    path = tmp_path / "run.jsonl"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=environment) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"written\n"
            while_it_writes = said(path)
            child.kill()
            # Not waited for yet: a zombie has the number still, and writes no more.
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            as_zombie = said(path)
        finally:
            child.kill()
    after = said(path)
    assert (while_it_writes.code, while_it_writes.severity) == ("no_run_end", Severity.INFO)
    assert (as_zombie.code, after.code, after.severity) == ("run_crashed", "run_crashed", Severity.ERROR)
    assert "after step 5" in after.message
    assert after.rule == "P05"


def said(path: Path) -> Finding:
    """The one finding about a file."""
    (finding,) = judged(path, now=None).findings
    return finding


def test_a_crash_is_not_called_silent_too(tmp_path: Path) -> None:
    """Given a process that is gone for a year, when read, then the crash is all that is said."""
    (finding,) = findings(tmp_path, [began(**gone()), *steps(20)], now=3e7)
    assert (finding.code, finding.severity) == ("run_crashed", Severity.ERROR)
