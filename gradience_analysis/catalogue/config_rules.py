"""Rules about the configuration."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "C01",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "rank_invalid",
        "The rank is no integer, or outside 1 to 1024.",
        "Set a valid rank.",
    ),
    Rule(
        "C02",
        Category.CONFIG,
        (Stage.CHECK,),
        (
            Severity.ERROR,
            Severity.WARNING,
        ),
        "alpha_invalid",
        "Alpha is no finite number above 0, or alpha / r is far from what is usual.",
        "Start at alpha = 2 r.",
    ),
    Rule(
        "C03",
        Category.CONFIG,
        (Stage.CHECK,),
        (
            Severity.ERROR,
            Severity.WARNING,
        ),
        "lr_invalid",
        "The learning rate is no finite number above 0, or far from what is usual.",
        "Set it within the range.",
    ),
    Rule(
        "C04",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "batch_invalid",
        "The batch size or the gradient accumulation is out of its range.",
        "Correct it.",
    ),
    Rule(
        "C05",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "max_length_invalid",
        "The maximum length is out of its range, or more than the model has positions.",
        "Lower it.",
    ),
    Rule(
        "C06",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "dropout_invalid",
        "The dropout is not in [0, 1).",
        "Use 0 to 0.1.",
    ),
    Rule(
        "C07",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "no_training_length",
        "Neither max_steps nor a number of epochs is above 0.",
        "Set one of the two.",
    ),
    Rule(
        "C08",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "two_precisions",
        "fp16 and bf16 are both set.",
        "Choose one.",
    ),
    Rule(
        "C09",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "unknown_key",
        "A key is unknown, and nearly one that is known.",
        "Correct its spelling.",
    ),
    Rule(
        "C10",
        Category.CONFIG,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "schedule_incomplete",
        "The warm-up or an interval is longer than the training, or nothing is evaluated.",
        "Shorten it, or enable evaluation.",
    ),
)
