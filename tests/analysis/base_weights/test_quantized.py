"""Packed weights: dequantised to the very values that quantizers written after the formats say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_analysis.base_weights import base_norms, open_base, streaming
from tests.analysis.adapters.files import Tensor, floats
from tests.analysis.base_weights import packing
from tests.analysis.base_weights.building import model, module, random, stored, whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

L = "model.layers.0.q_proj"
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def weight(folder: Path, tensors: dict[str, Tensor], **config: Any) -> NDArray[Any]:
    """The dequantised weight as it is streamed."""
    return whole(open_base(model(folder, tensors, **config)).rows(L))


def reason(folder: Path, tensors: dict[str, Tensor], **config: Any) -> str:
    """Why the layer has no weight that is read."""
    match = open_base(model(folder, tensors, **config)).match(L)
    assert match.weight is None
    return match.reason


@pytest.fixture(params=[1 << 19, 256], ids=["one-chunk", "many-chunks"])
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both small and large chunks."""
    monkeypatch.setattr(streaming, "CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [0, 4], ids=["single", "double"])
@pytest.mark.parametrize("shape", [(8, 64), (6, 96), (3, 5), (7, 1)], ids=lambda shape: "x".join(map(str, shape)))
def test_bitsandbytes_4bit(tmp_path: Path, kind: str, nested: int, shape: tuple[int, int]) -> None:
    """Given NF4 or FP4, double quantised or not, of any shape, when read, then the values are the format's."""
    tensors, expected = packing.four_bit(L, random(*shape), kind, blocksize=32, nested=nested)
    np.testing.assert_array_equal(weight(tmp_path, tensors), expected)
    norm = base_norms(open_base(tmp_path), [module(L, shape)]).by_module[L]
    assert (norm.quantization, norm.shape, norm.tensor) == (f"bnb-{kind}", shape, f"{L}.weight")
    assert open_base(tmp_path).quantization == f"bnb-{kind}"


@given(st.integers(1, 9), st.integers(1, 70), st.sampled_from([2, 3, 16, 64]), st.sampled_from([64, 512, 4096]))
@FEW
def test_any_shape_and_block_of_4bit(tmp_path: Path, rows: int, columns: int, blocksize: int, chunk: int) -> None:
    """Given blocks that end anywhere in a row, when read in chunks of any size, then the values are the format's."""
    tensors, expected = packing.four_bit(L, random(rows, columns), "nf4", blocksize)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "CHUNK_BYTES", chunk)
        np.testing.assert_array_equal(weight(tmp_path, tensors), expected)


