"""Whether a line is valid telemetry/v1: by `json` and by `jsonschema` on the published root schema, no code of ours."""

from __future__ import annotations

import functools
import json
import math

from jsonschema import Draft202012Validator

from gradience_schema import load_schema, registry


@functools.cache
def _root() -> Draft202012Validator:
    return Draft202012Validator(load_schema(), registry=registry())


def valid(line: bytes) -> bool:
    """Whether readers must accept a line. What is tolerated, and what is asked beyond the schema, stands here.

    * Of a key that stands twice the last value counts, as in `json`.
    * The tokens NaN, Infinity and -Infinity, and numbers beyond a double, are floats that are not finite. JSON Schema
      counts them as numbers, and not as integers.
    * A lone surrogate is read as U+FFFD.
    * `ts` must be finite: so says the description of the schema, and no keyword of JSON Schema can.
    """
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    if b"\\ud" in line.lower():
        text = json.dumps(value, ensure_ascii=False)
        value = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return _root().is_valid(value) and is_finite(value["ts"])


def is_finite(number: float) -> bool:
    """Whether a number, perhaps an integer beyond every double, has a place in time."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
