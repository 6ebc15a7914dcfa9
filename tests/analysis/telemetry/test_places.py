"""Where the records of a curve stand, in runs of one file and of several."""

from __future__ import annotations

from pathlib import Path

from gradience_analysis.model import Place
from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.places import evaluation_places, train_step_places
from tests.analysis.records import evaluation, record, start, train, write


def test_steps_have_file_and_line(tmp_path: Path) -> None:
    """Given steps, one of them twice and one that was not logged, when placed, then each is there once, in order."""
    path = write(tmp_path / "run.jsonl", [start(), record("train_step", 5, lr=0.1), *train([5, 6, 7])])
    places = train_step_places(load_run(path), [7, 5, 7, 9])
    assert places == (Place(7, str(path), 5), Place(5, str(path), 3), Place(9))


def test_steps_of_a_resumed_run_stand_where_the_later_segment_has_them(tmp_path: Path) -> None:
    """Given a step that was trained twice, when placed, then it is the record that counts."""
    write(tmp_path / "run.jsonl", [start(), *train([1, 2, 3])])
    write(tmp_path / "run.1.jsonl", [start(ts=50.0, segment=1, resume_step=2), *train([3, 4], ts=51.0)])
    places = train_step_places(load_run(tmp_path), [2, 3])
    assert [(place.step, Path(place.path).name, place.line) for place in places] == [
        (2, "run.jsonl", 3),
        (3, "run.1.jsonl", 2),
    ]


def test_evaluations_are_those_of_their_split(tmp_path: Path) -> None:
    """Given evaluations of two splits under the usual names, when placed, then those of the canonical one are found."""
    rows = [
        start(),
        evaluation(5, "train", loss=1.0),
        evaluation(5, "eval", loss=1.0),
        evaluation(None, "eval", loss=1),
    ]
    path = write(tmp_path / "run.jsonl", rows)
    assert evaluation_places(load_run(path), "val", [5, None]) == (Place(5, str(path), 3),)
