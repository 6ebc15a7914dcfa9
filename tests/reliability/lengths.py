"""Parametrises a test by its short and its full figure."""

from __future__ import annotations

from typing import Any

import pytest


def lengths(name: str, short: Any, full: Any) -> pytest.MarkDecorator:
    """The test runs with ``short`` in CI and, under the ``soak`` marker, with ``full``."""
    return pytest.mark.parametrize(
        name, [pytest.param(short, id="short"), pytest.param(full, id="full", marks=pytest.mark.soak)]
    )
