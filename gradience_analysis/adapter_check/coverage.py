"""Coverage: how much of the adapter the other checks could look at; health is never reported over a part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gradience_analysis.adapter_check.facts import AdapterFacts
from gradience_analysis.adapter_check.pairs import factors, sample
from gradience_analysis.adapters.config import CONFIG_NAME
from gradience_analysis.adapters.keys import Role
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.model import Finding, Measurement, Place, plural
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "adapter_config_unreadable": "There is no adapter_config.json that can be read.",
    "adapter_config_wrong_type": "A field of adapter_config.json has another type than it must have.",
    "adapter_config_odd": "An alpha in adapter_config.json is zero or negative.",
    "adapter_not_covered": "A part of the adapter is in a layout or number format that is not checked.",
}
COVERS: Mapping[str, frozenset[str]] = {}


def measure(facts: AdapterFacts) -> tuple[Measurement, ...]:
    """Tensors of the adapter that were looked at, over those that belong to it."""
    return (_config(facts), _coverage(facts))


def _config(facts: AdapterFacts) -> Measurement:
    path = str(facts.folder / CONFIG_NAME)
    places = (Place(path=path),)
    if facts.config is None:
        reason = f"{CONFIG_NAME} {facts.config_fault}."
        return Measurement("adapter_config_fields", None, "fields", reason=reason, places=places)
    config = facts.config
    details = {
        "peft_type": config.peft_type,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "base_model": config.base_model,
        "wrong_types": dict(config.wrong_types),
        "oddities": list(config.oddities),
    }
    return Measurement("adapter_config_fields", len(config.raw), "fields", path, details=details, places=places)


def _coverage(facts: AdapterFacts) -> Measurement:
    ours = [fact for fact in facts.tensors if fact.key.role is not Role.WHOLE]
    if not ours:
        whole = len(facts.tensors)
        reason = (
            f"none of the {whole:,} tensors is a factor of an adapter."
            if whole
            else "no tensor of an adapter could be read."
        )
        return Measurement("adapter_coverage", None, "share", reason=reason, details={"tensors": whole})
    methods = Counter(fact.key.method for fact in ours if fact.key.role is Role.OTHER_METHOD)
    unknown = [fact.key.name for fact in ours if fact.key.role is Role.UNKNOWN_LORA]
    undecoded = [fact.key.name for fact in facts.tensors if fact.values is None]
    missed = {fact.key.name for fact in ours if fact.key.role in {Role.OTHER_METHOD, Role.UNKNOWN_LORA}}
    missed |= {fact.key.name for fact in ours if fact.values is None}
    details = {
        "looked_at": len(ours) - len(missed),
        "belong_to_it": len(ours),
        "pairs": len(factors(facts).pairs),
        "other_methods": dict(methods),
        "unknown": sample(unknown),
        "unknown_count": len(unknown),
        "not_decoded": sample(undecoded),
        "whole_tensors": len(facts.tensors) - len(ours),
    }
    share = (len(ours) - len(missed)) / len(ours)
    return Measurement(
        "adapter_coverage", share, "share", "tensors of the adapter by name and number format", details=details
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error without a config; a warning for one that makes no sense, or when nothing was checked; else an info."""
    config, coverage = measurements
    found: list[Finding] = []
    if config.value is None:
        found.append(_unreadable(config))
    else:
        found += [_wrong_types(config)] if config.details["wrong_types"] else []
        found += [_odd(config)] if config.details["oddities"] else []
    missing = coverage.value is None and coverage.details["tensors"]
    if missing or (coverage.value is not None and float(coverage.value) < 1):
        found.append(_not_covered(coverage))
    return found


def _unreadable(config: Measurement) -> Finding:
    return Finding(
        code="adapter_config_unreadable",
        severity=Severity.ERROR,
        message=config.reason,
        evidence={"reason": config.reason},
        advice="Take the adapter_config.json that was saved with these weights: rank and scaling are only there.",
        basis="the file was opened",
        places=config.places,
    )


def _wrong_types(config: Measurement) -> Finding:
    wrong = config.details["wrong_types"]
    key, kind = next(iter(wrong.items()))
    more = f" (and {plural(len(wrong) - 1, 'more field')})" if len(wrong) > 1 else ""
    return Finding(
        code="adapter_config_wrong_type",
        severity=Severity.WARNING,
        message=f"{key} in {CONFIG_NAME} is a {kind}, and is taken as not given{more}.",
        evidence={"wrong_types": wrong},
        advice="Correct it to what the adapter was trained with.",
        basis="the file says so",
        places=config.places,
    )


def _odd(config: Measurement) -> Finding:
    oddities = config.details["oddities"]
    more = f" (and {plural(len(oddities) - 1, 'more value')})" if len(oddities) > 1 else ""
    return Finding(
        code="adapter_config_odd",
        severity=Severity.WARNING,
        message=f"In {CONFIG_NAME}, {oddities[0].rstrip('.')}{more}.",
        evidence={"oddities": oddities},
        advice="Correct it to what the adapter was trained with, unless this is on purpose.",
        basis="the file says so",
        places=config.places,
    )


def _not_covered(coverage: Measurement) -> Finding:
    details = coverage.details
    nothing = coverage.value is None or not details["looked_at"]
    if coverage.value is None:
        message = f"Nothing was checked: {coverage.reason}"
    else:
        left = details["belong_to_it"] - details["looked_at"]
        words = [*(method for method in details["other_methods"]), *map(shown, details["unknown"][:1])]
        words += [f"{shown(name)} by its number format" for name in details["not_decoded"][:1]]
        message = (
            f"{left:,} of {details['belong_to_it']:,} tensors of the adapter are not checked ({', '.join(words)})."
        )
    return Finding(
        code="adapter_not_covered",
        severity=Severity.WARNING if nothing else Severity.INFO,
        message=message,
        evidence=dict(details),
        advice="Read the other results as being about the rest only.",
        basis="names and number formats of the tensors",
        caveat="LoRA, rsLoRA, DoRA, AdaLoRA, embeddings, convolutions and experts are checked; other methods are not",
    )
