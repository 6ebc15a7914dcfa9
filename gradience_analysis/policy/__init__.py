"""Thresholds: typed, versioned, each with its unit and source; the only place where a number decides."""

from __future__ import annotations

from gradience_analysis.policy.load import load_policy
from gradience_analysis.policy.model import Policy, Threshold

__all__ = ["Policy", "Threshold", "load_policy"]
