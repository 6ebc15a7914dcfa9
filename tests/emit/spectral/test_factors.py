"""The spectra of adapters against the dense product by numpy, over random and adversarial factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_emit.spectral import SpectralProbe
from gradience_emit.spectral.reading import AdapterSpectrum
from tests.emit.spectral.layers import Lora, model, numbers

FIELDS = ("sigma_max", "sigma_min", "numerical_rank", "kappa", "stable_rank", "frobenius")


def measured(a: Any, b: Any, scaling: float = 1.0) -> AdapterSpectrum:
    """What the probe says of one adapter."""
    (found,) = SpectralProbe(model(layer=Lora(a, b, scaling))).measure().adapters
    return found


def agrees(found: AdapterSpectrum, wanted: Any, rel: float = 1e-6) -> None:
    """Fail unless every number is that of the dense matrix."""
    for name in FIELDS:
        assert getattr(found, name) == pytest.approx(wanted[name], rel=rel), name
    assert found.utilization == pytest.approx(wanted["stable_rank"] / found.rank, rel=rel)


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Any:
    """A matrix with orthonormal columns."""
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(2, 40),
    n=st.integers(2, 40),
    r=st.integers(1, 12),
    decades=st.floats(0, 3),
    scaling=st.sampled_from([1.0, 0.25, 2.0, -1.5, 1e-4]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_numbers_are_those_of_the_dense_update(
    seed: int, m: int, n: int, r: int, decades: float, scaling: float, dtype: torch.dtype
) -> None:
    """Given random factors with graded rows, when measured, then all is within 1e-6 of the dense decomposition."""
    rng = np.random.default_rng(seed)
    grades = 10 ** np.linspace(0, -decades, r)
    a = torch.as_tensor(rng.standard_normal((r, n)) * grades[:, None]).to(dtype)
    b = torch.as_tensor(rng.standard_normal((m, r))).to(dtype)
    wanted = numbers(a.double(), b.double(), scaling)
    edge = max(m, n) * 2.0**-23 * wanted["sigma_max"]
    values = np.linalg.svd(scaling * (b.double().numpy() @ a.double().numpy()), compute_uv=False)
    if (np.abs(values - edge) < 1e-6 * edge).any():
        return  # on the very edge of the numerical range either side is right
    agrees(measured(a, b, scaling), wanted)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", ["opposed", "turned", "alike", "wide_rank", "tiny", "huge", "one_row", "zero_column"])
def test_factors_that_spoil_gram_matrices(case: str, seed: int) -> None:
    """Given factors whose Gram matrices are singular, opposed or out of scale, when measured, then all is right."""
    rng = np.random.default_rng(seed)
    m, n, r = 30, 24, 6
    a, b = rng.standard_normal((r, n)), rng.standard_normal((m, r))
    grade = 10.0 ** -np.arange(r)
    if case == "opposed":  # what A shrinks, B blows up: the product is harmless
        a, b = orthonormal(rng, n, r).T * grade[:, None], orthonormal(rng, m, r) / grade
    elif case == "turned":  # the same in another basis: no scaling of rows helps
        turn = orthonormal(rng, r, r)
        a, b = turn @ (orthonormal(rng, n, r).T * grade[:, None]), (orthonormal(rng, m, r) / grade) @ turn.T
    elif case == "alike":  # two rows of A are equal: rank r - 1
        a[1] = a[0]
    elif case == "wide_rank":  # r above a side of the matrix
        a, b = rng.standard_normal((40, n)), rng.standard_normal((m, 40))
    elif case == "tiny":
        a, b = 1e-18 * a, 1e-18 * b
    elif case == "huge":
        a, b = 1e17 * a, 1e17 * b
    elif case == "one_row":
        a, b = a[:1], b[:, :1]
    else:
        b[:, 2] = 0.0
    agrees(measured(a, b, 0.5), numbers(a, b, 0.5))


def test_gram_matrices_that_lost_digits_are_counted() -> None:
    """Given one pair with equal rows and one without, when measured, then one was taken by QR."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 9)), rng.standard_normal((8, 4))
    alike = np.vstack([a[:1], a[:1], a[2:]])
    reading = SpectralProbe(model(sound=Lora(a, b), alike=Lora(alike, b))).measure()
    assert reading.recomputed == 1
    assert [item.numerical_rank for item in reading.adapters] == [4, 3]


