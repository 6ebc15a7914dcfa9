"""The settings that are known: canonical name of each, and the names that files write it under."""

from __future__ import annotations

from collections.abc import Mapping

ALIASES: Mapping[str, tuple[str, ...]] = {
    "model_name": (
        *("model_name", "model_name_or_path", "base_model_name_or_path", "base_model_path", "base_model"),
        *("base_model_name", "model_path", "pretrained_model_name_or_path", "model"),
    ),
    "dataset_name": ("dataset_name", "dataset"),
    "task": ("task", "task_name"),
    "task_profile": ("task_profile",),
    "notes": ("notes",),
    "train_file": ("train_file", "train_data", "data_path", "train_path"),
    "test_file": ("test_file", "eval_file", "eval_data", "validation_file", "eval_path"),
    "output_dir": ("output_dir",),
    "adapters_dir": ("adapters_dir",),
    "runs_dir": ("runs_dir",),
    "run_name": ("run_name", "run_name_prefix"),
    "resume_from_checkpoint": ("resume_from_checkpoint",),
    "load_in_4bit": ("load_in_4bit",),
    "load_in_8bit": ("load_in_8bit",),
    "optimizer.name": ("optim", "optimizer", "optimizer_name"),
    "optimizer.lr": ("learning_rate", "lr"),
    "optimizer.weight_decay": ("weight_decay",),
    "optimizer.betas": ("betas", "adam_betas"),
    "optimizer.beta1": ("adam_beta1",),
    "optimizer.beta2": ("adam_beta2",),
    "optimizer.eps": ("adam_epsilon", "eps"),
    "lora.r": ("lora_r", "r", "lora_rank", "rank", "probe_r"),
    "lora.alpha": ("lora_alpha", "alpha"),
    "lora.alpha_over_r": ("alpha_over_r",),
    "lora.target_modules": ("target_modules", "lora_target_modules", "lora_target", "targets"),
    "lora.target_parameters": ("target_parameters",),
    "lora.modules_to_save": ("modules_to_save",),
    "lora.dropout": ("lora_dropout", "dropout"),
    "lora.bias": ("bias",),
    "lora.use_rslora": ("use_rslora",),
    "lora.use_dora": ("use_dora",),
    "lora.rank_pattern": ("rank_pattern",),
    "lora.alpha_pattern": ("alpha_pattern",),
    "lora.peft_type": ("peft_type",),
    "lora.task_type": ("task_type",),
    "lora.scaling": ("scaling",),
    "lora.trainable_params": ("trainable_params",),
    "lora.total_params": ("total_params",),
    "training.seed": ("seed", "random_seed"),
    "training.batch_size": ("per_device_train_batch_size", "batch_size", "train_batch_size", "micro_batch_size"),
    "training.eval_batch_size": ("per_device_eval_batch_size", "eval_batch_size"),
    "training.gradient_accumulation": ("gradient_accumulation_steps", "gradient_accumulation"),
    "training.max_steps": ("max_steps",),
    "training.epochs": ("num_train_epochs", "num_epochs", "epochs"),
    "training.dtype": ("dtype", "torch_dtype"),
    "training.bf16": ("bf16",),
    "training.fp16": ("fp16",),
    "training.world_size": ("world_size", "num_processes", "num_gpus"),
    "training.max_length": ("max_length", "max_seq_length", "max_seq_len", "cutoff_len", "sequence_len"),
    "training.lr_scheduler": ("lr_scheduler_type", "lr_scheduler"),
    "training.warmup_steps": ("warmup_steps",),
    "training.warmup_ratio": ("warmup_ratio",),
    "training.max_grad_norm": ("max_grad_norm",),
    "training.num_train_examples": ("num_train_examples", "train_samples"),
    "training.logging_nan_inf_filter": ("logging_nan_inf_filter",),
    "training.logging_steps": ("logging_steps",),
    "training.eval_strategy": ("eval_strategy", "evaluation_strategy"),
    "training.eval_steps": ("eval_steps",),
    "training.do_eval": ("do_eval",),
    "training.save_strategy": ("save_strategy",),
    "training.save_steps": ("save_steps",),
    "training.save_total_limit": ("save_total_limit",),
    "training.load_best_model_at_end": ("load_best_model_at_end",),
    "training.gradient_checkpointing": (
        *("activation_checkpointing", "gradient_checkpointing", "use_gradient_checkpointing"),
    ),
    "training.packing": ("packing",),
    "training.data_seed": ("data_seed",),
}
"""Canonical name → the names files use, the one that holds when a file has several first."""

# What these mean only their section tells.
_IN_SECTION: Mapping[tuple[str, str], str] = {
    ("model", "name"): "model_name",
    ("model", "path"): "model_name",
    ("task", "name"): "task",
    ("task", "profile"): "task_profile",
    ("task", "dataset"): "dataset_name",
    ("data", "name"): "dataset_name",
    ("dataset", "name"): "dataset_name",
    ("data", "train"): "train_file",
    ("data", "eval"): "test_file",
    ("optimizer", "name"): "optimizer.name",
}
SECTIONS: Mapping[str, str] = {
    "optimizer": "optimizer",
    "lora": "lora",
    "lora_config": "lora",
    "peft": "lora",
    "peft_config": "lora",
    "adapter": "lora",
    "training": "training",
    "train": "training",
    "trainer": "training",
    "training_args": "training",
    "training_arguments": "training",
    "hyperparameters": "training",
    "model": "model",
    "task": "task",
    "data": "data",
    "dataset": "dataset",
}
"""Sections that are read, each with the room of the canonical names that it stands for."""

OPAQUE = frozenset(
    {"accelerator_config", "audit", "bench", "compression", "deepspeed", "extras", "fsdp_config", "guard", "meta"}
    | {"parallelism_config", "quantization", "runtime", "telemetry", "wandb", "bench_version", "run_type"}
    | {"subset", "metric", "eval_max_samples", "eval_samples", "description", "config"}
    | {"bits", "quant_type", "quantization_config", "precision", "names", "tags", "revision"}
)
"""Keys that are known to hold nothing for these checks."""

FLAT: Mapping[str, tuple[str, int]] = {
    name: (key, place) for key, names in ALIASES.items() for place, name in enumerate(names)
}
"""Name in a file → canonical name, and its place among the names of that one."""

NUMBERS = frozenset(
    {"lora.r", "lora.alpha", "lora.dropout", "optimizer.lr", "optimizer.weight_decay", "optimizer.eps"}
    | {"optimizer.beta1", "optimizer.beta2", "training.batch_size", "training.eval_batch_size"}
    | {"training.gradient_accumulation", "training.max_steps", "training.epochs", "training.warmup_steps"}
    | {"training.save_steps", "training.logging_steps"}
)
"""Settings that a trainer compares with numbers, so that a null in their place stops it."""


def canonical(name: str, section: str) -> tuple[str, int] | None:
    """What a key stands for: its canonical name, and its place among the names of that one; None when unknown.

    Args:
        name: The key, with `_` for `-`.
        section: Room of the section it stands in, such as `lora`; empty at the top.
    """
    if (section, name) in _IN_SECTION:
        return _IN_SECTION[section, name], 0
    inside = f"{section}.{name}"
    if inside in ALIASES:
        return inside, 0
    found = FLAT.get(name)
    return None if found is None or (found[0] == "optimizer.name" and section not in {"", "training"}) else found
