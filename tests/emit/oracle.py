"""What the tests hold the emitter against: a strict parser, the published schema, JSON pointers."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from gradience_schema import load_schema, registry

WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def strict_loads(line: bytes) -> Any:
    """One JSON text as RFC 8259 and UTF-8 have it: no NaN, no duplicate key, no lone surrogate."""
    return json.loads(line.decode("utf-8", "strict"), parse_constant=_no_constant, object_pairs_hook=_unique)


def read_strict(path: Path) -> list[dict[str, Any]]:
    """Every record of a clean segment; fails unless each line is strict JSON and the last byte is a newline."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n"), f"torn tail in {path.name}"
    return [strict_loads(line) for line in data.split(b"\n")[:-1]]


def assert_valid(record: dict[str, Any]) -> None:
    """The record is valid against the published schema, by the reference validator."""
    faults = [f"{fault.json_path}: {fault.message[:200]}" for fault in _validator().iter_errors(record)]
    assert not faults, faults


def restored(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its non-finite numbers put back, as a reader does it."""
    for pointer, word in record.get("nonfinite", {}).items():
        parent, key = locate(record, pointer)
        assert parent[key] is None, f"{pointer} is noted as {word} but holds {parent[key]!r}"
        parent[key] = WORDS[word]
    return record


def locate(record: Any, pointer: str) -> tuple[Any, Any]:
    """The container that a JSON pointer leads to, and the key or index in it."""
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for part in path:
        record = record[int(part)] if isinstance(record, list) else record[part]
    return record, int(last) if isinstance(record, list) else last


def depth(value: Any) -> int:
    """Levels of nesting: 0 for a scalar."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def same(one: Any, other: Any) -> bool:
    """Equality in which NaN equals NaN, 1 is not 1.0 and True is not 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


@functools.cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(load_schema(), registry=registry())


def _no_constant(token: str) -> None:
    raise AssertionError(f"{token} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    assert len(tree) == len(pairs), f"duplicate key among {[key for key, _ in pairs][:20]}"
    return tree
