"""The options of the Hugging Face callback, in the two spellings that users know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gradience_emit.guard.options import GuardOptions
from gradience_emit.spelling import GUARD_OPTIONS, check_shared, guard_options, spelled_out
from gradience_schema import TaskProfile

__all__ = ["GradienceCallbackConfig", "build_config"]


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
        enable_guard: experimental: keep snapshots of the training's state, drop updates that would damage it and
            restore what is damaged. Steps below are optimizer steps. Set it alike on all ranks.
        guard_mode: ``"act"``, or ``"observe"`` to record what the guard would do and change nothing.
        guard_snapshot_every: steps from one snapshot to the next.
        guard_ring_size: snapshots kept, each with the trainable weights and the optimizer's state, on the CPU.
        guard_grad_threshold: gradient norm that counts as an explosion until ``guard_spike_min_history`` norms are
            known.
        guard_spike_deviations: robust standard deviations of the log norm above its median that are a spike.
        guard_spike_ratio: and how many times the median at least; as many times the largest known norm are a spike too.
        guard_spike_window: norms that the median is of.
        guard_spike_min_history: norms needed before the spike rule replaces ``guard_grad_threshold``.
        guard_on_clipped_spike: what a finite spike leads to while gradients are clipped: ``"warn"`` or ``"skip"``.
        guard_max_skips: bad steps in a row after which the guard gives up.
        guard_max_rollbacks: rollbacks allowed within ``guard_window_steps``.
        guard_window_steps: rolling window.
        guard_cooldown_steps: steps after a rollback in which none follows.
        guard_steps_back: which snapshot is restored: 1 is the newest.
        guard_prune_newer_on_rollback: drop the snapshots after the restored one.
        guard_on_abort: ``"stop"`` training or ``"continue"`` when the guard gives up.
        guard_lr_backoff: factor on the learning rate after a rollback; None leaves it.
        guard_max_backoffs: how often at most.
        spectral_enabled: experimental: measure the adapter's singular values during training.
        spectral_interval: optimizer steps between these measurements.
        spectral_actions: let the guard act on the risk level: a snapshot at WARNING, a lower learning rate at DANGER,
            ``spectral_on_instability`` at INSTABILITY. The levels are not calibrated. Needs ``enable_guard``.
        spectral_on_instability: ``"rollback"`` or ``"halt"``.
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
    guard_mode: Literal["act", "observe"] = "act"
    guard_snapshot_every: int = 10
    guard_ring_size: int = 5
    guard_grad_threshold: float = 100.0
    guard_spike_deviations: float = 8.0
    guard_spike_ratio: float = 4.0
    guard_spike_window: int = 64
    guard_spike_min_history: int = 16
    guard_on_clipped_spike: Literal["warn", "skip"] = "warn"
    guard_max_skips: int = 20
    guard_max_rollbacks: int = 3
    guard_window_steps: int = 50
    guard_cooldown_steps: int = 10
    guard_steps_back: int = 1
    guard_prune_newer_on_rollback: bool = True
    guard_on_abort: Literal["stop", "continue"] = "stop"
    guard_lr_backoff: float | None = None
    guard_max_backoffs: int = 3
    spectral_enabled: bool = False
    spectral_interval: int = 50
    spectral_actions: bool = False
    spectral_on_instability: Literal["rollback", "halt"] = "rollback"
    telemetry_interval: int = 10
    train_eval_samples: int = 0
    train_eval_seed: int = 0
    rank_telemetry: bool = False
    allow_hostname: bool = False
    run_id: str | None = None

    def __post_init__(self) -> None:
        check_shared(self, folder="output_dir", counts={"telemetry_interval": 0, "train_eval_samples": 0})
        self.guard_options()

    def guard_options(self) -> GuardOptions:
        """The options of the guard under their own names."""
        return guard_options({name: getattr(self, name) for name in GUARD_OPTIONS})


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
    options = spelled_out("GradienceCallback", keywords, _OPTIONS)
    if isinstance(options.get("output_dir"), Path):
        options["output_dir"] = str(options["output_dir"])
    return dataclasses.replace(config or GradienceCallbackConfig(), **options)