def test_4bit_in_another_storage_format(tmp_path: Path) -> None:
    """Given 4-bit codes that are stored as bfloat16, as for FSDP, when read, then their bytes are what counts."""
    tensors, expected = packing.four_bit(L, random(8, 64))
    _, shape, raw = tensors[f"{L}.weight"]
    tensors[f"{L}.weight"] = ("BF16", (shape[0] // 2, 1), raw)
    np.testing.assert_array_equal(weight(tmp_path, tensors), expected)


def test_4bit_is_near_the_weight_it_was_made_of(tmp_path: Path) -> None:
    """Given a random weight as NF4, when its norms are taken, then they are within 2% of the weight's own."""
    original = random(96, 128)
    tensors, _ = packing.four_bit(L, original, nested=256)
    norm = base_norms(open_base(model(tmp_path, tensors)), [module(L, (96, 128))]).by_module[L]
    assert norm.spectral == pytest.approx(np.linalg.norm(original, 2), rel=0.02)
    assert norm.frobenius == pytest.approx(np.linalg.norm(original), rel=0.02)


@pytest.mark.usefixtures("chunked")
def test_bitsandbytes_8bit(tmp_path: Path) -> None:
    """Given LLM.int8(), when read, then each value is code times scale over 127."""
    tensors, expected = packing.eight_bit(L, random(12, 40))
    np.testing.assert_allclose(weight(tmp_path, tensors), expected, rtol=2e-7)
    assert base_norms(open_base(tmp_path), [module(L, (12, 40))]).by_module[L].quantization == "bnb-int8"


def codes(bits: int, inputs: int, outputs: int, groups: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Random codes (in, out), zero points (groups, out) of every value, and half-precision scales."""
    rng = np.random.default_rng(seed)
    values, zeros = rng.integers(0, 1 << bits, (inputs, outputs)), rng.integers(0, 1 << bits, (groups, outputs))
    return values, zeros, rng.uniform(0.001, 0.1, (groups, outputs)).astype(np.float16)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("order", ["none", "plain", "act-order"])
def test_gptq(tmp_path: Path, bits: int, v2: bool, order: str) -> None:
    """Given GPTQ of any width, format and order of inputs, when read, then scale times code less zero point."""
    inputs, outputs, groups = 96, 32, 3
    group_of = [i // (inputs // groups) for i in range(inputs)]
    if order == "act-order":
        np.random.default_rng(1).shuffle(group_of)
    values, zeros, scales = codes(bits, inputs, outputs, groups)
    tensors, expected = packing.gptq(L, values, zeros, scales, group_of, bits=bits, v2=v2, order=order != "none")
    config = {"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq_v2" if v2 else "gptq"}}
    np.testing.assert_allclose(weight(tmp_path, tensors, **config).T, expected, rtol=1e-6, atol=1e-6)
    base = open_base(tmp_path)
    assert base.rows(L).transposed
    norm = base_norms(base, [module(L, (outputs, inputs))]).by_module[L]
    assert (norm.quantization, norm.shape) == (f"gptq-{bits}bit", (outputs, inputs))
    assert norm.spectral == pytest.approx(np.linalg.norm(expected, 2), rel=1e-4)


def test_gptq_of_one_group_and_older_settings(tmp_path: Path) -> None:
    """Given group size -1 and a quantize_config.json, when read, then one scale serves all and the file counts."""
    values, zeros, scales = codes(4, 64, 16, 1)
    tensors, expected = packing.gptq(L, values, zeros, scales, [0] * 64, v2=True)
    (tmp_path / "quantize_config.json").write_text('{"bits": 4, "checkpoint_format": "gptq_v2"}')
    np.testing.assert_allclose(weight(tmp_path, tensors).T, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("groups", [1, 4])
def test_awq(tmp_path: Path, groups: int) -> None:
    """Given AWQ, when read, then the outputs of each word are put back in order."""
    values, zeros, scales = codes(4, 32, 24, groups)
    tensors, expected = packing.awq(L, values, zeros, scales)
    config = {"quantization_config": {"quant_method": "awq", "version": "gemm", "bits": 4}}
    np.testing.assert_allclose(weight(tmp_path, tensors, **config).T, expected, rtol=1e-6, atol=1e-6)
    norm = base_norms(open_base(tmp_path), [module(L, (24, 32))]).by_module[L]
    assert (norm.quantization, norm.shape) == ("awq-4bit", (24, 32))


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("name", ["weight_scale_inv", "weight_scale"])
def test_fp8_by_blocks(tmp_path: Path, name: str) -> None:
    """Given E4M3 with a scale a block, when read, then each value has the scale of its block."""
    tensors, expected = packing.block_fp8(L, 10, 13, 4, name)
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 4]}}
    np.testing.assert_allclose(weight(tmp_path, tensors, **config), expected, rtol=1e-6)
    assert open_base(tmp_path).quantization == "fp8"


def test_fp8_by_rows_as_a_whole_and_without_scales(tmp_path: Path) -> None:
    """Given E4M3 with one scale, one an output, or none and no scheme, when read, then each is applied as it stands."""
    tensors, _ = packing.block_fp8(L, 6, 5, 8)
    del tensors[f"{L}.weight_scale_inv"]
    plain = weight(tmp_path, tensors)
    rows = np.arange(1, 7, dtype=np.float32).reshape(6, 1)
    np.testing.assert_array_equal(weight(tmp_path, {**tensors, f"{L}.weight_scale": stored(rows)}), plain * rows)
    one = {**tensors, f"{L}.weight_scale": floats((), [0.5])}
    np.testing.assert_array_equal(weight(tmp_path, one), plain * np.float32(0.5))
    assert open_base(model(tmp_path, tensors)).quantization == ""


def changed(tensors: dict[str, Tensor], name: str, tensor: Tensor | None) -> dict[str, Tensor]:
    """The tensors of a layer with one of them replaced, or taken away."""
    found = {**tensors, f"{L}.{name}": tensor or ("F32", (0,), b"")}
    if tensor is None:
        del found[f"{L}.{name}"]
    return found


NF4_LAYER, _ = packing.four_bit(L, random(4, 64), nested=2)
INT8_LAYER, _ = packing.eight_bit(L, random(4, 8))
GPTQ_LAYER, _ = packing.gptq(L, *codes(4, 32, 8, 2), [0] * 16 + [1] * 16)
AWQ_LAYER, _ = packing.awq(L, *codes(4, 32, 16, 2))
FP8_LAYER, _ = packing.block_fp8(L, 4, 4, 4)
STATE = "weight.quant_state.bitsandbytes__nf4"
AWQ = {"quant_method": "awq"}


def text(content: bytes) -> Tensor:
    """A tensor of bytes."""
    return ("U8", (len(content),), content)


@pytest.mark.parametrize(
    ("tensors", "settings", "says"),
    [
        pytest.param(changed(NF4_LAYER, "weight.absmax", None), {}, "lacks the tensor .*absmax", id="4bit-no-scales"),
        pytest.param(changed(NF4_LAYER, "weight.quant_map", None), {}, "lacks the tensor", id="4bit-no-codes"),
        pytest.param(changed(NF4_LAYER, "weight.absmax", text(b"123")), {}, "sizes that 4 x 64", id="4bit-few-scales"),
        pytest.param(
            changed(NF4_LAYER, "weight", ("U8", (9, 1), b"1" * 9)), {}, "sizes that 4 x 64", id="4bit-few-codes"
        ),
        pytest.param(changed(NF4_LAYER, STATE, text(b"{")), {}, "is not JSON", id="4bit-torn-state"),
        pytest.param(changed(NF4_LAYER, STATE, text(b"{}")), {}, "does not say shape", id="4bit-empty-state"),
        pytest.param(
            changed(NF4_LAYER, STATE, text(b'{"shape": [4, 64], "blocksize": 0}')),
            {},
            "block size",
            id="4bit-zero-block",
        ),
        pytest.param(
            changed(NF4_LAYER, STATE, text(b'{"shape": [4, -64], "blocksize": 64}')), {}, "shape", id="4bit-negative"
        ),
        pytest.param(
            changed(NF4_LAYER, STATE, text(b'{"shape": [4, 64], "blocksize": 64, "nested_offset": [1]}')),
            {},
            "no number",
            id="4bit-odd-offset",
        ),
        pytest.param(changed(INT8_LAYER, "SCB", floats((3,))), {}, "one scale for each of 4", id="int8-few-scales"),
        pytest.param(changed(INT8_LAYER, "weight_format", text(b"\x02")), {}, "tiled order", id="int8-tiled"),
        pytest.param(changed(INT8_LAYER, "SCB", None), {}, "as I8", id="int8-no-scales"),
        pytest.param(changed(GPTQ_LAYER, "qzeros", None), {}, "lacks the tensor", id="gptq-no-zeros"),
        pytest.param(changed(GPTQ_LAYER, "scales", floats((3, 8))), {}, "as GPTQ packs", id="gptq-more-scales"),
        pytest.param(changed(GPTQ_LAYER, "g_idx", ("I32", (2,), b"\0" * 8)), {}, "each of 32", id="gptq-short-order"),
        pytest.param(GPTQ_LAYER, {"checkpoint_format": "marlin"}, "packed as 'marlin'", id="gptq-marlin"),
        pytest.param(changed(AWQ_LAYER, "scales", floats((5, 16))), {}, "as AWQ packs", id="awq-more-scales"),
        pytest.param(AWQ_LAYER, {"version": "GEMV"}, "AWQ 'gemv'", id="awq-gemv"),
        pytest.param(changed(AWQ_LAYER, "scales", floats((5, 9))), {}, "neither GPTQ nor AWQ", id="packed-otherwise"),
        pytest.param(changed(FP8_LAYER, "weight_scale_inv", floats((3, 3))), {}, "does not fit", id="fp8-odd-scales"),
        pytest.param(changed(FP8_LAYER, "weight_scale_inv", None), {"quant_method": "fp8"}, "without", id="fp8-none"),
        pytest.param({f"{L}.weight_packed": ("U8", (1, 1), b"1")}, {}, "compressed-tensors", id="packed"),
        pytest.param({f"{L}_blocks": ("U8", (1, 1), b"1")}, {}, "MXFP4", id="mxfp4"),
        pytest.param({f"{L}.weight": ("I32", (1, 1), b"1234")}, {}, "as I32", id="integers"),
        pytest.param({f"{L}.weight": ("F8_E8M0", (1, 1), b"1")}, {}, "as F8_E8M0", id="unknown-format"),
    ],
)
def test_what_is_not_sound_is_a_reason(tmp_path: Path, tensors: dict[str, Tensor], settings: Any, says: str) -> None:
    """Given packed tensors that do not fit together or are of another scheme, when read, then the reason names it."""
    found = reason(tmp_path, tensors, quantization_config=settings)
    assert re.search(says, found)
    assert found.startswith("The ")
    assert found.endswith(".")


def test_group_beyond_the_last_is_a_reason(tmp_path: Path) -> None:
    """Given a g_idx that names a group that is not there, when norms are taken, then the module has none, with why."""
    order = np.full(32, 7, dtype=np.int32)
    base = open_base(model(tmp_path, changed(GPTQ_LAYER, "g_idx", stored(order))))
    found = base_norms(base, [module(L, (8, 32))])
    assert found.unmatched == {L: f"The base's '{L}.g_idx' names a group beyond the last of 2."}


def test_gptq_with_a_config_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    """Given a torn config.json, when GPTQ is read, then its version is not guessed; plain weights do not need it."""
    folder = model(tmp_path, {**GPTQ_LAYER, "layers.0.plain.weight": floats((2, 2))})
    (folder / "config.json").write_text('{"quantization_config": ')
    base = open_base(folder)
    assert "cannot be read" in base.match(L).reason
    assert base.find("layers.0.plain") == "layers.0.plain.weight"
