"""LoRA pairs whose singular values are known because they were built from them, and spectra to build them of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def frame(rng: np.random.Generator, rows: int, columns: int) -> FloatArray:
    """Random orthonormal columns."""
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def pair(
    sigma: Sequence[float] | FloatArray, m: int, n: int, *, share: float = 0.5, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """A (r, n) and B (m, r) whose product has these singular values; A carries `share` of their logarithm."""
    rng = np.random.default_rng(seed)
    values = np.asarray(sigma, dtype=np.float64)
    turn = frame(rng, values.size, values.size)
    right = frame(rng, n, values.size)
    left = frame(rng, m, values.size)
    return turn.T @ ((values**share)[:, None] * right.T), (left * values ** (1 - share)) @ turn


@st.composite
def spectra_of_any_kind(draw: st.DrawFn, least: int = 1, most: int = 16) -> FloatArray:
    """Descending singular values: random, flat, one dominant, geometric, doublets, with zeros, of condition 1e10."""
    r = draw(st.integers(least, most))
    kind = draw(st.sampled_from(["random", "flat", "dominant", "geometric", "doublets", "zeros", "steep"]))
    some = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=r, max_size=r)))
    place = np.arange(r)
    values = {
        "random": some,
        "flat": np.ones(r),
        "dominant": np.where(place == 0, 1.0, 1e-3 * some),
        "geometric": 0.5**place,
        "doublets": 0.7 ** (place // 2) * np.where(place % 2, 0.999, 1.0),
        "zeros": np.where(place < (r + 1) // 2, some, 0.0),
        "steep": np.geomspace(1.0, 1e-10, r),
    }[kind]
    return np.sort(values)[::-1].copy()
