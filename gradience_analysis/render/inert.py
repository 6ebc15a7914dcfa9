"""Makes text from files harmless to a terminal: what would steer it is shown as an escape instead."""

from __future__ import annotations

import unicodedata

# Control, format (bidi, zero width, tags), surrogate, private use, unassigned, line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# The report's own typography, for a terminal that can show ASCII only.
_PLAIN = str.maketrans({"·": "|", "…": "...", "→": "->"})


def inert(text: str) -> str:
    r"""The text with every control, bidi, zero-width and newline character written as `\n`, `\x1b`, `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _UNSAFE else char for char in text)


def plain_ascii(text: str) -> str:
    r"""The text in ASCII: the report's own signs spelled with letters, anything else as `\u4e2d`."""
    if text.isascii():
        return text
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
