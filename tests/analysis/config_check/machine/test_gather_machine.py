"""What is seen of this machine, and of made-up ones."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.config_check.machine import devices, host
from gradience_analysis.config_check.machine.devices import gather_devices
from gradience_analysis.config_check.machine.facts import DeviceFacts, HeldFile
from gradience_analysis.config_check.machine.file_system import is_network
from gradience_analysis.config_check.machine.folder import file_system, gather_folder, nearest
from gradience_analysis.config_check.machine.gather import gather_machine
from gradience_analysis.config_check.machine.host import host_memory, installed
from gradience_analysis.config_check.machine.paths import confined, is_safe_name, name_fault, path_facts
from gradience_analysis.config_check.machine.tested import TESTED
from gradience_analysis.config_check.machine.versions import within
from tests.analysis.config_check import built

ROOT = Path(__file__).parents[4]


def test_this_machine_is_seen_as_it_is(tmp_path: Path) -> None:
    """Given this machine, when looked at, then space, memory and versions are what the system says."""
    facts = gather_machine(tmp_path)
    assert facts.folder is not None
    assert facts.folder.write_fault == ""
    assert facts.folder.free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.memory_bytes is not None
    assert 0 < facts.memory_bytes <= pages
    assert {one.name: one.version for one in facts.libraries} == {
        name: importlib.metadata.version(name) for name in TESTED
    }
    assert bool(facts.devices) is not bool(facts.devices_reason)
    assert not list(tmp_path.iterdir()), "the probe is removed"


def test_the_file_system_is_that_which_stat_names(tmp_path: Path) -> None:
    """Given a folder of this machine, when its file system is looked up, then it is what `stat` and mounts say."""
    command = ["findmnt", "-n", "-o", "FSTYPE", "--target", str(tmp_path)]
    if shutil.which("findmnt") is None:
        pytest.skip("findmnt is not installed")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert file_system(tmp_path) == said[-1]


def test_without_looking_only_what_was_given_is_kept(tmp_path: Path) -> None:
    """Given `look=False`, when gathered, then the machine is not looked at."""
    facts = gather_machine(tmp_path, look=False, paths=[path_facts("--data", tmp_path)])
    assert (facts.looked, facts.folder, facts.memory_bytes, facts.libraries) == (False, None, None, ())
    assert facts.paths[0].kind == "directory"


def test_devices_are_read_from_nvidia_smi(tmp_path: Path) -> None:
    """Given what nvidia-smi prints, when read, then sizes, capability, driver and holders are there."""
    table = f"{built.gpu(0, used=500)}\n{built.gpu(1, capability='[N/A]')}"
    with built.nvidia_smi(tmp_path, table, apps="GPU-0aaaa, 4242\nGPU-1aaaa, 17\nGPU-0aaaa, 43"):
        first, second = gather_devices().found
    assert first == DeviceFacts(
        0, "A Device", 40_000 << 20, 500 << 20, 39_500 << 20, 8.0, "550.54.15", holders=(4242, 43)
    )
    assert (second.compute_capability, second.holders) == (None, (17,))


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [("1", [1]), ("1,0", [1, 0]), ("", []), ("-1", []), ("0,7,1", [0]), ("GPU-1", [1]), (" 0 , 1 ", [0, 1])],
)
def test_only_visible_devices_are_counted(tmp_path: Path, wanted: str, seen: list[int]) -> None:
    """Given CUDA_VISIBLE_DEVICES, when devices are listed, then they are those that CUDA would show, in its order."""
    with built.nvidia_smi(tmp_path, f"{built.gpu(0)}\n{built.gpu(1)}", CUDA_VISIBLE_DEVICES=wanted):
        found = gather_devices()
    assert [device.index for device in found.found] == seen
    assert bool(found.reason) is not bool(seen)


@pytest.mark.parametrize("script", ["exit 9", "echo oops; exit 0", "exec sleep 60"])
def test_a_program_that_fails_or_hangs_leaves_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """Given a broken nvidia-smi, when asked, then there is no device, with a reason, and soon."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(devices, "SECONDS", 0.3)
    started = time.monotonic()
    found = gather_devices()
    assert found.found == ()
    assert found.reason.startswith("No device was found")
    assert time.monotonic() - started < 5


