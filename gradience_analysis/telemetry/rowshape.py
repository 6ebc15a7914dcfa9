"""The shape of a file's `train_step` records, learned from the file, so that nearly all of them decode in one call.

A trainer writes the same few scalars thousands of times. Once their names and JSON types are known, msgspec decodes
them into a struct made for them, several times faster than into a dict, and refuses whatever is different.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from gradience_analysis.model import Event
from gradience_schema import SCHEMA_ID

MAX_FIELDS = 512
MAX_NAME_CHARS = 256
_Count: Any = Annotated[int, msgspec.Meta(ge=0)]
_NAME: Any = Annotated[str, msgspec.Meta(min_length=1)]
_ENVELOPE: Final[Mapping[str, Any]] = {
    "schema": Literal[SCHEMA_ID],  # pyright: ignore[reportInvalidTypeForm]
    "ts": float,
    "run_id": _NAME,
    # Not msgspec's tag: a struct that stands alone is also made of an object without its tag.
    "event": Literal["train_step"],
    "step": _Count,
    "seq": _Count,
    "dropped_events": _Count,
    "telemetry_faults": _Count,
}
_TYPES: Final[Mapping[str, Any]] = {
    "number": int | float,
    "string": str,
    "boolean": bool,
    "null": None,
    "array": list[int | float | None],
}
_KINDS: Final[Mapping[type[Any], str]] = {
    float: "number",
    int: "number",
    str: "string",
    bool: "boolean",
    type(None): "null",
}
# JSON types that a rate may change between without changing its meaning.
# msgspec renames no field to what JSON has to escape.
_NAMEABLE: Final = re.compile(r'[^\x00-\x1f"\\]*\Z')
_NUMERIC = frozenset({"number", "array", "null"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the rows.

    Attributes:
        name: Key in the record.
        kinds: JSON types it was seen with.
        optional: Some rows lack it.
    """

    name: str
    kinds: frozenset[str]
    optional: bool = False

    @property
    def steady(self) -> bool:
        """Whether its values keep one JSON type (a list of rates counts as a number, null as any)."""
        return self.kinds <= _NUMERIC or len(self.kinds - {"null"}) == 1


