"""The sections of one adapter's audit, from the whole to the single module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.audit import AdapterAudit, Coverage, ModuleAudit, concentration
from gradience_analysis.audit.naming import MODULE_TYPES
from gradience_analysis.model import Block, Field, Fields, Finding, Note, Notes, Section, Table, plural
from gradience_analysis.reports.audit_heat import energy_heat, percent, utilization_heat
from gradience_analysis.reports.audit_ranks import Suggestions
from gradience_analysis.reports.audit_tables import layers_table, per_layer_blocks, policies_blocks, wasteful_table
from gradience_analysis.reports.audit_view import AuditView
from gradience_analysis.reports.format import clipped, count, number
from gradience_analysis.reports.remarks import SHOWN, finding_notes
from gradience_analysis.reports.unmeasured import unmeasured_fields
from gradience_schema import Severity

_SHOWN_TARGETS = 7
_NO_FAULT = frozenset({"pruned"})


def sections_of(
    audit: AdapterAudit, findings: Sequence[Finding], found: Suggestions | None, view: AuditView
) -> list[Section]:
    """Everything there is to say about an adapter below its verdict.

    Args:
        audit: The audit.
        findings: What was found, worst first.
        found: Suggested ranks; None for an audit without a module.
        view: What was asked for.
    """
    sections = [Section("", (_header(audit),))]
    if findings:
        sections.append(Section("Findings", (finding_notes(findings, verbose=view.verbose),)))
    if audit.remarks:
        sections.append(Section("Remarks", (Notes(tuple(Note(Severity.INFO, text) for text in audit.remarks)),)))
    if audit.coverage.left_out:
        sections.append(Section("Left out", (_left_out(audit.coverage, verbose=view.verbose),)))
    if found is not None:
        sections += [_use(audit), *_energy(audit)]
        # Of an update that is zero, every rule would say rank 1, which is no suggestion.
        if any(row.sigma[0] > 0 for row in audit.rows):
            sections.append(Section("Suggested ranks", policies_blocks(audit, found, view)))
        if found.wasteful:
            sections.append(Section("Most wasteful modules", (wasteful_table(found.wasteful, view),)))
        if audit.base is not None:
            sections.append(_dominance(audit, verbose=view.verbose))
        if view.rows:
            sections.append(Section("Modules", (layers_table(audit.rows, view.top_singular_values),)))
        if view.suggest_per_layer:
            sections.append(Section("Suggested ranks by module", per_layer_blocks(audit, found, view)))
    if view.verbose:
        sections.append(Section("", (unmeasured_fields(audit.measurements, verbose=True),)))
    return sections


def _header(audit: AdapterAudit) -> Fields:
    """What it is, and how much of it was audited; the coverage is never left out."""
    fields = [Field("Adapter", f"{clipped(audit.name)} · {audit.path}")]
    if audit.config:
        fields.append(Field("LoRA", _config_words(audit)))
        base = audit.config.get("base_model")
        if base:
            fields.append(Field("Base model", clipped(str(base))))
    else:
        fields.append(Field("LoRA", f"{ranks_words(audit.rows)}; there is no config that can be read"))
    covered = f"{coverage_words(audit.coverage)} · {plural(len(audit.rows), 'module')}"
    params = audit.summary["total_lora_params"]
    whole = len(audit.coverage.whole_tensors)
    beside = f" · {plural(whole, 'whole tensor')} beside them (modules_to_save), not audited" if whole else ""
    return Fields((*fields, Field("Audited", f"{covered} · {count(params)} parameters{beside}")))


def coverage_words(coverage: Coverage) -> str:
    """`24 of 24 LoRA-like keys`."""
    return f"{coverage.audited:,} of {plural(coverage.lora_keys, 'LoRA-like key')}"


def ranks_words(rows: Sequence[ModuleAudit]) -> str:
    """`r 8`, or `r 4 to 16`."""
    ranks = {row.r for row in rows}
    if not ranks:
        return "r not known"
    return f"r {min(ranks)}" if len(ranks) == 1 else f"r {min(ranks)} to {max(ranks)}"


def _config_words(audit: AdapterAudit) -> str:
    config = audit.config
    parts = [ranks_words(audit.rows) if audit.rows else f"r {config.get('r')}"]
    if config.get("lora_alpha") is not None:
        parts.append(f"alpha {number(config['lora_alpha'])}")
    parts.append(_scaling_words(audit.rows))
    flags = {"use_rslora": "rsLoRA", "use_dora": "DoRA"}
    parts += [word for key, word in flags.items() if config.get(key)]
    kind = config.get("peft_type")
    if kind and str(kind).upper() != "LORA":
        parts.append(f"type {clipped(str(kind))}")
    how = config.get("init_lora_weights")
    if isinstance(how, str):
        parts.append(f"init {clipped(how)}")
    parts += [f"{name} ({len(config[name])})" for name in ("rank_pattern", "alpha_pattern") if config.get(name)]
    targets = sorted(map(str, [*config.get("target_modules", ()), *config.get("target_parameters", ())]))
    if targets:
        shown = ", ".join(clipped(name) for name in targets[:_SHOWN_TARGETS])
        more = len(targets) - _SHOWN_TARGETS
        parts.append(f"on {shown}" + (f" and {more} more" if more > 0 else ""))
    return " · ".join(part for part in parts if part)


def _scaling_words(rows: Sequence[ModuleAudit]) -> str:
    known = {row.scaling for row in rows if row.scaling is not None}
    if not rows:
        return ""
    if not known:
        return "scaling not known"
    words = number(min(known)) if len(known) == 1 else f"{number(min(known))} to {number(max(known))}"
    return f"scaling {words}" + (", of some not known" if any(row.scaling is None for row in rows) else "")


def _left_out(coverage: Coverage, *, verbose: bool) -> Notes:
    """What is not in the figures, by reason, with the first of each."""
    by_reason: dict[str, list[Any]] = {}
    for one in coverage.left_out:
        by_reason.setdefault(one.reason, []).append(one)
    notes: list[Note] = []
    for reason, several in by_reason.items():
        keys = sum(len(one.keys) for one in several)
        most = len(several) if verbose else SHOWN
        details = [clipped(f"{one.module}: {one.sentence}" if one.module else one.sentence) for one in several[:most]]
        if len(several) > most:
            details.append(f"and {len(several) - most:,} more (--verbose)")
        severity = Severity.INFO if reason in _NO_FAULT else Severity.WARNING
        notes.append(Note(severity, f"{reason}: {plural(keys, 'key')}", tuple(details)))
    return Notes(tuple(notes))


def _use(audit: AdapterAudit) -> Section:
    heat = utilization_heat(audit.rows)
    return Section("Use of the rank", (_by_type(audit), *(() if heat is None else (heat,))))


def _by_type(audit: AdapterAudit) -> Table:
    """Means by module type, and over all modules."""
    columns = ("type", "modules", "params", "stable rank", "utilization", "90% p50", "90% p90", "energy")
    by_type = audit.summary["by_type"]
    rows = [_type_row(kind, by_type[kind], audit, kind) for kind in MODULE_TYPES if by_type[kind]["n_layers"]]
    if len(rows) > 1:
        total = audit.summary | {"params": audit.summary["total_lora_params"]}
        rows.append(_type_row("all", total, audit, None))
    return Table(columns, tuple(rows), frozenset(columns[1:]))


def _type_row(name: str, values: Mapping[str, Any], audit: AdapterAudit, kind: str | None) -> tuple[str, ...]:
    total = sum(row.energy for row in audit.rows)
    energy = sum(row.energy for row in audit.rows if kind is None or row.module_type == kind)
    return (
        name,
        f"{values['n_layers']:,}",
        count(values["params"]),
        _or_dash(values["stable_rank_mean"]),
        "-" if values["utilization_mean"] is None else percent(values["utilization_mean"]),
        _or_dash(values["energy_rank_90_p50"]),
        _or_dash(values["energy_rank_90_p90"]),
        percent(energy / total) if 0 < total < float("inf") else "-",
    )


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _energy(audit: AdapterAudit) -> list[Section]:
    heat, spread = energy_heat(audit.rows), concentration(audit.rows)
    if heat is None or spread is None:
        return []
    layers = len(spread.shares)
    tops = ", ".join(f"{layer} ({percent(spread.shares[layer])})" for layer in spread.top_layers)
    fields = [
        Field("Most energy", f"layers {tops}; together {percent(spread.top)} of {plural(layers, 'layer')}"),
        Field(
            "Concentration",
            f"top tenth {percent(spread.top_tenth)} · Herfindahl index {spread.herfindahl:.3g} "
            f"({1 / layers:.3g} when all layers have the same, 1 when one has all)",
        ),
    ]
    return [Section("Energy of the update", (heat, Fields(tuple(fields))))]


def _dominance(audit: AdapterAudit, *, verbose: bool) -> Section:
    """The update against the base's weights, and which modules found none."""
    summary, base = audit.summary, audit.base
    if base is None:
        return Section("", ())
    measured = summary["n_layers_with_udr"]
    quantized = f", {base.quantization} weights as they are dequantised" if base.quantization else ""
    cached = f", {base.cached:,} norms from the cache" if base.cached else ""
    fields = [
        Field("Base", f"{base.path} · {measured:,} of {plural(len(audit.rows), 'module')} measured{quantized}{cached}")
    ]
    if measured:
        fields += _dominance_fields(summary)
        fields.append(
            Field(
                "Certainty", f"spectral norms of the base are lower bounds, certified to {base.tolerance:g} (relative)"
            )
        )
    blocks: list[Block] = [Fields(tuple(fields))]
    notes = [Note(Severity.INFO, text) for text in base.remarks]
    notes += _unmatched(audit, verbose=verbose)
    if notes:
        blocks.append(Notes(tuple(notes)))
    return Section("Against the base model", tuple(blocks))


