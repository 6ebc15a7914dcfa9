"""Tensors: decoded as torch decodes them, value by value, and looked through without decoding."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from gradience_analysis.adapters.tensors import PIECE_BYTES, SafetensorsFile, TensorDtypeError
from tests.analysis.adapters.files import Tensor, floats, safetensors


def opened(folder: Path, **tensors: Tensor) -> SafetensorsFile:
    """A file with these tensors, open."""
    path = folder / "x.safetensors"
    path.write_bytes(safetensors(tensors))
    return SafetensorsFile(path)


WIDTHS = {
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
}


@pytest.mark.hf
@pytest.mark.parametrize("dtype", sorted(WIDTHS))
def test_every_value_is_decoded_as_torch_does(tmp_path: Path, dtype: str) -> None:
    """Given all bit patterns of a short format, when decoded, then each equals torch's value, NaN for NaN."""
    torch = pytest.importorskip("torch")
    name, width = WIDTHS[dtype]
    count = 256**width
    raw = np.arange(count, dtype=f"<u{width}")
    expected = torch.from_numpy(raw.view(f"<i{width}").copy()).view(getattr(torch, name)).to(torch.float32).numpy()
    with opened(tmp_path, x=(dtype, (count,), raw.tobytes())) as file:
        for precision in ("float32", "float64"):
            found = file.array("x", precision)
            assert found.dtype == precision
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(np.signbit(found[expected == 0]), np.signbit(expected[expected == 0]))


def test_shape_and_wide_formats_are_kept(tmp_path: Path) -> None:
    """Given F64, F32, integers and a scalar, when decoded, then shape and values are those written."""
    numbers = np.array([[1.5, -2.25, 1e300]])
    with opened(
        tmp_path,
        odd=("U8", (3,), b"\x01\x02\xff"),  # what follows lies at no multiple of its width
        wide=("F64", (1, 3), numbers.tobytes()),
        single=floats((2, 2), [1, 2, 3, 4]),
        scalar=floats((), [7]),
        empty=("F32", (0, 4), b""),
    ) as file:
        np.testing.assert_array_equal(file.array("wide"), numbers)
        np.testing.assert_array_equal(file.array("single"), [[1, 2], [3, 4]])
        assert file.array("scalar") == 7
        assert file.array("empty").shape == (0, 4)
        np.testing.assert_array_equal(file.array("odd"), [1, 2, 255])


def test_arrays_outlive_the_file(tmp_path: Path) -> None:
    """Given a decoded array, when the file is closed, then the array still holds its values."""
    with opened(tmp_path, x=floats((3,), [1, 2, 3])) as file:
        whole = file.array("x", "float32")
    np.testing.assert_array_equal(whole, [1, 2, 3])


def test_a_tensor_of_several_pieces_is_whole(tmp_path: Path) -> None:
    """Given a tensor of two pieces and a half, when read, then its elements are there in order."""
    count = PIECE_BYTES // 2 * 5 // 2
    raw = (np.arange(count) % 251).astype("<f2")
    with opened(tmp_path, x=("F16", (count,), raw.tobytes())) as file:
        np.testing.assert_array_equal(file.array("x", "float32"), raw.astype(np.float32))
        assert file.extremes("x").largest == 250


@pytest.mark.parametrize("place", [0, 5, PIECE_BYTES // 4 + 3])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_is_found(tmp_path: Path, place: int, value: float) -> None:
    """Given one NaN or infinity anywhere, when looked through, then its place and the largest other value are told."""
    numbers = np.full(PIECE_BYTES // 4 + 10, -0.5, dtype="<f4")
    numbers[place] = value
    numbers[place - 1] = -3.0
    with opened(tmp_path, x=("F32", (numbers.size,), numbers.tobytes())) as file:
        found = file.extremes("x")
    assert (found.nonfinite, found.first_nonfinite, found.largest) == (1, place, 3.0)
    assert found.elements == numbers.size


def test_extremes_of_zeros_integers_and_nothing(tmp_path: Path) -> None:
    """Given zeros of either sign, integers, and no element, when looked through, then the magnitudes are right."""
    with opened(
        tmp_path,
        zeros=floats((2,), [0.0, -0.0]),
        small=("I8", (2,), struct.pack("bb", -128, 3)),
        empty=floats((0,), []),
        bad=floats((2,), [math.nan, math.inf]),
    ) as file:
        assert file.extremes("zeros").largest == 0
        assert file.extremes("small").largest == 128
        assert file.extremes("empty").largest == 0
        assert (file.extremes("bad").nonfinite, file.extremes("bad").largest) == (2, 0)


def test_format_that_is_not_decoded_is_named(tmp_path: Path) -> None:
    """Given a tensor in a format that is only known, when read, then the error names tensor and format."""
    with opened(tmp_path, x=("F8_E8M0", (2,), b"\0\0")) as file:
        with pytest.raises(TensorDtypeError, match=r"'x' as F8_E8M0") as caught:
            file.extremes("x")
        with pytest.raises(KeyError):
            file.array("absent")
    assert (caught.value.tensor, caught.value.dtype) == ("x", "F8_E8M0")
