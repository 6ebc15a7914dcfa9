"""Written files: read back by our reader and by the safetensors library, and numbers rounded as torch rounds them."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.adapters.dtypes import BITS
from gradience_analysis.adapters.header import read_header
from gradience_analysis.adapters.tensors import SafetensorsFile
from gradience_analysis.adapters.writing import NewTensor, encode_array, write_safetensors
from gradience_analysis.errors import InputError

NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1"}
NUMPY |= {"U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "<?"}
LARGEST_BFLOAT16 = Fraction(255, 128) * 2**127


def arrays() -> st.SearchStrategy[tuple[str, np.ndarray[Any, Any]]]:
    """A format and an array of it, of up to four dimensions, also empty ones."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    return st.sampled_from(sorted(NUMPY)).flatmap(
        lambda dtype: hnp.arrays(np.dtype(NUMPY[dtype]), shapes).map(lambda array: (dtype, array))
    )


NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).filter(lambda name: name != "__metadata__")
CONTENTS = st.dictionaries(NAMES, arrays(), max_size=6)
METADATA = st.none() | st.dictionaries(NAMES, st.text(st.characters(exclude_categories=("Cs",))), max_size=3)


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@given(contents=CONTENTS, metadata=METADATA)
def test_written_file_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    contents: dict[str, tuple[str, np.ndarray[Any, Any]]],
    metadata: dict[str, str] | None,
) -> None:
    """Given tensors of any format and name, when written, then our reader and the library give them back bit by bit."""
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path_factory.mktemp("written") / "x.safetensors"
    tensors = {name: NewTensor(dtype, array.shape, array) for name, (dtype, array) in contents.items()}
    write_safetensors(path, tensors, metadata)
    header = read_header(path)
    assert header.metadata == (metadata or {})
    raw = path.read_bytes()
    loaded = safetensors.load(raw)
    assert header.tensors.keys() == loaded.keys() == contents.keys()
    for name, (dtype, array) in contents.items():
        entry = header.tensors[name]
        start = header.data_start + entry.begin
        assert (entry.dtype, entry.shape) == (dtype, array.shape)
        assert raw[start : header.data_start + entry.end] == array.tobytes() == loaded[name].tobytes()
        assert start % (BITS[dtype] // 8) == 0
    assert names(path.parent) == ["x.safetensors"]


@given(contents=CONTENTS)
def test_bytes_are_those_of_the_library(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, tuple[str, np.ndarray[Any, Any]]]
) -> None:
    """Given tensors without metadata, when written, then the file is what the library writes, byte for byte."""
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path_factory.mktemp("written") / "x.safetensors"
    write_safetensors(path, {name: NewTensor(dtype, array.shape, array) for name, (dtype, array) in contents.items()})
    wanted = safetensors.save({name: array for name, (_, array) in contents.items()})
    found = path.read_bytes()
    # The library writes names as they are, too, but for control characters, which JSON lets one write in two ways.
    length = int.from_bytes(wanted[:8], "little")
    if all(name.isprintable() for name in contents):
        assert found == wanted
    else:
        assert found[8 + int.from_bytes(found[:8], "little") :] == wanted[8 + length :]


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_every_format_is_laid_out(tmp_path: Path, dtype: str) -> None:
    """Given bytes of any known format beside others, when written, then all is read back, whatever the width."""
    raw = bytes(range(8 * BITS[dtype] // 8))
    path = tmp_path / "x.safetensors"
    tensors = {"b": NewTensor("U8", (3,), b"abc"), "a": NewTensor(dtype, (2, 4), memoryview(raw))}
    write_safetensors(path, tensors)
    header = read_header(path)
    entry = header.tensors["a"]
    assert path.read_bytes()[header.data_start + entry.begin : header.data_start + entry.end] == raw
    assert header.data_start % 8 == 0


def test_memory_layout_of_an_array_does_not_matter(tmp_path: Path) -> None:
    """Given transposed, strided, reversed and big-endian arrays, when written, then their elements come in C order."""
    values = np.arange(24, dtype="<f4").reshape(4, 6)
    given = {
        "turned": values.T,
        "strided": values[::2, 1::3],
        "reversed": values[::-1],
        "big": values.astype(">f4"),
        "view": memoryview(values)[1:3],
        "scalar": np.float32(7).reshape(()),
        "empty": values[:0],
    }
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {name: NewTensor("F32", np.shape(data), data) for name, data in given.items()})
    with SafetensorsFile(path) as file:
        for name, data in given.items():
            np.testing.assert_array_equal(file.array(name), np.asarray(data), err_msg=name)


def test_order_of_the_tensors_does_not_matter(tmp_path: Path) -> None:
    """Given the same tensors in two orders, when written, then the files are the same."""
    one, other = NewTensor("F32", (1,), bytes(4)), NewTensor("F16", (1,), bytes(2))
    write_safetensors(tmp_path / "1", {"a": one, "b": other, "c": one})
    write_safetensors(tmp_path / "2", {"c": one, "b": other, "a": one})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """Given a file, a folder or a dead link of that name, when written, then it stays, unless it is to be replaced."""
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    for name in ("file", "link", "folder"):
        with pytest.raises(InputError, match="exists already"):
            write_safetensors(tmp_path / name, {})
    with pytest.raises(InputError, match="cannot be written"):
        write_safetensors(tmp_path / "folder", {}, replace=True)
    assert (tmp_path / "file").read_bytes() == b"mine"
    for name in ("file", "link"):
        write_safetensors(tmp_path / name, {"x": NewTensor("U8", (1,), b"1")}, replace=True)
        assert read_header(tmp_path / name).tensors.keys() == {"x"}
    assert names(tmp_path) == ["file", "folder", "link"]


@pytest.mark.parametrize("links", [True, False])
def test_file_made_in_the_meantime_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Given another writer that is faster, with hard links or without, when written, then its file stays."""
    path = tmp_path / "x"
    sync, link = os.fsync, os.link

    def slow_sync(descriptor: int) -> None:
        sync(descriptor)
        path.write_bytes(b"theirs")

    def no_link(*places: Any, **options: Any) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "fsync", slow_sync)
    monkeypatch.setattr(os, "link", link if links else no_link)
    with pytest.raises(InputError, match="exists already"):
        write_safetensors(path, {})
    assert path.read_bytes() == b"theirs"
    path.unlink()
    monkeypatch.setattr(os, "fsync", sync)
    write_safetensors(path, {"x": NewTensor("U8", (1,), b"1")})
    assert read_header(path).tensors.keys() == {"x"}
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("replace", [True, False])
def test_full_disk_leaves_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool) -> None:
    """Given a disk that fills up, when written, then the error says it and no part of a file is left."""
    path = tmp_path / "x"
    if replace:
        path.write_bytes(b"mine")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_safetensors(path, {"x": NewTensor("U8", (1,), b"1")}, replace=replace)
    assert names(tmp_path) == (["x"] if replace else [])
    assert not replace or path.read_bytes() == b"mine"


def test_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    """Given a folder that does not exist, when written, then the error names the path and the reason."""
    with pytest.raises(InputError, match=r"gone.x: cannot be written: No such file"):
        write_safetensors(tmp_path / "gone" / "x", {})


WRONG: Mapping[str, tuple[str, NewTensor, str]] = {
    "dtype": ("x", NewTensor("F128", (1,), bytes(16)), "unknown dtype 'F128'"),
    "short": ("x", NewTensor("F32", (2,), bytes(7)), "has 7 bytes, but F32"),
    "long": ("x", NewTensor("F32", (), bytes(8)), "has 8 bytes, but F32"),
    "width": ("x", NewTensor("F32", (2,), np.zeros(2)), "has 16 bytes, but F32"),
    "half-byte": ("x", NewTensor("F4", (3,), bytes(2)), "has 2 bytes, but F4"),
    "negative": ("x", NewTensor("U8", (-1, -1), b"1"), "which is none"),
    "dimensions": ("x", NewTensor("U8", (1,) * 33, b"1"), "which is none"),
    "metadata": ("__metadata__", NewTensor("U8", (1,), b"1"), "no name for a tensor"),
    "surrogate": ("\ud800", NewTensor("U8", (1,), b"1"), "surrogates"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_tensor_that_is_not_what_it_says_is_refused(tmp_path: Path, case: str) -> None:
    """Given a tensor whose bytes, shape, format or name cannot be, when written, then a ValueError and no file."""
    name, tensor, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        write_safetensors(tmp_path / "x", {name: tensor})
    assert names(tmp_path) == []


def test_what_our_reader_would_refuse_is_not_written(tmp_path: Path) -> None:
    """Given too many tensors, or names that fill 8 MiB, when written, then the error says so and there is no file."""
    empty = NewTensor("U8", (0,), b"")
    with pytest.raises(InputError, match=r"would hold 100,001 tensors"):
        write_safetensors(tmp_path / "x", {str(number): empty for number in range(100_001)})
    with pytest.raises(InputError, match=r"would have a header of"):
        write_safetensors(tmp_path / "x", {"n" * (8 << 20): empty})
    assert names(tmp_path) == []


SINGLES = hnp.arrays(np.uint32, hnp.array_shapes(max_dims=2, max_side=40)).map(lambda bits: bits.view(np.float32))


@pytest.mark.hf
@given(values=SINGLES)
def test_float32_is_rounded_as_torch_does(values: np.ndarray[Any, Any]) -> None:
    """Given any float32 bits, when rounded to BF16 and F16, then as by torch, with its sign; NaN stays NaN."""
    torch = pytest.importorskip("torch")
    for dtype, name, kept in (("BF16", "bfloat16", "F32"), ("F16", "float16", "F32"), ("F64", "float64", "F64")):
        wanted = torch.from_numpy(values.copy()).to(getattr(torch, name))
        found = _decoded(encode_array(values, dtype))
        np.testing.assert_array_equal(found, wanted.to(torch.float64 if kept == "F64" else torch.float32).numpy())
        number = ~np.isnan(values)
        np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(values[number]))


@pytest.mark.hf
def test_every_tie_of_bfloat16_goes_to_even() -> None:
    """Given all values of BF16 and the float32 around each midpoint, when rounded, then as by torch."""
    torch = pytest.importorskip("torch")
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        values = (upper | lower).view(np.float32)
        wanted = torch.from_numpy(values.copy()).to(torch.bfloat16).to(torch.float32).numpy()
        np.testing.assert_array_equal(_decoded(encode_array(values, "BF16")), wanted)


@given(value=st.floats(width=64))
def test_float64_is_rounded_once(value: float) -> None:
    """Given any float64, when rounded to BF16, then to the nearest of its values, and at a tie to the even one."""
    tensor = encode_array(np.array([value]), "BF16")
    code = int(np.asarray(tensor.data)[0])
    found = _bfloat16(code)
    if math.isnan(value):
        assert math.isnan(found)
        return
    assert math.copysign(1, found) == math.copysign(1, value)
    size = abs(Fraction(value)) if math.isfinite(value) else None
    if size is None or size >= LARGEST_BFLOAT16 * (1 + Fraction(1, 510)):
        assert math.isinf(found)
        return
    errors = {other: abs(Fraction(_bfloat16(other)) - size) for other in _neighbours(code & 0x7FFF)}
    mine = errors.pop(code & 0x7FFF)
    assert all(mine < other or (mine == other and code % 2 == 0) for other in errors.values())


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1 + 2**-8 + 2**-40, 1 + 2**-7),  # float32 in between would make a tie of it, and then 1
        (-(1 + 2**-8 + 2**-40), -(1 + 2**-7)),
        (1 + 3 * 2**-8 - 2**-40, 1 + 2**-7),  # and here 1 + 2**-6
        (1 + 2**-8, 1.0),
        (1e300, math.inf),
        (-1e300, -math.inf),
        (1e-300, 0.0),
        (2.0**-149, 0.0),
    ],
)
def test_known_float64(value: float, wanted: float) -> None:
    """Given a float64 by a tie or out of range, when rounded to BF16, then the value is the one worked out by hand."""
    assert _bfloat16(int(np.asarray(encode_array(np.array([value]), "BF16").data)[0])) == wanted


def test_overflow_is_infinity_without_a_warning() -> None:
    """Given magnitudes around the end of F16 and F32, when rounded, then infinity starts where the docstring says."""
    found = _decoded(encode_array(np.array([65519.99, 65520.0, -65520.0]), "F16"))
    np.testing.assert_array_equal(found, [65504, math.inf, -math.inf])
    np.testing.assert_array_equal(_decoded(encode_array(np.array([1e39, -1e39]), "F32")), [math.inf, -math.inf])


def test_shape_survives_and_other_formats_are_refused(tmp_path: Path) -> None:
    """Given arrays of all dimensions, when encoded, then their shapes stay; integers and other formats are refused."""
    for shape in ((), (0,), (2, 0), (2, 3)):
        for dtype in ("F64", "F32", "F16", "BF16"):
            for kind in ("f8", "f4", "f2"):
                tensor = encode_array(np.full(shape, 1.5, dtype=kind), dtype)
                assert (tensor.dtype, tensor.shape, np.shape(tensor.data)) == (dtype, shape, shape)
                write_safetensors(tmp_path / "x", {"x": tensor}, replace=True)
                with SafetensorsFile(tmp_path / "x") as file:
                    np.testing.assert_array_equal(file.array("x"), np.full(shape, 1.5))
    with pytest.raises(ValueError, match="not 'I32'"):
        encode_array(np.zeros(1), "I32")
    with pytest.raises(ValueError, match="not int64"):
        encode_array(np.zeros(1, dtype=np.int64), "F32")


def test_metadata_comes_first_in_the_header(tmp_path: Path) -> None:
    """Given metadata, when written, then it stands before the tensors, as tools that peek expect it."""
    write_safetensors(tmp_path / "x", {"a": NewTensor("U8", (1,), b"1")}, {"format": "pt"})
    raw = (tmp_path / "x").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert list(header) == ["__metadata__", "a"]
    assert header["__metadata__"] == {"format": "pt"}


def _decoded(tensor: NewTensor) -> np.ndarray[Any, Any]:
    data = np.asarray(tensor.data)
    if tensor.dtype != "BF16":
        return data.astype(np.float64 if tensor.dtype == "F64" else np.float32)
    values = [_bfloat16(int(code)) for code in data.ravel()]
    return np.array(values, dtype=np.float32).reshape(tensor.shape)


def _bfloat16(code: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", code << 16))[0])


def _neighbours(code: int) -> list[int]:
    return [other for other in (code - 1, code, code + 1) if 0 <= other < 0x7F80]
