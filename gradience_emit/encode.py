"""Any Python, numpy or torch value to strict JSON (RFC 8259) in one line; the one home of the non-finite policy.

The same bytes come from orjson, when it is installed, and from the standard library: floats are always written as
Python's ``repr`` writes them, text as UTF-8, keys in the order of the payload.

numpy and torch are recognised by their types' module names and never imported. A tensor becomes a summary of its shape
and dtype; a scalar becomes a number, except one on an accelerator, whose value cannot be had without making the
training step wait for the device.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final, cast

from gradience_emit.boundary import attempt
from gradience_emit.redact import Redactor

try:
    import orjson

    _Fragment: Any = orjson.Fragment
    _orjson_dumps: Callable[[Any], bytes] | None = orjson.dumps
except (ImportError, AttributeError):  # not installed, or older than 3.9 and without Fragment
    _Fragment = None
    _orjson_dumps = None

__all__ = ["MAX_DEPTH", "MAX_NODES", "Normaliser", "Notes", "dumps", "is_number", "pointer_to", "using_orjson"]

MAX_DEPTH: Final = 64
MAX_NODES: Final = 100_000
"""Values in one event past which the rest is left out: a whole dataset logged by mistake must not stall a step."""
_BUILT_IN: Final[frozenset[type]] = frozenset({dict, list, tuple})
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_DIGITS_SHOWN: Final = 256

_std_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode


def using_orjson() -> bool:
    """Whether lines are encoded by orjson (same bytes, less time) or by the standard library."""
    return _orjson_dumps is not None


def dumps(tree: dict[str, Any]) -> bytes:
    """The JSON bytes of a tree that `Normaliser` returned, without a newline."""
    if _orjson_dumps is not None:
        return _orjson_dumps(tree)
    return _std_dumps(tree).encode("utf-8")


def is_number(value: object) -> bool:
    """Whether a value of a normalised tree is written as a JSON number."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    return _Fragment is not None and type(value) is _Fragment


