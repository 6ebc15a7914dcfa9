"""Rules about the device and its memory."""

from __future__ import annotations

from gradience_analysis.catalogue.rule import Category, Rule, Stage
from gradience_schema import Severity

RULES: tuple[Rule, ...] = (
    Rule(
        "G01",
        Category.GPU,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "memory_estimate_high",
        "The estimated memory is nearly all that is free on the device.",
        "A smaller batch, rank or length; gradient checkpointing.",
    ),
    Rule(
        "G02",
        Category.GPU,
        (Stage.CHECK,),
        (Severity.ERROR,),
        "bf16_unsupported",
        "bfloat16 is asked for, and the device does not support it.",
        "Use fp16 or fp32.",
    ),
    Rule(
        "G03",
        Category.GPU,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "memory_near_limit",
        "The peak memory comes close to what the device has.",
        "Reduce the batch.",
    ),
    Rule(
        "G04",
        Category.GPU,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "memory_growing",
        "The allocated memory grows steadily.",
        "Detach tensors that are kept; clean up between files.",
    ),
    Rule(
        "G05",
        Category.GPU,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "out_of_memory",
        "The run ended for want of memory.",
        "Halve the batch and double the accumulation.",
    ),
    Rule(
        "G06",
        Category.GPU,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "loss_scale_collapsed",
        "The fp16 loss scale has collapsed, or many steps overflow.",
        "Use bfloat16, or a lower learning rate.",
    ),
    Rule(
        "G07",
        Category.GPU,
        (Stage.CHECK,),
        (Severity.WARNING,),
        "device_shared",
        "Other processes hold memory of the device.",
        "Free the device, or pin another one.",
    ),
    Rule(
        "G08",
        Category.GPU,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "memory_fragmented",
        "Much of the reserved memory is not in use.",
        "Use expandable segments.",
    ),
    Rule(
        "G09",
        Category.GPU,
        (Stage.MONITOR,),
        (Severity.WARNING,),
        "step_time_growing",
        "Steps take much longer at the end than after the warm-up.",
        "Look at temperature, disk, and swap.",
    ),
    Rule(
        "G10",
        Category.GPU,
        (Stage.MONITOR,),
        (Severity.ERROR,),
        "device_fault",
        "The device reported a fault.",
        "Stop, and move to another host.",
    ),
)
