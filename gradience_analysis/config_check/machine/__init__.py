"""The machine that training is to run on: devices, folders, versions, and the paths that were given."""

from __future__ import annotations

from gradience_analysis.config_check.machine.facts import MachineFacts

__all__ = ["MachineFacts"]
