"""Configurations to check, written to files and taken through the whole pre-flight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gradience_analysis.config_check.examine import examine
from gradience_analysis.config_check.preflight import Wanted, preflight
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.diagnostics.base import Diagnosis
from gradience_analysis.model import Finding
from gradience_analysis.policy import Policy, load_policy

POLICY = load_policy()
FLAT: dict[str, Any] = {
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "target_modules": ["q_proj", "v_proj"],
    "learning_rate": 2e-4,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "max_steps": 500,
    "warmup_steps": 25,
    "eval_strategy": "steps",
    "eval_steps": 50,
    "save_steps": 100,
    "max_seq_length": 2048,
    "bf16": True,
    "seed": 42,
    "task_profile": "generation",
}
"""A configuration with nothing wrong in it, as users write them."""

NESTED: dict[str, Any] = {
    "task_profile": "generation",
    "optimizer": {"lr": 2e-4},
    "lora": {"r": 16, "alpha": 32, "dropout": 0.05, "target_modules": ["q_proj", "v_proj"]},
    "training": {
        "batch_size": 4,
        "gradient_accumulation": 4,
        "max_steps": 500,
        "warmup_steps": 25,
        "eval_strategy": "steps",
        "eval_steps": 50,
        "save_steps": 100,
        "max_length": 2048,
        "bf16": True,
        "seed": 42,
    },
}
"""The same in the layout of `run_start.config`."""

LEFT_OUT: Any = object()
"""In place of a value: no such key."""


def flat(**changes: Any) -> dict[str, Any]:
    """The flat configuration with other values; `LEFT_OUT` leaves a key out."""
    return {key: value for key, value in {**FLAT, **changes}.items() if value is not LEFT_OUT}


def written(folder: Path, entries: Any, name: str = "config.json") -> Path:
    """The entries as a JSON file; NaN is written as Python does."""
    path = folder / name
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def subject_of(folder: Path, entries: Any, **wanted: Any) -> Preflight:
    """The subject of the checks that a file with these entries gives."""
    return preflight(Wanted(config=written(folder, entries), **wanted))


def checked(folder: Path, entries: Any, policy: Policy = POLICY, **wanted: Any) -> Diagnosis:
    """What the whole pre-flight says about a file with these entries."""
    return examine(subject_of(folder, entries, **wanted), policy)


def findings(folder: Path, entries: Any, **wanted: Any) -> list[Finding]:
    """The findings alone."""
    return list(checked(folder, entries, **wanted).findings)


def codes(folder: Path, entries: Any, **wanted: Any) -> list[str]:
    """Their codes."""
    return [finding.code for finding in findings(folder, entries, **wanted)]
