"""Rules about the training and evaluation data."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "D01",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "train_data_missing",
        "The training file is missing or holds fewer than 10 examples.",
        "Point to the data, or export more of it.",
    ),
    Rule(
        "D02",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "data_line_invalid",
        "A line of the data is no JSON object in strict UTF-8.",
        "Fix the line that is named, with its offset.",
    ),
    Rule(
        "D03",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "data_field_missing",
        "A required field is absent, or is empty in too many rows.",
        "Map the columns, or drop those rows.",
    ),
    Rule(
        "D04",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "split_overlap",
        "Examples of the evaluation data stand in the training data too.",
        "Deduplicate the splits against each other.",
    ),
    Rule(
        "D05",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "duplicate_examples",
        "Too many training examples are exact duplicates.",
        "Deduplicate the training data.",
    ),
    Rule(
        "D06",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "long_examples",
        "Too many examples are longer than the maximum length.",
        "Raise the length, or split the examples.",
    ),
    Rule(
        "D07",
        Category.DATA,
        (
            Stage.CHECK,
            Stage.MONITOR,
        ),
        (Severity.ERROR,),
        "labels_all_ignored",
        "Every label of an example or a batch is -100, so that nothing is learned from it.",
        "Check the masking of the labels and the truncation.",
    ),
    Rule(
        "D08",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "majority_class",
        "Nearly all examples are of one class.",
        "Rebalance the classes, or judge by a macro metric.",
    ),
    Rule(
        "D09",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "secrets_in_data",
        "Personal data or a secret stands in a sample of the data.",
        "Redact it, and rotate a key that was in it.",
    ),
    Rule(
        "D10",
        Category.DATA,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "chat_template_missing",
        "The data are conversations but there is no chat template, or most examples do not end.",
        "Set the chat template, and append the end-of-sequence token.",
    ),
)
