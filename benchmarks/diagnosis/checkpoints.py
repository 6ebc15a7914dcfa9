"""What can be wrong with a checkpoint that a run is resumed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

_STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def newest(out: Path) -> Path:
    """Return the last checkpoint of a run."""
    return max(out.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))


def strip_states(out: Path) -> None:
    """Leave the weights and the step, as whoever keeps checkpoints small does."""
    for name in _STATES:
        (newest(out) / name).unlink()


def run_ahead(out: Path, *, steps: int) -> None:
    """Let the checkpoint say that it is some steps further than its weights are."""
    path = newest(out) / "trainer_state.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    state["epoch"] *= (state["global_step"] + steps) / state["global_step"]
    state["global_step"] += steps
    path.write_text(json.dumps(state), encoding="utf-8")


def weights_of(out: Path) -> dict[str, Any]:
    """Return the adapter of the last checkpoint under the names that the model in memory has."""
    saved = load_file(newest(out) / "adapter_model.safetensors")
    return {_in_memory(name): tensor for name, tensor in saved.items()}


def _in_memory(name: str) -> str:
    for kind in ("lora_A", "lora_B"):
        name = name.replace(f"{kind}.weight", f"{kind}.default.weight")
    return name.replace("classifier.", "classifier.modules_to_save.default.")
