"""What `gradience audit` says about one adapter or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradience_analysis.audit import AdapterAudit
from gradience_analysis.model import Finding, Note, Notes, Report, Section, Table, plural
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_analysis.reports.audit_data import SCHEMA, audit_data, several_data
from gradience_analysis.reports.audit_ranks import Suggestions, suggestions
from gradience_analysis.reports.audit_sections import coverage_words, ranks_words, sections_of
from gradience_analysis.reports.audit_view import AuditView
from gradience_analysis.reports.format import clipped, count
from gradience_schema import Severity

__all__ = ["SCHEMA", "AuditView", "audit_report"]


@dataclass(frozen=True, slots=True)
class _Item:
    audit: AdapterAudit
    found: Suggestions | None
    verdict: Note

    @property
    def findings(self) -> list[Finding]:
        """Worst first; the checks of the files and of the figures come one after the other."""
        return sorted(self.audit.findings, key=lambda finding: SEVERITY_RANK[finding.severity])


def audit_report(audits: Sequence[AdapterAudit], path: str, view: AuditView | None = None) -> Report:
    """Lay out what audits found; several get an overview first, and a part each.

    Args:
        audits: The audits, at least one.
        path: The folder as it was given.
        view: How much to show.

    Raises:
        ValueError: There is no audit.
    """
    if not audits:
        raise ValueError("an audit report needs at least one audit")
    view = view or AuditView()
    items = [_item(audit, view) for audit in audits]
    data = [audit_data(item.audit, item.found, item.verdict, view) for item in items]
    if len(items) == 1:
        (item,) = items
        title = path if item.audit.name == path else f"{item.audit.name} in {path}"
        return Report("audit", title, item.verdict, tuple(_sections(item, view)), data[0])
    verdict = _overall(items)
    sections = [Section("Overview", (_overview(items),))]
    for item in items:
        sections += [Section(_name(item), (Notes((item.verdict,)),)), *_sections(item, view)]
    title = f"{plural(len(items), 'adapter')} in {path}"
    return Report("audit", title, verdict, tuple(sections), several_data(data, path, verdict))


def _item(audit: AdapterAudit, view: AuditView) -> _Item:
    found = suggestions(audit, view) if audit.rows else None
    return _Item(audit, found, _verdict(audit))


def _sections(item: _Item, view: AuditView) -> list[Section]:
    return sections_of(item.audit, item.findings, item.found, view)


def _verdict(audit: AdapterAudit) -> Note:
    """The worst of what was found; else what the figures say, as a hypothesis."""
    loud = sorted(
        (finding for finding in audit.findings if finding.severity is not Severity.INFO),
        key=lambda finding: SEVERITY_RANK[finding.severity],
    )
    if loud:
        more = f" ({plural(len(loud) - 1, 'more finding')} below)" if len(loud) > 1 else ""
        return Note(loud[0].severity, loud[0].message + more)
    if not audit.rows:
        return Note(Severity.WARNING, _nothing(audit))
    modules = f"{plural(len(audit.rows), 'module')} audited, {ranks_words(audit.rows)}"
    whole = audit.coverage.audited == audit.coverage.lora_keys
    covered = "" if whole else f"Only {coverage_words(audit.coverage)}: "
    return Note(Severity.INFO if whole else Severity.WARNING, f"{covered}{modules}. {_rank_use(audit)}")


def _nothing(audit: AdapterAudit) -> str:
    keys = audit.coverage.lora_keys
    if keys:
        return f"Nothing was audited: none of {plural(keys, 'LoRA-like key')} makes up a module that can be measured."
    whole = len(audit.coverage.whole_tensors)
    held = f"; it holds {plural(whole, 'whole tensor')}" if whole else ""
    return f"Nothing was audited: there is no LoRA-like key in the weights{held}."


def _rank_use(audit: AdapterAudit) -> str:
    suggested, largest = audit.summary["suggested_r_global_90"], max(row.r for row in audit.rows)
    if all(row.sigma[0] == 0 for row in audit.rows):
        return "The update is exactly zero."
    if suggested >= largest:
        taken = audit.summary["energy_rank_90_p90"]
        return f"90% of the update's energy takes {taken:.3g} of {largest} directions (90th percentile over modules)."
    return (
        f"Rank {suggested} would hold 90% of the update's energy (90th percentile over modules); whether it would do, "
        f"only a held-out evaluation shows."
    )


def _name(item: _Item) -> str:
    return clipped(item.audit.name)


def _overall(items: Sequence[_Item]) -> Note:
    worst = min((item.verdict.severity for item in items), key=lambda severity: SEVERITY_RANK[severity])
    if worst is Severity.INFO:
        return Note(worst, f"{plural(len(items), 'adapter')}, nothing against any of them.")
    bad = sum(item.verdict.severity is not Severity.INFO for item in items)
    return Note(worst, f"{bad} of {plural(len(items), 'adapter')} with findings.")


def _overview(items: Sequence[_Item]) -> Table:
    columns = ("adapter", "modules", "parameters", "rank", "keys audited", "rank for 90%", "findings")
    rows: list[tuple[str, ...]] = []
    for item in items:
        summary: dict[str, Any] = item.audit.summary
        loud = [finding.code for finding in item.findings if finding.severity is not Severity.INFO]
        suggested = summary["suggested_r_global_90"]
        cells = (
            f"{len(item.audit.rows):,}",
            count(summary["total_lora_params"]),
            ranks_words(item.audit.rows).removeprefix("r ") if item.audit.rows else "-",
            f"{item.audit.coverage.audited:,} of {item.audit.coverage.lora_keys:,}",
            "-" if suggested is None else str(suggested),
            ", ".join(dict.fromkeys(loud)) or "-",
        )
        rows.append((_name(item), *cells))
    return Table(columns, tuple(rows), frozenset(columns[1:-1]))
