"""Rules about telemetry files, and about what the training code writes into them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from tests.analysis.diagnostics.machine import T0, Records, began, ended, steps
from tests.analysis.records import evaluation, numbered, record
from tests.rules.case import Case, Fixture

V2 = "gradience.vnext.telemetry/v2"


def _file(make: Callable[[], bytes]) -> Fixture:
    """A file of these bytes, monitored."""

    def fixture(folder: Path) -> Collection[Finding]:
        path = folder / "run.jsonl"
        path.write_bytes(make())
        return diagnose(load_run(path, now=T0), DIAGNOSTICS, load_policy()).findings

    return fixture


def _lines(*records: Mapping[str, Any] | bytes) -> bytes:
    """Records and raw lines, each with its newline."""
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in records)


def _whole(*between: Mapping[str, Any] | bytes) -> bytes:
    """A sound run of ten steps with some records before its end."""
    return _lines(began(), *steps(10), *between, ended())


def _numbered(lost: int) -> bytes:
    """A numbered run from the middle of which so many records are gone."""
    rows: Records = numbered([began(), *steps(10), ended()])
    del rows[5 : 5 + lost]
    return _lines(*rows)


def _reads(value: object) -> dict[str, Any]:
    """An evaluation with this value as its loss."""
    return evaluation(10, "val", ts=T0 + 10, loss=value)


CASES: dict[str, Case] = {
    "Q02": Case(_file(lambda: _whole()[:-20]), _file(lambda: _whole() + b"\n")),
    "Q03": Case(_file(lambda: _whole(b'{"schema": "gradience')), _file(lambda: _whole(b""))),
    "Q04": Case(_file(lambda: _numbered(1)), _file(lambda: _numbered(0))),
    "Q05": Case(
        _file(lambda: _whole(record("note", 10, ts=T0 + 10, run_id="run-2"))),
        _file(lambda: _whole(record("note", 10, ts=T0 + 10))),
    ),
    "Q06": Case(
        _file(lambda: _whole(record("prompt", 10, ts=T0 + 10, text="x" * (1 << 20)))),
        _file(lambda: _whole(record("prompt", 10, ts=T0 + 10, text="x" * ((1 << 20) - 200)))),
    ),
    "Q07": Case(_file(lambda: b"\xef\xbb\xbf" + _whole()), _file(lambda: _whole(record("é", 10, ts=T0 + 10)))),
    "V03": Case(_file(lambda: _whole(_reads("1.5"))), _file(lambda: _whole(_reads("1.5 bits")))),
    "V04": Case(_file(lambda: _whole(_reads(1.5), _reads(True))), _file(lambda: _whole(_reads(1.5), _reads(2)))),
    "V05": Case(
        _file(lambda: _whole(record("trian_step", 10, ts=T0 + 10))),
        _file(lambda: _whole(record("trained", 10, ts=T0 + 10))),
    ),
    "V06": Case(
        _file(lambda: _whole({**_reads(1.5), "schema": V2})),
        _file(lambda: _whole({**_reads(1.5), "renamed": {}})),
    ),
    "V07": Case(
        _file(lambda: _whole({**_reads(1.5), "step": 4})),
        _file(lambda: _whole({**_reads(1.5), "step": 10.0})),
    ),
}
