"""What the base model's own files say: its modules, its vocabulary, its size; nothing is imported from it."""

from __future__ import annotations

from gradience_analysis.config_check.base_model.facts import CheckpointFacts, ModelFacts, TokenizerFacts

__all__ = ["CheckpointFacts", "ModelFacts", "TokenizerFacts"]
