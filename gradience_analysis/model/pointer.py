"""Places inside a JSON value."""

from __future__ import annotations


def pointer_part(key: str) -> str:
    """A key as one part of a JSON pointer (RFC 6901): `~` is written `~0`, and `/` is written `~1`."""
    return key.replace("~", "~0").replace("/", "~1")
