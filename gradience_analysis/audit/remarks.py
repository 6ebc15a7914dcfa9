"""What limits the figures of an audit, in a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradience_analysis.adapters.opened import OpenedAdapter
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.audit.module import ModuleAudit
from gradience_analysis.diagnostics.adapter_dominance import changes_base
from gradience_analysis.model import plural

if TYPE_CHECKING:
    from gradience_analysis.audit.dominance import Dominance


def remarks_of(opened: OpenedAdapter, rows: Sequence[ModuleAudit], held: Dominance | None) -> tuple[str, ...]:
    """Everything that a reader should know before believing a figure; most adapters need none of it."""
    found = (
        _initialisation(opened),
        _dora(rows, held),
        _scaling(opened, rows),
        _zero(rows),
        _bias(opened),
        _contested(opened),
    )
    return tuple(remark for remark in found if remark)


def _initialisation(opened: OpenedAdapter) -> str:
    how = opened.config.init_lora_weights if opened.config else None
    if not isinstance(how, str) or not changes_base(how):
        return ""
    return (
        f"The initialisation {shown(how)} took a part of the base's weights into the adapter: its norms contain that "
        f"part, and the update dominance ratio against the published base says nothing about what training changed."
    )


def _dora(rows: Sequence[ModuleAudit], held: Dominance | None) -> str:
    count = sum(row.dora for row in rows)
    if not count:
        return ""
    what = f"DoRA: {plural(count, 'module')} scale the rows of the weight by a magnitude vector, too"
    measured = sum(row.true_spectral_norm is not None for row in rows)
    if held is None:
        return f"{what}. Ranks and norms here are of the low-rank part only; the whole change needs --base-model."
    return (
        f"{what}. Ranks are of the low-rank part only; UDR is of the whole change, measured for {measured:,} of them."
    )


def _scaling(opened: OpenedAdapter, rows: Sequence[ModuleAudit]) -> str:
    unknown = [row for row in rows if row.scaling is None]
    if not unknown:
        return ""
    reason = next((one.scaling_reason for one in opened.inventory.modules if one.scaling is None), "")
    return (
        f"The scaling of {plural(len(unknown), 'module')} is not known ({reason}): norms are not measured there; ranks "
        f"do not depend on it."
    )


def _zero(rows: Sequence[ModuleAudit]) -> str:
    count = sum(row.sigma[0] == 0 for row in rows)
    return (
        f"The update of {plural(count, 'module')} is exactly zero: stable and effective rank are undefined."
        if count
        else ""
    )


def _bias(opened: OpenedAdapter) -> str:
    count = sum(module.bias for module in opened.inventory.modules)
    return f"{plural(count, 'module')} add a trained bias (lora_bias), which is no part of delta_w." if count else ""


def _contested(opened: OpenedAdapter) -> str:
    """What leaves the meaning of the config in doubt; what makes no sense in it is a finding."""
    known = opened.config.oddities if opened.config else ()
    return " ".join(oddity for oddity in opened.oddities if oddity not in known)
