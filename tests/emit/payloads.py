"""Hypothesis strategies for what people log, by intent and by accident."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import pathlib
import string
import types
import uuid
from collections import OrderedDict, UserDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

FINITE = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
PLAIN_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters=string.ascii_letters + "@+"),
    max_size=40,
)
"""Text that UTF-8 can hold, without the letters that spell a secret (hypothesis knows the words of our sources)."""

PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | FINITE | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXT, inner, max_size=4),
    max_leaves=12,
)
"""JSON values that must come back exactly."""

WITH_NONFINITE = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXT, inner, max_size=4),
    max_leaves=12,
)


class Colour(enum.Enum):
    """An enum with values of several types."""

    RED = 1
    DEEP = "deep"
    ODD = object


class Hostile:
    """Raises whatever one asks of it."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__

    def __iter__(self) -> Any:
        raise RuntimeError("no iter")

    @property
    def dtype(self) -> Any:
        """The type, which cannot be had."""
        raise RuntimeError("no dtype")

    shape = dtype

    def __len__(self) -> int:
        raise RuntimeError("no len")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no eq")

    __hash__ = None  # type: ignore[assignment]


class LyingClass:
    """Its ``__class__`` cannot be asked for, so ``isinstance`` raises."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class BrokenMapping(UserDict):  # type: ignore[type-arg]
    """Fails in the middle of its items, after a NaN."""

    def items(self) -> Any:
        """A NaN, then an error."""
        yield "first", float("nan")
        raise OSError("gone")


class Endless(UserDict):  # type: ignore[type-arg]
    """A mapping that contains a new one of its kind, for ever."""

    def items(self) -> Any:
        """One more level."""
        return [("deeper", Endless())]


class BrokenArray:
    """Quacks like a scalar array and cannot give its item."""

    shape = ()
    dtype = "float32"

    def item(self) -> float:
        """No number."""
        raise ValueError("no item")


@dataclass
class Holder:
    """A dataclass that may hold itself."""

    content: Any = None


def cyclic() -> list[Any]:
    """Values that contain themselves."""
    items: list[Any] = [1]
    items.append(items)
    mapping: dict[str, Any] = {"a": items}
    mapping["self"] = mapping
    holder = Holder()
    holder.content = [holder]
    return [items, mapping, holder]


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = "bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


def generator() -> Any:
    """A generator: nobody may consume it."""
    yield 1


_ODD_SCALARS: list[Any] = [
    *(float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1e-5, 1e16, 1.7976931348623157e308),
    *(2**64, -(2**63) - 1, 10**300, 10**5000, 2**100000, True, None),
    *("\ud800", "a\udfffb", "\x00\x1b[31m", "\u2028\u2029", "x" * 300, "é" * 257, "~0/~1", "\ufeff", "\U0001f600"),
    *(b"bytes", bytearray(b"x"), memoryview(b"abc"), 1 + 2j, ..., NotImplemented, object(), int, len),
    *(Colour.RED, Colour.DEEP, Colour.ODD, pathlib.PurePosixPath("a/b"), uuid.UUID(int=5), decimal.Decimal("1.5")),
    *(dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.timedelta(seconds=3)),
    *(
        np.float64(1.5),
        np.float32("nan"),
        np.int64(-3),
        np.bool_(True),
        np.str_("s"),
        np.array(7),
        np.array("2020", "M8[D]"),
    ),
    *(np.zeros((2, 3)), np.array([]), np.array([object()]), np.float16("inf"), np.dtype("int8"), np.complex64(1j)),
    *(torch.tensor(1.5), torch.tensor(float("-inf")), torch.tensor(3), torch.tensor(True), torch.zeros(2, 3)),
    *(
        torch.empty((), device="meta"),
        torch.float16,
        torch.Size([1, 2]),
        torch.device("cpu"),
        torch.nn.Linear(1, 1),
    ),
    *(torch.tensor(2.5, dtype=torch.bfloat16, requires_grad=True), torch.tensor(1j)),
    *(Hostile(), LyingClass(), BrokenMapping(), Endless(), BrokenArray(), generator(), types.SimpleNamespace(a=1)),
    *(Holder(1), Holder, OrderedDict(a=1), {1, 2}, {"a", 1}, frozenset(), range(5), UserDict(a=float("nan"))),
    *(*cyclic(), deep(61), deep(62), deep(63), deep(200)),
]


def _odd_scalar(number: int) -> Any:
    """By number, because hypothesis prints what it samples from, and some of these cannot be printed."""
    return _ODD_SCALARS[number]


ODD_SCALARS = st.integers(0, len(_ODD_SCALARS) - 1).map(_odd_scalar)
ODD_KEYS = st.one_of(
    PLAIN_TEXT,
    st.integers() | st.booleans() | st.none() | st.floats() | st.binary(max_size=3) | st.tuples(st.integers()),
    st.sampled_from(
        [Colour.RED, "\ud800", "a/b~c", "", "k" * 300, np.int64(1), np.float32(1.5), object(), "1", "true", "null"]
    ),
)
ODD = st.recursive(
    PLAIN_TEXT | INTEGERS | st.floats() | ODD_SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(ODD_KEYS, inner, max_size=5)
        | st.builds(Holder, inner)
        | st.builds(UserDict, st.dictionaries(PLAIN_TEXT, inner, max_size=3))
    ),
    max_leaves=10,
)
"""Anything at all."""
