"""Safetensors headers: what is refused and why, beside the safetensors library, on mutated files."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from gradience_analysis.adapters.dtypes import BITS
from gradience_analysis.adapters.header import MAX_HEADER_BYTES, HeaderError, read_header
from gradience_analysis.errors import InputError
from tests.analysis.adapters.files import assemble, floats, safetensors

GOOD = {"a": floats((2, 3)), "b": floats((4,)), "c": floats(())}


def file_of(folder: Path, data: bytes) -> Path:
    """The bytes as a file."""
    path = folder / "x.safetensors"
    path.write_bytes(data)
    return path


def refused(folder: Path, data: bytes) -> str:
    """Code of the error that the bytes give; `accepted` without one."""
    try:
        read_header(file_of(folder, data))
    except HeaderError as error:
        return error.code if str(folder) in str(error) and error.remedy else f"without place or remedy: {error}"
    return "accepted"


def test_sound_file_is_described(tmp_path: Path) -> None:
    """Given a sound file, when its header is read, then names, formats, shapes and places are those written."""
    data = safetensors(GOOD, {"format": "pt"})
    header = read_header(file_of(tmp_path, data))
    assert {name: (one.dtype, one.shape, one.begin, one.end) for name, one in header.tensors.items()} == {
        "a": ("F32", (2, 3), 0, 24),
        "b": ("F32", (4,), 24, 40),
        "c": ("F32", (), 40, 44),
    }
    assert header.metadata == {"format": "pt"}
    assert header.data_start + 44 == header.file_size == len(data)


def entry(shape: Any = (1,), offsets: Any = (0, 4), dtype: Any = "F32") -> dict[str, Any]:
    """One entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


BAD_HEADERS: dict[str, tuple[str, bytes]] = {
    '{"a":1': ("invalid_json", b""),
    "[]": ("not_an_object", b""),
    ' {"a": 1}': ("not_an_object", b""),
    '{"a": NaN}': ("invalid_json", b""),
    '{"a": 1e999}': ("invalid_json", b""),
    '{"a": "\\ud800"}': ("invalid_json", b""),
    json.dumps({"a": {"dtype": "F32", "shape": [1]}}): ("invalid_entry", b"\0" * 4),
    json.dumps({"a": {**entry(), "more": 1}}): ("invalid_entry", b"\0" * 4),
    json.dumps({"a": entry(shape=[True])}): ("invalid_entry", b"\0" * 4),
    json.dumps({"a": entry(shape=[1.0])}): ("invalid_entry", b"\0" * 4),
    json.dumps({"a": entry(shape=[-1])}): ("invalid_entry", b"\0" * 4),
    json.dumps({"a": entry(shape="1")}): ("invalid_entry", b"\0" * 4),
    json.dumps({"a": entry(offsets=[0, 4, 8])}): ("invalid_entry", b"\0" * 4),
    '{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}': ("invalid_entry", b"\0" * 4),
    json.dumps({"a": entry(dtype="F33")}): ("unknown_dtype", b"\0" * 4),
    json.dumps({"a": entry(dtype=7)}): ("unknown_dtype", b"\0" * 4),
    json.dumps({"a": entry(shape=[1 << 63, 2, 0], offsets=[0, 0])}): ("overflow", b""),
    json.dumps({"a": entry(shape=[1 << 62])}): ("overflow", b"\0" * 4),
    json.dumps({"a": entry(shape=[2])}): ("size_mismatch", b"\0" * 4),
    json.dumps({"a": entry(shape=[1], dtype="F4", offsets=[0, 1])}): ("size_mismatch", b"\0"),
    json.dumps({"a": entry(offsets=[4, 0])}): ("size_mismatch", b"\0" * 4),
    json.dumps({"a": entry(offsets=[4, 8])}): ("hole", b"\0" * 8),
    json.dumps({"a": entry(), "b": entry(offsets=[8, 12])}): ("hole", b"\0" * 12),
    json.dumps({"a": entry(), "b": entry(offsets=[0, 4])}): ("overlap", b"\0" * 4),
    json.dumps({"a": entry([2], [0, 8]), "b": entry(offsets=[4, 8])}): ("overlap", b"\0" * 8),
    json.dumps({"a": entry()}): ("truncated", b"\0" * 3),
    json.dumps({"a": entry(), "__metadata__": {}}): ("trailing_bytes", b"\0" * 5),
    json.dumps({"__metadata__": {"a": 1}}): ("invalid_metadata", b""),
    json.dumps({"__metadata__": "pt"}): ("invalid_metadata", b""),
    f'{{"a":{json.dumps(entry())},"a":{json.dumps(entry())}}}': ("duplicate_key", b"\0" * 4),
    '{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}': ("duplicate_key", b"\0" * 4),
    f'{{"a":{json.dumps(entry())},"\\u0061":{json.dumps(entry())}}}': ("duplicate_key", b"\0" * 4),
    '{"a":' + "[" * 100_000: ("too_deep", b""),
    '{"a":' + "[" * 100 + "]" * 100 + "}": ("too_deep", b""),
    '{"a":' + "9" * 5000 + "}": ("invalid_json", b""),
}


