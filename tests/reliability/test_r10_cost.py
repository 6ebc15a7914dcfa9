"""R10: an event never waits for a device. What an event costs is measured by benchmarks/emit.py, not asserted here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_emit import TelemetryWriter
from tests.emit import oracle


class DeviceScalar:
    """A scalar on an accelerator: whoever asks for its value makes the training step wait."""

    shape = ()
    dtype = "torch.float32"
    device = "cuda:0"

    def __init__(self) -> None:
        self.waits: list[str] = []

    def _wait(self, how: str) -> Any:
        self.waits.append(how)
        return 1

    def item(self) -> Any:
        """The value, after a device synchronisation."""
        return self._wait("item")

    def tolist(self) -> Any:
        """The value, after a device synchronisation."""
        return self._wait("tolist")

    def cpu(self) -> Any:
        """A copy in host memory, after a device synchronisation."""
        return self._wait("cpu")

    def __float__(self) -> float:
        return float(self._wait("float"))

    def __int__(self) -> int:
        return int(self._wait("int"))

    def __index__(self) -> int:
        return int(self._wait("index"))

    def __bool__(self) -> bool:
        return bool(self._wait("bool"))

    def __len__(self) -> int:
        return int(self._wait("len"))

    def __eq__(self, other: object) -> bool:
        return bool(self._wait("eq"))

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        return str(self._wait("str"))

    __repr__ = __str__

    def __iter__(self) -> Any:
        return iter([self._wait("iter")])

    def __array__(self, *_: Any) -> Any:
        return self._wait("array")


def scalar_on_meta() -> torch.Tensor:
    """A real tensor without a value: torch raises when one asks for it."""
    return torch.empty((), device="meta")


@pytest.mark.parametrize("make", [DeviceScalar, scalar_on_meta])
def test_no_event_waits_for_the_device(tmp_path: Path, make: Any) -> None:
    """Given a device scalar in every place, when it is logged, then its value is never asked for."""
    scalar = make()
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start({"model_name": scalar, "lora": {"r": scalar}}, {"resume_step": scalar})
        writer.train_step(scalar, loss=scalar, lr=[scalar], grad_norm=scalar, password=scalar)
        writer.eval(1, split="val", metrics={"loss": scalar, "nested": (scalar, {"deep": scalar})})
        writer.alert(severity="error", code="C", message="m", step=scalar, context={"value": scalar})
        writer.recommendation([{"confidence": scalar}], step=scalar)
        writer.log("my_event", scalar, value=scalar)
    assert getattr(scalar, "waits", []) == []
    step = oracle.read_strict(writer.path)[1]
    assert step["x_loss"] == {"shape": [], "dtype": "torch.float32", "device": str(scalar_device(scalar))}
    assert writer.dropped == writer.faults == 0


def scalar_device(scalar: Any) -> Any:
    """Where the scalar lives."""
    return scalar.device
