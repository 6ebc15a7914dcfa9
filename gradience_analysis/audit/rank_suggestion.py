"""Suggested ranks from an audit or from its summary, under the names of `gradience.vnext.rank_suggestion`.

A summary is what `to_summary_dict` gives, the JSON of `gradience audit --json`, or a `lora_audit` record of a run: each
may have been written to a file and read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, cast

from gradience_analysis.audit.peft_dir import LoraAuditResult
from gradience_analysis.audit.ranks import DEFAULT_POLICY, known_policy
from gradience_analysis.audit.result import AdapterAudit
from gradience_analysis.audit.suggestion import RankSuggestion
from gradience_analysis.errors import GradienceError
from gradience_analysis.linalg import ALLOWED_RANKS, round_up_rank

DEFAULT_ALLOWED_RANKS = ALLOWED_RANKS
"""Ranks that are suggested; beyond the last one, multiples of 64."""
Audited: TypeAlias = "Mapping[str, Any] | LoraAuditResult | AdapterAudit"

_MEASURED = ("energy_rank_90_p50", "energy_rank_90_p90")
_SUGGESTED = ("suggested_r_global_median", "suggested_r_global_90")
_WITH_LAYERS = "Take to_summary_dict(include_layers=True), or the JSON of `gradience audit --json --layers`."
_WITHOUT_MODULES = "The audit covers no module, so that no rank follows from it."


@dataclass(frozen=True, slots=True)
class GlobalRankSuggestion:
    """One rank for all modules, by the energy rank at 90% of the median module and of the 90th percentile.

    Attributes:
        median: Rank that holds 90% of the energy in half of the modules, rounded up to an allowed rank.
        p90: Rank that holds it in nine modules of ten, in the same way.
        policy: The rule.
    """

    median: int
    p90: int
    policy: str = DEFAULT_POLICY

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"policy": self.policy, "median": self.median, "p90": self.p90}


@dataclass(frozen=True, slots=True)
class LayerRank:
    """What is suggested for one module.

    Attributes:
        name: The module.
        current_r: Rank it has.
        suggested_r: Rank that would do: an allowed one, at least 1, at most `current_r`.
        params: Elements of its factors.
        params_saved: How many of them the suggested rank saves.
    """

    name: str
    current_r: int
    suggested_r: int
    params: int
    params_saved: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name,
            "current_r": self.current_r,
            "suggested_r": self.suggested_r,
            "params": self.params,
            "params_saved": self.params_saved,
        }


@dataclass(frozen=True, slots=True)
class PerLayerRankSuggestion:
    """A rank for each module, as PEFT takes it: `LoraConfig(r=default_r, rank_pattern=rank_pattern)`.

    Attributes:
        policy: The rule.
        default_r: The rank that most modules are suggested.
        rank_pattern: Pattern → rank, for the others.
        rows: What is suggested for each module.
    """

    policy: str
    default_r: int
    rank_pattern: dict[str, int]
    rows: tuple[LayerRank, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "policy": self.policy,
            "default_r": self.default_r,
            "rank_pattern": dict(self.rank_pattern),
            "params": sum(row.params for row in self.rows),
            "params_saved": sum(row.params_saved for row in self.rows),
            "rows": [row.to_dict() for row in self.rows],
        }


def suggest_global_ranks_from_audit(
    audit: Audited, allowed_ranks: Sequence[int] = DEFAULT_ALLOWED_RANKS
) -> GlobalRankSuggestion:
    """One rank for the whole adapter, by `energy@0.90`: for the median module, and for nine of ten.

    With the default ranks these are `suggested_r_global_median` and `suggested_r_global_90` of the summary, which are
    never above the largest rank that there is. With others, only a summary with layers says what that is.

    Args:
        audit: An audit, or its summary.
        allowed_ranks: Ranks to choose from; beyond the last, multiples of 64.

    Raises:
        GradienceError: The summary lacks a key, a value of it is no number, it covers no module, or `allowed_ranks`
            is not ascending from 1 or more.
    """
    allowed = _allowed(allowed_ranks)
    summary = _summary(audit)
    if summary.get("n_layers") == 0:
        raise GradienceError(_WITHOUT_MODULES)
    if allowed == DEFAULT_ALLOWED_RANKS and _SUGGESTED[0] in summary:
        stored = [int(_number(summary, key, least=1)) for key in _SUGGESTED]
        return GlobalRankSuggestion(stored[0], stored[1])
    limit = _limit(summary)
    median, high = (_number(summary, key) for key in _MEASURED)
    return GlobalRankSuggestion(
        round_up_rank(median, allowed=allowed, limit=limit), round_up_rank(high, allowed=allowed, limit=limit)
    )


def suggest_per_layer_ranks(
    audit: Audited, policy: str = DEFAULT_POLICY, allowed_ranks: Sequence[int] = DEFAULT_ALLOWED_RANKS
) -> PerLayerRankSuggestion:
    """A rank for each module, with the `rank_pattern` by which PEFT gives it to that module and to no other.

    Args:
        audit: An audit, or its summary with the layers.
        policy: The rule: one of `RANK_POLICIES`, as in `gradience audit`.
        allowed_ranks: Ranks to choose from; beyond the last, multiples of 64.

    Raises:
        GradienceError: There is no such rule, the summary has no layers or a row lacks a key, it covers no module, or
            `allowed_ranks` is not ascending from 1 or more.
    """
    policy, allowed = known_policy(policy), _allowed(allowed_ranks)
    rows = [_row(row, policy, allowed) for row in _layer_rows(_summary(audit))]
    if not rows:
        raise GradienceError(_WITHOUT_MODULES)
    found = RankSuggestion(
        policy=policy,
        global_median=0,
        global_90=0,
        by_module={row.name: row.suggested_r for row in rows},
        current={row.name: row.current_r for row in rows},
        params_saved=sum(row.params_saved for row in rows),
        params=sum(row.params for row in rows),
    )
    return PerLayerRankSuggestion(policy, found.default_r, found.rank_pattern, tuple(rows))


def _summary(audit: Audited) -> Mapping[str, Any]:
    """The totals, with `layer_data` beside them where there is any."""
    if isinstance(audit, AdapterAudit):
        audit = LoraAuditResult(audit)
    if isinstance(audit, LoraAuditResult):
        return audit.to_summary_dict(include_layers=True)
    if not isinstance(audit, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - it may come from a file
        raise GradienceError(f"An audit or its summary is needed, not {type(audit).__name__}.")
    inner = next((audit[key] for key in ("summary", "metrics") if isinstance(audit.get(key), Mapping)), None)
    return audit if inner is None else {**audit, **cast("Mapping[str, Any]", inner)}


def _layer_rows(summary: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    data = summary.get("layer_data")
    rows = cast("Mapping[str, Any]", data).get("layer_rows") if isinstance(data, Mapping) else None
    if not isinstance(rows, list):
        raise GradienceError("The summary has no layer_data.layer_rows.", _WITH_LAYERS)
    found = cast("list[object]", rows)
    if not all(isinstance(row, Mapping) for row in found):
        raise GradienceError("layer_data.layer_rows holds something that is no object.", _WITH_LAYERS)
    return cast("list[Mapping[str, Any]]", found)


def _row(row: Mapping[str, Any], policy: str, allowed: Sequence[int]) -> LayerRank:
    name = row.get("name")
    if not isinstance(name, str):
        raise GradienceError("A row of layer_data.layer_rows lacks the key 'name'.", _WITH_LAYERS)
    ranks = row.get("ranks")
    of: Mapping[str, Any] = cast("Mapping[str, Any]", ranks) if isinstance(ranks, Mapping) else {}
    current, params = int(_number(row, "r", least=1)), int(_number(row, "params"))
    suggested = round_up_rank(_number(of, policy, least=1, inside="ranks"), allowed=allowed, limit=current)
    return LayerRank(name, current, suggested, params, params - params * suggested // current)


def _limit(summary: Mapping[str, Any]) -> int | None:
    """The largest rank that there is; None where the summary does not say."""
    if isinstance(summary.get("layer_data"), Mapping):
        ranks = [int(_number(row, "r", least=1)) for row in _layer_rows(summary)]
        return max(ranks, default=None)
    return None


def _number(values: Mapping[str, Any], key: str, *, least: float = 0, inside: str = "") -> float:
    name = f"{inside}.{key}" if inside else key
    if key not in values:
        raise GradienceError(f"The summary lacks the key {name!r}.", "Take the summary of an audit as it was written.")
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise GradienceError(f"{name!r} of the summary is {value!r}, which is no number of at least {least:g}.")
    return float(value)


def _allowed(ranks: Sequence[int]) -> tuple[int, ...]:
    found = tuple(ranks)
    ascending = all(one < other for one, other in pairwise(found))
    if not found or found[0] < 1 or not ascending or not all(type(rank) is int for rank in found):
        raise GradienceError(f"allowed_ranks must be whole numbers that ascend from 1 or more, not {found}.")
    return found
