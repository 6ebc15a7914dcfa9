"""What a run_start says of the machine and the process that write it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradience_emit import TelemetryWriter, origin
from tests.emit import oracle

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def meta_of(path: Path, meta: dict[str, Any] | None = None) -> dict[str, Any]:
    """The meta of a run_start, as it is written."""
    with TelemetryWriter(path) as writer:
        writer.run_start({}, meta)
    found: dict[str, Any] = oracle.read_strict(path)[0]["meta"]
    return found


@needs_proc
def test_the_writer_names_its_process(tmp_path: Path) -> None:
    """Given a plain writer, when the run starts, then its meta has the machine's digests and this process's numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = str(Path("/proc/self/ns/pid").readlink())
    meta = meta_of(tmp_path / "run.jsonl")
    assert meta["host"] == "sha256:" + hashlib.sha256(platform.node().encode()).hexdigest()[:12]
    assert meta["boot_id"] == "sha256:" + hashlib.sha256(boot.encode()).hexdigest()[:12]
    assert meta["pid"] == os.getpid()
    assert namespace == f"pid:[{meta['pid_namespace']}]"
    assert boot not in json.dumps(meta)


@needs_proc
def test_the_start_is_that_of_the_process_and_stays(tmp_path: Path) -> None:
    """Given this process and a later one, when both say when they began, then one stays and the other is later."""
    script = "from gradience_emit import origin; print(origin.process()['pid_start'])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    later = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, timeout=60, env=environment
    ).stdout
    own = origin.process()["pid_start"]
    assert meta_of(tmp_path / "run.jsonl")["pid_start"] == own
    assert own < int(later)
    ticks = os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < own / ticks < uptime


def test_what_the_user_says_stays(tmp_path: Path) -> None:
    """Given a host name that the user allows, when the run starts, then it is kept beside the rest."""
    meta = meta_of(tmp_path / "run.jsonl", {"host": "node-7", "framework": "own"})
    assert (meta["host"], meta["framework"], meta["pid"]) == ("node-7", "own", os.getpid())


@pytest.mark.parametrize(("allow", "shown"), [(True, "node-7"), (False, "sha256:")])
def test_the_name_of_the_machine_is_hashed_unless_allowed(
    monkeypatch: pytest.MonkeyPatch, allow: bool, shown: str
) -> None:
    """Given a machine's name, when asked for, then it is a digest, or the name where that is allowed."""
    monkeypatch.setattr(platform, "node", lambda: "node-7")
    host = origin.host(allow_hostname=allow)
    assert host is not None
    assert host.startswith(shown)
    assert ("node-7" in host) is allow


def test_a_machine_that_says_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given no name and no /proc, when the run starts, then only the number of the process is written."""
    monkeypatch.setattr(platform, "node", lambda: "")
    monkeypatch.setattr(origin, "_PROC", tmp_path / "none")
    assert meta_of(tmp_path / "run.jsonl") == {"pid": os.getpid()}


def test_a_fault_in_it_costs_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given a system call that fails as none should, when the run starts, then the rest of the meta is written."""

    def broken() -> int:
        raise RuntimeError("no process")

    monkeypatch.setattr(os, "getpid", broken)
    assert meta_of(tmp_path / "run.jsonl", {"framework": "own"}) == {"framework": "own"}
