"""Lines of a width, measured in terminal cells."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells


def wrap(text: str, width: int) -> list[str]:
    """Break text at spaces into lines of at most `width` cells; a longer word is broken, nothing is left out.

    Always at least one line.
    """
    width = max(1, width)
    if cell_len(text) <= width:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = chop_cells(word, width) if cell_len(word) > width else [word]
        lines.extend(full)
    if line:
        lines.append(line)
    return lines or [""]
