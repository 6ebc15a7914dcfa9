"""R23: a killed ingest leaves a store that reads as before or as after; damage is set aside, and JSONL is the truth."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.store import ingest, open_store
from tests.analysis.store.trees import contents, expected, grown, rows, run_file, some_runs
from tests.reliability.lengths import lengths

INGEST = """
import os, signal, sys
from gradience_analysis.store import ingest
folder, store, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
ingest([sys.argv[4]], sys.argv[4] + ".store")  # everything is imported before the first byte is written
count = 0

def watch(event, details):
    # What changes the disk: opening for writing, renaming, deleting, making a folder.
    global count
    if event in {"os.rename", "os.remove", "os.mkdir"} or event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR):
        if store in str(details[0]):
            count += 1
            if count == limit:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
print("ready", flush=True)
ingest([folder], store)
print(count, flush=True)
"""


def killed_ingest(folder: Path, store: Path, *, at: int = 0, after_s: float | None = None) -> int | None:
    """Ingest in a process that is killed before its `at`-th change of the disk, or after some time.

    Returns:
        How often it changed the disk; None when it was killed.
    """
    warm = run_file(folder.parent / "warm.jsonl", "warm")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INGEST, str(folder), str(store), str(at), str(warm)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if after_s is not None:
            time.sleep(after_s)
            child.kill()
        rest = child.stdout.read()
    if child.returncode == -signal.SIGKILL:
        return None
    assert child.returncode == 0
    return int(rest)


def change(paths: list[Path], step: int) -> None:
    """Two runs grow, so that an ingest writes to two buckets."""
    grown(paths[0], "run-0", step, loss=0.5)
    grown(paths[1], "run-1", step, extra=step)


@lengths("kills", 30, 300)
def test_kill_9_leaves_the_store_as_before_or_as_after(tmp_path: Path, kills: int) -> None:
    """Given an ingest killed anywhere, when the store is read, then all is as before or as after; the next repairs."""
    chance = random.Random(1)
    folder, store = tmp_path / "outputs", tmp_path / "store"
    paths = some_runs(folder)
    ingest([folder], store)
    saved = tmp_path / "saved"
    shutil.copytree(store, saved)
    before = rows(expected(paths))
    change(paths, 100)
    after = rows(expected(paths))
    started = time.monotonic()
    changes = killed_ingest(folder, store)
    whole_s = time.monotonic() - started
    assert changes is not None
    rebuilt = contents(store)
    seen = {"before": 0, "after": 0}
    for kill in range(kills):
        shutil.rmtree(store)
        shutil.copytree(saved, store)
        # Before every change of the disk in turn (of few kills, before some of them), and then at any moment.
        if kill < changes:
            killed_ingest(folder, store, at=1 + (kill * changes // kills if kills < changes else kill))
        else:
            killed_ingest(folder, store, after_s=chance.uniform(0, whole_s / 3))
        found = rows(open_store(store).read())
        assert found in (before, after)
        seen["before" if found == before else "after"] += 1
        done = ingest([folder], store)
        assert not done.damaged
        assert contents(store) == rebuilt
    print(f"R23: {kills} kills over {changes} changes of the disk, {seen}, 0 mixtures, {kills} repaired")
    assert all(seen.values())


def test_a_first_ingest_that_is_killed_can_be_repeated(tmp_path: Path) -> None:
    """Given a first ingest killed at its first changes, when repeated, then the store is as if nothing had happened."""
    folder = tmp_path / "outputs"
    paths = some_runs(folder)
    for at in (1, 2, 3, 4, 6, 12, 25):
        store = tmp_path / f"store-{at}"
        assert killed_ingest(folder, store, at=at) is None
        ingest([folder], store)
        assert rows(open_store(store).read()) == rows(expected(paths))
    assert len({json.dumps(sorted(contents(tmp_path / f"store-{at}"))) for at in (1, 6, 25)}) == 1


READ = """
import json, sys
from pathlib import Path
from gradience_analysis.errors import InputError
from gradience_analysis.store import open_store
store, cases = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
for name, damaged in cases:
    file = store / name
    whole = file.read_bytes()
    file.write_bytes(Path(damaged).read_bytes())
    try:
        open_store(store).read()
        open_store(store).findings()
        open_store(store).sources()
    except InputError as error:
        print(json.dumps([name, str(error)]), flush=True)
    else:
        print(json.dumps([name, None]), flush=True)
    file.write_bytes(whole)
