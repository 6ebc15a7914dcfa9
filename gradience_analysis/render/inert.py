"""Makes text from files harmless to a terminal: what would steer it is shown as an escape instead."""

from __future__ import annotations

import unicodedata

# Control, format (bidi, zero width, tags), surrogate, private use, unassigned, line and paragraph separators, and marks
# that are drawn around the letter before.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Me"})
# Letters and marks that show nothing: fillers, joiners, and the selectors by which text can be hidden in text.
_INVISIBLE = frozenset(
    chr(code)
    for codes in (
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
    for code in codes
)
# The report's own typography, for a terminal that can show ASCII only.
_PLAIN = str.maketrans({"·": "|", "…": "...", "→": "->"})


def inert(text: str) -> str:
    r"""The text with every control, bidi, invisible and newline character written as `\n`, `\x1b`, `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(char) if unicodedata.category(char) in _UNSAFE or char in _INVISIBLE else char for char in text
    )


def plain_ascii(text: str) -> str:
    r"""The text in ASCII: the report's own signs spelled with letters, anything else as `\u4e2d`."""
    if text.isascii():
        return text
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
