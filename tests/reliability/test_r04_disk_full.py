"""R4: on a full disk a short write is cut back, events wait, and after space returns the file is clean."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradience_emit import TelemetryWriter
from tests.emit import oracle


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; skips where we may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode(errors='replace').strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system(small_disk: Path) -> None:
    """Given a real full disk, when events go on and space returns, then all that fit the ring is there."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 950_000)
    with TelemetryWriter(small_disk / "run.jsonl", retry_every_s=0.0) as writer:
        writer.run_start({})
        for step in range(1500):
            writer.train_step(step, text="y" * 100)
            assert writer.path.read_bytes().endswith(b"\n"), "a torn line stands on the full disk"
        waited = writer._spool.waiting
        assert waited == 1000
        assert writer.dropped > 0
        ballast.unlink()
        writer.train_step(1500)
    records = oracle.read_strict(writer.path)
    (gap,) = [record for record in records if record.get("code") == "telemetry_gap"]
    assert gap["context"]["lost"] == writer.dropped
    assert len(records) + writer.dropped == 1500 + 4
    assert records[0]["event"] == "run_start"


def test_a_file_size_limit(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Given RLIMIT_FSIZE for a while, when it is lifted, then no line is torn, fused or missing."""
    script = f"""
import resource
from gradience_emit import TelemetryWriter
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with TelemetryWriter({str(tmp_path / "run.jsonl")!r}, retry_every_s=0.0) as writer:
    writer.run_start({{}})
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, hard))
    for step in range(600):
        writer.train_step(step, loss=0.5)
    data = writer.path.read_bytes()
    assert 60_000 < len(data) <= 64_000 and data.endswith(b"\\n"), len(data)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    writer.train_step(600)
    assert writer.dropped == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=child_environment, timeout=60)
    records = oracle.read_strict(tmp_path / "run.jsonl")
    assert [record["seq"] for record in records] == list(range(604))
    assert [record["step"] for record in records if record["event"] == "train_step"] == list(range(601))
    assert records[-2]["code"] == "telemetry_gap"
