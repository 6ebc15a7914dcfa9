"""Words for numbers of things, alike in findings and in reports."""

from __future__ import annotations


def plural(value: int, noun: str) -> str:
    """`1 segment`, `2 segments`."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"
