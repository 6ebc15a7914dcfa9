"""Numerics of LoRA updates, on numpy alone: spectra, ranks, norms of streamed matrices, overlap, truncation."""

from gradience_analysis.linalg.norms import NormEstimate, RowChunks, matrix_norms
from gradience_analysis.linalg.ranks import (
    ALLOWED_RANKS,
    NUMERICAL_RTOL,
    effective_rank,
    energy_rank,
    energy_tail,
    largest_gap_rank,
    null_rank,
    numerical_rank,
    percentile,
    round_up_rank,
    stable_rank,
)
from gradience_analysis.linalg.spectrum import (
    Grams,
    ProductSVD,
    Spectrum,
    exact_spectrum,
    grams,
    product_spectrum,
    product_svd,
    spectra,
)
from gradience_analysis.linalg.subspace import Overlap, overlap
from gradience_analysis.linalg.truncation import Truncated, truncate

__all__ = [
    "ALLOWED_RANKS",
    "NUMERICAL_RTOL",
    "Grams",
    "NormEstimate",
    "Overlap",
    "ProductSVD",
    "RowChunks",
    "Spectrum",
    "Truncated",
    "effective_rank",
    "energy_rank",
    "energy_tail",
    "exact_spectrum",
    "grams",
    "largest_gap_rank",
    "matrix_norms",
    "null_rank",
    "numerical_rank",
    "overlap",
    "percentile",
    "product_spectrum",
    "product_svd",
    "round_up_rank",
    "spectra",
    "stable_rank",
    "truncate",
]
