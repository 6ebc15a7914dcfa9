"""Power steps on full matrices against the dense decomposition, with weights that move between samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gradience_emit.spectral import SpectralProbe, power
from gradience_emit.spectral.factors import gram_parts
from gradience_emit.spectral.reading import MatrixSpectrum
from gradience_emit.spectral.targets import Factors
from tests.emit.spectral.layers import linear, model


def only(probe: SpectralProbe) -> MatrixSpectrum:
    """The one matrix of a model."""
    (found,) = probe.measure().matrices
    return found


def gapped(seed: int, m: int = 40, n: int = 30, ratio: float = 0.8) -> torch.Tensor:
    """A random matrix whose singular values fall by this ratio from 5 on."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, min(m, n))))[0] for size in (m, n))
    return torch.as_tensor((left * (5 * ratio ** np.arange(min(m, n)))) @ right.T, dtype=torch.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("m", "n"), [(40, 30), (30, 40), (33, 33)])
def test_the_first_sample_finds_the_largest_value(seed: int, m: int, n: int) -> None:
    """Given a matrix with a gap, when first measured, then norm, stable rank and proxy are those of the SVD."""
    weight = gapped(seed, m, n)
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    found = only(SpectralProbe(model(layer=linear(weight))))
    assert found.sigma_max == pytest.approx(values[0], rel=1e-4)
    assert found.residual is not None
    assert found.residual < 2e-2
    assert found.stable_rank == pytest.approx(np.square(values / values[0]).sum(), rel=2e-4)
    assert found.proxy == pytest.approx(values[0] * np.sqrt(min(m, n)) / np.linalg.norm(values), rel=1e-4)
    assert found.proxy <= values[0] / values[-1]
    assert found.shape == (m, n)


@pytest.mark.parametrize("seed", range(3))
def test_few_steps_follow_weights_that_move(seed: int) -> None:
    """Given weights that move by 1 % a sample, when measured 30 times, then two steps stay within 1 % from below."""
    weight, rng = gapped(seed), torch.Generator().manual_seed(seed)
    layer = linear(weight)
    probe = SpectralProbe(model(layer=layer))
    drift = torch.randn(weight.shape, generator=rng)
    for _ in range(30):
        found = only(probe)
        largest = float(torch.linalg.svdvals(layer.weight.detach().double())[0])
        assert found.sigma_max is not None
        assert 0.99 * largest <= found.sigma_max <= largest * (1 + 1e-6)
        drift = 0.7 * drift + torch.randn(weight.shape, generator=rng)
        with torch.no_grad():
            layer.weight += 0.01 * drift * torch.linalg.vector_norm(weight) / torch.linalg.vector_norm(drift)


def test_the_residual_bounds_the_distance_to_a_singular_value() -> None:
    """Given matrices without a gap, when measured, then a singular value lies as near as the residual says."""
    for seed in range(6):
        weight = torch.randn(50, 50, generator=torch.Generator().manual_seed(seed))
        values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
        found = only(SpectralProbe(model(layer=linear(weight)), power_steps=1))
        assert found.sigma_max is not None
        assert found.residual is not None
        assert np.abs(values**2 - found.sigma_max**2).min() <= found.residual * found.sigma_max**2 * (1 + 1e-4)


