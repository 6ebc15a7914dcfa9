"""Faults of the device, of the clock, and ranks that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.model import Finding
from tests.analysis.diagnostics.machine import (
    T0,
    alert,
    began,
    by_code,
    diagnosed,
    ended,
    findings,
    judged,
    logged,
    step,
    steps,
)
from tests.analysis.records import CONFIG, record, write

FAULTS = {
    "RuntimeError: NVRM: Xid (PCI:0000:3b:00): 63, row remapping": "Xid",
    "RuntimeError: CUDA error: uncorrectable ECC error encountered": "uncorrectable ECC error",
    "RuntimeError: CUDA error: an illegal memory access was encountered": "illegal memory access",
    "RuntimeError: CUDA error: unspecified launch failure": "hardware error",
    "RuntimeError: Unable to determine the device handle for GPU 0: GPU is lost.": "device lost",
    "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error": "NCCL device error",
    "thermal shutdown of GPU 0": "over-temperature",
}
SOUND = (
    "RuntimeError: CUDA error: device-side assert triggered",
    "RuntimeError: Expected all tensors to be on the same device",
    "ValueError: Xidentity is no layer",
)


@pytest.mark.parametrize("text", FAULTS)
def test_each_fault_of_a_device_is_named(tmp_path: Path, text: str) -> None:
    """Given the words for a fault in an end and in an alert, when diagnosed, then each is found and named."""
    in_end = by_code(findings(tmp_path, [began(), *steps(3), ended("error", reason=text)]))
    in_alert = by_code(findings(tmp_path, [began(), *steps(3), alert(3, "fault", trigger=text), ended()]))
    for found in (in_end, in_alert):
        assert FAULTS[text] in found["device_fault"].message


@pytest.mark.parametrize("text", SOUND)
def test_faults_of_code_are_none_of_the_device(tmp_path: Path, text: str) -> None:
    """Given errors of the training code, when diagnosed, then the device is not blamed."""
    assert "device_fault" not in by_code(findings(tmp_path, [began(), *steps(3), ended("error", reason=text)]))


def test_an_alert_that_only_informs_is_no_fault(tmp_path: Path) -> None:
    """Given an info alert that counts no errors, when diagnosed, then nothing is found."""
    row = alert(3, "0 uncorrected ECC errors, no Xid", severity="info")
    assert by_code(findings(tmp_path, [began(), *steps(3), row, ended()])) == {}


@pytest.mark.parametrize(
    ("logs", "found"),
    [
        ([{"xid": 0}, {"xid": 79}], True),
        ([{"xid": []}, {"xid": [13]}], True),
        ([{"ecc_uncorrected_volatile": 0}] * 3, False),
        ([{"ecc_uncorrected_aggregate": 7}] * 3, False),
        ([{"ecc_uncorrected_aggregate": 7}, {"ecc_uncorrected_aggregate": 8}], True),
        ([{"ecc_corrected": 12}] * 3, False),
        ([{"temperature_c": 95.0}], False),
        ([{"temperature_c": 96.0}], True),
        ([{"temperature_c": 97.0, "temperature_limit_c": 105.0}], False),
        ([{"temperature_c": 88.0, "temperature_limit_c": 87.0}], True),
    ],
)
def test_counters_and_temperature(tmp_path: Path, logs: list[dict[str, Any]], found: bool) -> None:
    """Given what a device counts, when diagnosed, then what rose in the run and what is too hot is a fault."""
    rows = [began(), *(logged(at, "device", **values) for at, values in enumerate(logs, 1)), ended()]
    assert ("device_fault" in by_code(findings(tmp_path, rows))) is found


@pytest.mark.parametrize(
    ("seconds", "found"), [(-0.5, False), (-1.9, False), (-2.5, True), (86_300.0, False), (86_500.0, True)]
)
def test_the_clock_may_go_on_and_not_back(tmp_path: Path, seconds: float, found: bool) -> None:
    """Given stamps a second apart that jump, when diagnosed, then more than 1 s back or a day ahead is a finding."""
    rows = [began(), *(step(at, after=at + (seconds if at > 5 else 0.0)) for at in range(1, 11))]
    result = by_code(findings(tmp_path, [*rows, ended(after=11 + max(0.0, seconds))]))
    assert ("clock_jump" in result) is found
    assert not found or result["clock_jump"].places[0].line == 7


def test_an_audit_weeks_later_is_no_jump(tmp_path: Path) -> None:
    """Given an audit long after run_end, and a run resumed after a week, when diagnosed, then the clock is sound."""
    audit = record("metrics", 5, ts=T0 + 1e7, kind="lora_audit", metrics={"n_layers": 2})
    write(tmp_path / "run.jsonl", [began(), *steps(5), ended(after=9), audit])
    later = [record("train_step", at, ts=T0 + 2e7 + at, loss=1.0) for at in range(6, 9)]
    head = record("run_start", ts=T0 + 2e7, config=CONFIG, meta={"segment": 1, "resume_step": 5})
    write(tmp_path / "run.1.jsonl", [head, *later, record("run_end", ts=T0 + 2e7 + 9, status="ok")])
    found = judged(tmp_path).findings
    assert "clock_jump" not in by_code(found)


def test_a_log_without_times_has_no_clock(tmp_path: Path) -> None:
    """Given stamps that are the order of the records, when measured, then the clock is absent with its reason."""
    diagnosis = diagnosed(tmp_path, [began(ts_source="order"), *steps(5), ended()])
    assert diagnosis.measurement("clock_back").value is None
    assert "no times" in diagnosis.measurement("clock_ahead").reason


def with_ranks(folder: Path, files: dict[str, dict[str, Any]], world_size: int | None = 2) -> dict[str, Finding]:
    """Findings about files, each with its meta."""
    config = {**CONFIG, "training": {**CONFIG["training"], "world_size": world_size}}
    for name, meta in files.items():
        write(folder / name, [record("run_start", ts=T0, config=config, meta=meta), *steps(5), ended()])
    return by_code(judged(folder).findings)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"run.jsonl": {}}, False),  # rank telemetry is off
        ({"run.jsonl": {"rank_telemetry": True}}, True),
        ({"run.jsonl": {}, "run.rank1.jsonl": {"rank": 1}}, False),
        ({"run.rank1.jsonl": {"rank": 1}}, True),
        ({"run.jsonl": {}, "run.rank1.jsonl": {"rank": 1}, "run.rank2.jsonl": {"rank": 2}}, True),
        ({"run.jsonl": {}, "run.rank1.jsonl": {"rank": 1}, "run.1.jsonl": {"segment": 1}}, True),
    ],
)
def test_ranks_are_counted_where_they_write(tmp_path: Path, files: dict[str, dict[str, Any]], found: bool) -> None:
    """Given the files of a run of two ranks, when diagnosed, then their number has to be two where ranks write."""
    assert ("ranks_missing" in with_ranks(tmp_path, files)) is found


def test_ranks_of_an_unknown_number_are_not_judged(tmp_path: Path) -> None:
    """Given two rank files and no world size, when diagnosed, then nothing is said, and why."""
    files = {"run.jsonl": {}, "run.rank1.jsonl": {"rank": 1}}
    assert "ranks_missing" not in with_ranks(tmp_path, files, None)


def test_a_world_of_a_billion_costs_nothing(tmp_path: Path) -> None:
    """Given a world size beyond sense, when diagnosed, then a few of the missing ranks are named."""
    found = with_ranks(tmp_path, {"run.jsonl": {}, "run.rank1.jsonl": {"rank": 1}}, 10**12)
    assert len(found["ranks_missing"].evidence["missing"]) == 16
