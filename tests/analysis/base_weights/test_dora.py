"""DoRA: the whole change of a weight is what PEFT's merge makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradience_analysis.adapters.factors import Layout
from gradience_analysis.base_weights import base_norms, dora_norms, open_base, streaming
from gradience_analysis.base_weights.dora import DoraShapeError
from tests.analysis.base_weights import packing
from tests.analysis.base_weights.building import model, module, random, stored

W = "layers.0.q"


def dense(w: Any, a: Any, b: Any, scaling: float, magnitude: Any) -> Any:
    """diag(m / row norms) (W + s B A) - W in float64."""
    merged = w.astype(np.float64) + scaling * b.astype(np.float64) @ a
    return magnitude.reshape(-1, 1) / np.linalg.norm(merged, axis=1, keepdims=True) * merged - w


@pytest.fixture(params=[1 << 19, 512], ids=["one-chunk", "many-chunks"])
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both small and large chunks."""
    monkeypatch.setattr(streaming, "CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("shape", [(90, 70), (70, 90), (80, 80)], ids=str)
@pytest.mark.parametrize("stored_as", ["out-in", "in-out"])
def test_change_is_that_of_the_dense_formula(tmp_path: Path, shape: tuple[int, int], stored_as: str) -> None:
    """Given a weight stored either way round, when the change is measured, then its norms are the dense ones."""
    rng = np.random.default_rng(3)
    w, a, b = random(*shape), random(4, shape[1], seed=1), random(shape[0], 4, seed=2)
    magnitude = np.linalg.norm(w, axis=1) * rng.uniform(0.8, 1.3, shape[0])
    flipped = stored_as == "in-out"
    base = open_base(model(tmp_path, {f"{W}.weight": stored(w.T.copy() if flipped else w)}))
    found = dora_norms(base, module(W, shape), a, b, 0.5, magnitude, fan_in_fan_out=flipped, tolerance=1e-6)
    sigma = np.linalg.svd(dense(w, a, b, 0.5, magnitude), compute_uv=False)
    assert found.spectral == pytest.approx(sigma[0], rel=1e-5)
    assert found.frobenius == pytest.approx(np.sqrt(np.sum(sigma**2)), rel=1e-5)
    assert found.converged


def test_larger_magnitude_alone_is_a_tenth_of_the_weight(tmp_path: Path) -> None:
    """Given B = 0 and m = 1.1 of the row norms, when measured, then UDR is 0.1, where the factors alone say 0."""
    w = random(120, 90)
    base = open_base(model(tmp_path, {f"{W}.weight": stored(w)}))
    a, b, magnitude = random(4, 90), np.zeros((120, 4), dtype=np.float32), np.linalg.norm(w, axis=1) * 1.1
    change = dora_norms(base, module(W, (120, 90)), a, b, 2.0, magnitude)
    norm = base_norms(base, [module(W, (120, 90))]).by_module[W]
    assert change.spectral / norm.spectral == pytest.approx(0.1, rel=1e-4)
    assert change.frobenius / norm.frobenius == pytest.approx(0.1, rel=1e-5)


def test_small_change_keeps_its_digits(tmp_path: Path) -> None:
    """Given a magnitude that differs by a millionth, when measured, then the change is a millionth of the weight."""
    w = random(60, 50)
    base = open_base(model(tmp_path, {f"{W}.weight": stored(w)}))
    magnitude = np.linalg.norm(w.astype(np.float64), axis=1) * (1 + 1e-6)
    zero = np.zeros((60, 4), dtype=np.float32)
    change = dora_norms(base, module(W, (60, 50)), random(4, 50), zero, 2.0, magnitude)
    assert change.frobenius == pytest.approx(1e-6 * np.linalg.norm(w), rel=1e-2)


def test_packed_base_that_is_stored_by_inputs(tmp_path: Path) -> None:
    """Given a square GPTQ base, whose rows are inputs, when measured, then the rows of the change are its outputs."""
    rng = np.random.default_rng(0)
    codes, zeros = rng.integers(0, 16, (64, 64)), rng.integers(0, 16, (2, 64))
    scales = rng.uniform(0.01, 0.1, (2, 64)).astype(np.float16)
    tensors, w = packing.gptq(W, codes, zeros, scales, [0] * 32 + [1] * 32)
    base = open_base(model(tmp_path, tensors))
    a, b = random(4, 64, seed=1), random(64, 4, seed=2)
    magnitude = np.linalg.norm(w, axis=1) * rng.uniform(0.5, 1.5, 64)
    found = dora_norms(base, module(W, (64, 64)), a, b, 0.25, magnitude, tolerance=1e-6)
    assert found.spectral == pytest.approx(np.linalg.norm(dense(w, a, b, 0.25, magnitude), 2), rel=1e-5)


def test_row_of_zeros_is_not_a_number(tmp_path: Path) -> None:
    """Given a row of W + sBA that is zero, when measured, then the norms are NaN, as PEFT divides by zero there."""
    w = random(10, 8)
    w[3] = 0
    base = open_base(model(tmp_path, {f"{W}.weight": stored(w)}))
    found = dora_norms(base, module(W, (10, 8)), random(2, 8), np.zeros((10, 2), dtype=np.float32), 1.0, np.ones(10))
    assert np.isnan(found.spectral)
    assert found.nonfinite > 0


@pytest.mark.parametrize(
    ("a", "b", "m", "says"),
    [((2, 8), (10, 2), 9, "9 values for 10 rows"), ((2, 7), (10, 2), 10, r"is 10 x 8, .* make one of 10 x 7\.")],
    ids=["magnitude", "factors"],
)
def test_parts_that_do_not_fit(tmp_path: Path, a: tuple[int, int], b: tuple[int, int], m: int, says: str) -> None:
    """Given factors or a magnitude of another size, when measured, then the error says which sizes."""
    base = open_base(model(tmp_path, {f"{W}.weight": stored(random(10, 8))}))
    with pytest.raises(DoraShapeError, match=says):
        dora_norms(base, W, random(*a), random(*b), 1.0, np.ones(m))


def tiny(torch: Any) -> Any:
    """A model with one layer of each kind that DoRA can adapt."""
    from transformers.pytorch_utils import Conv1D

    class Tiny(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(20, 30, bias=False)
            self.square = torch.nn.Linear(24, 24)
            self.conv1d = Conv1D(40, 20)
            self.even = Conv1D(20, 20)
            self.embed = torch.nn.Embedding(50, 16)
            self.conv = torch.nn.Conv2d(6, 10, 3)

        def forward(self, x: Any) -> Any:
            return x

    return Tiny()


@pytest.mark.hf
@pytest.mark.parametrize("name", ["linear", "square", "conv1d", "even", "embed", "conv"])
@pytest.mark.filterwarnings("ignore")
def test_change_is_that_of_pefts_merge(tmp_path: Path, name: str) -> None:
    """Given a DoRA adapter that PEFT saved, when measured, then the change is that of the weight by PEFT's merge."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file

    from gradience_analysis.adapters.opened import open_adapter

    torch.manual_seed(0)
    plain = tiny(torch)
    before = plain.state_dict()[f"{name}.weight"].clone()
    save_file(
        {key: value.contiguous().clone() for key, value in plain.state_dict().items()}, tmp_path / "model.safetensors"
    )
    fan_in_fan_out = name in {"conv1d", "even"}
    config = LoraConfig(r=3, lora_alpha=7, target_modules=[name], use_dora=True, fan_in_fan_out=fan_in_fan_out)
    adapted = get_peft_model(plain, config)
    with torch.no_grad():
        for key, value in adapted.named_parameters():
            if "lora_" in key:
                value.add_(0.1 * torch.randn_like(value))
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload(safe_merge=True).state_dict()[f"{name}.weight"]
    change = (merged - before).double().reshape(merged.shape[0], -1).numpy()
    base = open_base(tmp_path)
    with open_adapter(tmp_path / "adapter") as opened:
        (one,) = opened.inventory.modules
        magnitude, scaling = opened.magnitude(one), one.scaling
        assert magnitude is not None
        assert scaling is not None
        a, b = opened.factors(one)
        assert (one.layout is Layout.EMBEDDING) == (name == "embed")
        found = dora_norms(base, one, a, b, scaling, magnitude, fan_in_fan_out, 1e-6)
    assert found.spectral == pytest.approx(np.linalg.norm(change, 2), rel=2e-5)
    assert found.frobenius == pytest.approx(np.linalg.norm(change), rel=2e-5)