@pytest.mark.parametrize(("header", "expected", "data"), [(key, *value) for key, value in BAD_HEADERS.items()])
def test_faulty_header_is_refused_by_name(tmp_path: Path, header: str, expected: str, data: bytes) -> None:
    """Given a header with one fault, when it is read, then the error names that fault and the remedy."""
    assert refused(tmp_path, assemble(header.encode(), data)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "too_short"),
        (b"\2\0\0\0\0\0\0", "too_short"),
        (struct.pack("<Q", 3) + b"{}", "truncated"),
        (struct.pack("<Q", 1 << 63) + b"{}", "over_cap"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "over_cap"),
        (b"PK\x03\x04\x14\0\0\0" + b"\0" * 60, "over_cap"),
        (b"\x80\x02}q\0.\0\0" + b"\0" * 60, "over_cap"),
        (assemble(b'{"\xff": 1}', b""), "invalid_utf8"),
        (assemble(b"\xef\xbb\xbf{}", b""), "not_an_object"),
        (assemble(b"{}\0\0", b""), "invalid_json"),
    ],
)
def test_faulty_file_is_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    """Given bytes that are no safetensors file, when the header is read, then the error says why."""
    assert refused(tmp_path, data) == expected


@pytest.mark.parametrize("header", [b"{}", b"{}      ", b'{"__metadata__":{}}'])
def test_file_without_tensors_is_sound(tmp_path: Path, header: bytes) -> None:
    """Given a file without tensors, padded or not, when read, then it has none, and that is no fault."""
    assert read_header(file_of(tmp_path, assemble(header, b""))).tensors == {}


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    """Given 100,001 empty tensors in a header below the cap, when read, then the number is refused."""
    one = '"%s":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    header = "{" + ",".join(one % format(n, "x") for n in range(100_001)) + "}"
    assert len(header) < MAX_HEADER_BYTES
    assert refused(tmp_path, assemble(header.encode(), b"")) == "over_cap"


