"""Before training: what configuration, data, base model and machine say about the run to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradience_analysis.config_check.base_model import (
    base_model_files,
    checkpoint,
    target_modules,
    trainable_parameters,
    vocabulary,
)
from gradience_analysis.config_check.data import (
    chat_template,
    class_balance,
    data_lines,
    duplicate_examples,
    example_length,
    ignored_labels,
    private_data,
    required_fields,
    shared_examples,
    train_data,
)
from gradience_analysis.config_check.machine import (
    bf16_support,
    device_sharing,
    disk_space,
    file_system,
    given_names,
    given_paths,
    memory_estimate,
    output_folder,
    run_lock,
    versions,
)
from gradience_analysis.config_check.settings import (
    batch_size,
    lora_alpha,
    lora_dropout,
    lora_rank,
    lora_targets,
    null_numbers,
    number_texts,
    peak_lr,
    restraint_advice,
    schedule_settings,
    seed_setting,
    sequence_length,
    settings_differ,
    task_profile,
    training_length,
    two_precisions,
    unknown_keys,
)

if TYPE_CHECKING:
    from gradience_analysis.config_check.subject import Check

# A new check is one import and one line in this tuple; measure() gets a subject.Preflight.
CHECKS: tuple[Check, ...] = (
    null_numbers,
    lora_rank,
    lora_alpha,
    lora_dropout,
    lora_targets,
    peak_lr,
    batch_size,
    sequence_length,
    training_length,
    two_precisions,
    schedule_settings,
    seed_setting,
    task_profile,
    restraint_advice,
    unknown_keys,
    settings_differ,
    number_texts,
    train_data,
    data_lines,
    required_fields,
    shared_examples,
    duplicate_examples,
    example_length,
    ignored_labels,
    class_balance,
    private_data,
    chat_template,
    base_model_files,
    target_modules,
    trainable_parameters,
    vocabulary,
    checkpoint,
    memory_estimate,
    bf16_support,
    device_sharing,
    output_folder,
    disk_space,
    file_system,
    run_lock,
    versions,
    given_paths,
    given_names,
)
"""The checks, in the order in which a report lists their findings within one severity."""

__all__ = ["CHECKS"]
