"""Pickled weights, on request: unpickled in a process of their own, within limits, and handed on as safetensors.

A pickle is a program. The process that asks for one never loads it, and never loads torch: `child` does both, reads
with `weights_only=True`, and may do nothing but read that one file and write one other.
"""

from __future__ import annotations

from gradience_analysis.unpickling.convert import ConvertedWeights, convert_pickled

__all__ = ["ConvertedWeights", "convert_pickled"]
