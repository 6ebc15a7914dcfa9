"""The quantities of an adapter audit, whether a run logged them or the audit was made just now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from gradience_analysis.model import Event, Place, Run, as_number

KIND = "lora_audit"
LARGEST_RANK = 1 << 20
"""Beyond it, a number is no rank."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One audit, and what is known of the adapter beside it.

    Attributes:
        quantities: The totals under the keys of `lora_audit` metrics.
        source: Where they stand, in words that follow the name of a key: `of the last metrics record of kind ...`.
        rank: The adapter's r; None where it is not known.
        rank_pattern: Whether ranks differ between its modules.
        initialisation: How its factors were initialised, in lower case; empty where that is not known.
        use_dora: Whether it has magnitude vectors.
        audits: How many audits there are, this one being the last.
        places: Where it stands.
    """

    quantities: Mapping[str, Any]
    source: str
    rank: int | None = None
    rank_pattern: bool = False
    initialisation: str = ""
    use_dora: bool = False
    audits: int = 1
    places: tuple[Place, ...] = field(default=())

    def number(self, key: str) -> float | None:
        """A finite quantity that is not negative; None for anything else."""
        return number_of(self.quantities, key)


def last_record(run: Run) -> AuditRecord | None:
    """The newest audit that the run logged; None without one."""
    events = run.metrics.get(KIND, ())
    if not events:
        return None
    lora = run.config.lora if run.config else None
    rank = lora.r if lora else None
    initialisation = lora.extras.get("init_lora_weights") if lora else None
    return AuditRecord(
        quantities=_quantities(events[-1]),
        source=f"of the last metrics record of kind {KIND}",
        rank=rank if rank is not None and 0 < rank <= LARGEST_RANK else None,
        rank_pattern=bool(lora and lora.rank_pattern),
        initialisation=initialisation.lower() if isinstance(initialisation, str) else "",
        use_dora=bool(lora and lora.use_dora),
        audits=len(events),
        places=(run.place(events[-1]),),
    )


def _quantities(event: Event) -> Mapping[str, Any]:
    """The quantities of a record; empty when they are no object."""
    metrics = event.payload.get("metrics")
    return cast("dict[str, Any]", metrics) if isinstance(metrics, dict) else {}


def number_of(quantities: Mapping[str, Any], key: str) -> float | None:
    """A finite quantity that is not negative; None for anything else."""
    value = as_number(quantities.get(key))
    return float(value) if value is not None and 0 <= value < 1e300 else None
