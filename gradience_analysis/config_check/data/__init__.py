"""Sample checks of the training and evaluation data."""

from __future__ import annotations

from gradience_analysis.config_check.data.facts import DataFacts, SplitFacts

__all__ = ["DataFacts", "SplitFacts"]
