"""Imports torch once, then unpickles each file that it is asked to in a fork of its own, and says how that ended.

A line of JSON in, a line out. Ways: `product` is what the process of `convert_pickled` does once torch is imported, to
the letter; `hook` is that with torch's `weights_only` replaced by a plain pickle, so that the audit hook alone is left;
`plain` is a plain unpickling without any protection, which shows that a gadget works.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from gradience_analysis.unpickling import child
from gradience_analysis.unpickling.guard import Guard
from gradience_analysis.unpickling.landlock import confine_writing
from gradience_analysis.unpickling.limits import confine
from tests.reliability.pickles import MAGIC

SECONDS = 10


def product(request: dict[str, Any], answers: child.Answers) -> NoReturn:
    """As the process of `convert_pickled` goes on from here."""
    child.serve(answers, request)


class PlainConverter(child.Converter):
    """A converter that trusts what it reads."""

    def _loaded(self, file: Any) -> object:
        return load_plainly(file) if self._ready else super()._loaded(file)


class BlindGuard(Guard):
    """A guard that lets pickle find any name: what is done with it is left to be seen."""

    def _seen(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "pickle.find_class":
            super()._seen(event, args)


def hook(request: dict[str, Any], answers: child.Answers) -> NoReturn:
    """The same, but for the unpickler."""
    out = Path(request["out"])
    converter = PlainConverter(answers)
    converter.prepare(out)
    confine_writing(out.parent)
    confine(request["memory_bytes"], request["seconds"])

    def trip(event: str, detail: str) -> NoReturn:
        answers.end("tripped", event=event, detail=detail)

    guard = BlindGuard(request["source"], str(out.parent), trip)
    guard.install()
    converter.convert(request["source"], out, request["memory_bytes"], guard.let_write)


def plain(request: dict[str, Any], answers: child.Answers) -> NoReturn:
    """Load it as one did before, with the modules beside it in reach."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(request["source"]).parent))
    with Path(request["source"]).open("rb") as file:
        load_plainly(file)
    answers.end("loaded")


def load_plainly(file: Any) -> object:
    """Torch's own formats without `weights_only`, anything else by pickle."""
    head = file.read(300)
    file.seek(0)
    if head.startswith((b"PK", MAGIC)) or head[257:262] == b"ustar":
        return torch.load(file, weights_only=False)
    return pickle.load(file)


WAYS: dict[str, Callable[[dict[str, Any], child.Answers], NoReturn]] = {
    "product": product,
    "hook": hook,
    "plain": plain,
}


def forked(request: dict[str, Any]) -> dict[str, Any]:
    """Do one request in a fork, in its own session and folder, and wait for it."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if not pid:
        os.setsid()
        os.close(receiving)
        os.chdir(Path(request["out"]).parent)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        try:
            WAYS[request["way"]](request, child.Answers(sending))
        except BaseException:  # noqa: BLE001 (a fork must never go on as the server)
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        os._exit(0)
    os.close(sending)
    said = b""
    deadline = time.monotonic() + SECONDS
    while (left := deadline - time.monotonic()) > 0 and select.select([receiving], [], [], left)[0]:
        piece = os.read(receiving, 1 << 16)
        if not piece:
            break
        said += piece
    late = deadline <= time.monotonic()
    os.close(receiving)
    if late:
        os.killpg(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    lines = [json.loads(line) for line in said.splitlines()]
    last = lines[-1] if lines and lines[-1]["outcome"] != "ready" else {"outcome": "timed_out" if late else "crashed"}
    return {**last, "status": status}


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # what is written here need not outlast a crash
    for line in sys.stdin:
        answers.write(json.dumps(forked(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
