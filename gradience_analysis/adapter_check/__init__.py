"""What the files of an adapter say about whether it can be trusted and served: the rules of stage `audit`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradience_analysis.adapter_check import container, coverage, digests, rank_shapes, serving_base, values
from gradience_analysis.adapter_check.facts import AdapterFacts
from gradience_analysis.adapter_check.reading import read_adapter
from gradience_analysis.diagnostics.base import Diagnosis, Examination, diagnose
from gradience_analysis.policy import Policy

ADAPTER_CHECKS: tuple[Examination[AdapterFacts], ...] = (
    container,
    digests,
    coverage,
    values,
    rank_shapes,
    serving_base,
)

__all__ = ["ADAPTER_CHECKS", "AdapterFacts", "check_adapter", "read_adapter"]


def check_adapter(
    folder: Path, policy: Policy, *, base: Path | None = None, recorded: Mapping[str, str] | None = None
) -> Diagnosis:
    """Examine the adapter in a folder: its weights are read, nothing in it is run or followed.

    Args:
        folder: The adapter's folder, as save_pretrained writes it.
        policy: The thresholds to judge by.
        base: Folder of the base model that it is to be served with, to hold it against.
        recorded: SHA-256 by file name, as a registry has it.

    Raises:
        InputError: There is no such folder, it cannot be listed, or several folders in it hold an adapter.
    """
    return diagnose(read_adapter(folder, base=base, recorded=recorded), ADAPTER_CHECKS, policy)
