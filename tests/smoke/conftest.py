"""Runs the smoke tests in the checkout, or against an installed wheel when GRADIENCE_SMOKE says so.

`scripts/wheel_job.sh` sets GRADIENCE_SMOKE to what it installed: `bare` (no extra) or `cli`. Nothing here imports from
the rest of the tests, because the folder is run alone, away from the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def installed() -> str:
    """What is under test: `bare`, `cli`, or `checkout`."""
    return os.environ.get("GRADIENCE_SMOKE", "checkout")


@pytest.fixture
def python(tmp_path: Path) -> Command:
    """Run this interpreter in an empty folder, importing what the tests import and nothing from the folder."""
    return lambda *words: _run([sys.executable, *words], tmp_path)


@pytest.fixture
def gradience(tmp_path: Path, installed: str) -> Command:
    """Run the `gradience` command: the console script of the installed wheel, the module in the checkout."""
    script = Path(sys.executable).with_name("gradience")
    words = [sys.executable, "-m", "gradience"] if installed == "checkout" else [str(script)]
    return lambda *arguments: _run([*words, *arguments], tmp_path)


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if "GRADIENCE_SMOKE" not in os.environ:
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
