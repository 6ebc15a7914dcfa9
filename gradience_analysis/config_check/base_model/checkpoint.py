"""Checkpoint: whether the checkpoint to resume from has all it takes to go on as if nothing had happened.

Looked at, by names and sizes only: optimizer, scheduler and RNG state as the Hugging Face Trainer writes them (or the
folder of DeepSpeed, or the shards of FSDP), and whether global_step in trainer_state.json is the number in the
folder's name. Nothing is unpickled, so a damaged file of the right name is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.base_model.facts import CheckpointFacts
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "checkpoint_incomplete"
CODES: Mapping[str, str] = {
    CODE: "The checkpoint lacks optimizer, scheduler or RNG state, or is of another step than its name."
}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "checkpoint_faults"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """How many things are wrong with the checkpoint, and what they are."""
    checkpoint = subject.checkpoint
    if checkpoint is None:
        return (
            Measurement(NAME, None, "faults", reason="No checkpoint was given: give its folder with --resume-from."),
        )
    faults = (
        [f"{checkpoint.path} {checkpoint.fault}"] if checkpoint.fault else [*_missing(checkpoint), *_step(checkpoint)]
    )
    details = {
        "path": checkpoint.path,
        "faults": faults,
        "global_step": checkpoint.global_step,
        "named_step": checkpoint.named_step,
    }
    return (Measurement(NAME, len(faults), "faults", "names and sizes of its files", details=details),)


def _missing(checkpoint: CheckpointFacts) -> list[str]:
    sizes = checkpoint.sizes
    wanted = {
        "optimizer state (optimizer.pt)": ("optimizer.pt", "optimizer.bin"),
        "scheduler state (scheduler.pt)": ("scheduler.pt", "scheduler.bin"),
    }
    if checkpoint.sharded_state:  # the engine keeps the optimizer, and DeepSpeed its own scheduler, in a folder
        wanted = {}
    faults = [f"no {what}" for what, names in wanted.items() if not any(sizes.get(name) for name in names)]
    if not any(name.startswith("rng_state") and name.endswith(".pth") and size for name, size in sizes.items()):
        faults.append("no RNG state (rng_state.pth)")
    return faults


def _step(checkpoint: CheckpointFacts) -> list[str]:
    if checkpoint.state_fault:
        return [f"no step ({checkpoint.state_fault.rstrip('.')})"]
    if checkpoint.named_step is None or checkpoint.named_step == checkpoint.global_step:
        return []
    return [f"step {checkpoint.global_step:,} in trainer_state.json"]


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error when anything is wrong with it."""
    (faults,) = measurements
    if not faults.value:
        return []
    details = faults.details
    return [
        Finding(
            code=CODE,
            severity=Severity.ERROR,
            message=f"The checkpoint {details['path']} cannot be resumed from exactly: {'; '.join(details['faults'])}.",
            evidence=dict(details),
            advice="Resume from a complete checkpoint, one saved without save_only_model.",
            confidence=0.9,
            basis="names and sizes of the files in the folder",
            caveat="Another trainer than Hugging Face's may name these files differently.",
            rule="M09",
        )
    ]
