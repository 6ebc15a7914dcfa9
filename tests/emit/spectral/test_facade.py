"""Importing the package costs nothing, and its names are those it lists."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from gradience_emit import spectral

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "statement",
    [
        "import gradience_emit.spectral",
        "from gradience_emit.spectral import RiskWindow, SpectralLimits, SpectralSample",
    ],
)
def test_levels_and_samples_need_no_torch(statement: str) -> None:
    """Given an interpreter without site-packages, when package and levels are imported, then nothing is missing."""
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'schema')]!r}; {statement}"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_listed_name_is_there() -> None:
    """Given the names the package lists, when looked up, then each is the one of its module; another is refused."""
    for name in spectral.__all__:
        home = importlib.import_module(f"gradience_emit.spectral.{spectral._HOMES[name]}")
        assert getattr(spectral, name) is getattr(home, name)
    assert set(spectral.__all__) <= set(dir(spectral))
    with pytest.raises(AttributeError, match="no attribute 'Spectral'"):
        spectral.__getattr__("Spectral")
