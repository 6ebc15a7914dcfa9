"""What an ingest reads, what it leaves alone, and what the store holds afterwards."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gradience_analysis import load_run
from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.errors import InputError
from gradience_analysis.policy import load_policy
from gradience_analysis.store import ingest, is_store, open_store
from gradience_analysis.store.place import bucket_of
from gradience_analysis.store.swap import only_writer
from tests.analysis.records import end, record, start, train, troubled_run, write
from tests.analysis.store.trees import contents, expected, grown, rows, run_file, some_runs


def test_a_store_holds_what_the_files_hold(tmp_path: Path) -> None:
    """Given runs, one with a bad line, when ingested and read, then every table is that of reading the files."""
    paths = some_runs(tmp_path / "outputs")
    done = ingest([tmp_path / "outputs"], tmp_path / "store")
    assert done.new == [str(path) for path in paths]
    assert done.rows["bad_lines"] == 1
    assert done.files_refusing == [str(paths[-1])]
    store = open_store(tmp_path / "store")
    assert rows(store.read()) == rows(expected(paths))
    assert store.read().bad_lines["data"].to_pylist() == [b'{"oops']
    assert store.run_ids() == ["run-0", "run-1", "run-2"]


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    """Given a store that is up to date, when the same paths are ingested, then no file is read or written."""
    paths = some_runs(tmp_path / "outputs")
    ingest([tmp_path / "outputs"], tmp_path / "store")
    before = contents(tmp_path / "store")
    paths[0].chmod(0)
    done = ingest([tmp_path / "outputs"], tmp_path / "store")
    assert (done.read, done.written, len(done.unchanged)) == (0, 0, 3)
    assert contents(tmp_path / "store") == before


def test_only_what_grew_is_read_and_only_its_bucket_written(tmp_path: Path) -> None:
    """Given a store, when one run grows, then it alone is read, and files of its bucket alone change."""
    paths = some_runs(tmp_path / "outputs")
    ingest([tmp_path / "outputs"], tmp_path / "store")
    before = contents(tmp_path / "store")
    grown(paths[1], "run-1", 99, loss=0.125)
    done = ingest([tmp_path / "outputs"], tmp_path / "store")
    assert done.changed == [str(paths[1])]
    after = contents(tmp_path / "store")
    changed = {name for name in after if after[name] != before[name]} - {"gradience-store.json"}
    bucket = f"bucket={bucket_of('run-1', 16):02}"
    assert changed
    assert {name.split("/")[1] for name in changed} == {bucket}
    assert f"alerts/{bucket}/part.parquet" not in changed
    assert open_store(tmp_path / "store").read().steps["step"].to_pylist()[-6] == 99


def test_a_new_time_of_change_alone_is_noted_and_no_more(tmp_path: Path) -> None:
    """Given a file with a new time of change and the same content, when ingested, then only `sources` changes."""
    (path, *_) = some_runs(tmp_path / "outputs", 1)
    ingest([path], tmp_path / "store")
    before = contents(tmp_path / "store")
    os.utime(path, ns=(7, 7))
    done = ingest([path], tmp_path / "store")
    after = contents(tmp_path / "store")
    changed = {name.split("/")[0] for name in after if after[name] != before[name]}
    assert (done.read, done.unchanged, changed) == (0, [str(path)], {"sources", "gradience-store.json"})
    assert open_store(tmp_path / "store").sources()["mtime_ns"].to_pylist() == [7]


def test_a_file_of_the_same_size_with_other_content_is_read_again(tmp_path: Path) -> None:
    """Given a file in which one digit changed, when ingested, then the store has the new number."""
    path = run_file(tmp_path / "run.jsonl", note=1)
    ingest([path], tmp_path / "store")
    path.write_bytes(path.read_bytes().replace(b'"note": 1', b'"note": 2'))
    assert ingest([path], tmp_path / "store").changed == [str(path)]
    assert set(open_store(tmp_path / "store").read().steps["note"].to_pylist()) == {2}


def test_what_is_gone_stays_until_it_is_pruned(tmp_path: Path) -> None:
    """Given a file that is deleted, when ingested, then its rows stay and it is named; with prune they go."""
    paths = some_runs(tmp_path / "outputs")
    all_rows = rows(expected(paths))
    ingest([tmp_path / "outputs"], tmp_path / "store")
    paths[0].unlink()
    done = ingest([tmp_path / "outputs"], tmp_path / "store")
    assert (done.gone, done.pruned) == ([str(paths[0])], [])
    store = open_store(tmp_path / "store")
    assert rows(store.read()) == all_rows
    done = ingest([tmp_path / "outputs"], tmp_path / "store", prune=True)
    assert (done.gone, done.pruned) == ([], [str(paths[0])])
    assert rows(store.read()) == rows(expected(paths[1:]))
    assert store.findings()["run_id"].to_pylist() == ["run-1", "run-2"]
    ingest([tmp_path / "outputs"], tmp_path / "fresh")
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_moved_file_is_not_there_twice(tmp_path: Path) -> None:
    """Given a folder that is renamed, when ingested under its new name, then its runs are in the store once."""
    some_runs(tmp_path / "outputs")
    ingest([tmp_path / "outputs"], tmp_path / "store")
    (tmp_path / "outputs").rename(tmp_path / "kept")
    done = ingest([tmp_path / "kept"], tmp_path / "store")
    assert [(Path(new).parts[-3], Path(old).parts[-3]) for new, old in done.moved] == [("kept", "outputs")] * 3
    assert (done.new, done.gone) == ([], [])
    assert rows(open_store(tmp_path / "store").read()) == rows(expected(sorted((tmp_path / "kept").rglob("*.jsonl"))))


def test_a_run_is_stored_with_all_its_segments(tmp_path: Path) -> None:
    """Given a run of two files beside another run, when one is named, then both are stored and the other run is not."""
    run_file(tmp_path / "run.jsonl", ended=False)
    write(tmp_path / "run.1.jsonl", [start(resume_step=5, segment=1), *train(range(6, 9)), end()])
    run_file(tmp_path / "run.2.jsonl", "other")
    ingest([tmp_path / "run.jsonl"], tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert [Path(path).name for path in store.sources()["path"].to_pylist()] == ["run.1.jsonl", "run.jsonl"]
    assert store.run_ids() == ["run-1"]


def test_findings_are_those_of_monitor_and_follow_every_segment(tmp_path: Path) -> None:
    """Given a run, when a second segment with trouble appears, then its findings are counted anew over both."""
    path = write(tmp_path / "run.jsonl", [start(), *train(range(1, 4))])
    ingest([path], tmp_path / "store")
    write(tmp_path / "run.1.jsonl", troubled_run())
    ingest([path], tmp_path / "store")
    policy = load_policy()
    severities = [str(item.severity) for item in diagnose(load_run(path), DIAGNOSTICS, policy).findings]
    (row,) = open_store(tmp_path / "store").findings().to_pylist()
    assert severities
    assert {name: row[name] for name in ("critical", "error", "warning", "info")} == {
        name: severities.count(name) for name in ("critical", "error", "warning", "info")
    }
    assert (row["policy_version"], row["reason"]) == (policy.version, None)


def test_every_run_of_a_file_is_judged(tmp_path: Path) -> None:
    """Given a file in which one run follows another, when ingested, then each has its own counts."""
    path = write(
        tmp_path / "run.jsonl",
        [
            start(run_id="old"),
            *train([1], run_id="old"),
            start(run_id="new", ts=50.0),
            *train([1], run_id="new", ts=51.0),
            end("error", run_id="new", ts=60.0),
        ],
    )
    ingest([path], tmp_path / "store")
    found = {row["run_id"]: row for row in open_store(tmp_path / "store").findings().to_pylist()}
    assert (found["old"]["error"], found["new"]["error"]) == (0, 1)
    assert found["old"]["reason"] is None


def test_integers_become_floats_and_integers_again(tmp_path: Path) -> None:
    """Given runs with a column of integers and of floats, when the floats go, then the store is as if never there."""
    bucket = bucket_of("run-0", 16)
    other = next(f"run-{number}" for number in range(1, 99) if bucket_of(f"run-{number}", 16) == bucket)
    run_file(tmp_path / "a" / "run.jsonl", "run-0", tokens=2**53 + 1)
    floats = run_file(tmp_path / "b" / "run.jsonl", other, tokens=0.5)
    ingest([tmp_path / "a"], tmp_path / "store")
    before = contents(tmp_path / "store")
    ingest([tmp_path / "b"], tmp_path / "store")
    steps = open_store(tmp_path / "store").read().steps
    assert str(steps.schema.field("tokens").type) == "double"
    assert steps["tokens__text"].to_pylist()[0] == str(2**53 + 1)
    floats.unlink()
    ingest([tmp_path / "a"], tmp_path / "store", prune=True)
    assert contents(tmp_path / "store") == before


def test_a_column_that_the_store_cannot_tell_apart_is_read_again(tmp_path: Path) -> None:
    """Given text among integers beside another run's floats, when anything changes, then that file is read again."""
    bucket = bucket_of("run-0", 16)
    other, third = [f"run-{n}" for n in range(1, 99) if bucket_of(f"run-{n}", 16) == bucket][:2]
    mixed = [{**item, "note": value} for item, value in zip(train([1, 2]), (5, str(2**53 + 1)), strict=True)]
    write(tmp_path / "a.jsonl", [start(), *[{**item, "run_id": "run-0"} for item in mixed]])
    run_file(tmp_path / "b.jsonl", other, note=0.5)
    ingest([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "store")
    run_file(tmp_path / "c.jsonl", third)
    done = ingest([tmp_path / "c.jsonl"], tmp_path / "store")
    assert (len(done.new), done.again) == (1, [str(tmp_path / "a.jsonl")])
    (tmp_path / "b.jsonl").unlink()
    ingest([tmp_path / "c.jsonl"], tmp_path / "store", prune=True)
    ingest([tmp_path / "a.jsonl", tmp_path / "c.jsonl"], tmp_path / "fresh")
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_what_cannot_be_read_is_named_and_the_rest_is_stored(tmp_path: Path) -> None:
    """Given a UTF-16 file, a FIFO and a good one, when ingested, then two are named with the reason, one is stored."""
    run_file(tmp_path / "good.jsonl")
    (tmp_path / "wide.jsonl").write_text("{}", encoding="utf-16")
    os.mkfifo(tmp_path / "pipe.jsonl")
    done = ingest([tmp_path], tmp_path / "store")
    assert sorted(Path(error.path).name for error in done.unread) == ["pipe.jsonl", "wide.jsonl"]
    assert "UTF-16" in str(next(error for error in done.unread if "wide" in error.path))
    assert open_store(tmp_path / "store").run_ids() == ["run-1"]


def test_a_file_that_turns_unreadable_keeps_its_rows(tmp_path: Path) -> None:
    """Given a stored file that is overwritten with UTF-16, when ingested, then it is named and its rows stay."""
    path = run_file(tmp_path / "run.jsonl")
    before = rows(expected([path]))
    ingest([path], tmp_path / "store")
    path.write_text("{}", encoding="utf-16")
    done = ingest([path], tmp_path / "store")
    assert len(done.unread) == 1
    assert rows(open_store(tmp_path / "store").read()) == before


def test_compressed_files_are_read(tmp_path: Path) -> None:
    """Given a gzip file, when ingested, then its identity is that of the compressed file and its rows are there."""
    path = run_file(tmp_path / "run.jsonl")
    packed = tmp_path / "z" / "run.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    ingest([packed.parent], tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert store.sources()["size"].to_pylist() == [packed.stat().st_size]
    assert len(store.read().steps) == 5


def test_files_say_what_they_were_made_from(tmp_path: Path) -> None:
    """Given a store, when a file's metadata is read, then it names format, schema, and each source's bytes."""
    path = run_file(tmp_path / "run.jsonl")
    ingest([path], tmp_path / "store")
    bucket = bucket_of("run-1", 16)
    metadata = pq.read_metadata(tmp_path / "store" / "steps" / f"bucket={bucket:02}" / "part.parquet").metadata
    assert metadata[b"gradience.format"] == b"gradience.store/v1"
    assert metadata[b"gradience.telemetry_schema"] == b"gradience.vnext.telemetry/v1"
    (identity,) = json.loads(metadata[b"gradience.sources"])
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert identity == {"path": str(path), "size": path.stat().st_size, "sha256": digest}


def test_processes_give_the_same_store(tmp_path: Path) -> None:
    """Given runs, when ingested with two processes and with one, then the stores are equal byte by byte."""
    for index in range(3):
        run_file(tmp_path / "outputs" / f"{index}.jsonl", f"run-{index}", steps=3, note="x" * 900_000)
    code = "import sys; from gradience_analysis.store import ingest; ingest([sys.argv[1]], sys.argv[2], workers=2)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, tmp_path / "outputs", tmp_path / "two"]
    subprocess.run(command, check=True, env=environment, timeout=120)
    ingest([tmp_path / "outputs"], tmp_path / "one", workers=1)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_rounds_give_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given runs of which a round reads one file only, when ingested, then the store is that of one round."""
    some_runs(tmp_path / "outputs", 4)
    ingest([tmp_path / "outputs"], tmp_path / "one")
    monkeypatch.setattr("gradience_analysis.store.intake.ROUND_BYTES", 1)
    ingest([tmp_path / "outputs"], tmp_path / "many")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_rebuild_reads_everything_and_changes_nothing(tmp_path: Path) -> None:
    """Given a store, when rebuilt, then every file is read, and not a byte of the store is another."""
    some_runs(tmp_path / "outputs")
    ingest([tmp_path / "outputs"], tmp_path / "store")
    before = contents(tmp_path / "store")
    done = ingest([tmp_path / "outputs" / "r0"], tmp_path / "store", rebuild=True)
    assert (len(done.again), done.written) == (3, 0)
    assert contents(tmp_path / "store") == before


def test_a_second_ingest_at_the_same_time_is_refused(tmp_path: Path) -> None:
    """Given a store that an ingest holds, when another one starts, then it is told so, and nothing changes."""
    (path, *_) = some_runs(tmp_path / "outputs", 1)
    ingest([path], tmp_path / "store")
    before = contents(tmp_path / "store")
    grown(path, "run-0", 50)
    with only_writer(tmp_path / "store"), pytest.raises(InputError, match="another ingest"):
        ingest([path], tmp_path / "store")
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: (path.mkdir(), (path / "a").touch())])
def test_what_is_no_store_is_not_made_one(tmp_path: Path, make: Any) -> None:
    """Given a file, or a folder with something in it, when named as the store, then that is refused and it stays."""
    run = run_file(tmp_path / "run.jsonl")
    make(tmp_path / "place")
    with pytest.raises(InputError, match="place: "):
        ingest([run], tmp_path / "place")
    assert not is_store(tmp_path / "place")


def test_no_store_is_made_for_paths_that_do_not_exist(tmp_path: Path) -> None:
    """Given a path that does not exist, when ingested, then that is said, and no folder is made."""
    with pytest.raises(InputError, match="does not exist"):
        ingest([tmp_path / "nothing"], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    """Given a store that says it is of a later format, when opened or ingested into, then both refuse, naming it."""
    path = run_file(tmp_path / "run.jsonl")
    ingest([path], tmp_path / "store")
    code = "import gradience_analysis.store.manifest as m, sys; m.FORMAT = 'gradience.store/v2'; p = sys.argv[1]\n"
    code += "from pathlib import Path; f = Path(p, 'gradience-store.json'); f.write_bytes(m.Manifest(16, {}).dumps())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code, tmp_path / "store"], check=True, env=environment)
    before = contents(tmp_path / "store")
    for attempt in (lambda: open_store(tmp_path / "store"), lambda: ingest([path], tmp_path / "store")):
        with pytest.raises(InputError, match=r"gradience\.store/v2"):
            attempt()
    assert contents(tmp_path / "store") == before


def test_a_store_below_the_folder_that_is_ingested_is_left_out(tmp_path: Path) -> None:
    """Given a store inside the folder of the runs, with a stray JSONL in it, when ingested, then that is not read."""
    run_file(tmp_path / "run.jsonl")
    ingest([tmp_path], tmp_path / "store")
    record_of_nothing = [record("metrics", 1, kind="x", metrics={})]
    write(tmp_path / "store" / "stray.jsonl", record_of_nothing)
    assert ingest([tmp_path], tmp_path / "store").read == 0


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a disk that refuses in the middle, when ingested, then one sentence says so; the next one succeeds."""
    paths = some_runs(tmp_path / "outputs")
    ingest([tmp_path / "outputs"], tmp_path / "store")
    before = rows(expected(paths))
    for path, run_id in zip(paths, ("run-0", "run-1", "run-2"), strict=True):
        grown(path, run_id, 50)
    sync, calls = os.fsync, iter(range(100))

    def full(descriptor: int) -> None:
        if next(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            ingest([tmp_path / "outputs"], tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert rows(store.read()) == before
    ingest([tmp_path / "outputs"], tmp_path / "store")
    assert rows(store.read()) == rows(expected(paths))
    assert not list((tmp_path / "store").rglob("*.new"))


def test_whoever_watches_hears_of_every_file_and_run(tmp_path: Path) -> None:
    """Given a watch, when ingested, then it is told how many files and runs there are, and of each once."""
    paths = some_runs(tmp_path / "outputs")
    told: list[str] = []

    class Told:
        def start(self, name: str) -> None:
            told.append(name)

    def watch(doing: str, total: int) -> Any:
        told.append(f"{doing} {total}")
        return contextlib.nullcontext(Told())

    ingest([tmp_path / "outputs"], tmp_path / "store", watch=watch)
    assert told == ["reading 3", *map(str, paths), "judging 3", "run-0", "run-1", "run-2"]
