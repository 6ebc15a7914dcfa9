"""The options of the controller, in the two spellings that users know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from gradience_emit.guard.options import GuardOptions
from gradience_emit.spelling import ALIASES, GUARD_OPTIONS, check_shared, guard_options, spelled_out
from gradience_schema import TaskProfile

__all__ = ["ControllerOptions", "read_options"]


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """Options of `GradienceController`. The guard's own are written ``guard_<name>``, as for the callback.

    Attributes:
        output_dir: folder of ``run.jsonl`` and ``summary.json``.
        filename: name of the telemetry there. An existing file is never changed: a new segment starts beside it.
        dataset_name: label of the data set.
        task_profile: ``"easy_classification"``, ``"hard_reasoning"``, ``"generation"``, ``"unknown"`` (the default).
        notes: free text for ``run_start``.
        telemetry_allow_text: write strings longer than ``telemetry_max_str_len`` (secrets are replaced in any case).
        telemetry_max_str_len: longest string written as it is, in characters.
        run_id: identifier of the run; by default a new one.
        log_every: optimizer steps between ``train_step`` records; 0 writes none. Also spelled ``telemetry_interval``.
        initial_step: optimizer steps done before, of a run that goes on from a checkpoint.
        enable_guard: whether the guard is on; without it there is telemetry only.
        guard: what the guard may do.
        spectral_enabled: experimental: measure the adapter's singular values during training.
        spectral_interval: optimizer steps between these measurements.
        spectral_actions: let the guard act on the risk level. The levels are not calibrated. Needs both above.
        spectral_on_instability: ``"rollback"`` or ``"halt"``.

    Raises:
        ValueError: an option is out of range.
    """

    output_dir: Path
    filename: str = "run.jsonl"
    dataset_name: str | None = None
    task_profile: TaskProfile | str | None = None
    notes: str | None = None
    telemetry_allow_text: bool = False
    telemetry_max_str_len: int = 256
    run_id: str | None = None
    log_every: int = 10
    initial_step: int = 0
    enable_guard: bool = True
    guard: GuardOptions = field(default_factory=GuardOptions)
    spectral_enabled: bool = False
    spectral_interval: int = 50
    spectral_actions: bool = False
    spectral_on_instability: Literal["rollback", "halt"] = "rollback"

    def __post_init__(self) -> None:
        check_shared(self, folder="out_dir", counts={"log_every": 0, "initial_step": 0})


_OWN: Final = frozenset(f.name for f in dataclasses.fields(ControllerOptions)) - {"guard"}
_ALIASES: Final[Mapping[str, str]] = {**ALIASES, "telemetry_interval": "log_every"}


def read_options(keywords: Mapping[str, Any]) -> ControllerOptions:
    """The options from keywords; one without a value, None, is left at its default.

    Raises:
        TypeError: an unknown keyword (the message names the nearest known one), an option given under both its names,
            or no ``out_dir``.
        ValueError: an option is out of its range.
    """
    options = spelled_out("GradienceController", keywords, {*_OWN, *GUARD_OPTIONS}, _ALIASES)
    if options.get("output_dir") is None:
        raise TypeError("GradienceController needs out_dir, the folder that it writes to")
    own = {name: value for name, value in options.items() if name in _OWN and value is not None}
    own["output_dir"] = Path(own["output_dir"])
    return ControllerOptions(**own, guard=guard_options(options))
