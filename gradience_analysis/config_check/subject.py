"""What the pre-flight looks at: the settings with where each came from, and the facts that were gathered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from gradience_schema import ConfigSnapshot

if TYPE_CHECKING:
    from gradience_analysis.config_check.base_model.facts import CheckpointFacts, ModelFacts
    from gradience_analysis.config_check.data.facts import DataFacts
    from gradience_analysis.config_check.machine.facts import MachineFacts
    from gradience_analysis.diagnostics.base import Examination


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, with what was written and where.

    Attributes:
        key: Its canonical name, such as `lora.r` or `training.batch_size` (`keys.py` has them all).
        value: What it is understood as: a number for the text `3e-4`; otherwise the same as `raw`.
        raw: The value as it was written.
        name: The name it was written under, such as `lora_r` or `per_device_train_batch_size`.
        source: The file or flag that it came from.
        remark: How it was understood, where that is not as it was written; empty otherwise.
    """

    key: str
    value: Any
    raw: Any
    name: str
    source: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """A key of a file that means nothing here.

    Attributes:
        name: The key, with the sections it stands in, such as `lora.rnak`.
        source: The file.
        meant: The known key of that kind of file within two edits; empty when there is none.
    """

    name: str
    source: str
    meant: str = ""


@dataclass(frozen=True, slots=True)
class Preflight:
    """Everything that the checks may look at; they do no I/O.

    Attributes:
        settings: The settings that hold, by canonical key.
        config: The same as a run would record it; a value of the wrong type is in `extras`, never guessed at.
        shadowed: Settings that another source has replaced with a different value.
        unknown: Keys of the files that mean nothing here.
        sources: The files and flags that were read, in order of precedence.
        data: What the training and evaluation data show; None when they were not asked for.
        base_model: What the base model's files show; None when they were not asked for.
        machine: What the machine shows; None when it was not asked for.
        checkpoint: What the checkpoint to resume from holds; None when none was given.
    """

    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    config: ConfigSnapshot = field(default_factory=ConfigSnapshot)
    shadowed: tuple[Setting, ...] = ()
    unknown: tuple[UnknownKey, ...] = ()
    sources: tuple[str, ...] = ()
    data: DataFacts | None = None
    base_model: ModelFacts | None = None
    machine: MachineFacts | None = None
    checkpoint: CheckpointFacts | None = None

    def value(self, key: str) -> Any:
        """The value of a setting; None when it is not set or is null."""
        setting = self.settings.get(key)
        return None if setting is None else setting.value

    def number(self, key: str) -> float | int | None:
        """The value of a setting when it is a finite number (a bool is none), else None."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if isinstance(value, int) or math.isfinite(value) else None

    def flag(self, key: str) -> bool | None:
        """The value of a setting when it is true or false, else None."""
        value = self.value(key)
        return value if isinstance(value, bool) else None

    def text(self, key: str) -> str | None:
        """The value of a setting when it is a text, else None."""
        value = self.value(key)
        return value if isinstance(value, str) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts of a setting that is a list of them, or the one text that it is; empty otherwise."""
        value = self.value(key)
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list | tuple):
            return tuple(item for item in cast("list[object]", value) if isinstance(item, str))
        return ()


if TYPE_CHECKING:
    Check: TypeAlias = Examination[Preflight]
    """A check of the pre-flight: a module with CODES, COVERS, measure(subject) and judge(measurements, policy)."""
