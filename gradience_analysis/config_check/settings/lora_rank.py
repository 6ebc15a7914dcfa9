"""Rank: is the rank of the adapter one that it can have?

The rank `r` must be an integer from 1 to 1,024; so must each rank of a `rank_pattern`. A rank in quotes, `true`, or
`16.0` is refused by the library or means something else than it says. Nothing is said when the configuration has
no adapter. It is wrong about an adapter type that calls something else its rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from gradience_analysis.config_check.settings.quantity import broken, in_words, shown, take, usable, where
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy

CODES: Mapping[str, str] = {"rank_invalid": "The rank is no integer, or outside its range."}
COVERS: Mapping[str, frozenset[str]] = {}
_WHY = "a rank is a whole number, often 16"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The rank, and every rank of the pattern."""
    rank = take(subject, "lora.r", "lora_rank", "rank", whole=True, absent="no rank is set; set r for a LoRA adapter")
    return (rank, _pattern(subject))


def _pattern(subject: Preflight) -> Measurement:
    name, unit = "lora_rank_pattern", "modules"
    setting = subject.settings.get("lora.rank_pattern")
    if setting is None or not setting.value:
        return Measurement(name, None, unit, reason="no rank_pattern is set")
    if (subject.text("lora.peft_type") or "LORA").upper() != "LORA":
        return Measurement(name, None, unit, reason="another adapter type than LORA keeps something else there")
    ranks = cast("dict[str, Any] | object", setting.value)
    details = {"setting": setting.name, "source": setting.source, "written": shown(setting.raw), "ranks": ranks}
    count = len(cast("dict[str, Any]", ranks)) if isinstance(ranks, dict) else 1
    return Measurement(name, count, unit, source=where(setting), details=details)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A finding for a rank that is no integer within the policy's range."""
    lowest, highest = int(policy.limit("lora_rank.lowest")), int(policy.limit("lora_rank.highest"))
    rank, pattern = measurements
    found: list[Finding] = []
    if rank.details and rank.details["fault"] != "null":
        value = usable(rank)
        if value is None or not lowest <= value <= highest:
            found.append(_finding(rank, lowest, highest))
    return found + _in_pattern(pattern, lowest, highest)


def _in_pattern(pattern: Measurement, lowest: int, highest: int) -> list[Finding]:
    """A finding for each rank of the pattern that is none."""
    ranks = pattern.details.get("ranks", {})
    if not isinstance(ranks, dict):
        message = f"rank_pattern is {pattern.details['written']} ({pattern.source}); it must map modules to ranks."
        return [broken(pattern, "rank_invalid", "C01", message, "{module: rank}", "each module has its own rank there")]
    found: list[Finding] = []
    for module, value in cast("dict[str, Any]", ranks).items():
        if type(value) is not int or not lowest <= value <= highest:
            name = f"{pattern.details['setting']}[{shown(module)[1:-1]}]"
            fault = "text" if isinstance(value, str) else ""
            details = {**pattern.details, "setting": name, "written": shown(value), "fault": fault}
            source = f"{name} in {pattern.details['source']}"
            found.append(_finding(Measurement("lora_rank", None, "rank", source, "", details), lowest, highest))
    return found


def _finding(rank: Measurement, lowest: int, highest: int) -> Finding:
    message = f"The rank is {in_words(rank)} ({rank.source}); it must be an integer from {lowest} to {highest:,}."
    return broken(
        rank, "rank_invalid", "C01", message, _suggested(rank, lowest, highest), _WHY, range=[lowest, highest]
    )


def _suggested(rank: Measurement, lowest: int, highest: int) -> str:
    """The integer that is meant, where that can be seen."""
    digits = rank.details["written"].strip('"').removesuffix(".0")
    if rank.details["fault"] in {"text", "not whole"} and digits.isdecimal() and lowest <= int(digits) <= highest:
        return f"{int(digits)}"
    return "8 to 64"