@dataclass(frozen=True)
class RowShape:
    """Fields of the rows: payload scalars, and which optional envelope fields stand beside them.

    Attributes:
        fields: Payload fields, in the order of their first appearance.
        extras: Names of the optional envelope fields, each with whether some rows lack it.
    """

    fields: tuple[Field, ...]
    extras: tuple[tuple[str, bool], ...]

    @classmethod
    def of(cls, event: Event) -> RowShape | None:
        """The shape of one record; None when it is not flat, or holds what only a careful reading gets right."""
        kinds: dict[str, str] = {}
        for name, value in event.payload.items():
            kind = _kind(name, value)
            if kind is None or len(name) > MAX_NAME_CHARS or not _NAMEABLE.match(name):
                return None
            kinds[name] = kind
        if event.step is None or event.nonfinite or len(kinds) > MAX_FIELDS or event.event != "train_step":
            return None
        extras = {"seq": event.seq is not None}
        extras |= {"dropped_events": event.dropped_events > 0, "telemetry_faults": event.telemetry_faults > 0}
        return cls(
            tuple(Field(name, frozenset({kind})) for name, kind in kinds.items()),
            tuple((name, False) for name, there in extras.items() if there),
        )

    def widened(self, other: RowShape) -> RowShape:
        """The smallest shape that holds the rows of both."""
        theirs = {field.name: field for field in other.fields}
        mine = {field.name for field in self.fields}
        fields = [
            Field(
                field.name,
                field.kinds | (theirs[field.name].kinds if field.name in theirs else frozenset[str]()),
                field.optional or field.name not in theirs or theirs[field.name].optional,
            )
            for field in self.fields
        ]
        fields += [Field(field.name, field.kinds, optional=True) for field in other.fields if field.name not in mine]
        here, there = dict(self.extras), dict(other.extras)
        extras = tuple(
            (name, here.get(name, True) or there.get(name, True)) for name in _ENVELOPE if name in here or name in there
        )
        return RowShape(tuple(fields), extras)

    @functools.cached_property
    def decode(self) -> Callable[[bytes], Any]:
        """Makes a struct of a line that has this shape; raises what msgspec raises at any other line."""
        return _decoder(self)

    @functools.cached_property
    def attributes(self) -> Mapping[str, str]:
        """Payload field → attribute of the struct that holds it."""
        return {field.name: f"f{place}" for place, field in enumerate(self.fields)}

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """Attributes of the fields that may hold strings."""
        return tuple(self.attributes[field.name] for field in self.fields if "string" in field.kinds)

    @functools.cached_property
    def options(self) -> Mapping[str, str]:
        """Attributes that may be absent, with the names they stand for."""
        absent = {self.attributes[field.name]: field.name for field in self.fields if field.optional}
        return absent | {name: name for name, optional in self.extras if optional}

    def colons(self, rows: Sequence[Any], run_ids: Collection[str]) -> tuple[int, int]:
        """Colons that these rows have as text when no key is repeated: between key and value, and inside strings.

        Args:
            rows: Structs of this shape.
            run_ids: Every run id among them.
        """
        total: int = len(rows) * (5 + len(self.extras) + len(self.fields))  # schema, ts, run_id, event, step
        inside = len(rows) * sum(map(_colons, self.attributes))
        for attribute, name in self.options.items():
            absent = [getattr(row, attribute) for row in rows].count(UNSET)
            total -= absent
            inside -= absent * _colons(name)
        for name in self.texts:
            inside += sum(_colons(text) for row in rows if isinstance(text := getattr(row, name), str))
        if any(":" in run_id for run_id in run_ids):
            inside += sum(_colons(row.run_id) for row in rows)
        return total, inside

    def events(self, rows: Sequence[Any], places: Iterable[tuple[int, int]]) -> Iterator[Event]:
        """The rows as the events that a line-by-line reading gives.

        Args:
            rows: Structs of this shape.
            places: Line number and byte offset of each.
        """
        names = tuple(self.attributes)
        take, beside = _taker(tuple(self.attributes.values())), _taker(tuple(name for name, _ in self.extras))
        extras = tuple(name for name, _ in self.extras)
        for row, (line, offset) in zip(rows, places, strict=False):
            payload = dict(zip(names, take(row), strict=True))
            envelope = dict(zip(extras, beside(row), strict=True))
            if self.options:
                payload = {name: value for name, value in payload.items() if value is not UNSET}
                envelope = {name: value for name, value in envelope.items() if value is not UNSET}
            yield Event("train_step", row.ts, row.run_id, row.step, payload, line, offset, **envelope)


def _taker(attributes: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Gives the values of these attributes, as a tuple whatever their number."""
    if not attributes:
        return lambda row: ()  # noqa: ARG005
    take = attrgetter(*attributes)
    return take if len(attributes) > 1 else lambda row: (take(row),)


def _colons(text: str) -> int:
    return text.count(":")


def _kind(name: str, value: object) -> str | None:
    if name == "lr" and isinstance(value, list):
        items = cast("list[object]", value)
        return "array" if all(item is None or type(item) in {int, float} for item in items) else None
    return _KINDS.get(cast("type[Any]", type(value)))


@functools.lru_cache(maxsize=256)
def _decoder(shape: RowShape) -> Callable[[bytes], Any]:
    must: list[tuple[Any, ...]] = [(name, _ENVELOPE[name]) for name in ("schema", "ts", "run_id", "event", "step")]
    may: list[tuple[Any, ...]] = []
    rename: dict[str, str] = {}
    for name, optional in shape.extras:
        _add(name, _ENVELOPE[name], must, may, optional=optional)
    for field in shape.fields:
        attribute = shape.attributes[field.name]
        rename[attribute] = field.name
        _add(attribute, _union(_TYPES[kind] for kind in sorted(field.kinds)), must, may, optional=field.optional)
    row_type = msgspec.defstruct(
        "Row",
        cast("Any", [*must, *may]),
        forbid_unknown_fields=True,
        rename=rename,
        gc=False,
    )
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(row_type).decode
    return decode


def _add(name: str, kind: Any, must: list[tuple[Any, ...]], may: list[tuple[Any, ...]], *, optional: bool) -> None:
    if optional:
        may.append((name, _union((kind, UnsetType)), UNSET))
    else:
        must.append((name, kind))


def _union(kinds: Iterable[Any]) -> Any:
    return functools.reduce(lambda one, other: one | other, kinds)
