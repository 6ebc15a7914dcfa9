"""The audit of a PEFT folder under the names that scripts of `gradience.vnext.audit` know."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gradience_analysis.audit.measuring import audit_adapter
from gradience_analysis.audit.module import ModuleAudit
from gradience_analysis.audit.result import DEFAULT_TOLERANCE, AdapterAudit
from gradience_analysis.diagnostics.audit_record import KIND
from gradience_analysis.errors import GradienceError
from gradience_analysis.policy import Policy
from gradience_schema import SCHEMA_ID


@dataclass(frozen=True, eq=False)
class LoraAuditResult:
    """An audited adapter, as plain values.

    Attributes:
        audit: The audit, with everything that it found.
    """

    audit: AdapterAudit

    @property
    def layers(self) -> list[ModuleAudit]:
        """A row for each adapted module, in the order of the file."""
        return list(self.audit.rows)

    @cached_property
    def issues(self) -> list[str]:
        """What was left out, and what limits the figures, a sentence each; empty when nothing does."""
        return list(_issues(self.audit))

    def to_summary_dict(self, include_layers: bool = False) -> dict[str, Any]:
        """The totals under the keys of `lora_audit` metrics; what is undefined or not measured is None.

        Args:
            include_layers: Add `layer_data.layer_rows`, a dictionary for each module.
        """
        found = dict(self.audit.summary)
        if include_layers:
            found["layer_data"] = {"layer_rows": [row.to_dict() for row in self.audit.rows]}
        return found

    def to_metrics_event(self, *, run_id: str, step: int | None = None, ts: float | None = None) -> dict[str, Any]:
        """The totals as a telemetry/v1 record: `metrics` of kind `lora_audit`.

        Args:
            run_id: The run that the adapter belongs to; a record is filed by it.
            step: Optimizer step of the adapter; None when it has none.
            ts: Unix time in seconds; now when not given.

        Raises:
            GradienceError: `run_id` is empty or no text, or `step` is no whole number of at least 0.
        """
        # A script may pass what it has read from elsewhere, whatever the annotations say.
        if not isinstance(run_id, str) or not run_id:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GradienceError(f"run_id must be a text that is not empty, not {run_id!r}.", "Give the run's own.")
        if step is not None and (type(step) is not int or step < 0):
            raise GradienceError(f"step must be a whole number of at least 0 or None, not {step!r}.")
        return {
            "schema": SCHEMA_ID,
            "ts": time.time() if ts is None else ts,
            "run_id": run_id,
            "event": "metrics",
            "step": step,
            "kind": KIND,
            "metrics": self.to_summary_dict(),
        }


def audit_lora_peft_dir(
    peft_dir: str | Path,
    *,
    base_model: str | Path | None = None,
    adapter_config: str | Path | None = None,
    weights: str | Path | None = None,
    adapter: str | None = None,
    base_norms_cache: str | Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    policy: Policy | None = None,
    allow_pickle: bool = False,
) -> LoraAuditResult:
    """Audit the adapter in a folder; `gradience.audit_adapter` is the same with a richer result.

    Args:
        peft_dir: The adapter's folder, as save_pretrained writes it.
        base_model: Folder or file of the base model's safetensors, for the update dominance ratio; never a name that
            would have to be downloaded.
        adapter_config: File to take in place of the folder's adapter_config.json.
        weights: File to take in place of the folder's weights.
        adapter: Which adapter, where the folder holds several.
        base_norms_cache: File in which the norms of the base are kept from one audit to the next.
        tolerance: Relative tolerance of the base's spectral norms.
        policy: Thresholds to judge by; the shipped ones by default.
        allow_pickle: Whether weights that are a pickle are converted in a process of its own; they are refused
            otherwise.

    Raises:
        InputError: A file is missing, cannot be read or cannot be believed, or the folder holds several adapters.
    """
    return LoraAuditResult(
        audit_adapter(
            peft_dir,
            base_model,
            adapter=adapter,
            config=_path(adapter_config),
            weights=_path(weights),
            norms_cache=_path(base_norms_cache),
            tolerance=tolerance,
            policy=policy,
            allow_pickle=allow_pickle,
        )
    )


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _issues(audit: AdapterAudit) -> Iterator[str]:
    if not audit.rows:
        yield "No module was audited: nothing can be said about this adapter."
    for one in audit.coverage.left_out:
        yield f"{one.module}: {one.sentence}" if one.module else one.sentence
    yield from audit.remarks
    if audit.base is not None:
        yield from audit.base.remarks
        for row in audit.rows:
            if row.base is None:
                yield f"{row.name}: no norm of the base: {row.base_reason}"
