"""metrics.csv: the cells of a real file against the csv module, and the columns that Lightning's callbacks add."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.importers import find_importer
from tests.analysis.importers.foreign import FOLDER, codes, importer, of, read, series

LOG = FOLDER / "lightning" / "csv_logger" / "metrics.csv"


def cells(column: str) -> list[tuple[int, float]]:
    """(step, value) of a column of the real file, by the csv module."""
    with LOG.open(newline="", encoding="utf-8") as file:
        return [(int(row["step"]), float(row[column])) for row in csv.DictReader(file) if row[column]]


def table(path: Path, *lines: str) -> Path:
    """A metrics.csv with these lines."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def as_text(pairs: list[Any]) -> list[Any]:
    """The pairs in a form in which NaN equals NaN."""
    return [(step, repr(float(value))) for step, value in pairs]


@pytest.mark.parametrize(
    ("column", "name"), [("train_loss_step", "loss"), ("lr-SGD", "lr"), ("samples_seen", "samples_seen")]
)
def test_training_columns_are_those_of_the_file(column: str, name: str) -> None:
    """Given the real file, when it is read, then its training columns are fields of train_step, NaN included."""
    found = series(read(LOG)[0], name)
    assert as_text(found) == as_text(cells(column))
    assert len(found) == 12


def test_rows_of_one_step_are_one_event() -> None:
    """Given rate and loss of a step on rows of their own, when they are read, then one train_step holds both."""
    steps = of(read(LOG)[0], "train_step")
    assert [event.step for event in steps] == list(range(1, 24, 2))
    assert all({"loss", "lr", "epoch"} <= event.payload.keys() for event in steps)
    assert [event.line for event in steps[:3]] == [2, 4, 6]


def test_evaluations_and_epoch_means_stand_apart() -> None:
    """Given validation, test and epoch columns, when read, then they are evals of val and test, and metrics."""
    events, issues = read(LOG)
    evals = [(e.step, e.payload["split"], e.payload["metrics"].get("loss")) for e in of(events, "eval")]
    assert evals == [(s, "val", v) for s, v in cells("val_loss")] + [(s, "test", v) for s, v in cells("test_loss")]
    accuracies = [e.payload["metrics"]["accuracy"] for e in of(events, "eval") if e.payload["split"] == "val"]
    assert accuracies == [value for _, value in cells("val_accuracy")]
    means = [(e.step, e.payload["metrics"]["train_loss_epoch"]) for e in of(events, "metrics")]
    assert as_text(means) == as_text(cells("train_loss_epoch"))
    assert not of(events, "run_end")
    assert not codes(issues)


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("epoch,loss,step", "0,1.5,3", {"epoch": 0, "loss": 1.5}),
        ("loss,step,train_loss", "1.5,3,9.0", {"loss": 1.5, "train_loss": 9.0}),
        ("step,train/loss", "3,1.5", {"loss": 1.5}),
        ("lr,step", "0.1,3", {"lr": 0.1}),
        ("lr-A/pg1,lr-A/pg10,lr-A/pg2,step", "1,10,2,3", {"lr": [1, 2, 10]}),
        ("lr-A,lr-A-momentum,step", "0.1,0.9,3", {"lr": 0.1, "lr-A-momentum": 0.9}),
        ("lr-A,lr-B,step", "0.1,0.2,3", {"lr-A": 0.1, "lr-B": 0.2}),
        ("lr-A/pg1,lr-A/pg2,step", "1,,3", {"lr-A/pg1": 1}),
        ("flag,step", "True,3", {"flag": "True"}),
        ('"a,b",step', "1,3", {"a,b": 1}),
        ("loss,step", "-inf,3", {"loss": -math.inf}),
        ("step,train_loss", "3,oops", {"x_loss": "oops", "renamed": {"/x_loss": "loss"}}),
    ],
)
def test_columns_become_fields(header: str, row: str, expected: dict[str, Any], tmp_path: Path) -> None:
    """Given columns of a kind, when a row is read, then its cells are the fields that they stand for, ints as ints."""
    events, _ = read(table(tmp_path / "metrics.csv", header, row))
    (step,) = of(events, "train_step")
    assert step.step == 3
    assert step.payload == expected
    assert [type(value) for value in step.payload.values()] == [type(value) for value in expected.values()]


def test_several_loaders_are_several_splits(tmp_path: Path) -> None:
    """Given columns of two validation loaders, when they are read, then each loader is a split of its own."""
    header = "step,val_loss/dataloader_idx_0,val_loss/dataloader_idx_1"
    events, _ = read(table(tmp_path / "metrics.csv", header, "3,1.0,2.0"))
    assert [(e.payload["split"], e.payload["metrics"]) for e in of(events, "eval")] == [
        ("val/dataloader_idx_0", {"loss": 1.0}),
        ("val/dataloader_idx_1", {"loss": 2.0}),
    ]


def test_rows_of_a_step_that_fill_a_cell_twice_stay_two(tmp_path: Path) -> None:
    """Given two rows of one step with the same column, when they are read, then neither value is lost."""
    events, _ = read(table(tmp_path / "metrics.csv", "loss,step", "1.0,3", "2.0,3"))
    assert series(events, "loss") == [(3, 1.0), (3, 2.0)]


def test_step_going_back_and_a_second_header(tmp_path: Path) -> None:
    """Given two logs put one after the other, when they are read, then the second is a segment, its header no row."""
    events, issues = read(table(tmp_path / "metrics.csv", "loss,step", "1.0,3", "loss,step", "2.0,1"))
    assert [event.event for event in events] == ["run_start", "train_step", "run_start", "train_step"]
    assert codes(issues) == ["new_segment"]


def test_bad_rows_cost_themselves(tmp_path: Path) -> None:
    """Given rows of the wrong width or not CSV, and a torn end, when read, then each is an issue at its line."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(b'loss,step\r\n1.0,3\r\n1.0\r\n\r\n"x,4\r\n\xff,5\r\n2.0,6\r\n3.0')
    events, issues = read(path)
    assert series(events, "loss") == [(3, 1.0), (6, 2.0)]
    assert [(issue.code, issue.line) for issue in issues if issue.line] == [
        ("wrong_width", 3),
        ("invalid_csv", 5),
        ("invalid_csv", 6),
        ("torn_tail", 8),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.csv", "b,a,step\n"),
        ("metrics.csv", "a,b\n1,2\n"),
        ("metrics.csv", "step\n1\n"),
        ("metrics.txt", "loss,step\n1,2\n"),
        ("metrics.csv", "loss,step"),
    ],
    ids=["not sorted", "no step", "one column", "another name", "no line"],
)
def test_other_tables_are_not_taken(name: str, content: str, tmp_path: Path) -> None:
    """Given a table that CSVLogger would not write, when its importer is looked for, then there is none."""
    path = tmp_path / name
    path.write_text(content)
    assert find_importer(path) is None


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xff\n", b"\x00" * 9])
def test_what_is_no_log_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    """Given a file without a header of it, when it is read as this format, then one sentence says so."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match="does not name a column step"):
        list(importer("lightning-csv").read(path))


def test_a_header_alone_is_a_start_and_a_warning(tmp_path: Path) -> None:
    """Given a log before its first row, when it is read, then there is a run_start, and a word on what is missing."""
    events, issues = read(table(tmp_path / "metrics.csv", "loss,step"))
    assert [event.event for event in events] == ["run_start"]
    assert codes(issues) == ["no_rows"]
