"""Rules about the base model, checkpoints and adapter files."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "M01",
        Category.MODEL,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "base_model_unreadable",
        "The base model's folder is missing, or its config.json cannot be read.",
        "Fix the path, or download the model again.",
    ),
    Rule(
        "M02",
        Category.MODEL,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "targets_match_nothing",
        "The target modules match no module of the model.",
        "Use names that the model has.",
    ),
    Rule(
        "M03",
        Category.MODEL,
        (Stage.AUDIT,),
        (Severity.ERROR,),
        "base_mismatch",
        "The adapter belongs to another base model than the one it is to be served with.",
        "Use the base that it was trained on.",
    ),
    Rule(
        "M04",
        Category.MODEL,
        (Stage.AUDIT,),
        (Severity.ERROR,),
        "nonfinite_weights",
        "A weight of the adapter is NaN or infinite.",
        "Never promote it; restore a checkpoint that is finite.",
    ),
    Rule(
        "M05",
        Category.MODEL,
        (Stage.AUDIT,),
        (Severity.ERROR,),
        "unpaired_factors",
        "A lora_A stands without its lora_B, or the reverse.",
        "Save the adapter again.",
    ),
    Rule(
        "M06",
        Category.MODEL,
        (Stage.AUDIT,),
        (Severity.ERROR,),
        "rank_mismatch",
        "The shape of a factor is not that of the rank in the config.",
        "Fix the config, or use the checkpoint it belongs to.",
    ),
    Rule(
        "M07",
        Category.MODEL,
        (Stage.AUDIT,),
        (
            Severity.WARNING,
            Severity.ERROR,
        ),
        "untrained_factors",
        "The lora_B of a module is zero: it was never trained.",
        "Check the learning rate and what is frozen.",
    ),
    Rule(
        "M08",
        Category.MODEL,
        (Stage.AUDIT,),
        (Severity.ERROR,),
        "safetensors_header_invalid",
        "The header of a safetensors file has a duplicate key, a hole, an overlap, or reaches beyond the file.",
        "Save it again with the safetensors library.",
    ),
    Rule(
        "M09",
        Category.MODEL,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "checkpoint_incomplete",
        "The checkpoint to resume from lacks optimizer, scheduler or RNG state, or is of another step than its name.",
        "Resume from a complete checkpoint.",
    ),
    Rule(
        "M10",
        Category.MODEL,
        (Stage.AUDIT,),
        (Severity.ERROR,),
        "pickled_weights",
        "The weights are a pickle, which runs code when it is loaded.",
        "Convert them to safetensors.",
    ),
)