"""


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one kind of damage."""
    kind = chance.randrange(7)
    place = chance.randrange(len(data))
    if kind <= 2:
        # Half of all flips where Parquet keeps what it reads first: its footer.
        place = chance.randrange(len(data) - len(data) // 4, len(data)) if kind == 2 else place
        return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
    if kind == 3:
        return data[:place]
    if kind == 4:
        return data + chance.randbytes(chance.randrange(1, 100))
    if kind == 5:
        return data[:place] + bytes(min(512, len(data) - place)) + data[place + 512 :] + b"\x01"
    return chance.randbytes(len(data))


@lengths("mutations", 100, 2000)
def test_no_damaged_byte_is_read_as_data(tmp_path: Path, mutations: int, child_environment: dict[str, str]) -> None:
    """Given files with any damage, when read in a process, then each is named in a sentence; none crashes it."""
    chance = random.Random(2)
    some_runs(tmp_path / "outputs")
    ingest([tmp_path / "outputs"], tmp_path / "store")
    files = sorted(contents(tmp_path / "store").items())
    cases: list[tuple[str, str]] = []
    for number in range(mutations):
        name, data = files[number % len(files)]
        path = tmp_path / f"damaged-{number}"
        path.write_bytes(damaged(data, chance))
        cases.append((name, str(path)))
    (tmp_path / "cases").write_text(json.dumps(cases))
    command = [sys.executable, "-c", READ, tmp_path / "store", tmp_path / "cases"]
    run = subprocess.run(command, capture_output=True, text=True, env=child_environment, check=False, timeout=3000)
    assert run.returncode == 0, run.stderr[-2000:]
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert [name for name, _ in told] == [name for name, _ in cases]
    unnoticed = [name for name, message in told if message is None or name.rpartition("/")[2] not in message]
    assert not unnoticed
    print(f"R23: {mutations} damaged files, {mutations} reported, 0 crashes")


@lengths("files", 6, 200)
def test_damage_is_set_aside_and_made_good(tmp_path: Path, files: int) -> None:
    """Given damaged files of a store, when ingested, then they are set aside and named; the store is whole again."""
    chance = random.Random(3)
    paths = some_runs(tmp_path / "outputs")
    store = tmp_path / "store"
    ingest([tmp_path / "outputs"], store)
    whole = contents(store)
    for number in range(files):
        names = chance.sample(sorted(whole), chance.randint(1, 4))
        for name in names:
            if chance.random() < 0.2:
                (store / name).unlink()
            else:
                (store / name).write_bytes(damaged(whole[name], chance))
        done = ingest([paths[0]], store)
        named = {name.partition(".damaged")[0] for name in done.damaged}
        # Without a manifest nobody can name each: all of it is made anew.
        assert named <= set(names) if "gradience-store.json" in names else named == set(names), number
        found = contents(store)
        assert {name: found[name] for name in whole} == whole
        assert rows(open_store(store).read()) == rows(expected(paths))
        for aside in store.rglob("*.damaged*"):
            aside.unlink()


def test_rows_of_a_file_that_is_gone_are_kept_or_named_as_lost(tmp_path: Path) -> None:
    """Given a run whose file is gone and a damaged table, when ingested, then the rest stays; the loss is named."""
    paths = some_runs(tmp_path / "outputs")
    store = tmp_path / "store"
    ingest([tmp_path / "outputs"], store)
    evals = open_store(store).read(run_ids=["run-0"]).evals.to_pylist()
    content = paths[0].read_bytes()
    paths[0].unlink()
    for table in ("sources", "steps"):
        for part in (store / table).rglob("part.parquet"):
            part.write_bytes(b"PAR1")
    done = ingest([tmp_path / "outputs"], store)
    assert (done.lost, done.gone) == ([str(paths[0])], [str(paths[0])])
    tables = open_store(store).read(run_ids=["run-0"])
    assert tables.evals.to_pylist() == evals
    assert (len(tables.steps), len(tables.files)) == (0, 1)
    paths[0].write_bytes(content)
    assert ingest([tmp_path / "outputs"], store).again == [str(paths[0])]
    assert rows(open_store(store).read()) == rows(expected(paths))


def test_a_foreign_file_is_set_aside(tmp_path: Path) -> None:
    """Given a Parquet file of somebody else's in a store, when ingested, then it is renamed, named, and kept."""
    (path, *_) = some_runs(tmp_path / "outputs", 1)
    ingest([path], tmp_path / "store")
    foreign = tmp_path / "store" / "steps" / "bucket=03" / "mine.parquet"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_bytes(b"PAR1")
    assert ingest([path], tmp_path / "store").damaged == ["steps/bucket=03/mine.parquet.damaged"]
    assert foreign.with_name("mine.parquet.damaged").read_bytes() == b"PAR1"


def test_a_reader_never_sees_half_an_ingest(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Given a reader beside ingests of growing runs, when it reads again and again, then every reading is one state."""
    folder, store = tmp_path / "outputs", tmp_path / "store"
    paths = some_runs(folder)
    ingest([folder], store)
    code = (
        "import sys\nfrom gradience_analysis.store import open_store\n"
        "while True:\n"
        "    steps = open_store(sys.argv[1]).read(tables=['steps'], columns=['run_id', 'step']).steps.to_pylist()\n"
        "    print(*(sum(row['run_id'] == name for row in steps) for name in ('run-0', 'run-1')), flush=True)\n"
    )
    command = [sys.executable, "-c", code, store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment, text=True) as child:
        assert child.stdout is not None
        seen = {child.stdout.readline()}
        for step in range(100, 115):
            change(paths, step)
            ingest([folder], store)
            seen.add(child.stdout.readline())
        child.kill()
        seen |= set(child.stdout.read().splitlines(keepends=True)[:-1])
    assert len(seen) > 2
    for line in seen:
        first, second = map(int, line.split())
        assert second - first == 1, line


def test_a_damaged_store_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Given a damaged file, when the store is read, then the message names the file and the remedy."""
    (path, *_) = some_runs(tmp_path / "outputs", 1)
    ingest([path], tmp_path / "store")
    (tmp_path / "store" / "gradience-store.json").write_text("{}")
    with pytest.raises(InputError, match=r"gradience-store.json: .*Ingest into the store again"):
        open_store(tmp_path / "store").read()
