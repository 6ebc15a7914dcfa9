"""Restraint: settings that are bolder than cautious advice has them for the declared kind of task.

Read from the configuration alone: task profile, learning rate, rank, target modules, and the factor on B A, which is
alpha / r (alpha / sqrt(r) with rsLoRA).

- `hard_reasoning`: a learning rate above 5e-5, and more so above 1e-4; a factor above 2 at such a learning rate; a rank
  of 32 and more; MLP modules among the targets.
- `easy_classification`: a rank above 16.
- unknown: before a run, a short calibration run; nothing after one.

Everything is an info: advice to test, never an alarm. What concerns the size of a step is one finding
(`step_size_restraint`), what concerns the size of the adapter another (`capacity_restraint`).

**Two sides.** The cautious advice came with the idea of this tool, and is not calibrated: smaller steps and smaller
adapters move the base less. Published comparisons point the other way for LoRA: its best learning rate lies about ten
times above that of full fine-tuning, and adapters on all linear layers, MLP ones above all, do best
(Schulman et al. 2025, LoRA Without Regret; Biderman et al. 2024, arXiv 2405.09673; Dettmers et al. 2023, arXiv
2305.14314, which used 1e-4 to 2e-4). Hu et al. 2021 (arXiv 2106.09685) found small ranks on attention enough for their
tasks. A range and a short comparison settle it for a task; no single number does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradience_analysis.model import Change, Finding, Measurement, Run
from gradience_analysis.policy import Policy
from gradience_schema import ConfigSnapshot, LoraSnapshot, Severity, TaskProfile

CODES: Mapping[str, str] = {
    "step_size_restraint": "The learning rate, or the factor on the adapter, is above cautious advice for the task.",
    "capacity_restraint": "The rank or the target modules go beyond cautious advice for the task.",
    "calibration_advised": "The kind of task is not declared: a short calibration run says more than any rule.",
}
COVERS: Mapping[str, frozenset[str]] = {}
_NAMES = {
    "task_profile": "name",
    "configured_lr": "learning rate",
    "configured_rank": "rank",
    "configured_scaling": "factor",
    "configured_mlp_targets": "names",
}
_MLP = frozenset(
    {
        *("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "fc_in", "fc_out", "c_fc", "lin1", "lin2"),
        *("dense_h_to_4h", "dense_4h_to_h", "w1", "w2", "w3", "wi", "wo", "wi_0", "wi_1", "mlp", "ffn", "all-linear"),
    }
)
_LARGEST_RANK = 1 << 20  # beyond it, it is no rank
_LR_SIDES = (
    "Schulman et al. 2025 (LoRA Without Regret) and Biderman et al. 2024 (arXiv 2405.09673) find the best LoRA "
    "learning rate about 10 times that of full fine-tuning, and Dettmers et al. 2023 (arXiv 2305.14314) used 1e-4 to "
    "2e-4; the cautious range is proposed, not calibrated"
)
_CAPACITY_SIDES = (
    "Biderman et al. 2024 (arXiv 2405.09673) and Schulman et al. 2025 (LoRA Without Regret) do best with all linear "
    "layers, and need high ranks for much data; Hu et al. 2021 (arXiv 2106.09685) found small ranks on attention enough"
)


def measure(run: Run) -> tuple[Measurement, ...]:
    """The settings that advice on restraint looks at, as the run recorded them."""
    if run.config is None:
        reason = "no run_start was read, so that no configuration is known."
        return tuple(Measurement(name, None, unit, reason=reason) for name, unit in _NAMES.items())
    return _measure(run.config, trained=bool(run.logged_steps))


def measure_config(config: ConfigSnapshot) -> tuple[Measurement, ...]:
    """The same before a run, from its configuration."""
    return _measure(config, trained=False)


def _measure(config: ConfigSnapshot, *, trained: bool) -> tuple[Measurement, ...]:
    lora = config.lora
    adapter = lora.r is not None or bool(lora.target_modules)
    details = {"trained": trained, "adapter": adapter}
    targets = [name for name in lora.target_modules if name.rpartition(".")[2].lower() in _MLP]
    values: Mapping[str, tuple[float | int | str | None, dict[str, Any], str]] = {
        "task_profile": (str(config.task_profile), details, ""),
        "configured_lr": (_finite(config.optimizer.lr), {}, "no learning rate is configured (optimizer.lr)."),
        "configured_rank": (_rank(lora), {}, "no rank is configured (lora.r)."),
        "configured_scaling": (_scaling(lora), {}, "alpha and rank are not both configured (lora.alpha, lora.r)."),
        "configured_mlp_targets": (
            len(targets) if lora.target_modules else None,
            {"mlp": targets[:5], "targets": len(lora.target_modules)},
            "no target modules are configured (lora.target_modules).",
        ),
    }
    return tuple(
        Measurement(name, value, _NAMES[name], "" if value is None else "config", reason if value is None else "", more)
        for name, (value, more, reason) in values.items()
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < 1e300 else None


def _rank(lora: LoraSnapshot) -> int | None:
    """The rank, when it can be one at all."""
    return lora.r if lora.r is not None and 0 < lora.r <= _LARGEST_RANK else None


def _scaling(lora: LoraSnapshot) -> float | None:
    """Factor on B A: alpha / r, or alpha / sqrt(r) with rsLoRA; None when it is not known."""
    alpha, rank = _finite(lora.alpha), _rank(lora)
    if alpha is None or rank is None:
        return None
    return alpha / (math.sqrt(rank) if lora.use_rslora else rank)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """At most two pieces of advice, all of severity info; nothing where no adapter is configured."""
    profile, lr, rank, scaling, mlp = measurements
    if profile.value is None or not profile.details["adapter"]:
        return []
    found: tuple[Finding | None, ...] = ()
    if profile.value == TaskProfile.HARD_REASONING:
        found = (_step_size(lr, scaling, policy), _capacity_hard(rank, mlp, policy))
    elif profile.value == TaskProfile.EASY_CLASSIFICATION:
        found = (_capacity_easy(rank, policy),)
    elif profile.value == TaskProfile.UNKNOWN and not profile.details["trained"]:
        found = (_calibrate(policy),)
    return [finding for finding in found if finding is not None]


def _step_size(lr: Measurement, scaling: Measurement, policy: Policy) -> Finding | None:
    low, high, factor = (policy[f"restraint.{name}"] for name in ("hard_lr_low", "hard_lr_high", "hard_scaling"))
    if lr.value is None or float(lr.value) <= low.value:
        return None
    rate = float(lr.value)
    span = f"{low.value:g} to {high.value:g}"
    bold = rate > high.value
    changes = [Change("optimizer.lr", f"{rate:g}", span, "smaller steps move what the base can already do less")]
    also = ""
    if scaling.value is not None and float(scaling.value) > factor.value:
        also = f", with a factor of {float(scaling.value):g} on the adapter"
        why = "the factor multiplies what a step changes, so that it acts like a higher learning rate"
        current, suggested = (f"a factor of {number:g}" for number in (float(scaling.value), factor.value))
        changes.append(Change("lora.alpha", current, suggested, why))
    side = f"above the cautious range of {span}" if bold else f"in the upper part of the cautious range of {span}"
    return Finding(
        code="step_size_restraint",
        severity=Severity.INFO,
        message=f"For hard_reasoning a learning rate of {rate:g} is {side}{also}.",
        evidence={"lr": rate, "scaling": scaling.value, "low": low.value, "high": high.value, "source": high.source},
        advice=f"Compare short runs at {low.value:g}, {high.value:g} and {rate:g} and keep what is best held out.",
        confidence=0.3 if bold else 0.2,
        basis=f"the configuration; the range is {high.standing}",
        caveat=_LR_SIDES,
        changes=tuple(changes),
    )


def _capacity_hard(rank: Measurement, mlp: Measurement, policy: Policy) -> Finding | None:
    limit = policy["restraint.hard_rank"]
    parts: list[str] = []
    changes: list[Change] = []
    if rank.value is not None and float(rank.value) >= limit.value:
        parts.append(f"a rank of {rank.value}")
        why = "a smaller adapter has less room to memorise"
        changes.append(Change("lora.r", str(rank.value), f"8 to {limit.value / 2:g}", why))
    if mlp.value:
        names = ", ".join(mlp.details["mlp"])
        parts.append(f"MLP modules ({names})")
        why = "MLP modules are where much of what the base knows is kept"
        changes.append(Change("lora.target_modules", f"with {names}", "attention modules only, as a comparison", why))
    if not changes:
        return None
    return Finding(
        code="capacity_restraint",
        severity=Severity.INFO,
        message=f"For hard_reasoning {' and '.join(parts)} go{'es' if len(parts) == 1 and not mlp.value else ''} "
        "beyond cautious advice.",
        evidence={"r": rank.value, "mlp_targets": mlp.details["mlp"], "threshold": limit.value, "source": limit.source},
        advice="Compare with a smaller adapter on a held-out set; keep the larger one if it is better there.",
        confidence=0.2,
        basis=f"the configuration; the limit is {limit.standing}",
        caveat=_CAPACITY_SIDES,
        changes=tuple(changes),
    )


def _capacity_easy(rank: Measurement, policy: Policy) -> Finding | None:
    limit = policy["restraint.easy_rank"]
    if rank.value is None or float(rank.value) <= limit.value:
        return None
    why = "an easy task needs few directions, and a smaller adapter is cheaper to train and serve"
    return Finding(
        code="capacity_restraint",
        severity=Severity.INFO,
        message=f"For easy_classification a rank of {rank.value} is above {limit.value:g}.",
        evidence={"r": rank.value, "threshold": limit.value, "source": limit.source},
        advice=f"Compare with a rank of 4 to {limit.value:g} on a held-out set.",
        confidence=0.3,
        basis=f"the configuration; the limit is {limit.standing}",
        caveat=f"a rank that is too high often costs memory rather than quality; {_CAPACITY_SIDES}",
        changes=(Change("lora.r", str(rank.value), f"4 to {limit.value:g}", why),),
    )


def _calibrate(policy: Policy) -> Finding:
    steps = policy["restraint.calibration_steps"]
    profiles = "easy_classification, hard_reasoning or generation"
    return Finding(
        code="calibration_advised",
        severity=Severity.INFO,
        message="The task profile is unknown, so that no learning rate or rank can be called bold or cautious.",
        evidence={"task_profile": "unknown", "steps": steps.value},
        advice=(
            f"Run about {steps.value:g} steps at two or three learning rates a factor of 3 apart, look at them with "
            "gradience monitor, and keep the one with the best held-out loss; or declare task_profile."
        ),
        confidence=0.5,
        basis=f"the configuration; the number of steps is {steps.standing}",
        caveat="the best learning rate of a short run can be above that of a long one",
        changes=(Change("task_profile", "unknown", profiles, "it decides the advice"),),
    )
