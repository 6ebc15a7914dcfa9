"""Starts `unpickling_server` and asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

MIB = 1 << 20
_SERVER = Path(__file__).with_name("unpickling_server.py")


class UnpicklingServer:
    """The server, for as long as the `with` block lasts."""

    def __enter__(self) -> Self:
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, way: str, source: Path, out: Path) -> dict[str, Any]:
        """How the unpickling of a file ended, one of the server's ways, with what came out at `out`."""
        assert self._process.stdin
        assert self._process.stdout
        out.parent.mkdir(exist_ok=True)
        request = {"way": way, "source": str(source), "out": str(out), "memory_bytes": 256 * MIB, "seconds": 1}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