def test_without_the_program_there_is_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given a PATH without nvidia-smi, when asked, then the reason says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in gather_devices().reason


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 8 << 20), (str(4 << 20), 4 << 20), (str(1 << 62), 8 << 20), (None, 8 << 20)]
)
def test_the_limit_of_the_control_group_counts(tmp_path: Path, limit: str | None, expected: int) -> None:
    """Given a meminfo and a limit, when memory is read, then it is the smaller of the two."""
    (tmp_path / "meminfo").write_text("MemTotal:   8192 kB\nMemAvailable: 4096 kB\nHugePages_Total: 0\n")
    if limit is not None:
        (tmp_path / "max").write_text(f"{limit}\n")
    assert host_memory(tmp_path / "meminfo", [tmp_path / "max"]) == (expected, 4 << 20)
    assert host_memory(tmp_path / "none", [tmp_path / "none"]) == (None, None)


@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link", "not permitted"])
def test_a_folder_that_takes_no_file_is_said(tmp_path: Path, kind: str) -> None:
    """Given something that cannot be written to, when probed, then there is a reason, and nothing is left behind."""
    path = tmp_path / "out"
    if kind == "dangling link":
        path.symlink_to(tmp_path / "gone")
    elif kind == "not permitted":
        path.mkdir()
        path.chmod(0o555)
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
    else:
        path.write_bytes(b"")
        path = path if kind == "file" else path / "run"
    facts = gather_folder(path)
    assert facts.write_fault
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_sync_is_a_fault_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a disk that refuses to sync, when probed, then that is the fault, and the file is removed."""

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    assert gather_folder(tmp_path).write_fault == "Input/output error"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_yet_is_probed_above(tmp_path: Path) -> None:
    """Given a folder three levels below an existing one, when probed, then nothing is created, and it is fine."""
    facts = gather_folder(tmp_path / "a" / "b" / "c")
    assert (facts.probed, facts.write_fault) == (str(tmp_path), "")
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert not list(tmp_path.iterdir())


def test_the_innermost_mount_decides(tmp_path: Path) -> None:
    """Given a table of mounts with a space in a name, when a folder is looked up, then the nearest above it counts."""
    inner = tmp_path.resolve() / "my data"
    inner.mkdir()
    escaped = str(inner).replace(" ", r"\040")
    table = f"/dev/a / ext4 rw 0 0\nbroken\nx {escaped} fuse.sshfs rw 0 0\ny {tmp_path.resolve()} xfs rw 0 0\n"
    (tmp_path / "mounts").write_text(table)
    assert file_system(inner, tmp_path / "mounts") == "fuse.sshfs"
    assert file_system(inner / "deeper", tmp_path / "mounts") == "fuse.sshfs"
    assert file_system(tmp_path, tmp_path / "mounts") == "xfs"
    assert file_system(Path("/"), tmp_path / "mounts") == "ext4"
    assert file_system(tmp_path, tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("fuse", True),
        ("lustre", True),
        ("ext4", False),
        ("xfs", False),
        ("overlay", False),
        ("tmpfs", False),
        ("fuse.fuse-overlayfs", False),
        ("fuseblk", False),
    ],
)
def test_network_file_systems_are_told(kind: str, network: bool) -> None:
    """Given a type of file system, when judged, then those over a network or FUSE are told from local ones."""
    assert is_network(kind) is network


def test_a_held_file_is_told_with_its_process_and_left_alone(tmp_path: Path) -> None:
    """Given a writer, when looked at many times, then it is named each time, and keeps its lock and its file."""
    path = tmp_path / "run.jsonl"
    (tmp_path / "run.1.jsonl").write_bytes(b"{}\n")
    (tmp_path / "notes.jsonl").write_bytes(b"{}\n")
    with built.writer(path) as pid:
        before = path.read_bytes()
        for _ in range(5):
            assert gather_folder(tmp_path).held == (HeldFile(str(path), pid),)
        with path.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert path.read_bytes() == before
    assert gather_folder(tmp_path).held == ()


def test_a_lock_that_the_kernel_does_not_list_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a holder that the list of locks leaves out, when looked at, then the file is held by an unknown process."""
    from gradience_analysis.config_check.machine import folder

    monkeypatch.setattr(folder, "LOCKS", tmp_path / "none")
    path = tmp_path / "run.jsonl"
    with built.writer(path):
        assert gather_folder(tmp_path).held == (HeldFile(str(path), None),)
    assert gather_folder(tmp_path).held == ()


