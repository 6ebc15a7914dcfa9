"""Tables of an audit: ranks by rule, modules that would save most, a row a module."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradience_analysis.audit import AdapterAudit, ModuleAudit
from gradience_analysis.model import Block, Field, Fields, Table, plural
from gradience_analysis.reports.audit_heat import percent
from gradience_analysis.reports.audit_ranks import Suggestions, Waste, waste
from gradience_analysis.reports.audit_view import AuditView
from gradience_analysis.reports.format import clipped, count

_LONGEST = 100


def policies_blocks(audit: AdapterAudit, found: Suggestions, view: AuditView) -> tuple[Block, ...]:
    """What each rule suggests, side by side, and that they are hypotheses."""
    columns = ("policy", "p50", "p90", "would save", "of parameters")
    rows = tuple(
        (
            policy,
            str(one.global_median),
            str(one.global_90),
            count(one.params_saved),
            percent(one.params_saved / one.params),
        )
        for policy, one in found.by_policy.items()
    )
    lowest, highest = found.ends
    largest = max(row.r for row in audit.rows)
    fields: list[Field] = []
    if len(view.policies) > 1:
        ends = f"{lowest.global_90} ({lowest.policy}) to {highest.global_90} ({highest.policy})"
        words = "They disagree" if found.disagree else "They differ by a step"
        if lowest.global_90 == highest.global_90:
            words, ends = "They agree", str(lowest.global_90)
        fields.append(
            Field("Spread", f"{words}: rank {ends} of r {largest} at the 90th percentile; none of them is the truth")
        )
    fields.append(Field("Caveat", "a smaller rank is a hypothesis: train or compress to it, and evaluate held out"))
    return (Table(columns, rows, frozenset(columns[1:])), Fields(tuple(fields)))


def wasteful_table(wasteful: Sequence[Waste], view: AuditView) -> Table:
    """The modules that would save most by the chosen rule."""
    columns = ("module", "r", view.policy, "would save", "utilization")
    rows = tuple(
        (_name(one.row), str(one.row.r), str(one.suggested), count(one.saved), _percent(one.row.utilization))
        for one in wasteful
    )
    return Table(columns, rows, frozenset(columns[1:]))


def layers_table(rows: Sequence[ModuleAudit], singular_values: int) -> Table:
    """A row a module: its rank, its norms, how many directions it uses."""
    dominance = any(row.base is not None for row in rows)
    columns = (
        *("module", "r", "spectral", "Frobenius", "stable rank", "effective", "90%", "95%", "99%"),
        *(("UDR",) if dominance else ()),
        *(("singular values",) if singular_values else ()),
    )
    cells = tuple(_layer(row, dominance=dominance, singular_values=singular_values) for row in rows)
    return Table(columns, cells, frozenset(columns[1:]) - {"singular values"})


def _layer(row: ModuleAudit, *, dominance: bool, singular_values: int) -> tuple[str, ...]:
    figures = (row.spectral_norm, row.frobenius_norm, row.stable_rank, row.effective_rank)
    cells = [_name(row), str(row.r), *map(_figure, figures), *(str(rank) for rank in row.energy_ranks.values())]
    if dominance:
        cells.append(_figure(row.udr))
    if singular_values:
        cells.append(" ".join(f"{value:.3g}" for value in row.sigma[:singular_values].tolist()))
    return tuple(cells)


def per_layer_blocks(audit: AdapterAudit, found: Suggestions, view: AuditView) -> tuple[Block, ...]:
    """The rank that each module is suggested, and what the config would say then."""
    chosen = found.by_policy[view.policy]
    several = len(view.policies) > 1
    columns = ("module", "r", view.policy, *(("lowest", "highest") if several else ()))
    rows: list[tuple[str, ...]] = []
    for row in audit.rows:
        ranks = [waste(row, policy).suggested for policy in view.policies]
        rows.append((_name(row), str(row.r), str(ranks[0]), *((str(min(ranks)), str(max(ranks))) if several else ())))
    saved = f"{count(chosen.params_saved)} of {count(chosen.params)} parameters saved"
    pattern = plural(len(chosen.rank_pattern), "module")
    words = f"r = {chosen.default_r}, and a rank_pattern for {pattern} (--json writes it); {saved}"
    return (Fields((Field("Config", words),)), Table(columns, tuple(rows), frozenset(columns[1:])))


def _name(row: ModuleAudit) -> str:
    return clipped(f"{row.name} ({row.adapter})" if row.adapter else row.name, _LONGEST)


def _figure(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3g}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else percent(value)
