"""Brings rows that lie by bucket and run into the order of their files, without comparing a string for each row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradience_analysis.tables.arrow import pa, pc


class Span(NamedTuple):
    """Rows one after the other that came from one file.

    Attributes:
        path: The file.
        start: The first row.
        length: How many there are.
    """

    path: str
    start: int
    length: int


def spans(paths: Any, start: int) -> list[Span]:
    """The stretches of equal paths in a dictionary-encoded chunked column, counted from `start`."""
    found: list[Span] = []
    for chunk in paths.chunks:
        codes = chunk.indices.to_numpy()
        names = chunk.dictionary.to_pylist()
        firsts = np.flatnonzero(np.diff(codes, prepend=-1)) if len(codes) else np.empty(0, dtype=np.int64)
        for first, end in zip(firsts.tolist(), [*firsts[1:].tolist(), len(codes)], strict=True):
            if found and found[-1].path == names[codes[first]]:
                found[-1] = found[-1]._replace(length=found[-1].length + end - first)
            else:
                found.append(Span(names[codes[first]], start + first, end - first))
        start += len(chunk)
    return found


def in_file_order(table: Any, found: list[Span], line: Any = None) -> Any:
    """The rows by path, and in a file by line.

    Args:
        table: Rows in which those of one run in one file are in order of their lines.
        found: Where the rows of each path lie.
        line: Numbers that rise in each file, such as those of the lines; None when its rows lie together, in order.
    """
    ordered = sorted(found, key=lambda span: span.path)
    if line is not None and _share_a_file(found, line):
        # Runs that share a file lie one after the other, and their lines have to find together again.
        ranks = np.repeat(np.arange(len(ordered)), [span.length for span in ordered])
        first = {path: rank for rank, path in reversed(list(enumerate(span.path for span in ordered)))}
        ranks = np.array([first[span.path] for span in ordered])[ranks]
        rows = np.concatenate([np.arange(span.start, span.start + span.length) for span in ordered])
        lines = line.to_numpy()[rows]
        return table.take(pa.array(rows[np.lexsort([lines, ranks])]))
    if ordered == found:
        return table
    return pa.concat_tables([table.slice(span.start, span.length) for span in ordered])


def _share_a_file(found: list[Span], line: Any) -> bool:
    """Whether lines of one file are out of order, because runs lie in it side by side."""
    if len({span.path for span in found}) < len(found):
        return True
    goes_back = np.flatnonzero(np.diff(line.to_numpy()) < 0) + 1
    return not set(goes_back.tolist()) <= {span.start for span in found}


def decoded(column: Any) -> Any:
    """A dictionary-encoded column as plain text."""
    return pc.cast(column, pa.string())
