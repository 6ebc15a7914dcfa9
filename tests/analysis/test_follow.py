"""Following a run: every whole line once, across segments, torn lines and replaced files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.errors import InputError
from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.follow import Follower
from tests.analysis.records import end, healthy_run, lines, numbered, start, train, write


def append(path: Path, data: bytes) -> None:
    """Bytes at the end of a file, as a writer adds them."""
    with path.open("ab") as file:
        file.write(data)


def test_a_run_is_followed_to_its_end(tmp_path: Path) -> None:
    """Given a file that grows, when polled after each record, then each event comes once, and the run is the same."""
    path = tmp_path / "run.jsonl"
    records = healthy_run()
    path.touch()
    follower = Follower(tmp_path)
    assert follower.run() is None
    seen: list[Any] = []
    for line in lines(records):
        append(path, line + b"\n")
        seen += follower.poll()
        assert follower.poll() == []
    run = follower.run()
    assert run is not None
    assert len(seen) == len(records)
    assert run.events == load_run(path).events
    assert run.status == "ok"


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 6_000), max_size=12))
def test_pieces_of_any_size_give_the_same_run(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    """Given a file written in pieces cut anywhere, when followed, then the run is that of the whole file."""
    folder = tmp_path_factory.mktemp("pieces")
    whole = b"".join(line + b"\n" for line in lines(healthy_run()))
    path = folder / "run.jsonl"
    path.touch()
    follower = Follower(folder)
    places = sorted({0, *(cut % len(whole) for cut in cuts), len(whole)})
    for begin, stop in itertools.pairwise(places):
        append(path, whole[begin:stop])
        follower.poll()
    run = follower.run()
    assert run is not None
    assert run.events == load_run(path).events
    assert run.issue_counts == ()


def test_a_new_segment_is_found(tmp_path: Path) -> None:
    """Given a run that is resumed in a new file, when polled, then its steps and its end are the run's."""
    write(tmp_path / "run.jsonl", numbered([start(), *train(range(1, 6))]))
    follower = Follower(tmp_path / "run.jsonl")
    assert len(follower.poll()) == 6
    resumed = [start(ts=50.0, segment=1, resume_step=5), *train(range(6, 9), ts=51.0), end(ts=60.0)]
    write(tmp_path / "run.1.jsonl", numbered(resumed))
    assert len(follower.poll()) == 5
    run = follower.run()
    assert run is not None
    assert [segment.index for segment in run.segments] == [0, 1]
    assert run.last_step == 8
    assert run.status == "ok"


def test_a_bad_line_costs_one_line(tmp_path: Path) -> None:
    """Given a line that is no JSON, when followed, then it is an issue with its place, and what follows is read."""
    path = write(tmp_path / "run.jsonl", [start(), b"oops", *train([1])])
    follower = Follower(path)
    assert len(follower.poll()) == 2
    run = follower.run()
    assert run is not None
    assert run.lines_rejected == 1
    assert [(issue.code, issue.line) for issue in run.issues] == [("invalid_json", 2)]


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    """Given a file that another one takes the place of, when polled, then the new one is followed from its start."""
    path = write(tmp_path / "run.jsonl", [start(), *train(range(1, 9))])
    follower = Follower(path)
    follower.poll()
    other = write(tmp_path / "other", [start(run_id="run-2", ts=900.0), *train([1], run_id="run-2", ts=901.0)])
    other.replace(path)
    follower.poll()
    run = follower.run()
    assert run is not None
    assert (run.run_id, run.last_step) == ("run-2", 1)


def test_latest_is_the_last_step_or_evaluation(tmp_path: Path) -> None:
    """Given a run, when polled, then what came last with numbers is kept."""
    path = write(tmp_path / "run.jsonl", [start(), *train([1, 2]), end()])
    follower = Follower(path)
    assert follower.latest is None
    follower.poll()
    assert follower.latest is not None
    assert follower.latest.step == 2


@pytest.mark.parametrize("name", ["absent.jsonl", "run.jsonl.gz", "trainer_state.json"])
def test_what_cannot_be_followed_is_refused(tmp_path: Path, name: str) -> None:
    """Given no file, a compressed one or a foreign log, when to be followed, then an error says so."""
    import gzip

    with gzip.open(tmp_path / "run.jsonl.gz", "wb") as file:
        file.write(json.dumps(start()).encode() + b"\n")
    state = {"global_step": 1, "log_history": [{"loss": 1.0, "step": 1, "epoch": 0.1}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(InputError):
        Follower(tmp_path / name)
