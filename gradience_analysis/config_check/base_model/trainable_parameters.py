"""Trainable parameters: how many parameters the adapter trains, and what share of the model they are.

Measured: r · (inputs + outputs) summed over the modules that the configuration reaches, with rank_pattern, DoRA's
magnitudes, trained biases and modules_to_save, over all parameters of the model, the adapter included. The shapes are
those of the safetensors headers. A number of trainable parameters in the configuration itself counts as well. None at
all is an error; a share above the limit is a warning, since LoRA is meant to train few. A very small model exceeds
the limit at any useful rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.base_model.lora_size import LoraSize, lora_size
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "trainable_parameters"
CODES: Mapping[str, str] = {CODE: "No parameter is trainable, or more of them than LoRA usually trains."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "trainable_share"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The share of trainable parameters, 0..1."""
    size = _recorded(subject) or lora_size(subject)
    if isinstance(size, str):
        return (Measurement(NAME, None, "ratio", reason=size),)
    details = {"trainable": size.trainable, "total": size.total, "modules": size.modules}
    source = "the configuration" if size.modules < 0 else "safetensors headers"
    return (Measurement(NAME, size.share, "ratio", source, details=details),)


def _recorded(subject: Preflight) -> LoraSize | None:
    """The counts that the configuration itself gives."""
    lora = subject.config.lora
    trainable, total = lora.trainable_params, lora.total_params
    if trainable is None or trainable < 0 or (trainable and not total):
        return None
    return LoraSize(-1, trainable, max(total or 1, 1))


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when nothing is trainable, a warning when the share is above the limit."""
    (share,) = measurements
    limit = policy["trainable_parameters.share"]
    if share.value is None or 0 < float(share.value) <= limit.value:
        return []
    trainable, total = share.details["trainable"], share.details["total"]
    nothing = trainable == 0
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR if nothing else Severity.WARNING,
            message="No parameter is trainable."
            if nothing
            else f"{trainable:,} of {total:,} parameters are trainable: {share.value:.1%}, above {limit.value:.0%}.",
            evidence=dict(share.details) | {"share": share.value, "threshold": limit.value},
            advice="Check the target modules, and that the model is wrapped with PEFT."
            if nothing
            else "Check that the model is wrapped with PEFT; try a lower rank or fewer target modules.",
            confidence=0.95 if nothing else 0.6,
            basis=f"counted from {share.source}" + ("" if nothing else f"; the threshold is {limit.standing}"),
            caveat="" if nothing else "A small model exceeds the limit at any useful rank.",
            rule="V01",
        )
    ]
