"""Rules about what the training code hands over."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "V01",
        Category.CODE,
        (Stage.CHECK,),
        (
            Severity.ERROR,
            Severity.WARNING,
        ),
        "trainable_parameters",
        "No parameter is trainable, or too many are for LoRA.",
        "Check how the model is wrapped with PEFT.",
    ),
    Rule(
        "V02",
        Category.CODE,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "null_number",
        "A setting that must be a number is null.",
        "Leave the key out, or give a number.",
    ),
    Rule(
        "V03",
        Category.CODE,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "number_in_string",
        "A metric is a string that holds a number.",
        "Log .item() of it.",
    ),
    Rule(
        "V04",
        Category.CODE,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "metric_type_changed",
        "A metric changes its type within a run.",
        "Fix what logs it.",
    ),
    Rule(
        "V05",
        Category.CODE,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "unknown_event",
        "An event type is unknown, and nearly one that is known.",
        "Rename it.",
    ),
    Rule(
        "V06",
        Category.CODE,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "unknown_schema_version",
        "The file is of another major version of the schema.",
        "Upgrade Gradience, or convert the file.",
    ),
    Rule(
        "V07",
        Category.CODE,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "step_invalid",
        "A step is no integer, or goes back within a segment.",
        "Log the trainer's global_step.",
    ),
    Rule(
        "V08",
        Category.CODE,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "total_steps_inconsistent",
        "The declared number of steps does not follow from data, batch and epochs.",
        "Compute it before it is used.",
    ),
    Rule(
        "V09",
        Category.CODE,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "seed_unset",
        "No seed is set.",
        "Set one, and log it.",
    ),
    Rule(
        "V10",
        Category.CODE,
        (Stage.CHECK,),
        (Severity.ERROR, Severity.WARNING),
        "vocabulary_mismatch",
        "The tokenizer has more tokens than the embedding has rows, or padding is the end token and is not masked.",
        "Resize the embedding, and set a padding token.",
    ),
)
