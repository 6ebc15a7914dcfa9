"""Streaming: chunks join to the tensor, in every number format, and memory does not grow with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_analysis.base_weights import open_base, streaming
from gradience_analysis.errors import InputError
from tests.analysis.adapters.files import Tensor
from tests.analysis.base_weights.building import bfloat16, model, random, stored, whole

W = "layers.0.q"
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows_of(folder: Path, tensor: Tensor, *before: Tensor) -> Any:
    """The rows of a matrix, stored after other tensors."""
    tensors = {f"before.{n}": one for n, one in enumerate(before)}
    return open_base(model(folder, {**tensors, f"{W}.weight": tensor})).rows(W)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 3),
    st.sampled_from([1, 64, 256, 1 << 20]),
    st.sampled_from(["float16", "float32", "float64", "bfloat16"]),
)
@FEW
def test_chunks_join_to_the_matrix(tmp_path: Path, rows: int, columns: int, skip: int, chunk: int, dtype: str) -> None:
    """Given any shape, format, chunk size and place in the file, when streamed twice, then it is the matrix, twice."""
    values = random(rows, columns)
    tensor, expected = bfloat16(values) if dtype == "bfloat16" else (stored(values.astype(dtype)), values.astype(dtype))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "CHUNK_BYTES", chunk)
        found = rows_of(tmp_path, tensor, ("U8", (skip,), b"1" * skip))
        chunks = [one.copy() for one in found.chunks()]
        assert all(one.nbytes <= max(chunk, 4 * columns) * (2 if dtype == "float64" else 1) for one in chunks)
        np.testing.assert_array_equal(np.concatenate(chunks), expected)
        np.testing.assert_array_equal(whole(found), expected)


def test_pages_are_given_back_and_values_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a matrix above the size whose pages are kept, when streamed twice, then its values are the same."""
    monkeypatch.setattr(streaming, "KEPT_BYTES", 100)
    monkeypatch.setattr(streaming, "_RELEASE_BYTES", 5000)
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 4096)
    tensor, expected = bfloat16(random(200, 100))
    found = rows_of(tmp_path, tensor, ("U8", (7,), b"1" * 7))
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([one.copy() for one in found.chunks()]), expected)
    found.close()


def test_file_that_shrank_is_refused(tmp_path: Path) -> None:
    """Given a file that lost bytes since its header was read, when streamed, then an error says that it changed."""
    found = rows_of(tmp_path, stored(random(4, 4)))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="has changed while it was read"):
        list(found.chunks())


def test_every_8_bit_value(tmp_path: Path) -> None:
    """Given all 256 codes of both 8-bit formats, when decoded, then they are the values that the formats define."""
    raw = bytes(range(256))
    found = whole(rows_of(tmp_path, ("F8_E5M2", (1, 256), raw)))[0]
    halves = np.frombuffer(bytes(byte for code in raw for byte in (0, code)), dtype="<f2")
    np.testing.assert_array_equal(found, halves)
    found = whole(rows_of(tmp_path, ("F8_E4M3", (1, 256), raw)))[0]
    for code in range(256):
        exponent, mantissa = (code >> 3) & 0xF, code & 7
        value = (mantissa / 8 * 2**-6) if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        expected = np.nan if code & 0x7F == 0x7F else (-value if code & 0x80 else value)
        np.testing.assert_equal(found[code], np.float32(expected))


def test_every_half_precision_value(tmp_path: Path) -> None:
    """Given all patterns of float16 and bfloat16, when decoded, then each is numpy's, or a float32's upper half."""
    bits = np.arange(1 << 16, dtype="<u2")
    found = whole(rows_of(tmp_path, ("F16", (64, 1024), bits.tobytes())))
    np.testing.assert_array_equal(found.ravel(), bits.view("<f2").astype(np.float32))
    numbers = ~np.isnan(found.ravel())
    np.testing.assert_array_equal(np.signbit(found.ravel())[numbers], np.signbit(bits.view("<f2"))[numbers])
    found = whole(rows_of(tmp_path, ("BF16", (64, 1024), bits.tobytes())))
    halves = np.stack([np.zeros_like(bits), bits], axis=1)
    np.testing.assert_array_equal(found.ravel(), np.ascontiguousarray(halves).view("<f4").ravel())


@pytest.mark.hf
@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_every_bit_pattern_as_torch_decodes_it(tmp_path: Path, name: str) -> None:
    """Given all bit patterns of a short format as torch saves them, when decoded, then each is torch's value."""
    import torch
    from safetensors.torch import save_file

    width = 1 if name.startswith("float8") else 2
    bits = np.arange(256**width, dtype=f"<u{width}")
    tensor = torch.from_numpy(bits.view(f"<i{width}").copy()).view(getattr(torch, name)).reshape(-1, 16)
    save_file({f"{W}.weight": tensor}, tmp_path / "model.safetensors")
    found = whole(open_base(tmp_path).rows(W))
    np.testing.assert_array_equal(found, tensor.to(torch.float32).numpy())


MEASURED = """
import re, sys
from pathlib import Path
from gradience_analysis.base_weights import base_norms, open_base, streaming
from tests.analysis.base_weights.building import module
streaming.KEPT_BYTES //= 4
def peak():  # of this process alone; ru_maxrss begins with that of the parent
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
base = open_base(Path(sys.argv[1]))
base_norms(base, [module("small.0.q", (64, 64))])
before = peak()
found = base_norms(base, [module("layers.0.q", (8192, 8192))], tolerance=0.1)
print(len(found.by_module), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory stands in /proc")
def test_memory_does_not_grow_with_the_matrix(tmp_path: Path) -> None:
    """Given a matrix of 128 MiB, when its norm is taken, then the peak of memory grows by a third of that at most."""
    rows, columns = 8192, 8192
    tensors: dict[str, Tensor] = {"small.0.q.weight": stored(random(64, 64))}
    row = bfloat16(random(1, columns))[0][2]
    model(tmp_path, {**tensors, f"{W}.weight": ("BF16", (rows, columns), row * rows)})
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        env={"PYTHONPATH": ".:schema:cli", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        timeout=120,
        check=True,
    )
    matched, kilobytes = map(int, done.stdout.split())
    assert matched == 1
    assert 1024 < kilobytes < 43 * 1024