def test_another_direction_that_becomes_the_largest_is_found() -> None:
    """Given a converged vector exactly orthogonal to what grows, when measured on, then the new one is found."""
    layer = linear(torch.diag(torch.tensor([4.0, 1.0, 0.5, 0.25])))
    probe = SpectralProbe(model(layer=layer))
    for _ in range(40):
        only(probe)
    with torch.no_grad():
        layer.weight[0, 0], layer.weight[2, 2] = 1.0, 8.0
    assert max(only(probe).sigma_max or 0.0 for _ in range(10)) == pytest.approx(8.0, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_are_widened(dtype: torch.dtype) -> None:
    """Given a matrix in another precision, when measured, then the numbers are those of what it holds."""
    weight = gapped(5).to(dtype)
    found = only(SpectralProbe(model(layer=linear(weight))))
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    assert found.sigma_max == pytest.approx(values[0], rel=1e-5)


def test_a_matrix_in_pieces_is_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given half precision taken 7 rows at a time, when measured, then the numbers are those of the whole."""
    monkeypatch.setattr("gradience_emit.spectral.power._CHUNK", 7 * 30)
    weight = gapped(6).to(torch.bfloat16)
    found = only(SpectralProbe(model(layer=linear(weight))))
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    assert found.sigma_max == pytest.approx(values[0], rel=1e-5)
    assert found.stable_rank == pytest.approx(np.square(values / values[0]).sum(), rel=1e-4)


def test_a_matrix_finds_back_from_zeros_and_from_nan() -> None:
    """Given a matrix that turns to zeros, to NaN and back, when measured, then it has numbers where there are some."""
    weight = gapped(7)
    layer = linear(weight)
    probe = SpectralProbe(model(layer=layer))
    largest = float(torch.linalg.svdvals(weight.double())[0])
    for held, expected in ((0.0, 0.0), (float("nan"), None), (None, largest), (float("inf"), None), (None, largest)):
        with torch.no_grad():
            layer.weight.copy_(weight if held is None else torch.full_like(weight, held))
        reading = probe.measure()
        (found,) = reading.matrices
        assert found.sigma_max == (expected if expected is None else pytest.approx(expected, rel=1e-3))
        assert reading.nonfinite == (expected is None)
        assert reading.kappa is None or held is None


def test_a_run_without_adapters_is_stood_for_by_its_matrices() -> None:
    """Given full fine-tuning of three layers, when aggregated, then kappa is the median proxy, as its source says."""
    layers = {f"m{seed}": linear(gapped(seed, ratio=0.6 + 0.1 * seed)) for seed in range(3)}
    reading = SpectralProbe(model(**layers)).measure(weight_decay=0.01)
    assert reading.source == "matrix"
    assert reading.kappa == sorted(item.proxy or 0 for item in reading.matrices)[1]
    assert reading.worst == ("m0.weight", max(item.proxy or 0 for item in reading.matrices))
    assert reading.residual == max(item.residual or 0 for item in reading.matrices)
    assert reading.sigma_min is reading.utilization_mean is reading.update_norm is None
    assert reading.muon_ratio == pytest.approx(0.01 * sum(item.sigma_max or 0 for item in reading.matrices) / 3)


def test_a_convolution_is_flattened_and_vectors_are_left_out() -> None:
    """Given a convolution, a frozen layer, a bias and a norm, when measured, then there is the flattened kernel."""
    conv = nn.Conv2d(3, 8, 3)
    frozen = nn.Linear(8, 8).requires_grad_(requires_grad=False)
    network = model(conv=conv, frozen=frozen, norm=nn.LayerNorm(8), column=nn.Linear(1, 8))
    reading = SpectralProbe(network).measure()
    (found,) = reading.matrices
    values = np.linalg.svd(conv.weight.detach().double().flatten(1).numpy(), compute_uv=False)
    assert (found.name, found.shape) == ("conv.weight", (8, 27))
    assert found.sigma_max == pytest.approx(values[0], rel=1e-2)
    assert reading.skipped == 0


def test_enqueueing_asks_for_no_value_of_the_device() -> None:
    """Given tensors of torch's meta device, which have no values, when work is enqueued, then none is asked for."""
    with torch.device("meta"):
        weight, vector, a, b = torch.empty(12, 7), torch.empty(7), torch.empty(3, 7), torch.empty(12, 3)
    state = power._State(vector, torch.Generator())
    assert power._steps(weight, state, 3, torch.float32).device.type == "meta"
    pairs = [Factors("one", a, b, 2.0, dora=False, parameters=(a, b))] * 2
    assert [part.shape.numel() for part in gram_parts(pairs)] == [18, 18]


@pytest.mark.parametrize("steps", [0, 21])
def test_a_number_of_steps_without_sense_is_refused(steps: int) -> None:
    """Given no step at all or more than a first sample takes, when the probe is made, then it is a ValueError."""
    with pytest.raises(ValueError, match="must hold"):
        SpectralProbe(model(), power_steps=steps)
