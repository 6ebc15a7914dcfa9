"""Lines of telemetry that are nearly right: real records, changed at random in what a schema looks at."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradience_schema import EVENT_TYPES

FIXTURES = Path(__file__).parents[2] / "fixtures"
_MARK = "\ue000"
_RAW = re.compile(f'"{_MARK}([^{_MARK}]*){_MARK}"')
Place = tuple[Any, Any]


def raw(text: str) -> str:
    """Stands for a token that `json.dumps` would not write so."""
    return f"{_MARK}{text}{_MARK}"


NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 0.5, 1.0),
    *(1e300, 5e-324, -1e-9, 1.5, 1e16),
    *map(
        raw, ("1.0", "1e0", "1E+2", "10e-1", "-0", "-0.0", "0.0e5", "1e400", "-1e999", "NaN", "Infinity", "-Infinity")
    ),
)
STRINGS: tuple[Any, ...] = (
    *("", " ", "x", "1", "1.5", "nan", "inf", "-inf", "NaN", "ok", "aborted", "error", "info", "critical", "done"),
    *("é", "\U0001f600", "\u2028", "a\u0000b", "\x7f", "/", "/loss", "/a~1b", "/a~2", "~", "x" * 300, "generation"),
    *map(raw, ('"\\ud800"', '"\\u0073"', '"/lo\\u0073s"')),
)
KEYS = (
    *("schema", "ts", "run_id", "event", "step", "seq", "nonfinite", "renamed", "truncated", "dropped_events"),
    *(
        "telemetry_faults",
        "loss",
        "lr",
        "grad_norm",
        "epoch",
        "split",
        "metrics",
        "kind",
        "severity",
        "code",
        "message",
    ),
    *(
        "context",
        "status",
        "reason",
        "config",
        "meta",
        "recommendations",
        "optimizer",
        "lora",
        "training",
        "betas",
        "r",
    ),
    *("alpha", "target_modules", "rank_pattern", "alpha_pattern", "segment", "parent_segment", "resume_step", "extras"),
    *(
        "task_profile",
        "confidence",
        "evidence",
        "scope",
        "x",
        "",
        "a/b",
        "é",
        "/loss",
        "/metrics/0",
        "lr~",
        "STEP",
        "Loss",
    ),
)


def lines(seed: int, count: int) -> Iterator[bytes]:
    """So many lines, the same for the same seed; none is blank, and each is JSON but for bare NaN and its like."""
    rng = random.Random(seed)
    pool = records()
    for _ in range(count):
        record = json.loads(rng.choice(pool))
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
            _change(rng, record)
        yield _written(rng, record)


def records() -> list[str]:
    """Real records of every event type, as many of each type, as text."""
    found: dict[str, set[str]] = {}
    for path in sorted((FIXTURES / "runs").glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found.setdefault(json.loads(line)["event"], set()).add(line)
    for path in sorted((FIXTURES / "telemetry" / "v1" / "valid").glob("*/*.json")):
        text = path.read_text(encoding="utf-8")
        found.setdefault(json.loads(text)["event"], set()).add(text)
    known = [sorted(found[event])[:40] for event in EVENT_TYPES]
    return [text for texts in known for text in (texts * 40)[:40]] + sorted(found.get("my_team_event", ()))


def _change(rng: random.Random, record: dict[str, Any]) -> None:
    """One change somewhere: in the envelope as often as below it."""
    places = list(_places(record))
    if not places:
        return
    holder, key = rng.choice(places if rng.random() < 0.5 else [(record, key) for key in record])
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1 | 2:
            holder[key] = _value(rng, 2)
        case 3:
            target = rng.choice([record, *(holder for holder, _ in places if isinstance(holder, dict))])
            target[rng.choice(KEYS)] = _value(rng, 2)
        case 4:
            holder[key] = rng.choice(([holder[key]], {"x": holder[key]}, {rng.choice(KEYS): holder[key]}))
        case 5:
            inner = holder[key]
            if isinstance(inner, dict | list) and inner:
                holder[key] = rng.choice(list(inner.values()) if isinstance(inner, dict) else inner)
        case 6:
            record["event"] = rng.choice((*EVENT_TYPES, "my_event", "Eval", ""))
        case _:
            _mark(rng, record)


def _mark(rng: random.Random, record: dict[str, Any]) -> None:
    """A field of the kind that our emitter adds, right or nearly so."""
    pointer = rng.choice(("/loss", "/lr/0", "/metrics/loss", "/a~1b", "/x", "loss", "", "/a~2", "//", "/lo\nss"))
    name, value = rng.choice(
        (
            ("nonfinite", rng.choice(("nan", "inf", "-inf", "NaN", None, 1))),
            ("renamed", rng.choice(("ts", "", None, 1))),
            ("truncated", rng.choice((0, 5, 5.0, -1, "5", None, raw("1e400")))),
        )
    )
    record[name] = {pointer: value}


def _places(value: Any) -> Iterator[Place]:
    """Every entry of every container, by the container and the key."""
    entries = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in entries:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8 if depth else 6)
    if kind == 6:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice(KEYS): _value(rng, depth - 1) for _ in range(rng.randrange(3))}
    return (None, rng.random() < 0.5, rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice(STRINGS), rng.random())[kind]


def _written(rng: random.Random, record: dict[str, Any]) -> bytes:
    """The record as text, in one of the styles that encoders have."""
    items = list(record.items())
    if rng.random() < 0.3:
        rng.shuffle(items)
    text = json.dumps(
        dict(items),
        ensure_ascii=rng.random() < 0.5,
        separators=rng.choice(((",", ":"), (", ", ": "), (" ,\t", " : "))),
    )
    text = _RAW.sub(lambda match: match[1].replace('\\"', '"').replace("\\\\", "\\"), text.replace("\\ue000", _MARK))
    if rng.random() < 0.05:
        text = _repeated(rng, record, text)
    if rng.random() < 0.03:
        text = text.replace('"step"', '"st\\u0065p"').replace('"event"', '"\\u0065vent"')
    return text.encode("utf-8", "surrogatepass")


def _repeated(rng: random.Random, record: dict[str, Any], text: str) -> str:
    """The same with a key that stands twice, before the rest or behind it."""
    key = rng.choice([key for key in record if _MARK not in key] or ["x"])
    member = (
        f"{json.dumps(key)}:{rng.choice(('1', '1.0', 'null', '[]', '{}', 'true', json.dumps(rng.choice(EVENT_TYPES))))}"
    )
    if text == "{}":
        return f"{{{member},{member}}}"
    return f"{{{member},{text[1:]}" if rng.random() < 0.5 else f"{text[:-1]},{member}}}"
