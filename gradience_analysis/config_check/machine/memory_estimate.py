"""Memory estimate: whether training is likely to fit into the free memory of the device.

Estimated, in bytes, from the shapes in the safetensors headers and the configuration:

- weights: as stored (0.6 a parameter under 4-bit loading, 1.1 under 8-bit);
- adapter: 16 for each trainable parameter (weight, gradient and two Adam moments in float32);
- activations: 34 · b · s · h a layer in 16-bit precision (Korthikanti et al. 2022, without attention scores), twice
  that in float32; with gradient checkpointing 2 · b · s · h a layer and one layer in full;
- logits: 10 · b · s · V (16-bit, their float32 copy and its gradient).

b is the batch per device, s the maximum length, h the hidden size, V the vocabulary. Real use differs by the attention
kernel, the optimizer, fragmentation and what is frozen: between half and twice the activations and logits, and 1 GiB
for the CUDA context. Short examples take less than the maximum length does. Not measured without `--model`, a batch
size, a maximum length, and a device (`--env`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from gradience_analysis.config_check.base_model.facts import ModelFacts
from gradience_analysis.config_check.base_model.lora_size import LoraSize, lora_size
from gradience_analysis.config_check.machine.seen import devices_of, gib
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Change, Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "memory_estimate_high"
CODES: Mapping[str, str] = {CODE: "The estimated memory is nearly all that is free on the device."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "memory_estimate"
_CONTEXT_BYTES = 1 << 30
_HALF_TYPES = frozenset({"bf16", "bfloat16", "fp16", "float16", "half"})


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The estimate in bytes, with its range and parts, and the free memory beside it."""
    model, size = subject.base_model, lora_size(subject)
    if isinstance(size, str) or model is None:
        return (Measurement(NAME, None, "bytes", reason=str(size)),)
    training = subject.config.training
    batch, length = training.batch_size, training.max_length
    if not batch or not length or batch < 1 or length < 1:
        reason = "It takes a batch size and a maximum length (training.batch_size, training.max_length)."
        return (Measurement(NAME, None, "bytes", reason=reason),)
    if not model.hidden_size or not model.layers:
        return (Measurement(NAME, None, "bytes", reason="config.json names no hidden size or number of layers."),)
    parts = _parts(subject, model, size, batch * length)
    moving = parts["activations"] + parts["logits"]
    fixed = parts["weights"] + parts["adapter"]
    details: dict[str, object] = {
        **parts,
        "low": round(fixed + moving / 2),
        "high": round(fixed + 2 * moving + _CONTEXT_BYTES),
        "batch_size": batch,
        "max_length": length,
        "gradient_checkpointing": subject.flag("training.gradient_checkpointing") is True,
    }
    devices = devices_of(subject)
    if isinstance(devices, str):
        details["device_reason"] = devices
    else:
        free = [(device.free_bytes, device.index) for device in devices if device.free_bytes is not None]
        details["free"], details["device"] = min(free) if free else (None, None)
    reason = "" if details.get("free") is not None else str(details.get("device_reason") or "Free memory is not known.")
    value = round(fixed + moving)
    return (Measurement(NAME, None if reason else value, "bytes", "estimated", reason, details | {"estimate": value}),)


def _parts(subject: Preflight, model: ModelFacts, size: LoraSize, tokens: int) -> dict[str, int]:
    """Bytes of weights, adapter, activations and logits."""
    hidden, layers = model.hidden_size or 0, model.layers or 0
    wide = 1 if _is_half(subject) else 2
    whole, kept = 34 * tokens * hidden * wide, 2 * tokens * hidden * wide
    checkpointed = subject.flag("training.gradient_checkpointing") is True
    return {
        "weights": _weights(subject, model),
        "adapter": 16 * size.trainable,
        "activations": kept * layers + whole if checkpointed else whole * layers,
        "logits": 10 * tokens * (model.vocab_size or 0) if _is_language_model(model) else 0,
    }


def _weights(subject: Preflight, model: ModelFacts) -> int:
    parameters = sum(prod(shape) for shape in model.shapes.values())
    if subject.flag("load_in_4bit"):
        return round(0.6 * parameters)
    if subject.flag("load_in_8bit"):
        return round(1.1 * parameters)
    return model.weight_bytes or 0


def _is_half(subject: Preflight) -> bool:
    dtype = (subject.config.training.dtype or "").removeprefix("torch.")
    flags = subject.flag("training.bf16"), subject.flag("training.fp16")
    return True in flags or dtype in _HALF_TYPES


def _is_language_model(model: ModelFacts) -> bool:
    return not any("Classification" in name or "Regression" in name for name in model.architectures)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """A warning when the estimate is above the limit's share of the free memory."""
    (estimate,) = measurements
    limit = policy["memory_estimate.share"]
    if estimate.value is None:
        return []
    details, value = estimate.details, float(estimate.value)
    free = details["free"]
    if value <= limit.value * free:
        return []
    certain = details["low"] > free
    batch = details["batch_size"]
    changes = [Change("training.batch_size", str(batch), str(batch // 2), "Activations grow with the batch.")]
    if not details["gradient_checkpointing"]:
        why = "Activations are then computed again in place of kept."
        changes.append(Change("training.gradient_checkpointing", "off", "true", why))
    return [
        Finding(
            code=CODE,
            severity=Severity.WARNING,
            message=f"Training takes an estimated {gib(value)} (between {gib(details['low'])} and "
            f"{gib(details['high'])}); {gib(free)} are free on device {details['device']}.",
            evidence=dict(details) | {"threshold": limit.value},
            advice="Try a smaller batch with more accumulation, a shorter length, or gradient checkpointing.",
            confidence=0.8 if certain else 0.4,
            basis=("even the low end of the estimate is above it" if certain else "an estimate, with a wide range")
            + f"; the threshold of {limit.value:.0%} is {limit.standing}",
            caveat="Every example is taken to be of the maximum length.",
            rule="G01",
            changes=tuple(changes if batch > 1 else changes[1:]),
        )
    ]
