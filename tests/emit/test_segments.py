"""Segments: names, locks, torn tails, and what is at the path already."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gradience_emit import TelemetryWriter, find_segments, segments
from tests.emit import oracle


def finished(path: Path, run_id: str = "r", events: int = 3) -> Path:
    """A segment at ``path`` with that many events after its run_start."""
    with TelemetryWriter(path, run_id) as writer:
        writer.run_start({"model_name": "m"})
        for step in range(events):
            writer.train_step(step, loss=1.0)
    return writer.path


def lineage(path: Path) -> dict[str, Any]:
    """What the meta of a segment says about earlier ones."""
    meta: dict[str, Any] = oracle.read_strict(path)[0]["meta"]
    return {key: meta[key] for key in ("segment", "parent_segment") if key in meta}


def test_names_count_up_beside_the_first(tmp_path: Path) -> None:
    """Given three runs at one path, when each is written, then the names count up and the numbers are in meta."""
    paths = [finished(tmp_path / "run.jsonl") for _ in range(3)]
    assert [path.name for path in paths] == ["run.jsonl", "run.1.jsonl", "run.2.jsonl"]
    metas = [lineage(path) for path in paths]
    assert metas == [{}, {"segment": 1, "parent_segment": 0}, {"segment": 2, "parent_segment": 1}]


def test_another_run_id_is_another_run(tmp_path: Path) -> None:
    """Given a file of run a, when run b starts at the same path, then it is no continuation of a."""
    finished(tmp_path / "run.jsonl", "a")
    assert lineage(finished(tmp_path / "run.jsonl", "b")) == {}


def test_only_names_of_the_same_stem_are_segments(tmp_path: Path) -> None:
    """Given other files beside the run, when segments are looked for, then ranks and look-alikes are not among them."""
    for name in (
        "run.jsonl",
        "run.1.jsonl",
        "run.10.jsonl",
        "run.rank3.jsonl",
        "run.01.jsonl",
        "running.jsonl",
        "run.x.jsonl",
    ):
        (tmp_path / name).write_text('{"run_id":"r","meta":{"segment":4}}\n')
    heads = find_segments(tmp_path / "run.jsonl")
    assert [(head.path.name, head.index, head.run_id, head.segment) for head in heads] == [
        ("run.jsonl", 0, "r", 4),
        ("run.1.jsonl", 1, "r", 4),
        ("run.10.jsonl", 10, "r", 4),
    ]


@pytest.mark.parametrize("path", ["absent/run.jsonl", "nul\0/run.jsonl"])
def test_no_folder_no_segments(tmp_path: Path, path: str) -> None:
    """Given a folder that is not there, when segments are looked for, then there are none and nothing is raised."""
    assert find_segments(tmp_path / path) == []


def test_append_continues_numbers_and_run(tmp_path: Path) -> None:
    """Given a finished file, when it is opened to append, then run id and seq go on, with one run_end."""
    path = finished(tmp_path / "run.jsonl", "the run")
    before = path.read_bytes()
    with TelemetryWriter(path, if_exists="append") as writer:
        writer.metrics(None, kind="lora_audit", metrics={"n_layers": 2})
    records = oracle.read_strict(path)
    assert path.read_bytes().startswith(before)
    assert [record["seq"] for record in records] == list(range(6))
    assert {record["run_id"] for record in records} == {"the run"}
    assert [record["event"] for record in records].count("run_end") == 1


def test_append_to_the_file_of_another_run_starts_a_segment(tmp_path: Path) -> None:
    """Given a file of run a, when run b asks to append to it, then a stays as it is and b gets its own file."""
    path = finished(tmp_path / "run.jsonl", "a")
    before = path.read_bytes()
    with TelemetryWriter(path, "b", if_exists="append") as writer:
        writer.train_step(1)
    assert writer.path.name == "run.1.jsonl"
    assert path.read_bytes() == before


@pytest.mark.parametrize("tail", [b'{"schema":"x","seq":99', b"\x00\x00\x00", b"{", b'{"seq":99}'])
def test_append_after_a_torn_tail_loses_only_the_torn_line(tmp_path: Path, tail: bytes) -> None:
    """Given a file whose last line was cut, when it is continued, then the new records stand on lines of their own."""
    path = finished(tmp_path / "run.jsonl")
    with path.open("ab") as file:
        file.write(tail)
    with TelemetryWriter(path, if_exists="append") as writer:
        writer.alert(severity="info", code="A", message="")
    lines = path.read_bytes().split(b"\n")
    assert lines[5] == tail
    assert oracle.strict_loads(lines[6])["code"] == "A"
    assert oracle.strict_loads(lines[6])["seq"] == 5
    assert lines[7:] == [b""]


def test_append_counts_a_whole_event_that_lacks_its_newline(tmp_path: Path) -> None:
    """Given a file of which only the last newline is missing, when it is continued, then no seq is given twice."""
    path = finished(tmp_path / "run.jsonl")
    path.write_bytes(path.read_bytes()[:-1])
    with TelemetryWriter(path, if_exists="append") as writer:
        writer.alert(severity="info", code="A", message="")
    numbers = [oracle.strict_loads(line)["seq"] for line in path.read_bytes().splitlines()]
    assert numbers == list(range(6))


@pytest.mark.parametrize("seq", ["-5", "true", "1e3", str(2**70), '"x"', "null"])
def test_append_to_a_file_with_a_nonsense_seq(tmp_path: Path, seq: str) -> None:
    """Given a foreign file whose seq is none, when it is continued, then ours starts at 0 and is valid."""
    path = tmp_path / "run.jsonl"
    path.write_text(f'{{"run_id":"r","seq":{seq}}}\n')
    with TelemetryWriter(path, if_exists="append") as writer:
        writer.train_step(1)
    record = json.loads(path.read_bytes().split(b"\n")[1])
    oracle.assert_valid(record)
    assert record["seq"] == 0


def test_a_second_writer_gets_a_second_file(tmp_path: Path) -> None:
    """Given an open writer, when another opens the same path in either mode, then neither touches the other's file."""
    with TelemetryWriter(tmp_path / "run.jsonl") as one:
        one.train_step(1)
        with TelemetryWriter(tmp_path / "run.jsonl", if_exists="append") as two, TelemetryWriter(one.path) as three:
            two.train_step(2)
            three.train_step(3)
    assert len({one.path, two.path, three.path}) == 3
    assert [oracle.read_strict(writer.path)[0]["step"] for writer in (one, two, three)] == [1, 2, 3]


