"""What could not be measured, and what to log to have it."""

from __future__ import annotations

from collections.abc import Sequence

from gradience_analysis.model import Field, Fields, Measurement


def unmeasured_fields(measurements: Sequence[Measurement], *, verbose: bool) -> Fields:
    """How many quantities; with `verbose` each on a line of its own, with the reason and what to log."""
    absent = [item for item in measurements if item.value is None]
    if verbose:
        return Fields(tuple(Field("Not measured", f"{_words(item)}: {item.reason}") for item in absent))
    if not absent:
        return Fields(())
    of = f"{len(absent)} of {len(measurements)} quantities"
    return Fields((Field("Not measured", f"{of} (--verbose names them, and what to log)"),))


def _words(item: Measurement) -> str:
    return item.name.replace("_", " ")
