"""Tables hold what `json` reads in the file, to the last bit, and order it as `load_run` does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_analysis.errors import NoTelemetryError
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.layout import SCHEMAS
from gradience_analysis.tables.read_file import TableBuilder, read_file
from gradience_analysis.tables.segments import analysis_view
from gradience_analysis.telemetry.assemble import load_run

SCHEMA = "gradience.vnext.telemetry/v1"
ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "data" / "reference_runs"
RUNS = sorted(ROOT.glob("fixtures/runs/*/*.jsonl"))


def record(event: str, step: int | None, seq: int, **fields: Any) -> dict[str, Any]:
    """A record as an emitter writes it."""
    return {"schema": SCHEMA, "ts": 1.7e9 + seq, "run_id": "r", "event": event, "step": step, "seq": seq, **fields}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """The records as a telemetry file."""
    path.write_text("".join(json.dumps(item) + "\n" for item in records), encoding="utf-8")
    return path


def restored(item: dict[str, Any]) -> dict[str, Any]:
    """The record with the marks of `nonfinite` put back at the top level."""
    for pointer, mark in item.get("nonfinite", {}).items():
        if pointer.count("/") == 1:
            item[pointer[1:]] = float(mark)
    return item


def same(one: Any, other: Any) -> bool:
    """Equal in type and in bits; NaN equals NaN."""
    return type(one) is type(other) and (one == other or (one != one and other != other))


def scalars(item: dict[str, Any]) -> dict[str, Any]:
    """The scalar payload fields that are not null."""
    envelope = {"schema", "ts", "run_id", "event", "step", "seq", "nonfinite", "dropped_events", "telemetry_faults"}
    return {k: v for k, v in item.items() if k not in envelope and v is not None and not isinstance(v, dict | list)}


FLOATS = {"loss", "lr", "grad_norm", "epoch"}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_steps_of_real_runs_equal_json(path: Path) -> None:
    """Given a real run, when read, then each step has exactly the values that `json` reads, and no others."""
    records = [restored(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    wanted = [item for item in records if item["event"] == "train_step"]
    rows = read_file(path).steps.to_pylist()
    assert [row["step"] for row in rows] == [item["step"] for item in wanted]
    for row, item in zip(rows, wanted, strict=True):
        assert same(row["ts"], float(item["ts"]))
        values = {
            name: value for name, value in row.items() if value is not None and name not in SCHEMAS["evals"].names
        }
        expected = {k: float(v) if k in FLOATS else v for k, v in scalars(item).items()}
        assert values.keys() == expected.keys()
        assert all(float(values[name]) == float(expected[name]) or values[name] != values[name] for name in expected)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference runs are not here")
def test_evaluations_of_the_reference_runs_equal_json() -> None:
    """Given the reference runs, when read, then each metric of each evaluation has the value that `json` reads."""
    for path in sorted(REFERENCE.glob("*.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if "schema" not in records[0]:
            continue
        wanted = [
            (item["step"], name, value)
            for item in records
            if item["event"] == "eval"
            for name, value in item["metrics"].items()
        ]
        rows = read_file(path).evals.to_pylist()
        assert [(row["step"], row["metric"]) for row in rows] == [(step, name) for step, name, _ in wanted]
        for row, (_, _, value) in zip(rows, wanted, strict=True):
            got = row["value"] if row["type"] in {"number", "integer"} else json.loads(row["text"])
            assert got == value
            assert row["type"] != "integer" or isinstance(value, int)


def test_layout_is_kept() -> None:
    """Given files with every kind of record, when read, then each table has its columns and types, and joins itself."""
    for path in RUNS:
        tables = read_file(path, bad_lines=True)
        twice = Tables.concat([tables, tables])
        for name, schema in SCHEMAS.items():
            for table, times in ((getattr(tables, name), 1), (getattr(twice, name), 2)):
                assert table.schema.names[: len(schema)] == schema.names
                assert [field.type for field in table.schema][: len(schema)] == [field.type for field in schema]
                assert table.num_rows == getattr(tables, name).num_rows * times
    assert Tables.concat([]).steps.schema.equals(SCHEMAS["steps"])


def test_files_read_together_are_those_read_apart() -> None:
    """Given many files of several kinds, when read into one builder, then the tables are those of each, joined."""
    paths = sorted([*ROOT.glob("fixtures/*/*/*.jsonl"), *ROOT.glob("fixtures/foreign/**/*.json*")])
    assert len(paths) > 30
    builder = TableBuilder(bad_lines=True)
    for path in paths:
        builder.add(path)
    together = builder.tables()
    apart = Tables.concat([read_file(path, bad_lines=True) for path in paths])
    for name in SCHEMAS:
        one, other = getattr(together, name), getattr(apart, name)
        assert one.schema.equals(other.schema), name
        assert one.to_pylist() == other.to_pylist() or repr(one.to_pylist()) == repr(other.to_pylist()), name


def test_a_file_without_an_event_adds_nothing(tmp_path: Path) -> None:
    """Given a file of bad lines, when added to a builder that needs events, then it is refused, with the reason."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text("oops\n")
    builder = TableBuilder(bad_lines=True)
    with pytest.raises(NoTelemetryError, match=r"line 1: is not JSON"):
        builder.add(bad, needs_events=True)
    assert builder.tables().files.num_rows == 0


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["1.5", "warm", "", "NaN"])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["x", "y", "line", "x__text", "a/b"]), SCALARS), max_size=25),
    cut=st.integers(0, 25),
)
def test_no_value_is_changed_in_any_column(tmp_path: Path, rows: list[dict[str, Any]], cut: int) -> None:
    """Given any scalars under any names, when read and joined, then each is in its column exactly, or text by it."""
    halves = []
    for name, part in (("one.jsonl", rows[:cut]), ("two.jsonl", rows[cut:])):
        records = [record("train_step", step, step, **fields) for step, fields in enumerate(part)]
        halves.append(read_file(write(tmp_path / name, records)))
    table = Tables.concat(halves).steps
    assert table.num_rows == len(rows)
    for row, fields in zip(table.to_pylist(), rows, strict=True):
        for name, value in fields.items():
            column = f"x_{name}" if name in {"line", "x__text"} else name
            held, text = row[column], row.get(f"{column}__text")
            if held is None:
                assert text == (value if value is None or isinstance(value, str) else json.dumps(value))
            else:
                assert isinstance(held, bool) == isinstance(value, bool)
                assert isinstance(held, str) == isinstance(value, str)
                assert held == value


