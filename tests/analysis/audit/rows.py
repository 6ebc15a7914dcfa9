"""Rows of an audit made of chosen spectra, without any file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradience_analysis.adapters.factors import Layout, LoraModule, TensorPlace
from gradience_analysis.audit import AdapterAudit, Coverage, ModuleAudit
from gradience_analysis.audit.measuring import module_audit
from gradience_analysis.audit.spectra import ModuleSpectrum


def row(
    name: str, sigma: Sequence[float], *, scaling: float | None = 1.0, shape: tuple[int, int] = (32, 24), **held: Any
) -> ModuleAudit:
    """A module whose lora_B @ lora_A has these singular values."""
    r = len(sigma)
    place = TensorPlace("adapter_model.safetensors", name, "F32", (r, shape[1]))
    module = LoraModule(
        name=name,
        adapter="",
        layout=Layout.LINEAR,
        a=place,
        b=place,
        e=None,
        magnitude=None,
        r=r,
        alpha=None if scaling is None else scaling * r,
        scaling=scaling,
        scaling_reason="" if scaling is not None else "no alpha",
        shape=shape,
        params=r * sum(shape),
    )
    values = np.array(sigma, dtype=np.float64)
    found = module_audit(ModuleSpectrum(module, values, 1.0, float(np.linalg.norm(values))))
    if held:
        from dataclasses import replace

        found = replace(found, **held)
    return found


def audit(rows: Sequence[ModuleAudit], **held: Any) -> AdapterAudit:
    """An adapter of these rows."""
    usual = {"coverage": Coverage(audited=2 * len(rows), lora_keys=2 * len(rows)), "r": 8, "config": {}}
    return AdapterAudit(path=Path("adapter"), name="adapter", rows=tuple(rows), **(usual | held))
