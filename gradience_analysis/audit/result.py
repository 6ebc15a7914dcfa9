"""What an audit found: a row a module, and what follows from the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradience_analysis.audit.coverage import Coverage
from gradience_analysis.audit.frames import audit_html, modules_frame
from gradience_analysis.audit.module import ModuleAudit
from gradience_analysis.audit.ranks import DEFAULT_POLICY, known_policy
from gradience_analysis.audit.suggestion import RankSuggestion, suggest
from gradience_analysis.audit.summary import summary_of
from gradience_analysis.model import Finding, Measurement

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class BaseRequest:
    """The base model that updates are held against.

    Attributes:
        path: Folder or file of safetensors.
        cache: File that keeps its norms; None for none.
        tolerance: Relative tolerance of its spectral norms.
        progress: Called with (tensors done, tensors in all).
    """

    path: Path
    cache: Path | None = None
    tolerance: float = DEFAULT_TOLERANCE
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class BaseUsed:
    """The base model that update dominance was measured against.

    Attributes:
        path: As it was given.
        quantization: Scheme of its weights; empty when they are not quantized.
        tolerance: Relative tolerance of the spectral norms, which are lower bounds certified to it.
        matched: Modules whose base weight was found.
        cached: How many of their norms came from the cache.
        remarks: What the reader of the figures should know, a sentence each.
    """

    path: Path
    quantization: str
    tolerance: float
    matched: int
    cached: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AdapterAudit:
    """An audited adapter.

    Attributes:
        path: Its folder, as it was given.
        name: What it is called: the adapter's name, or that of its folder.
        rows: A row a module, in the order of the file.
        coverage: How much of it the rows cover.
        r: `r` of its config; None where it does not say.
        config: What its config says that a reader of the report wants to know.
        base: The base model; None when none was given.
        measurements: What was measured of the files and of the summary.
        findings: What the policy makes of it, worst first.
        remarks: What limits the figures, a sentence each: DoRA, an initialisation that changes the base.
    """

    path: Path
    name: str
    rows: tuple[ModuleAudit, ...]
    coverage: Coverage
    r: int | None
    config: Mapping[str, Any]
    base: BaseUsed | None = None
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The totals, under the keys of `lora_audit` metrics (telemetry/v1); see `gradience_analysis.audit.summary`."""
        return summary_of(self.rows, self.coverage, with_base=self.base is not None)

    @cached_property
    def modules(self) -> pd.DataFrame:
        """A row a module, in the order of the file; None and undefined values are NaN."""
        return modules_frame(self.rows)

    def suggest_ranks(self, policy: str = DEFAULT_POLICY) -> RankSuggestion:
        """The ranks that a policy suggests, for the adapter and for each module.

        Args:
            policy: One of `RANK_POLICIES`.

        Raises:
            GradienceError: There is no such policy.
        """
        return suggest(self.rows, known_policy(policy))

    def _repr_html_(self) -> str:
        return audit_html(self.name, self.summary)