@pytest.mark.parametrize("name", ["resumed", "healthy", "nan_batch", "raised", "stopped_early"])
def test_the_analysis_view_is_that_of_load_run(name: str) -> None:
    """Given real runs, one of them resumed, when segments are put in order, then the rows are those of `load_run`."""
    folder = ROOT / "fixtures" / "runs" / name
    run = load_run(folder)
    tables = [read_file(path) for path in sorted(folder.glob("*.jsonl"), reverse=True)]
    view = analysis_view(Tables.concat(tables))
    steps = [(event.step, event.ts) for event in run.of("train_step")]
    assert list(zip(view.steps["step"].to_pylist(), view.steps["ts"].to_pylist(), strict=True)) == steps
    evals = [(event.step, metric) for event in run.of("eval") for metric in event.payload["metrics"]]
    assert list(zip(view.evals["step"].to_pylist(), view.evals["metric"].to_pylist(), strict=True)) == evals
    assert set(view.steps["segment"].to_pylist()) <= {segment.index for segment in run.segments}


def test_a_file_that_was_appended_to_is_split(tmp_path: Path) -> None:
    """Given a file in which the run starts again at an earlier step, when viewed, then the later steps win."""
    first = [record("run_start", None, 0, config={}), *(record("train_step", s, s, loss=1.0) for s in range(1, 11))]
    again = [record("run_start", None, 0, config={}), *(record("train_step", s, s, loss=2.0) for s in range(6, 15))]
    for number, item in enumerate(again):
        item["ts"] += 100 + number
    path = write(tmp_path / "run.jsonl", [*first, *again])
    tables = read_file(path)
    assert tables.parts["part"].to_pylist() == [0, 1]
    view = analysis_view(tables).steps
    assert view["step"].to_pylist() == list(range(1, 15))
    assert view["loss"].to_pylist() == [1.0] * 5 + [2.0] * 9
    assert load_run(path).steps["loss"].tolist() == view["loss"].to_pylist()


def test_text_of_more_than_one_array_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more text than an Arrow array may hold, when read, then it stands in several, each row with its own."""
    monkeypatch.setattr("gradience_analysis.tables.steps._PIECE_BYTES", 40)
    records = [record("train_step", step, step, loss=1.0) | {"run_id": f"r{step // 7}"} for step in range(100)]
    path = write(tmp_path / "run.jsonl", records)
    steps = read_file(path).steps
    assert steps["run_id"].to_pylist() == [item["run_id"] for item in records]
    assert steps["path"].to_pylist() == [str(path)] * 100
    assert steps["run_id"].num_chunks > 3


def test_every_bad_line_is_kept(tmp_path: Path) -> None:
    """Given a file with damaged lines, when read for the store, then bytes and place of each are in the side table."""
    good = [json.dumps(record("train_step", s, s, loss=1.0)).encode() for s in range(300)]
    bad = {3: b"{torn", 4: b"\xff\xfe", 150: b'{"schema": "x"}', 299: b"[1]"}
    lines = [bad.get(place, line) for place, line in enumerate(good)]
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    tables = read_file(path, bad_lines=True)
    assert tables.bad_lines["line"].to_pylist() == [place + 1 for place in bad]
    assert tables.bad_lines["data"].to_pylist() == list(bad.values())
    offsets = tables.bad_lines["byte_offset"].to_pylist()
    assert offsets == [sum(len(line) + 1 for line in lines[:place]) for place in bad]
    assert tables.files["rejected"].to_pylist() == [4]
    assert tables.steps.num_rows == 296


def test_nonfinite_values_are_restored_and_null_stays_null(tmp_path: Path) -> None:
    """Given a NaN, an infinity and a missing value, when read, then each is itself in the column."""
    records = [
        record("train_step", 1, 0, loss=None, nonfinite={"/loss": "nan"}),
        record("train_step", 2, 1, loss=None, nonfinite={"/loss": "-inf"}),
        record("train_step", 3, 2, lr=[1e-4, 1e-3]),
        record("train_step", 4, 3, loss=0.5, lr=2e-4),
    ]
    steps = read_file(write(tmp_path / "run.jsonl", records)).steps
    losses = steps["loss"].to_pylist()
    assert math.isnan(losses[0])
    assert losses[1:] == [-math.inf, None, 0.5]
    assert steps["lr"].to_pylist() == [None, None, 1e-4, 2e-4]
    assert steps["lr_1"].to_pylist() == [None, None, 1e-3, None]
