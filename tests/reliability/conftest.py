"""The two lengths of a reliability test: short in ``make test``, the full figure under the ``soak`` marker."""

from __future__ import annotations

import os
import sys

import pytest


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """The environment in which a child process finds the packages of this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
