"""The 80 rules, and how to find one."""

from __future__ import annotations

from gradience_analysis.catalogue import (
    code_rules,
    config_rules,
    data_rules,
    file_rules,
    flow_rules,
    gpu_rules,
    model_rules,
    process_rules,
)
from gradience_analysis.catalogue.rule import Rule

RULES: tuple[Rule, ...] = (
    *data_rules.RULES,
    *model_rules.RULES,
    *gpu_rules.RULES,
    *config_rules.RULES,
    *process_rules.RULES,
    *file_rules.RULES,
    *flow_rules.RULES,
    *code_rules.RULES,
)
"""Every rule, by category, in order of its number."""

_BY_ID = {rule.id: rule for rule in RULES}


def rule(identifier: str) -> Rule:
    """The rule of that id.

    Raises:
        KeyError: There is none.
    """
    return _BY_ID[identifier]
