"""What the policy makes of an audit: the same questions that are asked of an audit that a run logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gradience_analysis.audit.result import AdapterAudit
from gradience_analysis.diagnostics import adapter_dominance, adapter_rank
from gradience_analysis.diagnostics.audit_record import AuditRecord
from gradience_analysis.diagnostics.base import Diagnosis, diagnose
from gradience_analysis.model import Finding, Measurement, Place
from gradience_analysis.policy import Policy


class _OfAnAudit(Protocol):
    """A diagnostic of recorded runs that can be asked about an audit, too."""

    @property
    def CODES(self) -> Mapping[str, str]: ...  # noqa: N802 - a constant of the module

    @property
    def COVERS(self) -> Mapping[str, frozenset[str]]: ...  # noqa: N802

    def measure_audit(self, record: AuditRecord, /) -> tuple[Measurement, ...]: ...

    def judge(self, measurements: Sequence[Measurement], policy: Policy) -> list[Finding]: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """That diagnostic as an examination of the audit."""

    diagnostic: _OfAnAudit

    @property
    def CODES(self) -> Mapping[str, str]:  # noqa: N802
        """Those of the diagnostic."""
        return self.diagnostic.CODES

    @property
    def COVERS(self) -> Mapping[str, frozenset[str]]:  # noqa: N802
        """Those of the diagnostic."""
        return self.diagnostic.COVERS

    def measure(self, record: AuditRecord) -> tuple[Measurement, ...]:
        """What the diagnostic measures of an audit."""
        return self.diagnostic.measure_audit(record)

    def judge(self, measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
        """What the diagnostic makes of it."""
        return self.diagnostic.judge(measurements, policy)


def judge_audit(audit: AdapterAudit, policy: Policy) -> Diagnosis:
    """Rank waste and dominance of an audited adapter; nothing is judged of one without a module, or without an update.

    That nothing was audited, or that every update is zero, is told by the checks of the files.
    """
    if not any(row.sigma[0] > 0 for row in audit.rows):
        return Diagnosis((), ())
    ranks = {row.r for row in audit.rows}
    initialisation = audit.config.get("init_lora_weights")
    record = AuditRecord(
        quantities=audit.summary,
        source="of this audit",
        # What the files hold, and not what the config says: the two may contradict, which is a finding of its own.
        rank=max(ranks),
        rank_pattern=len(ranks) > 1,
        initialisation=initialisation if isinstance(initialisation, str) else "",
        # With the base given, the ratio is that of the whole change, and not of the low-rank part.
        use_dora=any(row.dora and row.true_spectral_norm is None for row in audit.rows),
        places=(Place(path=str(audit.path)),),
    )
    return diagnose(record, (_Asked(adapter_rank), _Asked(adapter_dominance)), policy)
