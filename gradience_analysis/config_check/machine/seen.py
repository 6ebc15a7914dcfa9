"""Words that the checks of the machine share."""

from __future__ import annotations

from gradience_analysis.config_check.machine.facts import DeviceFacts, FolderFacts
from gradience_analysis.config_check.subject import Preflight

NOT_LOOKED = "The machine was not looked at (--env)."
NO_FOLDER = "No folder to write to was named."


def devices_of(subject: Preflight) -> tuple[DeviceFacts, ...] | str:
    """The devices that the run would use, one a rank; or why there are none."""
    machine = subject.machine
    if machine is None or not machine.looked:
        return NOT_LOOKED
    if not machine.devices:
        return machine.devices_reason
    ranks = subject.config.training.world_size
    return machine.devices[: max(ranks or 1, 1)]


def folder_of(subject: Preflight) -> FolderFacts | str:
    """The folder to write to; or why there is none."""
    machine = subject.machine
    if machine is None or not machine.looked:
        return NOT_LOOKED
    return NO_FOLDER if machine.folder is None else machine.folder


def wants_bf16(subject: Preflight) -> bool:
    """Whether the configuration asks for bfloat16."""
    dtype = (subject.config.training.dtype or "").removeprefix("torch.")
    return subject.flag("training.bf16") is True or dtype in {"bf16", "bfloat16"}


def gib(size: float) -> str:
    """A size in words, in units of 2**30 bytes, as device memory is counted."""
    number = size / (1 << 30)
    if number < 0.1:
        return f"{size / (1 << 20):.1f} MiB"
    return f"{number:.2f} GiB" if number < 1 else f"{number:.1f} GiB" if number < 100 else f"{number:,.0f} GiB"
