"""What was trained and how it went, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from gradience_analysis.model import Field, Fields, Run, plural
from gradience_analysis.reports.format import clipped, count, duration, number
from gradience_schema import ConfigSnapshot, LoraSnapshot, TrainingSnapshot

NOT_RECORDED = "not recorded"
_SHOWN_MODULES = 8


def header(run: Run) -> Fields:
    """Model, adapter, training settings and status of a run."""
    config = run.config
    fields = [Field("Run", f"{clipped(run.run_id)} · {run.path}")]
    if config is None:
        fields.append(Field("Config", "not recorded: there is no run_start"))
    else:
        fields += [
            Field("Model", _model(config)),
            Field("LoRA", _lora(config.lora)),
            Field("Training", _training(config)),
        ]
    return Fields((*fields, Field("Status", _status(run))))


def _model(config: ConfigSnapshot) -> str:
    dataset = f"dataset {clipped(config.dataset_name)}" if config.dataset_name else f"dataset {NOT_RECORDED}"
    profile = str(config.task_profile).replace("_", " ")
    return f"{clipped(config.model_name or NOT_RECORDED)} · {dataset} · profile {profile}"


def _lora(lora: LoraSnapshot) -> str:
    parts: list[str] = []
    if lora.r is not None:
        parts.append(f"r {lora.r}{' (varies by pattern)' if lora.rank_pattern else ''}")
    if lora.alpha is not None:
        scaling = lora.scaling if lora.scaling is not None else None if lora.use_rslora else lora.alpha_over_r
        parts.append(f"alpha {number(lora.alpha)}" + ("" if scaling is None else f" (scaling {number(scaling)})"))
    if lora.dropout:
        parts.append(f"dropout {number(lora.dropout)}")
    parts += [name for name, on in (("rsLoRA", lora.use_rslora), ("DoRA", lora.use_dora)) if on]
    if lora.peft_type and lora.peft_type.upper() != "LORA":
        parts.append(f"type {clipped(lora.peft_type)}")
    if lora.target_modules:
        shown = ", ".join(clipped(name) for name in sorted(lora.target_modules)[:_SHOWN_MODULES])
        more = len(lora.target_modules) - _SHOWN_MODULES
        parts.append(f"on {shown}" + (f" and {more} more" if more > 0 else ""))
    if lora.trainable_params is not None:
        parts.append(_trainable(lora.trainable_params, lora.total_params))
    return " · ".join(parts) or NOT_RECORDED


def _trainable(trainable: int, total: int | None) -> str:
    if not total or total < 0:
        return f"{count(trainable)} trainable"
    return f"{count(trainable)} of {count(total)} trainable ({100 * trainable / total:.2g}%)"


def _training(config: ConfigSnapshot) -> str:
    training, optimizer = config.training, config.optimizer
    # The early emitter wrote the repr of an enum member: OptimizerNames.ADAMW_TORCH.
    name = (optimizer.name or "").rpartition("OptimizerNames.")[2]
    name = name.lower() if name != optimizer.name else name
    parts = [
        clipped(name) if name else "optimizer not recorded",
        f"lr {number(optimizer.lr)}" if optimizer.lr is not None else "",
        clipped(training.lr_scheduler or ""),
        f"weight decay {number(optimizer.weight_decay)}" if optimizer.weight_decay else "",
        batch_words(training),
        length_words(training),
        clipped(training.dtype or ""),
        f"seed {training.seed}" if training.seed is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def batch_words(training: TrainingSnapshot) -> str:
    """`batch 4 x 2 accumulation`; empty when no batch size is known."""
    if training.batch_size is None:
        return ""
    factors = ((training.gradient_accumulation, "accumulation"), (training.world_size, "ranks"))
    return f"batch {training.batch_size}" + "".join(f" x {n} {word}" for n, word in factors if n not in {None, 1})


def length_words(training: TrainingSnapshot) -> str:
    """`500 steps` or `3 epochs`, whichever decides; empty when neither is known."""
    if training.max_steps is not None and training.max_steps > 0:
        return plural(training.max_steps, "step")
    if training.epochs is None:
        return ""
    return f"{number(training.epochs)} epoch" + ("" if training.epochs == 1 else "s")


def _status(run: Run) -> str:
    last = run.last_step
    parts = [run.status_text + (f" ({clipped(run.reason)})" if run.reason else "")]
    if last is not None:
        planned = run.config.training.max_steps if run.config else None
        parts.append(f"step {last:,}" + (f" of {planned:,}" if planned and planned > 0 else ""))
    spent = "no times recorded" if run.duration_s is None else duration(run.duration_s)
    parts += [spent, _segments(run)]
    if run.other_ranks:
        parts.append(plural(len({segment.rank for segment in run.other_ranks}), "other rank"))
    return " · ".join(parts)


def _segments(run: Run) -> str:
    resumed = [str(segment.resume_step) for segment in run.segments if segment.resume_step is not None]
    where = f" (resumed at step {', '.join(resumed)})" if resumed else ""
    return plural(len(run.segments), "segment") + where


def configuration(config: ConfigSnapshot) -> Fields:
    """Every setting that was recorded, by its name in `run_start.config`."""
    return Fields(tuple(Field(name, value) for name, value in _settings("", config.to_dict())))


def _settings(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(f"{prefix}{name}.", cast("Mapping[str, Any]", value))
        elif value is not None and value != []:
            yield f"{prefix}{name}", clipped(_setting(value))


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_setting(item) for item in cast("list[object]", value))
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
