"""Quantizers after the published formats, written value by value: oracles that share nothing with the code under test.

Each gives the tensors of a layer, and the weight that they stand for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.analysis.base_weights.building import bfloat16, stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tests.analysis.adapters.files import Tensor

    Packed = tuple[dict[str, Tensor], NDArray[np.float32]]

# QLoRA, arXiv 2305.14314, appendix E; and FP4 as bitsandbytes lists it (sign, then seven magnitudes of 12).
NF4 = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]
_FP4 = [0, 0.0625, 8, 12, 4, 6, 2, 3]
FP4 = [value / 12 for value in _FP4] + [-value / 12 for value in _FP4]
TABLES = {"nf4": NF4, "fp4": FP4}


def four_bit(
    layer: str, weight: NDArray[np.float32], kind: str = "nf4", blocksize: int = 64, nested: int = 0
) -> Packed:
    """bitsandbytes: blocks of the flattened weight, and, with `nested`, their scales packed to 8 bits in blocks."""
    table = np.array(TABLES[kind], dtype=np.float32)
    flat = [float(value) for value in weight.ravel()]
    codes: list[int] = []
    scales: list[float] = []
    for start in range(0, len(flat), blocksize):
        block = flat[start : start + blocksize]
        scale = float(np.float32(max(abs(value) for value in block)))
        scales.append(scale)
        codes += [min(range(16), key=lambda c, v=value: abs(table[c] - v / scale)) for value in block]  # type: ignore[misc]
    state: dict[str, Any] = {
        "quant_type": kind,
        "blocksize": blocksize,
        "dtype": "float32",
        "shape": list(weight.shape),
    }
    tensors: dict[str, Tensor] = {}
    if nested:
        offset = float(np.mean(scales, dtype=np.float32))
        inner = np.linspace(-1, 1, 256, dtype=np.float32)
        outer, packed = [], []
        for start in range(0, len(scales), nested):
            shifted = [scale - offset for scale in scales[start : start + nested]]
            outer.append(max(abs(value) for value in shifted) or 1.0)
            packed += [int(np.abs(inner - value / outer[-1]).argmin()) for value in shifted]
        outer32 = np.array(outer, dtype=np.float32)
        scales = [
            float(np.float32(inner[code] * outer32[place // nested]) + np.float32(offset))
            for place, code in enumerate(packed)
        ]
        state |= {"nested_blocksize": nested, "nested_dtype": "float32", "nested_offset": offset}
        tensors[f"{layer}.weight.absmax"] = stored(np.array(packed, dtype=np.uint8))
        tensors[f"{layer}.weight.nested_absmax"] = stored(outer32)
        tensors[f"{layer}.weight.nested_quant_map"] = stored(inner)
    else:
        tensors[f"{layer}.weight.absmax"] = stored(np.array(scales, dtype=np.float32))
    padded = codes + [0] * (len(codes) % 2)
    halves = np.array([high << 4 | low for high, low in zip(padded[::2], padded[1::2], strict=True)], dtype=np.uint8)
    tensors[f"{layer}.weight"] = stored(halves.reshape(-1, 1))
    tensors[f"{layer}.weight.quant_map"] = stored(table)
    text = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)
    tensors[f"{layer}.weight.quant_state.bitsandbytes__{kind}"] = stored(text)
    values = [np.float32(table[code]) * np.float32(scales[place // blocksize]) for place, code in enumerate(codes)]
    return tensors, np.array(values, dtype=np.float32).reshape(weight.shape)


def eight_bit(layer: str, weight: NDArray[np.float32]) -> Packed:
    """LLM.int8(): a row at a time."""
    scales = np.abs(weight).max(axis=1)
    codes = np.rint(weight * 127 / scales[:, None]).astype(np.int8)
    tensors = {
        f"{layer}.weight": stored(codes),
        f"{layer}.SCB": stored(scales),
        f"{layer}.weight_format": stored(np.zeros((), dtype=np.uint8)),
    }
    return tensors, np.array(
        [[int(c) * s / np.float32(127) for c in row] for row, s in zip(codes, scales, strict=True)]
    )


def gptq(
    layer: str,
    codes: NDArray[np.int64],
    zeros: NDArray[np.int64],
    scales: NDArray[Any],
    groups: Sequence[int],
    **how: Any,
) -> Packed:
    """GPTQ from codes (in, out), zero points and scales (groups, out), and the group of each input; W is (out, in).

    `how` may have `bits` (4), `v2`, whether zero points are stored as they are (False), and `order`, whether to store
    g_idx (True).
    """
    bits, outputs = how.get("bits", 4), codes.shape[1]
    kept = zeros if how.get("v2") else (zeros - 1) & ((1 << bits) - 1)
    zero_words = np.array([_bit_stream(row, bits) for row in kept], dtype=np.uint32)
    words = np.array([_bit_stream(codes[:, o], bits) for o in range(outputs)], dtype=np.uint32).T
    tensors = {
        f"{layer}.qweight": stored(words.astype(np.uint32).view(np.int32)),
        f"{layer}.qzeros": stored(zero_words.view(np.int32)),
        f"{layer}.scales": stored(scales),
    }
    if how.get("order", True):
        tensors[f"{layer}.g_idx"] = stored(np.array(groups, dtype=np.int32))
    wide = scales.astype(np.float32)
    weight = [
        [wide[groups[i], o] * (codes[i, o] - zeros[groups[i], o]) for i in range(len(codes))] for o in range(outputs)
    ]
    return tensors, np.array(weight, dtype=np.float32)


def _bit_stream(codes: Sequence[int] | NDArray[np.int64], bits: int) -> list[int]:
    """Codes one after the other from the lowest bit up, in words of 32: what AutoGPTQ's pack comes to for any width."""
    number = sum(int(code) << (bits * place) for place, code in enumerate(codes))
    assert len(codes) * bits % 32 == 0
    return [number >> (32 * word) & 0xFFFFFFFF for word in range(len(codes) * bits // 32)]


def awq(layer: str, codes: NDArray[np.int64], zeros: NDArray[np.int64], scales: NDArray[Any]) -> Packed:
    """AutoAWQ, gemm: codes (in, out), zero points and scales (groups, out), eight outputs a word; W is (out, in)."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    inputs, outputs = codes.shape

    def packed(values: NDArray[np.int64]) -> NDArray[np.int32]:
        words = np.zeros((len(values), outputs // 8), dtype=np.uint32)
        for row in range(len(values)):
            for word in range(outputs // 8):
                for place in range(8):
                    words[row, word] |= np.uint32(int(values[row, word * 8 + order[place]]) << (4 * place))
        return words.view(np.int32)

    tensors = {
        f"{layer}.qweight": stored(packed(codes)),
        f"{layer}.qzeros": stored(packed(zeros)),
        f"{layer}.scales": stored(scales),
    }
    size, wide = inputs // len(scales), scales.astype(np.float32)
    weight = [[wide[i // size, o] * (codes[i, o] - zeros[i // size, o]) for i in range(inputs)] for o in range(outputs)]
    return tensors, np.array(weight, dtype=np.float32)


def block_fp8(layer: str, rows: int, columns: int, block: int, name: str = "weight_scale_inv") -> Packed:
    """E4M3 with a scale for each square block, from random bits without NaN."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 256, (rows, columns)).astype(np.uint8)
    bits[(bits & 0x7F) == 0x7F] = 0
    values = np.array([[_e4m3(int(code)) for code in row] for row in bits])
    scales = rng.uniform(0.01, 2, (-(-rows // block), -(-columns // block))).astype(np.float32)
    tensor, kept = bfloat16(scales)
    weight = [[values[i, j] * kept[i // block, j // block] for j in range(columns)] for i in range(rows)]
    tensors = {f"{layer}.weight": ("F8_E4M3", bits.shape, bits.tobytes()), f"{layer}.{name}": tensor}
    return tensors, np.array(weight, dtype=np.float32)


def _e4m3(code: int) -> float:
    """A value of the OCP 8-bit format with 4 bits of exponent (bias 7) and 3 of mantissa."""
    sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, (code >> 3) & 0xF, code & 7
    return sign * (mantissa / 8 * 2**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))
