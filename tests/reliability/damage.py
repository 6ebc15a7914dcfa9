"""Damage to one line of a real file: of a kind that loses the line, or of one that a reader reports and reads past."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.analysis import judge

MAX_LINE_BYTES = 1 << 20  # as the contract has it
Damage = Callable[[random.Random, bytes], bytes]


def lose(rng: random.Random, line: bytes, kind: str) -> bytes:
    """The line, damaged so that no reader can take it for a record; without a newline, and not empty."""
    while True:
        damaged = LOSING[kind](rng, line)
        if b"\n" in damaged or not damaged.strip():
            continue
        if len(damaged) > MAX_LINE_BYTES or not judge.valid(damaged.removesuffix(b"\r")):
            return damaged


def _flip(rng: random.Random, line: bytes) -> bytes:
    data = bytearray(line)
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _insert(*what: bytes) -> Damage:
    def damage(rng: random.Random, line: bytes) -> bytes:
        place = rng.randrange(len(line) + 1)
        return line[:place] + rng.choice(what) + line[place:]

    return damage


def _replace_bytes(rng: random.Random, line: bytes) -> bytes:
    start = rng.randrange(len(line))
    stop = min(len(line), start + rng.randrange(1, 20))
    return line[:start] + rng.randbytes(stop - start).replace(b"\n", b"\x00") + line[stop:]


def _cut(rng: random.Random, line: bytes) -> bytes:
    place = rng.randrange(1, len(line))
    return rng.choice((line[:place], line[place:]))


def _cut_out(rng: random.Random, line: bytes) -> bytes:
    start = rng.randrange(len(line) - 1)
    return line[:start] + line[rng.randrange(start + 1, len(line)) :]


def _change(name: str, *values: Any) -> Damage:
    """Another value for a field of the envelope; an absent one is added."""
    return lambda rng, line: dump(json.loads(line) | {name: rng.choice(values)})


def _drop(rng: random.Random, line: bytes) -> bytes:
    record = json.loads(line)
    del record[rng.choice(("schema", "ts", "run_id", "event", "step"))]
    return dump(record)


def dump(record: Mapping[str, Any]) -> bytes:
    """A record as a line."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


LOSING: dict[str, Damage] = {
    "bits flipped": _flip,
    "bytes overwritten": _replace_bytes,
    "cut off": _cut,
    "a piece missing": _cut_out,
    "NUL inside": _insert(b"\x00", b"\x00" * 512),
    "NUL throughout": lambda rng, line: b"\x00" * rng.choice((1, len(line), 4096)),
    "0xFF inside": _insert(b"\xff", b"\xfe", b"\xc0\x80", b"\xed\xa0\x80"),
    "byte order mark inside the file": lambda rng, line: b"\xef\xbb\xbf" + line,
    "UTF-16": lambda rng, line: line.decode().encode(rng.choice(("utf-16-le", "utf-16-be", "utf-16"))),
    "latin-1": lambda rng, line: line[:-1] + ',"note":"café"}'.encode("latin-1"),
    "the line twice": lambda rng, line: line + rng.choice((b"", b" ", b",", b"\r")) + line,
    "text before": lambda rng, line: b"INFO 12:00:01 " + line,
    "text after": lambda rng, line: line + b" <- here",
    "Python's repr": lambda rng, line: repr(json.loads(line)).encode(),
    "another line of text": lambda rng, line: b"Traceback (most recent call last):",
    "in an array": lambda rng, line: b"[" + line + b"]",
    "in a string": lambda rng, line: json.dumps(line.decode()).encode(),
    "ts of another type": _change("ts", "x", "1.5", None, True, [1.0], {}),
    "run_id of another type": _change("run_id", [1], 7, None, "", {}),
    "event of another type": _change("event", {}, 7, None, ["train_step"]),
    "step of another type": _change("step", "7", -1, 0.5, True, []),
    "seq of another type": _change("seq", "7", -1, 0.5, True, None),
    "another schema": _change("schema", "gradience.vnext.telemetry/v2", "v1", None, 1, {}),
    "a field of the envelope missing": _drop,
    "a repeated key of another type": lambda rng, line: line[:-1] + b',"ts":"noon"}',
    "too long": lambda rng, line: line[:-1] + b',"note":"' + b"x" * (1 << 20) + b'"}',
    "too deep": lambda rng, line: line[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "an integer of too many digits": lambda rng, line: line[:-1] + b',"x":' + b"7" * 5_000 + b"}",
}


def _again(rng: random.Random, line: bytes) -> bytes:
    """One member twice, with its own value."""
    record = json.loads(line)
    name = rng.choice(list(record))
    return line[:-1] + b"," + dump({name: record[name]})[1:]


READ: dict[str, tuple[Damage, str]] = {
    "a repeated key": (_again, "repeated_key"),
    "bare NaN": (lambda rng, line: line[:-1] + b',"x":' + rng.choice((b"NaN", b"-Infinity")) + b"}", "nonfinite_token"),
    "a lone surrogate": (lambda rng, line: line[:-1] + rb',"x":"\ud800"}', "lone_surrogate"),
    "a number beyond a double": (lambda rng, line: line[:-1] + b',"x":1e999}', "number_overflow"),
    "an unknown event": (lambda rng, line: dump(json.loads(line) | {"event": "train_stp"}), "unknown_event"),
    "a mark without a null": (
        lambda rng, line: dump(json.loads(line) | {"nonfinite": {"/absent": "nan"}}),
        "nonfinite_unplaced",
    ),
}
"""Kind → damage that loses nothing, and the code that reports it."""
