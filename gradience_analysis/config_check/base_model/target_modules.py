"""Target modules: whether the modules that LoRA is to adapt exist in the base model.

Measured: how many modules of the model the configuration reaches, by PEFT's own rules (a list matches whole names and
their last parts, one text is a regular expression for the whole name, `all-linear` is every linear module but the
output layer). The module names are those of the tensors in the safetensors headers; since the loaded model may have
another prefix, names match with and without it. Not measured without `--model`, without headers, or when no
target_modules are set. It may be wrong where the loading code renames modules or fuses them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.base_model.modules import (
    Targeting,
    is_inner,
    kinds,
    lora_setting,
    matched,
    modules,
    targeting,
)
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "targets_match_nothing"
UNMATCHED = "targets_unmatched"
CODES: Mapping[str, str] = {
    CODE: "The target modules match no module of the base model.",
    UNMATCHED: "Some of the target modules match no module of the base model, and PEFT passes over them in silence.",
}
COVERS: Mapping[str, frozenset[str]] = {CODE: frozenset({"trainable_parameters"})}
NAME = "targeted_modules"
_SHOWN = 12


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """How many modules of the model the configuration reaches, of how many that could carry an adapter."""
    model, wanted = subject.base_model, targeting(subject)
    reason = _why_not(subject, wanted)
    if reason or model is None or wanted.targets is None:
        return (Measurement(NAME, None, "modules", reason=reason),)
    there = modules(model)
    details: dict[str, object] = {
        "target_modules": wanted.targets if isinstance(wanted.targets, str) else list(wanted.targets),
        "modules": len(there),
        "names": kinds(name for name, shape in there.items() if len(shape) == 2 and is_inner(name))[:_SHOWN],
        "narrowed": bool(wanted.exclude or wanted.saved or wanted.layers),
        "pattern_fault": "",
    }
    try:
        found = matched(model, wanted)
        details["unmatched"] = _unmatched(wanted, found)
    except re.error as error:
        details["pattern_fault"] = str(error)
        return (Measurement(NAME, 0, "modules", "safetensors headers", details=details),)
    return (Measurement(NAME, len(found), "modules", "safetensors headers", details=details),)


def _why_not(subject: Preflight, wanted: Targeting) -> str:
    """Why the modules cannot be matched; empty when they can."""
    model = subject.base_model
    if model is None:
        return "No base model was given: give its folder with --model."
    if not model.shapes:
        return model.fault or model.weights_fault
    if lora_setting(subject, "target_parameters"):
        return "target_parameters are adapted; those are not matched here."
    return (
        ""
        if wanted.targets is not None
        else ("No target_modules are set; PEFT then has a choice of its own for each type of model.")
    )


def _unmatched(wanted: Targeting, found: Sequence[str]) -> list[str]:
    """Names of a list that no matched module ends with."""
    if wanted.targets is None or isinstance(wanted.targets, str):
        return []
    return [name for name in wanted.targets if not any(f".{key}".endswith(f".{name.split('.')[-1]}") for key in found)]


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error when the configuration reaches none, and a warning when some of its names do."""
    (count,) = measurements
    if count.value is None:
        return []
    if int(count.value) > 0:
        return [_some_unmatched(count)] if count.details["unmatched"] else []
    details = count.details
    names = ", ".join(details["names"]) or "none with a matrix"
    targets = details["target_modules"]
    shown = targets if isinstance(targets, str) else ", ".join(targets)
    why = f" ({details['pattern_fault']})" if details["pattern_fault"] else ""
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"target_modules ({shown[:120]}) match none of {details['modules']:,} modules of the model{why}.",
            evidence={"target_modules": targets, "modules": details["modules"], "names": details["names"]},
            advice=f"Use names that the model has: {names}.",
            confidence=0.9 if details["narrowed"] else 0.95,
            basis="PEFT's matching rules on the names in the safetensors headers",
            caveat="Code that renames or fuses modules while it loads them is not seen.",
            rule="M02",
            changes=(Change("lora.target_modules", shown[:120], names, "These are modules of the model."),),
        )
    ]


def _some_unmatched(count: Measurement) -> Finding:
    details = count.details
    missing = ", ".join(details["unmatched"])[:120]
    names = ", ".join(details["names"]) or "none with a matrix"
    verb = "matches" if len(details["unmatched"]) == 1 else "match"
    return Finding(
        code=UNMATCHED,
        severity=Severity.WARNING,
        message=f"Of target_modules, {missing} {verb} no module of the model; the others reach {count.value}.",
        evidence={"unmatched": details["unmatched"], "matched": count.value, "names": details["names"]},
        advice=f"Correct the name, or leave it out; the model has {names}.",
        confidence=0.9,
        basis="PEFT's matching rules on the names in the safetensors headers",
        caveat="A list may be meant for several types of models.",
        changes=(Change("lora.target_modules", missing, names, "PEFT passes over a name that matches nothing."),),
    )