def test_fifo_directory_and_device_are_refused_at_once(tmp_path: Path) -> None:
    """Given a FIFO nobody writes to, a directory and a device, when read, then each is refused without waiting."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero"), tmp_path / "absent"):
        with pytest.raises(InputError):
            read_header(path)


def test_link_to_a_file_is_followed(tmp_path: Path) -> None:
    """Given a link as in a model cache, when read, then the file behind it is."""
    target = file_of(tmp_path, safetensors(GOOD))
    (tmp_path / "link").symlink_to(target)
    assert list(read_header(tmp_path / "link").tensors) == ["a", "b", "c"]


def accepts(library: bytes) -> bool:
    """Whether the safetensors library takes the bytes."""
    try:
        deserialize(library)
    except SafetensorError:
        return False
    return True


def ours_accepts(folder: Path, data: bytes) -> bool:
    """Whether this parser takes them; nothing but its own error may come of any bytes."""
    try:
        read_header(file_of(folder, data))
    except HeaderError:
        return False
    return True


MUTANTS = ("byte", "cut", "grow", "number", "swap", "token", "length")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """The file with one thing changed."""
    (size,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + size], data[8 + size :]
    kind = rng.choice(MUTANTS)
    place = rng.randrange(len(header))
    if kind == "byte":
        header = header[:place] + bytes([rng.randrange(256)]) + header[place + 1 :]
    elif kind == "cut":
        header = header[:place] + header[place + rng.randrange(1, 8) :]
    elif kind == "grow":
        more = rng.choice([b" ", b"0", b"1", b"-", b",", b"[", b"{}", b'"', b"e1", b".0"])
        header = header[:place] + more + header[place:]
    elif kind == "number":
        digits = [n for n, byte in enumerate(header) if chr(byte).isdigit()]
        at = rng.choice(digits)
        other = rng.choice([b"0", b"-1", b"9", b"1e2", b"4294967296", b"18446744073709551616"])
        header = header[:at] + other + header[at + 1 :]
    elif kind == "swap":
        header = header.replace(b"F32", rng.choice([b"F16", b"F64", b"BF16", b"I8", b"F4", b"F33", b"f32"]), 1)
    elif kind == "token":
        header = header.replace(b'"b"', rng.choice([b'"a"', b'"\\u0061"', b'"__metadata__"', b"1"]), 1)
    elif rng.random() < 0.5:
        return struct.pack("<Q", size + rng.randrange(-3, 4)) + header + rest
    else:
        rest = rest[: rng.randrange(len(rest) + 1)] + b"\0" * rng.randrange(3)
    return assemble(header, rest)


@pytest.mark.parametrize("mutants", [3_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_nothing_the_library_refuses_is_accepted(tmp_path: Path, mutants: int) -> None:
    """Given thousands of mutated files, when read by both, then ours takes none that the library refuses."""
    rng = random.Random(20_251)
    both = refused_by_library = 0
    for number in range(mutants):
        data = mutate(safetensors(GOOD, {"format": "pt"} if number % 2 else None), rng)
        if rng.random() < 0.3:
            data = mutate(data, rng) if data[8:10] == b'{"' and len(data) > 200 else data
        ours = ours_accepts(tmp_path, data)
        theirs = accepts(data)
        assert theirs or not ours, data
        both += ours
        refused_by_library += not theirs
    assert both > mutants / 100
    assert refused_by_library > mutants / 4


NUMPY_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "uint16": "U16", "bool": "BOOL"}


@settings(max_examples=200, deadline=None)
@given(
    tensors=st.dictionaries(
        st.text(max_size=12).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(NUMPY_DTYPES)), st.lists(st.integers(0, 4), max_size=4)),
        max_size=6,
    ),
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
def test_everything_the_library_writes_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    """Given any file of the safetensors library, when read, then it is accepted with the same names and shapes."""
    data = save({name: np.zeros(shape, dtype) for name, (dtype, shape) in tensors.items()}, metadata)
    assume(accepts(data))  # it writes no valid JSON for metadata without a tensor, and refuses that itself
    header = read_header(file_of(tmp_path_factory.mktemp("written"), data))
    assert {name: (one.dtype, list(one.shape)) for name, one in header.tensors.items()} == {
        name: (NUMPY_DTYPES[dtype], shape) for name, (dtype, shape) in tensors.items()
    }
    assert header.metadata == (metadata or {})


def test_every_format_of_the_library_is_known() -> None:
    """Given an unknown format, when the library refuses it, then the formats that it lists are all known here."""
    data = assemble(json.dumps({"a": entry(dtype="nothing")}).encode(), b"\0" * 4)
    with pytest.raises(SafetensorError) as caught:
        deserialize(data)
    listed = {word.strip("`.,") for word in str(caught.value).split() if word.startswith("`")} - {"nothing"}
    assert listed
    assert listed <= set(BITS)