def pointer_to(path: Iterable[str]) -> str:
    """The JSON pointer (RFC 6901) of a path of keys and indices."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


@dataclasses.dataclass(slots=True)
class Notes:
    """What normalising one payload changed; written beside it, so that nothing is changed in silence.

    Attributes:
        nonfinite: JSON pointer of a field written as null to ``"nan"``, ``"inf"`` or ``"-inf"``.
        renamed: JSON pointer of a field to the key the payload gave it.
    """

    nonfinite: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    renamed: dict[str, str] = dataclasses.field(default_factory=dict[str, str])

    def move(self, old: str, new: str | None) -> None:
        """Point what is noted at ``old`` and below it to ``new`` and below; None forgets it, with the field."""
        for changes in (self.nonfinite, self.renamed):
            below = [pointer for pointer in changes if pointer == old or pointer.startswith(old + "/")]
            for pointer in below:
                word = changes.pop(pointer)
                if new is not None:
                    changes[new + pointer[len(old) :]] = word


class Normaliser:
    """Turns one payload after another into trees of plain JSON values; not for use by two threads at once."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._path: list[str] = []
        self._open: set[int] = set()
        self._nodes = 0
        self._notes = Notes()

    def start(self) -> Notes:
        """Begin a new event and return the notes that the following `member` calls fill."""
        if self._nodes:
            self._nodes = 0
            self._path.clear()
            self._open.clear()
        notes = self._notes
        if notes.nonfinite:
            notes.nonfinite = {}
        if notes.renamed:
            notes.renamed = {}
        return notes

    def member(self, key: str, value: object) -> Any:  # noqa: PLR0911 - a table of types, in order of frequency
        """The JSON tree of ``value``, as a member called ``key`` of the event itself."""
        if type(value) is float:
            # ``value - value`` is 0.0 for every finite number and NaN for the others
            if value - value != 0.0:
                return self._nonfinite(value, key)
            # orjson writes 0.00001 where Python writes 1e-05, and older releases 1e16 for 1e+16
            if _Fragment is None or 1e-4 <= value < 1e16 or value == 0.0 or -1e16 < value <= -1e-4:
                return value
            return _Fragment(float.__repr__(value).encode())
        if type(value) is int:
            return _integer(value)
        if value is None or type(value) is bool:
            return value
        if type(value) is str:
            return self.text(value)
        self._nodes += 1
        return self._compound(value, key)

    def text(self, text: str) -> str:
        """``text`` redacted, with lone surrogates (which UTF-8 cannot hold) replaced."""
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")
        return self._redactor.text(text)

    def name(self, name: object) -> tuple[str, bool]:
        """A payload key as a string, redacted, and whether it names a secret."""
        text = name if type(name) is str else _key_text(name)
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")
        return self._redactor.name(text)

    def _nonfinite(self, value: float, key: str) -> None:
        word = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        self._notes.nonfinite[pointer_to([*self._path, key])] = word

    def _compound(self, value: Any, key: str) -> Any:
        if len(self._path) + 2 > MAX_DEPTH:
            return "[TRUNCATED: deeper than 64 levels]"
        if self._nodes >= MAX_NODES:
            return "[TRUNCATED: more than 100000 values]"
        identity = id(value)
        if identity in self._open:
            return "[CYCLE]"
        self._open.add(identity)
        try:
            if self._path and type(value) in _BUILT_IN:  # its own code cannot fail; the outermost one is guarded
                return self._read(value, key)
            return attempt(lambda: self._read(value, key), lambda _: self._unreadable(value, key))
        finally:
            self._open.discard(identity)

    def _read(self, value: Any, key: str) -> Any:
        is_mapping = isinstance(value, Mapping)
        if not is_mapping and not isinstance(value, (list, tuple)):
            return self._foreign(value, key)
        self._path.append(key)
        try:
            if is_mapping:
                return self._mapping(cast("Mapping[Any, Any]", value).items())
            return self._sequence(cast("Iterable[Any]", value))
        finally:
            self._path.pop()

    def _unreadable(self, value: object, key: str) -> str:
        self._notes.move(pointer_to([*self._path, key]), None)
        return f"[unreadable {type(value).__qualname__}]"

    def _mapping(self, items: Iterable[tuple[object, object]]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        names = self._redactor.names
        for raw, value in items:
            self._nodes += 1
            if self._nodes > MAX_NODES:
                tree["[TRUNCATED]"] = "more than 100000 values"
                break
            key, secret = (names.get(raw) if type(raw) is str else None) or self.name(raw)
            if key in tree:
                key = self._free_key(tree, key, raw)
            tree[key] = self.secret(key, value) if secret else self.member(key, value)
        return tree

    def secret(self, key: str, value: object) -> Any:
        """What to write for a member whose key names a secret: a label, unless the value cannot be one (a number)."""
        tree = self.member(key, value)
        if tree is None or tree == "" or isinstance(tree, bool) or is_number(tree):
            return tree
        if isinstance(tree, list) and all(map(is_number, cast("list[Any]", tree))):
            return cast("list[Any]", tree)
        self._notes.move(pointer_to([*self._path, key]), None)
        return "[SECRET]"

    def _free_key(self, tree: Mapping[str, Any], key: str, raw: object) -> str:
        number = len(tree) + 1  # the position: counting up from 2 would be quadratic for a dict keyed by secrets
        while f"{key}#{number}" in tree:
            number += 1
        free = f"{key}#{number}"
        self._notes.renamed[pointer_to([*self._path, free])] = f"{type(raw).__name__} {key}"
        return free

    def _sequence(self, values: Iterable[object]) -> list[Any]:
        tree: list[Any] = []
        for index, value in enumerate(values):
            self._nodes += 1
            if self._nodes > MAX_NODES:
                tree.append("[TRUNCATED: more than 100000 values]")
                break
            tree.append(self.member(str(index), value))
        return tree

    def _foreign(self, value: Any, key: str) -> Any:  # noqa: PLR0911 - a table of types
        """A value of any other type: what it stands for when that is known, else its type's name, never its repr."""
        if isinstance(value, enum.Enum):
            return self.member(key, value.value)
        if isinstance(value, (bool, int, float, str)):  # subclasses: np.float64 is a float, StrEnum a str
            return self.member(key, _exact(value))
        if isinstance(value, PurePath):
            return self.text(str(value))
        if isinstance(value, (dt.date, dt.time)):
            return value.isoformat()
        if isinstance(value, dt.timedelta):
            return self.member(key, value.total_seconds())
        if isinstance(value, (set, frozenset)):
            return self.member(key, sorted(cast("set[Any]", value), key=_set_order))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"[{_type_name(cast('object', value))} of {memoryview(cast('bytes', value)).nbytes} bytes]"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.member(key, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        if _is_array(value):
            return self.member(key, _array(value))
        if type(value).__module__ in {"torch", "numpy"} and type(value).__name__ in {"dtype", "device", "Size"}:
            return self.text(str(value))
        if type(value).__module__.partition(".")[0] in {"decimal", "fractions", "uuid"}:
            return self.text(str(value))
        return f"[{type(value).__module__}.{type(value).__qualname__}]"


def _type_name(value: object) -> str:
    return type(value).__name__


def _set_order(item: object) -> tuple[str, str]:
    return type(item).__name__, str(item)


def _integer(value: int) -> Any:
    """``value`` itself within 64 bits, which every reader holds; else its digits as text, or their number."""
    if _INT_MIN <= value <= _INT_MAX:
        return value
    digits = int(value.bit_length() * math.log10(2)) + 1
    return str(value) if digits <= _DIGITS_SHOWN else f"[integer of about {digits} digits]"


def _exact(value: bool | float | str) -> Any:
    """A value of a subclass of a JSON scalar as that scalar, by the base type's own conversion."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return int.__int__(value)


def _key_text(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, float)):
        return json.dumps(key if key is None or isinstance(key, bool) else float.__float__(key))
    if isinstance(key, int):
        return str(_integer(int.__int__(key)))
    if isinstance(key, (tuple, frozenset)):
        return f"[{_type_name(cast('object', key))} of {len(cast('tuple[Any, ...]', key))}]"
    if _is_array(key) and hasattr(key, "__index__"):
        return str(operator.index(key))
    return f"[{type(key).__qualname__}]"


def _is_array(value: object) -> bool:
    """Whether ``value`` is a numpy or torch scalar or tensor (or quacks like one), judged without importing either."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _array(value: Any) -> Any:
    """A number for a scalar in host memory; else ``{"shape", "dtype", "device"}``, with no copy and no device wait."""
    shape = [int(size) for size in value.shape]
    device = str(getattr(value, "device", "cpu"))
    if not shape and device == "cpu" and hasattr(value, "item"):
        scalar = value.item()
        if isinstance(scalar, complex):
            return {"real": scalar.real, "imag": scalar.imag}
        if not _is_array(scalar):
            return scalar
    summary: dict[str, Any] = {"shape": shape, "dtype": str(value.dtype)}
    if device != "cpu":
        summary["device"] = device
    return summary
