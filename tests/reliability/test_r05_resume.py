"""R5: resuming never truncates or changes one earlier byte."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from gradience_analysis import load_run
from gradience_emit import TelemetryWriter
from tests.emit import oracle

RESUMES = 50


def fingerprints(folder: Path) -> dict[str, str]:
    """sha256 of every file in the folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_fifty_resumes_leave_every_old_segment_as_it_was(tmp_path: Path) -> None:
    """Given 50 resumes, most after a torn tail, when each writes, then every earlier file has its sha256 still."""
    chance = random.Random(5)
    for resume in range(RESUMES + 1):
        before = fingerprints(tmp_path)
        writer = TelemetryWriter(tmp_path / "run.jsonl", "the run")
        writer.run_start({"model_name": "m"}, {"resume_step": resume * 10})
        for step in range(resume * 10, resume * 10 + chance.randrange(5)):
            writer.train_step(step)
        writer.close()
        after = fingerprints(tmp_path)
        assert {name: after[name] for name in before} == before
        assert len(after) == resume + 1
        head = oracle.read_strict(writer.path)[0]
        assert head["seq"] == 0
        if resume:
            assert (head["meta"]["segment"], head["meta"]["parent_segment"]) == (resume, resume - 1)
        if chance.random() < 0.7:
            with writer.path.open("ab") as file:
                file.write(b'{"schema":"gradience.vnext.telemetry/v1","ts":1.0,"run'[: chance.randrange(1, 50)])
    assert len(load_run(tmp_path).segments) == RESUMES + 1


def test_fifty_continuations_of_one_file_only_ever_append(tmp_path: Path) -> None:
    """Given 50 continuations of the same file with torn tails, when each writes, then the file begins as it was."""
    path = tmp_path / "run.jsonl"
    chance = random.Random(6)
    for _ in range(RESUMES):
        before = path.read_bytes() if path.exists() else b""
        writer = TelemetryWriter(path, "the run", if_exists="append")
        writer.train_step(1)
        writer.close()
        assert path.read_bytes().startswith(before)
        if chance.random() < 0.7:
            with path.open("ab") as file:
                file.write(b'{"torn'[: chance.randrange(1, 7)])
    whole = [line for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert [oracle.strict_loads(line)["seq"] for line in whole] == list(range(RESUMES))
