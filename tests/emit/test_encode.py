"""Encoding: any Python value to strict JSON, the same bytes with and without orjson."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_emit import encode
from gradience_emit.encode import MAX_DEPTH, MAX_NODES, Normaliser, Notes, dumps
from gradience_emit.redact import Redactor
from tests.emit import oracle, payloads


def normalised(value: Any, **redactor: Any) -> tuple[Any, Notes]:
    """The tree of ``value`` as the field ``x``, and the notes on it."""
    normaliser = Normaliser(Redactor(**redactor))
    notes = normaliser.start()
    return normaliser.member("x", value), notes


def parsed(value: Any) -> Any:
    """``value`` written and read back by a strict parser."""
    return oracle.strict_loads(dumps({"x": normalised(value)[0]}))["x"]


@given(payloads.PLAIN)
def test_plain_json_comes_back_exactly(value: Any) -> None:
    """Given a JSON value, when it is written and parsed, then type and value are the same."""
    assert oracle.same(parsed(value), value)


@given(payloads.WITH_NONFINITE)
def test_nonfinite_numbers_come_back_through_their_pointers(value: Any) -> None:
    """Given NaN and infinities anywhere, when the pointers are applied, then nothing is lost."""
    tree, notes = normalised(value)
    record = oracle.strict_loads(dumps({"x": tree}))
    record["nonfinite"] = notes.nonfinite
    assert oracle.same(oracle.restored(record)["x"], value)


@settings(max_examples=300)
@given(payloads.ODD)
def test_orjson_and_the_standard_library_write_the_same_bytes(value: Any) -> None:
    """Given any value, when it is encoded with and without orjson, then the bytes are equal."""
    pytest.importorskip("orjson")
    fast = dumps({"x": normalised(value)[0]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_orjson_dumps", None)
        patch.setattr(encode, "_Fragment", None)
        slow = dumps({"x": normalised(value)[0]})
    assert fast == slow


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_written_as_python_writes_them(value: float) -> None:
    """Given a finite float, when it is written, then the text is its repr, the shortest that reads back."""
    assert dumps({"x": normalised(value)[0]}) == b'{"x":' + repr(value).encode() + b"}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3),
        (np.bool_(True), True),
        (np.str_("label"), "label"),
        (np.array(7), 7),
        (torch.tensor(1.5), 1.5),
        (torch.tensor(3), 3),
        (torch.tensor(2.5, dtype=torch.bfloat16, requires_grad=True), 2.5),
        (torch.zeros(2, 3), {"shape": [2, 3], "dtype": "torch.float32"}),
        (np.zeros((4,)), {"shape": [4], "dtype": "float64"}),
        (torch.empty((), device="meta"), {"shape": [], "dtype": "torch.float32", "device": "meta"}),
        (torch.float16, "torch.float16"),
        (payloads.Colour.RED, 1),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (b"abc", "[bytes of 3 bytes]"),
        (payloads.Holder(2), {"content": 2}),
        (2**64, str(2**64)),
        (10**5000, "[integer of about 5001 digits]"),
        (payloads.Hostile(), "[unreadable Hostile]"),
        (payloads.BrokenMapping(), "[unreadable BrokenMapping]"),
        (payloads.LyingClass(), "[unreadable LyingClass]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_known_type_is_written_as_what_it_stands_for(value: Any, expected: Any) -> None:
    """Given a scalar, tensor, enum or broken object, when it is written, then it is a number, a summary or a label."""
    assert oracle.same(parsed(value), expected)


def test_a_failing_container_leaves_no_note_behind() -> None:
    """Given a mapping that yields a NaN and then fails, when it is written, then no pointer leads into its label."""
    _, notes = normalised({"inner": payloads.BrokenMapping()})
    assert notes.nonfinite == {}


@pytest.mark.parametrize("value", payloads.cyclic(), ids=["list", "dict", "dataclass"])
def test_a_cycle_ends_in_a_label(value: Any) -> None:
    """Given a value that contains itself, when it is written, then the second meeting is the word CYCLE."""
    assert "[CYCLE]" in json.dumps(parsed(value))


def test_the_same_object_twice_is_no_cycle() -> None:
    """Given one list in two places, when it is written, then it stands in both."""
    shared = [1]
    assert parsed([shared, shared]) == [[1], [1]]


def test_nesting_ends_at_the_limit() -> None:
    """Given 200 levels, when they are written, then the record is as deep as the limit says and the rest a label."""
    text = dumps({"x": normalised(payloads.deep(200))[0]})
    assert oracle.depth(oracle.strict_loads(text)) == MAX_DEPTH
    assert b"TRUNCATED: deeper" in text


@pytest.mark.parametrize(
    "value", [list(range(MAX_NODES + 5)), {i: i for i in range(MAX_NODES + 5)}], ids=["list", "dict"]
)
def test_a_whole_data_set_is_cut(value: Any) -> None:
    """Given more values than an event may hold, when they are written, then the rest is a label."""
    tree = parsed(value)
    assert len(tree) <= MAX_NODES + 1
    assert "TRUNCATED" in str(list(tree)[-1])


def test_a_generator_is_not_consumed() -> None:
    """Given a generator, when it is logged, then its items are still there for the training loop."""
    items = payloads.generator()
    parsed(items)
    assert list(items) == [1]


def test_keys_that_collide_are_kept_apart() -> None:
    """Given keys that are equal as text, when they are written, then each value stays and the notes say which."""
    tree, notes = normalised({1: "int", "1": "str", None: "none", "null": "word"})
    assert sorted(tree.values()) == ["int", "none", "str", "word"]
    assert set(notes.renamed.values()) == {"str 1", "str null"}
    assert all(oracle.locate({"x": tree}, pointer)[1] in tree for pointer in notes.renamed)


def test_many_colliding_keys_cost_no_quadratic_time() -> None:
    """Given 20,000 keys that redact to one name, when they are written, then all values are there."""
    tree, _ = normalised({f"user{number}@example.com": number for number in range(20_000)})
    assert sorted(tree.values()) == list(range(20_000))


@pytest.mark.parametrize("key", ["password", "hf_token", "OPENAI_API_KEY", "dbPassword", "client-secret"])
@pytest.mark.parametrize(
    "value",
    ["hunter2", ["hunter2"], {"user": {"deep": "hunter2"}}, b"hunter2", np.str_("hunter2"), payloads.Holder("hunter2")],
)
def test_a_secret_name_hides_any_value(key: str, value: Any) -> None:
    """Given a key that names a secret, when its value is text in whatever container, then none of it is written."""
    text = dumps({"x": normalised({key: value})[0]})
    assert b"hunter2" not in text
    assert b"[SECRET]" in text


def test_a_number_under_a_secret_name_stays() -> None:
    """Given a count under a name such as ``id_token``, when it is written, then the number is there."""
    assert parsed({"id_token": 3, "access_key": None, "secret": [1.5, 2]}) == {
        "id_token": 3,
        "access_key": None,
        "secret": [1.5, 2],
    }


def test_nonfinite_is_null_and_not_zero() -> None:
    """Given NaN, when it is written, then the field is null and the note says NaN."""
    tree, notes = normalised(math.nan)
    assert tree is None
    assert notes.nonfinite == {"/x": "nan"}
