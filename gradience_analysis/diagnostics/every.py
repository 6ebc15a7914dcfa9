"""Every question about a recorded run, in the order in which a report lists what it finds."""

from __future__ import annotations

from gradience_analysis.diagnostics import (
    adapter_dominance,
    adapter_rank,
    clock,
    declared_steps,
    device,
    divergence,
    generalization_gap,
    gradient_norm,
    guard_activity,
    host_memory,
    learning_rate,
    logged_values,
    loss_scale,
    loss_spike,
    masked_labels,
    memorization,
    memory,
    muon_ratio,
    no_learning,
    nonfinite_values,
    out_of_memory,
    plateau,
    ranks,
    recorded_alerts,
    restraint,
    resume,
    run_status,
    spectral_risk,
    split_overlap,
    telemetry_quality,
    throughput,
)
from gradience_analysis.diagnostics.base import Diagnosis, Diagnostic, diagnose
from gradience_analysis.model import Run
from gradience_analysis.policy import Policy, load_policy

DIAGNOSTICS: tuple[Diagnostic, ...] = (
    run_status,
    out_of_memory,
    nonfinite_values,
    masked_labels,
    gradient_norm,
    learning_rate,
    resume,
    guard_activity,
    declared_steps,
    divergence,
    loss_spike,
    memorization,
    no_learning,
    plateau,
    generalization_gap,
    split_overlap,
    memory,
    host_memory,
    throughput,
    loss_scale,
    device,
    ranks,
    clock,
    spectral_risk,
    muon_ratio,
    adapter_rank,
    adapter_dominance,
    restraint,
    recorded_alerts,
    telemetry_quality,
    logged_values,
)


def diagnose_run(run: Run, policy: Policy | None = None) -> Diagnosis:
    """What `gradience monitor` measures in a run, and what it finds.

    Args:
        run: A loaded run.
        policy: Thresholds to judge by; None for the shipped ones.

    Raises:
        PolicyError: The shipped policy cannot be read.
    """
    return diagnose(run, DIAGNOSTICS, load_policy() if policy is None else policy)
