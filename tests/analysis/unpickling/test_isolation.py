"""The process that unpickles, as seen from outside: what it gets, how it is heard, and that it ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.unpickling import convert_pickled, isolation
from gradience_analysis.unpickling.isolation import Outcome
from gradience_analysis.unpickling.wording import failure


def refusal(path: Path, **limits: Any) -> str:
    """Why a file is not converted; nothing may be left of the attempt."""
    out = path.parent / "out" / "x.safetensors"
    out.parent.mkdir(exist_ok=True)
    with pytest.raises(InputError) as caught:
        convert_pickled(path, out, **limits)
    assert list(out.parent.iterdir()) == []
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that has a file read by another program than ours, and gives the refusal."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")

    def run(code: str) -> str:
        program = tmp_path / "program.py"
        program.write_text(f"import json, os, signal, sys, time\nrequest = json.loads(sys.argv[1])\n{code}")
        monkeypatch.setattr(isolation, "_CHILD", program)
        return refusal(path, seconds=1)

    return run


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process that read it was ended by SIGSEGV."),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "takes longer than unpickling may take."),
        ("os.kill(os.getpid(), 40)", "was ended by signal 40."),
        ("sys.exit(3)", "ended without a word."),
        ("print('x' * 100_000)", "ended without a word."),
        ("print('not json')", "ended without a word."),
        ("print('[1]')", "ended without a word."),
        ('print(\'{"outcome": "ready"}\', flush=True); time.sleep(60)', "takes longer than the 1 seconds"),
        ('print(\'{"outcome": "done"}\')', "was not converted: what came back is no sound safetensors file."),
        ("os.symlink('/etc/passwd', request['out']); print('{\"outcome\": \"done\"}')", "no sound safetensors file."),
        ("open(request['out'], 'w').write('x' * 99); print('{\"outcome\": \"done\"}')", "no sound safetensors file."),
        ('print(\'{"outcome": "strange"}\')', "was not converted."),
        ('print(\'{"outcome": "too_large", "size": "x"}\')', "names more bytes of tensors; at most"),
    ],
    ids=range(13),
)
def test_process_that_goes_wrong_is_worded(child: Callable[[str], str], code: str, words: str) -> None:
    """Given a process that dies, lies, talks nonsense or hangs, when it is listened to, then one sentence says so."""
    assert words in child(code)


def test_what_the_process_started_is_ended_with_it(child: Callable[[str], str], tmp_path: Path) -> None:
    """Given a process that left another one behind, when it is done, then neither is there any more."""
    number = tmp_path / "number"
    started = time.monotonic()
    child(f"pid = os.fork()\nif not pid:\n    time.sleep(60)\nopen({str(number)!r}, 'w').write(str(pid))\nsys.exit(0)")
    assert time.monotonic() - started < 30
    status = Path(f"/proc/{number.read_text()}/status")
    deadline = time.monotonic() + 10
    while status.exists() and "zombie" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not status.exists() or "zombie" in status.read_text()


def test_environment_and_files_are_not_handed_on(
    child: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given secrets in the environment and open files, when a process is started, then it has neither."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    seen = tmp_path / "seen"
    descriptor = os.open(tmp_path / "a.bin", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        child(
            "found = [sorted(os.environ), sorted(os.listdir('/proc/self/fd')), os.listdir('.'), "
            f"os.getsid(0) == os.getpid(), sys.flags.isolated]\nopen({str(seen)!r}, 'w').write(json.dumps(found))"
        )
    finally:
        os.close(descriptor)
    names, descriptors, files, leads, isolated = json.loads(seen.read_text())
    assert {*names} <= {
        "CUDA_VISIBLE_DEVICES", "HOME", "LC_ALL", "LD_LIBRARY_PATH", "MKL_NUM_THREADS", "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS", "TMPDIR", "TORCH_DEVICE_BACKEND_AUTOLOAD",
    }  # fmt: skip
    assert {*descriptors} <= {"0", "1", "2", "3"}  # 3 lists the folder
    assert (files, leads, isolated) == ([], True, 1)


def test_no_process_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a system that starts no process, when converted, then the error says that."""
    (tmp_path / "a.bin").write_bytes(b"x")
    monkeypatch.setattr(isolation.sys, "executable", str(tmp_path / "gone"))
    text = refusal(tmp_path / "a.bin")
    assert "torch cannot be used safely here ('no process: No such file or directory')" in text


def test_slow_import_is_said(tmp_path: Path) -> None:
    """Given a torch that never gets imported, when worded, then the sentence says how long was waited."""
    error = failure(tmp_path, Outcome("never_ready", {}), memory_bytes=1, seconds=1)
    assert "importing torch took longer than 180 seconds" in str(error)
