"""Norms of base weights: those of a dense decomposition, each matrix once, and a reason for every module without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradience_analysis.base_weights import base_norms, norms, open_base
from tests.analysis.adapters.files import Tensor, floats
from tests.analysis.base_weights.building import bfloat16, expert, model, module, random, sharded, stored

if TYPE_CHECKING:
    from pathlib import Path


def layer(number: int, part: str = "q_proj") -> str:
    """A layer's name."""
    return f"model.layers.{number}.{part}"


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (200, 80), (80, 200), (1, 90), (90, 1), (300, 300)], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_norms_of_a_dense_decomposition(tmp_path: Path, shape: tuple[int, int], dtype: str) -> None:
    """Given a random matrix in each format, when measured, then the norms are the dense ones within the tolerance."""
    values = random(*shape)
    tensor, kept = bfloat16(values) if dtype == "bfloat16" else (stored(values.astype(dtype)), values.astype(dtype))
    base = open_base(model(tmp_path, {f"{layer(0)}.weight": tensor}))
    found = base_norms(base, [module(layer(0), shape)], tolerance=1e-5)
    norm = found.by_module[layer(0)]
    sigma = np.linalg.svd(kept.astype(np.float64), compute_uv=False)
    assert norm.spectral == pytest.approx(sigma[0], rel=2e-5)
    assert norm.frobenius == pytest.approx(np.sqrt(np.sum(sigma**2)), rel=1e-6)
    assert (norm.file, norm.tensor, norm.shape) == ("model.safetensors", f"{layer(0)}.weight", shape)
    assert (norm.converged, norm.cached, norm.quantization, norm.tolerance) == (True, False, "", 1e-5)
    assert norm.residual <= 1e-5
    assert (found.unmatched, found.remarks) == ({}, ())


def test_every_module_is_in_one_of_both(tmp_path: Path) -> None:
    """Given modules that match and others, when measured, then each has its norms or its reason, and none both."""
    tensors: dict[str, Tensor] = {f"{layer(n)}.weight": stored(random(8, 8, seed=n)) for n in range(3)}
    tensors[f"{layer(3)}.weight"] = ("I64", (1, 1), b"\0" * 8)
    tensors[f"{layer(4)}.weight"] = floats((0, 8))
    base = open_base(sharded(tmp_path, [{name: tensor} for name, tensor in tensors.items()]))
    modules = [
        *(module(layer(n), (8, 8)) for n in range(4)),
        module(layer(4), (0, 8)),
        module(layer(2, "v_proj"), (8, 8)),
        module("base.lm_head", (8, 8)),
    ]
    found = base_norms(base, modules)
    assert list(found.by_module) == [layer(0), layer(1), layer(2)]
    assert [norm.file for norm in found.by_module.values()] == [
        f"model-0000{n}-of-00005.safetensors" for n in (1, 2, 3)
    ]
    assert set(found.unmatched) == {one.name for one in modules} - set(found.by_module)
    assert found.unmatched[layer(4)] == f"The base's '{layer(4)}.weight' holds no values."
    assert all(reason.startswith("The base") and reason.endswith(".") for reason in found.unmatched.values())


def test_matrix_of_several_modules_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a tied head, an embedding and two adapters on one layer, when measured, then each tensor is read once."""
    calls: list[tuple[int, int]] = []
    computed = norms.matrix_norms

    def counted(matrix: norms.RowChunks, **how: float) -> norms.NormEstimate:
        calls.append(matrix.shape)
        return computed(matrix, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(norms, "matrix_norms", counted)
    tensors = {"model.embed_tokens.weight": stored(random(12, 4)), f"{layer(0)}.weight": stored(random(5, 4))}
    base = open_base(model(tmp_path, tensors, tie_word_embeddings=True))
    modules = [
        module("lm_head", (12, 4)),
        module("model.embed_tokens", (12, 4)),
        module(layer(0), (5, 4)),
        module(layer(0), (5, 4), adapter="second"),
    ]
    done: list[tuple[int, int]] = []
    found = base_norms(base, modules, progress=lambda *counts: done.append(counts))
    assert sorted(calls) == [(5, 4), (12, 4)]
    assert done == [(0, 2), (1, 2), (2, 2)]
    assert found.by_module["lm_head"] == found.by_module["model.embed_tokens"]
    assert found.remarks == (
        "'lm_head' has no weight of its own and is tied to 'model.embed_tokens.weight', whose norms it has.",
    )


def test_experts_have_their_own_norms(tmp_path: Path) -> None:
    """Given experts in one tensor, when measured, then each has the norm of its slice."""
    name = "model.layers.0.mlp.experts.down_proj"
    values = random(4, 6, 5) * np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1)
    base = open_base(model(tmp_path, {name: stored(values)}))
    found = base_norms(base, [expert(name, number, (6, 5), name) for number in range(4)])
    expected = [np.linalg.norm(values[number], 2) for number in range(4)]
    measured = [found.by_module[f"{name}[{number}]"].spectral for number in range(4)]
    np.testing.assert_allclose(measured, expected, rtol=1e-4)
    assert found.by_module[f"{name}[2]"].part == "expert 2"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("size", [6, 200])
def test_value_that_is_not_finite_is_a_reason(tmp_path: Path, value: float, size: int) -> None:
    """Given a NaN or an infinity in a weight, when measured, then the module has no norms, and the reason counts it."""
    values = random(size, size)
    values[size - 1, 2] = value
    base = open_base(model(tmp_path, {f"{layer(0)}.weight": stored(values)}))
    found = base_norms(base, [module(layer(0), (size, size))])
    assert found.unmatched == {layer(0): f"The base's '{layer(0)}.weight' holds 1 values that are NaN or infinite."}


def test_zero_weight_has_norm_zero(tmp_path: Path) -> None:
    """Given a weight of zeros, when measured, then both norms are 0, and nothing is divided."""
    base = open_base(model(tmp_path, {f"{layer(0)}.weight": floats((90, 80), 0.0)}))
    norm = base_norms(base, [module(layer(0), (90, 80))]).by_module[layer(0)]
    assert (norm.spectral, norm.frobenius, norm.converged) == (0.0, 0.0, True)


def test_no_modules_and_no_match(tmp_path: Path) -> None:
    """Given no modules, or none that matches, when measured, then the result says so and nothing is measured."""
    base = open_base(model(tmp_path, {f"{layer(0)}.weight": floats((4, 4))}))
    assert base_norms(base, []).by_module == {}
    found = base_norms(base, [module("other", (4, 4))])
    assert found.unmatched == {"other": "The base has no weight for 'other'."}
