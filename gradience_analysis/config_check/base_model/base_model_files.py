"""Base model files: whether the base model is there and its config.json can be read.

Looked at: the folder that was given, its config.json, and the headers of its safetensors files. Nothing is imported
from it, no pickle is opened, and `trust_remote_code` plays no part. A model whose weights cannot be read that way is
no finding; the checks that need shapes then say that they could not look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "base_model_unreadable"
CODES: Mapping[str, str] = {CODE: "The base model's folder is missing, or its config.json cannot be read."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "base_model_tensors"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """How many tensors the headers name."""
    model = subject.base_model
    if model is None:
        return (Measurement(NAME, None, "tensors", reason="No base model was given: give its folder with --model."),)
    details = {"path": model.path, "fault": model.fault, "model_type": model.model_type}
    reason = model.fault or model.weights_fault
    count = None if reason else len(model.shapes)
    return (Measurement(NAME, count, "tensors", "safetensors headers", reason, details),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error when the folder or its config.json cannot be read."""
    details = measurements[0].details
    if not details.get("fault"):
        return []
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=_sentence(details["path"], details["fault"]),
            evidence={"path": details["path"], "fault": details["fault"]},
            advice="Check the path, or download the model again.",
            basis="the folder was looked at",
            rule="M01",
        )
    ]


def _sentence(path: str, fault: str) -> str:
    """A fault of a file in the folder names its path already."""
    return f"The base model cannot be read: {fault if path in fault else f'{path} {fault}'}"
