"""The options of the Hugging Face callback, in the two spellings that users know."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gradience_schema import TaskProfile

__all__ = ["GradienceCallbackConfig", "GuardNotAvailableError", "build_config"]


class GuardNotAvailableError(NotImplementedError):
    """The guard or the spectral monitor was switched on; neither is part of this version.

    Attributes:
        option: the option that was set.
    """

    def __init__(self, option: str) -> None:
        self.option = option
        super().__init__(
            f"{option}=True: the guard and the spectral monitor are not part of this version of gradience. "
            f"Telemetry works without them: leave {option} out."
        )


@dataclass(frozen=True, slots=True)
class GradienceCallbackConfig:
    """Options of `GradienceCallback`; the defaults record a run completely.

    Attributes:
        output_dir: folder of the telemetry; the trainer's ``output_dir`` by default.
        filename: name of the file there. An existing one is never changed: a new segment starts beside it.
        dataset_name: label of the data set; by default what the training data itself says, when it does.
        task_profile: ``"easy_classification"``, ``"hard_reasoning"``, ``"generation"``, ``"unknown"`` (the default).
        notes: free text for ``run_start``.
        telemetry_allow_text: write strings longer than ``telemetry_max_str_len`` (secrets are replaced in any case).
        telemetry_max_str_len: longest string written as it is, in characters.
        enable_guard: not part of this version; True raises `GuardNotAvailableError`.
        guard_snapshot_every: option of the guard, as all ``guard_*`` without effect in this version.
        guard_ring_size: snapshots kept.
        guard_grad_threshold: gradient norm that counts as an explosion.
        guard_max_rollbacks: rollbacks allowed within ``guard_window_steps``.
        guard_window_steps: rolling window, in optimizer steps.
        guard_cooldown_steps: optimizer steps after a rollback in which none follows.
        guard_steps_back: snapshots to go back.
        guard_prune_newer_on_rollback: drop the snapshots after the restored one.
        guard_on_abort: ``"stop"`` training or ``"continue"`` when the guard gives up.
        guard_lr_backoff: factor on the learning rate after a rollback; None leaves it.
        spectral_enabled: not part of this version; True raises `GuardNotAvailableError`.
        spectral_interval: optimizer steps between spectral measurements.
        telemetry_interval: optimizer steps between throughput and memory records; 0 writes none.
        train_eval_samples: training examples evaluated at each evaluation, as split ``train``, by the trainer's own
            evaluation; 0 (the default) evaluates none. Each evaluation then costs a forward pass over that many
            examples more.
        train_eval_seed: decides which training examples; the same ones at every evaluation.
        rank_telemetry: every rank writes a file of its own, ``run.rank1.jsonl`` …; by default only rank 0 writes.
            Set it alike on all ranks: they agree on one run id with one small broadcast.
        allow_hostname: write the machine's name into ``meta.host`` instead of a hash of it.
        run_id: identifier of the run; by default a new one, or that of the run a checkpoint resumes.

    Raises:
        GuardNotAvailableError: the guard or the spectral monitor was switched on.
        ValueError: an option is out of range.
    """

    output_dir: str | None = None
    filename: str = "run.jsonl"
    dataset_name: str | None = None
    task_profile: TaskProfile | str | None = None
    notes: str | None = None
    telemetry_allow_text: bool = False
    telemetry_max_str_len: int = 256
    enable_guard: bool = False
    guard_snapshot_every: int = 10
    guard_ring_size: int = 5
    guard_grad_threshold: float = 100.0
    guard_max_rollbacks: int = 3
    guard_window_steps: int = 50
    guard_cooldown_steps: int = 10
    guard_steps_back: int = 1
    guard_prune_newer_on_rollback: bool = True
    guard_on_abort: Literal["stop", "continue"] = "stop"
    guard_lr_backoff: float | None = None
    spectral_enabled: bool = False
    spectral_interval: int = 50
    telemetry_interval: int = 10
    train_eval_samples: int = 0
    train_eval_seed: int = 0
    rank_telemetry: bool = False
    allow_hostname: bool = False
    run_id: str | None = None

    def __post_init__(self) -> None:
        for option in ("enable_guard", "spectral_enabled"):
            if getattr(self, option):
                raise GuardNotAvailableError(option)
        if not self.filename or Path(self.filename).name != self.filename:
            raise ValueError(f"filename must be a plain file name, not {self.filename!r}; folders go into output_dir")
        for option in ("telemetry_interval", "train_eval_samples"):
            value = getattr(self, option)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{option} must be an integer >= 0, not {value!r}")
        if self.task_profile is not None and self.task_profile not in set(TaskProfile):
            raise ValueError(f"task_profile must be one of {', '.join(TaskProfile)}, not {self.task_profile!r}")
        if self.run_id is not None and not self.run_id:
            raise ValueError("run_id must be a non-empty string or None")


_ALIASES: Final[Mapping[str, str]] = {
    "out_dir": "output_dir",
    "guard_enabled": "enable_guard",
    "guard_snapshot_interval": "guard_snapshot_every",
    "guard_violation_threshold": "guard_grad_threshold",
}
_OPTIONS: Final = frozenset(field.name for field in dataclasses.fields(GradienceCallbackConfig))


def build_config(config: GradienceCallbackConfig | None, keywords: Mapping[str, Any]) -> GradienceCallbackConfig:
    """``config`` (the defaults when None) with ``keywords`` over it.

    Raises:
        TypeError: an unknown keyword (the message names the nearest known one), an option given twice under its two
            names, or a ``config`` of another type.
    """
    if config is not None and not isinstance(config, GradienceCallbackConfig):  # pyright: ignore[reportUnnecessaryIsInstance] - callers are not type-checked
        raise TypeError(
            f"config must be a GradienceCallbackConfig, not {type(config).__name__}; options can also be keywords"
        )
    options: dict[str, Any] = {}
    for keyword, value in keywords.items():
        option = _ALIASES.get(keyword, keyword)
        if option not in _OPTIONS:
            raise TypeError(f"GradienceCallback has no option {keyword!r}{_suggestion(keyword)}")
        if option in options:
            raise TypeError(f"GradienceCallback got {option!r} twice: {keyword!r} is another name of it")
        options[option] = value
    if isinstance(options.get("output_dir"), Path):
        options["output_dir"] = str(options["output_dir"])
    return dataclasses.replace(config or GradienceCallbackConfig(), **options)


def _suggestion(keyword: str) -> str:
    near = difflib.get_close_matches(keyword, [*sorted(_OPTIONS), *_ALIASES], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
