"""Several sources to one configuration: the first that sets a thing holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradience_analysis.config_check.keys import ALIASES
from gradience_analysis.config_check.reading.settings import Reading
from gradience_analysis.config_check.subject import Preflight, Setting, UnknownKey
from gradience_schema import ConfigSnapshot

_DTYPES: Mapping[str, str] = {"training.bf16": "bfloat16", "training.fp16": "float16"}
_BETAS = ("optimizer.beta1", "optimizer.beta2")


def combine(readings: Sequence[Reading]) -> Preflight:
    """The settings that hold, the ones they have replaced, and the configuration they make.

    A null is a gap: a later source fills it.

    Args:
        readings: What each source says, the one that overrides the others first.
    """
    settings: dict[str, Setting] = {}
    shadowed: list[Setting] = []
    unknown: list[UnknownKey] = []
    for reading in readings:
        unknown += reading.unknown
        shadowed += reading.shadowed
        for key, setting in reading.settings.items():
            held = settings.get(key)
            if held is None or (held.value is None and setting.value is not None):
                settings[key] = setting
            elif setting.value is not None and setting.value != held.value:
                shadowed.append(setting)
    sources = tuple(reading.source for reading in readings if reading.source)
    return Preflight(settings, snapshot(settings.values()), tuple(shadowed), tuple(unknown), sources)


def snapshot(settings: Iterable[Setting]) -> ConfigSnapshot:
    """The configuration as `run_start` would record it; what fits no place of the contract is in `extras`."""
    values = {one.key: one.value for one in settings if one.value is not None and one.key in ALIASES}
    _derive(values)
    nested: dict[str, Any] = {"optimizer": {}, "lora": {}, "training": {}}
    for key, value in values.items():
        room, _, name = key.rpartition(".")
        (nested[room] if room else nested)[name] = value
    return ConfigSnapshot.from_dict(nested)


def _derive(values: dict[str, Any]) -> None:
    """Put what is written in another way into the contract's places."""
    for key, dtype in _DTYPES.items():
        if values.get(key) is True:
            values.setdefault("training.dtype", dtype)
    if all(isinstance(values.get(key), float) for key in _BETAS):
        values.setdefault("optimizer.betas", [values.pop(key) for key in _BETAS])
    if not values.get("training.warmup_steps") and values.get("training.warmup_ratio"):
        values["training.warmup_steps"] = values.pop("training.warmup_ratio")
    if values.get("training.max_steps") == -1:
        del values["training.max_steps"]  # the trainer's way to say that the epochs decide
    targets = values.get("lora.target_modules")
    if isinstance(targets, str):
        values["lora.target_modules"] = [targets]
    r, alpha = values.get("lora.r"), values.get("lora.alpha")
    if type(r) is int and r > 0 and isinstance(alpha, int | float) and not isinstance(alpha, bool):
        values.setdefault("lora.alpha_over_r", alpha / r)
