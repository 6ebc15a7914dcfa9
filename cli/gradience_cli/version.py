"""The version line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_line() -> str:
    """`gradience 0.1.0`; a checkout that was never installed has no version to show."""
    try:
        return f"gradience {version('gradience')}"
    except PackageNotFoundError:
        return "gradience (run from a checkout that is not installed)"
