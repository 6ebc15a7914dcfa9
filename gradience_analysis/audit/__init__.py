"""The audit of an adapter: how much of its rank each module uses, how large its update is, and what follows.

Numpy is all it needs; neither torch nor a model's code is loaded, and a frame is made only when it is asked for.
"""

from __future__ import annotations

from gradience_analysis.audit.coverage import Coverage
from gradience_analysis.audit.energy import Concentration, concentration
from gradience_analysis.audit.many import audit_adapters
from gradience_analysis.audit.measuring import audit_adapter
from gradience_analysis.audit.module import ModuleAudit
from gradience_analysis.audit.ranks import DEFAULT_POLICY, RANK_POLICIES, SAFE_POLICY
from gradience_analysis.audit.result import AdapterAudit, BaseUsed
from gradience_analysis.audit.suggestion import RankSuggestion

__all__ = [
    "DEFAULT_POLICY",
    "RANK_POLICIES",
    "SAFE_POLICY",
    "AdapterAudit",
    "BaseUsed",
    "Concentration",
    "Coverage",
    "ModuleAudit",
    "RankSuggestion",
    "audit_adapter",
    "audit_adapters",
    "concentration",
]
