"""What the tests of the controller share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emit.controller.loops import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Train with one thread."""
    with one_thread():
        yield