def test_the_lock_ends_with_the_writer(tmp_path: Path) -> None:
    """Given a closed writer, when the file is opened to append, then it is the same file."""
    path = finished(tmp_path / "run.jsonl")
    with TelemetryWriter(path, if_exists="append") as writer:
        assert writer.path == path


def test_an_empty_file_is_used(tmp_path: Path) -> None:
    """Given an empty file that nobody holds (``touch run.jsonl``), when a run starts, then it is written there."""
    (tmp_path / "run.jsonl").touch()
    assert finished(tmp_path / "run.jsonl").name == "run.jsonl"


def make_fifo(path: Path) -> None:
    """A named pipe that nobody reads."""
    os.mkfifo(path)


def make_link(path: Path) -> None:
    """A symbolic link to a file elsewhere."""
    target = path.with_name("target")
    target.write_text("")
    path.symlink_to(target)


@pytest.mark.parametrize("occupy", [make_fifo, make_link, Path.mkdir, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("mode", ["segment", "append"])
def test_what_is_no_regular_file_is_left_alone(tmp_path: Path, occupy: object, mode: str) -> None:
    """Given a FIFO, directory or link at the path, when a run starts, then it does not hang and writes beside it."""
    path = tmp_path / "run.jsonl"
    occupy(path)  # type: ignore[operator]
    with TelemetryWriter(path, if_exists=mode) as writer:  # type: ignore[arg-type]
        writer.train_step(1)
    assert writer.path.name == "run.1.jsonl"
    assert len(oracle.read_strict(writer.path)) == 2


def test_a_tail_that_cannot_be_read_counts_as_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a file that can be written and not read, when it is continued, then two records are never fused."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"torn')
    monkeypatch.setattr(segments, "_read_regular", lambda *_: b"")
    with TelemetryWriter(path, if_exists="append") as writer:
        writer.train_step(1)
    assert path.read_bytes().startswith(b'{"torn\n{')