def test_fifos_and_links_among_the_runs_are_passed_over(tmp_path: Path) -> None:
    """Given a FIFO and a link with names of runs, when looked at, then nothing waits for them."""
    os.mkfifo(tmp_path / "run.jsonl")
    (tmp_path / "run.1.jsonl").symlink_to("/dev/zero")
    facts = gather_folder(tmp_path)
    assert (facts.held, facts.locks_seen) == ((), True)


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "FIFO", "missing", "character device"])
def test_each_kind_of_path_is_told(tmp_path: Path, kind: str) -> None:
    """Given a path of each kind, when looked at, then it is called by its kind, links not followed."""
    path = tmp_path / "path"
    if kind == "file":
        path.write_bytes(b"")
    elif kind == "directory":
        path.mkdir()
    elif kind == "symlink":
        path.symlink_to(tmp_path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "character device":
        path = Path("/dev/null")
    assert path_facts("--data", path).kind == kind
    assert path_facts("--data", Path("a\0b")).kind == "missing"


@given(st.text(max_size=120))
def test_a_safe_name_is_plain(name: str) -> None:
    """Given any text, when it counts as a safe name, then it is short, plain, and no path."""
    plain = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    expected = 0 < len(name) <= 100 and set(name) <= plain and name[0] not in "._-"
    assert is_safe_name(name) is expected
    assert is_safe_name(name) is (name_fault(name) == "")


@pytest.mark.parametrize(
    "name", ["..", ".", "a/../b", "../a", "/etc", "a//b", "a/", "", "a\n", "a b", "-rf", "x" * 101]
)
def test_a_name_that_is_no_plain_path_is_refused(tmp_path: Path, name: str) -> None:
    """Given a name that leads elsewhere or is not plain, when judged below a root, then it is refused."""
    assert name_fault(name, tmp_path)
    assert not name_fault("models/adapter-1.v2", tmp_path)
    assert not name_fault("x" * 100, tmp_path)


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    """Given a link below the root, when a name passes through it, then it is refused, wherever it leads."""
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "inside").symlink_to(root / "real")
    (root / "outside").symlink_to(tmp_path)
    assert name_fault("inside", root)
    assert name_fault("outside/x", root)
    assert not name_fault("real/x", root)
    assert confined(root / "inside" / "x", root)
    assert not confined(root / "outside" / "x", root)
    assert not confined(tmp_path / "rooted", root)


def test_the_tested_ranges_are_those_of_the_project() -> None:
    """Given pyproject.toml and constraints.txt, when compared, then the ranges are what they say."""
    import re

    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    bounds = dict(re.findall(r'"(\w+)>=([\d.]+)"', (ROOT / "pyproject.toml").read_text()))
    for name, one in TESTED.items():
        assert (one.lowest, one.highest) == (bounds[name], pinned[name])


@pytest.mark.parametrize(
    ("version", "inside"),
    [
        ("2.6.0", True),
        ("2.13.9+cu128", True),
        ("2.5.1", False),
        ("2.14.0.dev1", False),
        ("3.0", False),
        ("1", False),
        ("2.10", True),
        ("?", True),
    ],
)
def test_versions_are_compared_by_number(version: str, inside: bool) -> None:
    """Given a version of torch, when held against 2.6 to 2.13.0, then the first two numbers decide."""
    from gradience_analysis.config_check.machine.tested import Range

    assert within(version, Range("2.6", "2.13.0")) is inside


def test_a_library_that_is_not_installed_has_no_version() -> None:
    """Given a name that nothing has, when looked up, then its version is None."""
    assert installed(["no-such-distribution-here"])[0].version is None
    assert host.installed(["pytest"])[0].version == pytest.__version__
