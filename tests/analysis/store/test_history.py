"""Whatever came before, a store is what a first ingest of the files that are there would have made, byte for byte."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.store import ingest, open_store
from tests.analysis.records import end, evaluation, record, start, train, write
from tests.analysis.store.trees import contents, expected, rows
from tests.reliability.lengths import lengths

NAMES = ("a/run.jsonl", "a/run.1.jsonl", "b/run.jsonl", "c.jsonl")
RUNS = ("run-0", "run-1", "run-2")
VALUES = st.sampled_from([1, 2**53 + 1, 2**64, 0.5, float("nan"), True, "text", "9007199254740993", None])

lines_of_a_run = st.tuples(
    st.sampled_from(RUNS),
    st.sampled_from(["start", "steps", "eval", "end", "bad", "metrics"]),
    st.sampled_from("xy"),
    VALUES,
)
steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.lists(lines_of_a_run, min_size=1, max_size=5)),
    st.tuples(st.just("append"), st.sampled_from(NAMES), st.lists(lines_of_a_run, min_size=1, max_size=3)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("touch"), st.sampled_from(NAMES), st.integers(1, 10**18)),
    st.tuples(st.just("ingest"), st.none(), st.none()),
)


def records_of(run_id: str, what: str, name: str, value: Any) -> list[dict[str, Any] | bytes]:
    """A line or three of a run."""
    if what == "start":
        return [start(run_id=run_id)]
    if what == "steps":
        return [{**item, name: value} for item in train([3, 4, 5], run_id=run_id)]
    if what == "eval":
        return [evaluation(4, "eval", run_id=run_id, **{name: value})]
    if what == "metrics":
        return [record("metrics", 4, run_id=run_id, kind="k", metrics={name: {"deep": value}})]
    return [b'{"torn'] if what == "bad" else [end(run_id=run_id)]


def do(folder: Path, what: str, name: Any, more: Any) -> None:
    """One thing that can happen to files between two ingests."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if what in {"write", "append"}:
        before = path.read_bytes() if what == "append" and path.exists() else b""
        write(path, [line for item in more for line in records_of(*item)])
        path.write_bytes(before + path.read_bytes())
    elif path.exists():
        if what == "delete":
            path.unlink()
        elif what == "rename":
            (folder / more).parent.mkdir(exist_ok=True)
            path.rename(folder / more)
        else:
            os.utime(path, ns=(more, more))


@lengths("examples", 25, 400)
def test_any_history_ends_in_the_same_store(examples: int) -> None:
    """Given any sequence of changes and ingests, when ingested at last, then it equals a rebuild, byte for byte."""

    @settings(max_examples=examples)
    @given(st.lists(steps, min_size=1, max_size=8))
    def check(history: list[tuple[str, Any, Any]]) -> None:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(os.path.realpath(place)) / "outputs"
            folder.mkdir()
            write(folder / "always.jsonl", [start(run_id="always"), *train([1], run_id="always")])
            for what, name, more in history:
                if what == "ingest":
                    ingest([folder], folder.parent / "store")
                else:
                    do(folder, what, name, more)
            done = ingest([folder], folder.parent / "store", prune=True)
            ingest([folder], folder.parent / "fresh")
            assert not done.damaged
            assert contents(folder.parent / "store") == contents(folder.parent / "fresh")
            paths = sorted(folder.rglob("*.jsonl"))
            assert rows(open_store(folder.parent / "store").read()) == rows(expected(paths))

    check()


def test_a_copy_of_a_store_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Given a copy of a store without its locks, when it is read, then it gives what the store gives."""
    path = write(tmp_path / "run.jsonl", [start(), *train([1, 2]), end()])
    ingest([path], tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "copy", ignore=shutil.ignore_patterns("*lock"))
    assert rows(open_store(tmp_path / "copy").read()) == rows(expected([path]))
