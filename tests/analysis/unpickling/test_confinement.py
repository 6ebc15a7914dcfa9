"""What the process that unpickles is held to: each limit, the kernel's rules and the audit hook, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradience_analysis.unpickling.landlock import confine_writing, landlock_version

START = """
import json, os, resource, sys, time
from pathlib import Path
from gradience_analysis.unpickling.guard import Guard
from gradience_analysis.unpickling.landlock import confine_writing
from gradience_analysis.unpickling.limits import confine
import ctypes, shutil, socket, subprocess, pickle
folder, outside, source = map(Path, sys.argv[1:])
def tried(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"
def trip(event, detail):
    os.write(1, json.dumps([event, detail]).encode())
    os._exit(0)
"""


def run(tmp_path: Path, code: str) -> tuple[object, int]:
    """What a process printed as JSON, and how it ended."""
    for name in ("folder", "outside"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "source").write_text("source")
    done = subprocess.run(
        [sys.executable, "-c", START + code, *(str(tmp_path / name) for name in ("folder", "outside", "source"))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert not done.stderr, done.stderr[-2000:]
    return json.loads(done.stdout) if done.stdout else None, done.returncode


def test_limits_hold(tmp_path: Path) -> None:
    """Given a confined process, when it takes more memory, files or disk, then it is refused, and cannot raise it."""
    found, _ = run(
        tmp_path,
        """
confine(64 << 20, 5)
limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("CORE", "NPROC", "NOFILE")}
answers = [
    tried(bytearray, 32 << 20),
    tried(bytearray, 100 << 20),
    tried((folder / "large").write_bytes, bytes(1 << 20)),
    tried(os.truncate, folder / "large", 200 << 20),
    tried(lambda: [open(source) for _ in range(40)]),
]
print(json.dumps([limits, answers]))
""",
    )
    limits, answers = found  # type: ignore[misc] # as the code above prints it
    assert limits == {"CORE": [0, 0], "NPROC": [0, 0], "NOFILE": [32, 32]}
    assert answers == ["done", "MemoryError", "done", "OSError", "OSError"]


def test_processor_time_is_limited(tmp_path: Path) -> None:
    """Given a confined process, when it computes beyond its seconds, then the system ends it with SIGXCPU."""
    assert run(tmp_path, "confine(1 << 30, 0)\nwhile True: pass") == (None, -24)


@pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock")
def test_kernel_lets_it_write_in_one_folder(tmp_path: Path) -> None:
    """Given Landlock, when the process writes, makes, starts or connects anything, then only in its folder it may."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("x")
    found, _ = run(
        tmp_path,
        """
os.chdir("/")
listening = socket.create_server(("127.0.0.1", 0))
held = confine_writing(folder)
mine, theirs = folder / "x", outside / "x"
print(json.dumps([held, [
    tried(mine.write_text, "x"), tried(os.link, mine, folder / "y"), tried(os.replace, mine, folder / "z"),
    tried(os.truncate, folder / "y", 0), tried(os.remove, folder / "y"), tried(source.read_text),
], [
    tried(theirs.write_text, "x"), tried(source.write_text, "x"), tried(os.truncate, source, 0),
    tried(os.remove, source), tried(os.mkdir, theirs), tried(os.mkfifo, theirs), tried(os.mknod, theirs),
    tried(os.symlink, source, theirs), tried(os.link, source, theirs), tried(os.rename, source, folder / "s"),
    tried(subprocess.run, ["true"]), tried(os.execv, "/bin/sh", ["sh", "-c", "true"]),
    tried(socket.socket(socket.AF_UNIX).bind, str(theirs)),
]]))
""",
    )
    held, allowed, refused = found  # type: ignore[misc] # as the code above prints it
    assert held is True
    assert {*allowed} == {"done"}
    assert {*refused} <= {"PermissionError", "OSError"}
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "source").read_text() == "source"


def test_kernel_without_landlock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a kernel without Landlock, when confined, then the answer is that it does not hold."""
    monkeypatch.setattr("gradience_analysis.unpickling.landlock.landlock_version", lambda: 0)
    assert confine_writing(tmp_path) is False
    (tmp_path / "x").write_text("x")


GUARDED = "guard = Guard(str(source), str(folder), trip)\nguard.install()\n"
READ = GUARDED + "file = os.fdopen(os.open(source, os.O_RDONLY), 'rb'); text = file.read(); file.close()\n"
WRITING = READ + "guard.let_write()\n"
SAY = "os.write(1, json.dumps('fine').encode()); os._exit(0)"


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        pytest.param(READ, "fine", id="source"),
        pytest.param(
            WRITING + "(folder / 'x').write_bytes(b'x'); os.link(folder / 'x', folder / 'y'); os.remove(folder / 'x')",
            "fine",
            id="output",
        ),
        pytest.param(GUARDED + "os.open(outside / 'x', os.O_RDONLY)", "open", id="another source"),
        pytest.param(GUARDED + "os.open(source, os.O_RDWR)", "open", id="source for writing"),
        pytest.param(READ + "os.open(source, os.O_RDONLY)", "open", id="source again"),
        pytest.param(READ + "os.fdopen(0)", "open", id="another descriptor"),
        pytest.param(READ + "(folder / 'x').write_bytes(b'x')", "open", id="output too early"),
        pytest.param(READ + "os.remove(folder / 'x')", "os.remove", id="removal too early"),
        pytest.param(WRITING + "(outside / 'x').write_bytes(b'x')", "open", id="output elsewhere"),
        pytest.param(WRITING + "open(str(folder) + '/../x', 'w')", "open", id="output up the tree"),
        pytest.param(WRITING + "open(str(folder) + '/..', 'w')", "open", id="the folder above"),
        pytest.param(WRITING + "open('x', 'w')", "open", id="output by a relative name"),
        pytest.param(WRITING + "os.link(source, outside / 'x')", "os.link", id="link to elsewhere"),
        pytest.param(WRITING + "os.rename(source, folder / 'x')", "os.rename", id="moving the source"),
        pytest.param(WRITING + "os.remove(source)", "os.remove", id="removing the source"),
        pytest.param(WRITING + "os.mkdir(folder / 'x')", "os.mkdir", id="a folder"),
        pytest.param(WRITING + "os.listdir(folder)", "os.listdir", id="listing"),
        pytest.param(READ + "os.system('true')", "os.system", id="system"),
        pytest.param(READ + "subprocess.run(['true'])", "subprocess.Popen", id="subprocess"),
        pytest.param(READ + "os.fork()", "os.fork", id="fork"),
        pytest.param(READ + "socket.socket()", "socket.__new__", id="socket"),
        pytest.param(READ + "ctypes.CDLL(None)", "ctypes.dlopen", id="ctypes"),
        pytest.param(READ + "pickle.loads(b'cos\\nsystem\\n.')", "pickle.find_class", id="pickle"),
        pytest.param(READ + "exec(b'1')", "compile", id="compile"),
        pytest.param(READ + "import this", "import", id="import"),
        pytest.param(READ + "sys._getframe()", "sys._getframe", id="frames"),
    ],
)
def test_hook_knows_what_may_happen(tmp_path: Path, code: str, answer: str) -> None:
    """Given the hook, when anything but reading the one file and writing the other happens, then it is named."""
    found, _ = run(tmp_path, f"{code}\n{SAY}")
    assert (found if isinstance(found, str) else found[0]) == answer  # type: ignore[index] # event and detail
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (tmp_path / "x").exists()