def _dominance_fields(summary: Mapping[str, Any]) -> list[Field]:
    def figures(**keys: str) -> str:
        parts = [
            f"{word.replace('_', ' ')} {summary[key]:.3g}" for word, key in keys.items() if summary[key] is not None
        ]
        return ", ".join(parts) or "not measured"

    above = [(0.1, summary["fraction_udr_gt_0_1"]), (0.3, summary["fraction_udr_gt_0_3"])]
    shares = ", ".join(f"above {mark:g} in {percent(share)}" for mark, share in above if share is not None)
    return [
        Field("UDR", f"{figures(median='udr_median', p90='udr_p90', largest='udr_max')}; {shares} of modules"),
        Field("UDR Frobenius", figures(median="udr_f_median")),
        Field("SDI", figures(median="sdi_median", p90="sdi_p90")),
    ]


def _unmatched(audit: AdapterAudit, *, verbose: bool) -> list[Note]:
    """Modules without a base norm, with the reason of each; never dropped in silence."""
    rows = [row for row in audit.rows if row.base is None]
    if not rows:
        return []
    most = len(rows) if verbose else SHOWN
    details = [clipped(row.base_reason or f"{row.name}: not measured.") for row in rows[:most]]
    if len(rows) > most:
        details.append(f"and {len(rows) - most:,} more (--verbose)")
    text = f"{len(rows):,} of {plural(len(audit.rows), 'module')} have no base norm, and are not in these figures."
    return [Note(Severity.WARNING, text, tuple(details))]
