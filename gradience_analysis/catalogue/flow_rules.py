"""Rules about how training goes."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "T01",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "nonfinite_loss",
        "The loss or a metric of an evaluation is NaN or infinite.",
        "Roll back including the optimizer, and look at the batch.",
    ),
    Rule(
        "T02",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "hidden_nonfinite",
        "A loss of 0.0 stands with a gradient norm that is not finite: logging_nan_inf_filter hides a NaN.",
        "Set logging_nan_inf_filter=False.",
    ),
    Rule(
        "T03",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "grad_norm_exploding",
        "The gradient norm is not finite, or is again and again far above its running median.",
        "Clip the gradient, or lower the learning rate.",
    ),
    Rule(
        "T04",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "loss_spike",
        "The loss jumps far above its running median.",
        "Look at the batch of that step.",
    ),
    Rule(
        "T05",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "no_learning",
        "The loss at the end is hardly below that at the start.",
        "Look at the learning rate, the target modules and the labels.",
    ),
    Rule(
        "T06",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "memorization",
        "The held-out loss rises evaluation after evaluation while the training loss falls.",
        "Stop earlier, with less rank or fewer epochs.",
    ),
    Rule(
        "T07",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "lr_off_schedule",
        "The learning rate is 0 in mid-run, or is not that of the declared schedule.",
        "Look at the scheduler, and at what a resume restored.",
    ),
    Rule(
        "T08",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "grad_norm_zero",
        "The gradient norm is 0 log after log.",
        "Nothing is trainable, or the graph is detached.",
    ),
    Rule(
        "T09",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "resume_discontinuity",
        "After a resume the step or the loss does not continue where it was.",
        "Restore optimizer, RNG and the position in the data.",
    ),
    Rule(
        "T10",
        Category.FLOW,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "guard_thrashing",
        "The guard went back to one step again and again, or without the optimizer.",
        "Stop, and fix the cause.",
    ),
)