@pytest.mark.parametrize("wide", [True, False])
def test_the_numerical_range_ends_at_the_longer_side(wide: bool) -> None:
    """Given 200 x 10 or 10 x 200 and a value between the edges of both sides, when measured, then it is left out."""
    small = 50 * 2.0**-23
    a, b = np.zeros((3, 200 if wide else 10)), np.zeros((10 if wide else 200, 3))
    a[0, 0], a[1, 1], a[2, 2] = 1.0, 0.5, small
    b[0, 0] = b[1, 1] = b[2, 2] = 1.0
    found = measured(a, b)
    assert (found.numerical_rank, found.sigma_min, found.kappa) == (2, 0.5, 2.0)


def test_many_shapes_and_ranks_keep_their_order() -> None:
    """Given modules of mixed shapes, ranks and precisions, when measured together, then each has its own numbers."""
    rng = np.random.default_rng(1)
    layers: dict[str, Lora] = {}
    wanted: dict[str, Any] = {}
    for place in range(24):
        m, n, r = ((8, 12, 3), (12, 8, 3), (9, 9, 5))[place % 3]
        dtype = (torch.float32, torch.bfloat16)[place % 2]
        a, b = (torch.as_tensor(rng.standard_normal(size)).to(dtype) for size in ((r, n), (m, r)))
        layers[f"m{place}"] = Lora(a, b, 1 + place)
        wanted[f"m{place}"] = numbers(a.double(), b.double(), 1 + place)
    reading = SpectralProbe(model(**layers)).measure()
    assert [item.name for item in reading.adapters] == list(layers)
    for item in reading.adapters:
        agrees(item, wanted[item.name])


def test_an_update_of_zero_has_no_kappa() -> None:
    """Given B = 0 as at the start, when measured, then the norm is 0 and kappa is not measured."""
    found = measured(np.ones((4, 9)), np.zeros((8, 4)))
    assert (found.sigma_max, found.frobenius, found.numerical_rank) == (0.0, 0.0, 0)
    assert found.kappa is found.sigma_min is found.stable_rank is found.utilization is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["a", "b", "scaling"])
def test_a_factor_that_is_not_finite_is_counted(bad: float, place: str) -> None:
    """Given NaN or infinity in one of three modules, when measured, then that one has no numbers and two have."""
    rng = np.random.default_rng(2)
    sound = [Lora(rng.standard_normal((3, 7)), rng.standard_normal((7, 3))) for _ in range(2)]
    a, b = rng.standard_normal((3, 7)), rng.standard_normal((7, 3))
    if place != "scaling":
        {"a": a, "b": b}[place][1, 1] = bad
    broken = Lora(a, b, bad if place == "scaling" else 1.0)
    reading = SpectralProbe(model(one=sound[0], broken=broken, two=sound[1])).measure()
    assert reading.nonfinite == 1
    assert [item.kappa is None for item in reading.adapters] == [False, True, False]
    broken_one = reading.adapters[1]
    assert broken_one.sigma_max is broken_one.stable_rank is broken_one.frobenius is None
    assert reading.kappa == pytest.approx(np.median([item.kappa for item in reading.adapters if item.kappa]))


def test_the_runs_numbers_are_made_of_its_modules() -> None:
    """Given five modules of known spectra, when aggregated, then each number is the one its docstring says."""
    rng = np.random.default_rng(3)
    layers, spectra = {}, [(4, 2), (9, 1), (6, 3), (50, 2), (1, 1)]
    for place, (largest, smallest) in enumerate(spectra):
        a = np.diag([largest, smallest]) @ orthonormal(rng, 9, 2).T
        layers[f"m{place}"] = Lora(a, orthonormal(rng, 8, 2))
    reading = SpectralProbe(model(**layers)).measure(weight_decay=0.1)
    assert reading.kappa == pytest.approx(2.0)
    assert reading.worst == ("m3", pytest.approx(25.0))
    assert reading.sigma_max == pytest.approx(50.0)
    assert reading.sigma_min == pytest.approx(1.0)
    assert reading.sigma_max_mean == pytest.approx(70 / 5)
    assert reading.muon_ratio == pytest.approx(0.1 * 70 / 5)
    assert reading.update_norm == pytest.approx(np.sqrt(sum(x * x + y * y for x, y in spectra)))
    assert reading.stable_rank_median == pytest.approx(1.25)
    shares = [(1 + (y / x) ** 2) / 2 for x, y in spectra]
    assert reading.utilization_mean == pytest.approx(np.mean(shares))
    assert reading.source == "adapter"
    assert reading.residual is None
