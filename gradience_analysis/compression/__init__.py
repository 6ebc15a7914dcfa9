"""Compression of an adapter: every update cut to a lower rank in factored form, written as a folder, and proven."""

from __future__ import annotations

from gradience_analysis.compression.compressing import PROOF_NAME, WEIGHTS_NAME, compress_adapter
from gradience_analysis.compression.folded import DTYPES
from gradience_analysis.compression.plan import RankRule, fixed_rule, given_rule, policy_rule
from gradience_analysis.compression.result import Compression, LayerResult
from gradience_analysis.compression.suggestions import read_suggestions

__all__ = [
    "DTYPES",
    "PROOF_NAME",
    "WEIGHTS_NAME",
    "Compression",
    "LayerResult",
    "RankRule",
    "compress_adapter",
    "fixed_rule",
    "given_rule",
    "policy_rule",
    "read_suggestions",
]
