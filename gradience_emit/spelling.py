"""Options given as keywords: their second spellings, and a message for one that does not exist or is out of range."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from gradience_emit.guard.options import GuardOptions
from gradience_schema import TaskProfile

__all__ = ["ALIASES", "GUARD_OPTIONS", "check_shared", "guard_options", "spelled_out"]

ALIASES: Final[Mapping[str, str]] = {
    "out_dir": "output_dir",
    "guard_enabled": "enable_guard",
    "guard_snapshot_interval": "guard_snapshot_every",
    "guard_violation_threshold": "guard_grad_threshold",
}
"""Second spelling → option."""
GUARD_OPTIONS: Final = tuple(f"guard_{field.name}" for field in dataclasses.fields(GuardOptions))
"""The options of the guard as users write them."""


def spelled_out(
    owner: str, keywords: Mapping[str, Any], known: Collection[str], aliases: Mapping[str, str] = ALIASES
) -> dict[str, Any]:
    """The keywords under the names of their options.

    Args:
        owner: whose options these are, for the messages.
        keywords: as the user gave them.
        known: names of the options.
        aliases: their second spellings.

    Raises:
        TypeError: an unknown keyword (the message names the nearest known one), or an option given under both names.
    """
    options: dict[str, Any] = {}
    for keyword, value in keywords.items():
        option = aliases.get(keyword, keyword)
        if option not in known:
            near = difflib.get_close_matches(keyword, [*sorted(known), *aliases], n=1)
            suggestion = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{owner} has no option {keyword!r}{suggestion}")
        if option in options:
            raise TypeError(f"{owner} got {option!r} twice: {keyword!r} is another name of it")
        options[option] = value
    return options


def check_shared(options: Any, *, folder: str, counts: Mapping[str, int]) -> None:
    """Check what the options of the callback and of the controller have in common.

    Args:
        options: with ``filename``, ``task_profile``, ``run_id``, ``enable_guard`` and the ``spectral_*`` options.
        folder: the option that a folder belongs into, for the message.
        counts: options that are integers, and the least each may be.

    Raises:
        ValueError: one is out of its range; the message names it.
    """
    if not options.filename or Path(options.filename).name != options.filename:
        raise ValueError(f"filename must be a plain file name, not {options.filename!r}; folders go into {folder}")
    for option, least in {**counts, "spectral_interval": 1}.items():
        value = getattr(options, option)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{option} must be an integer >= {least}, not {value!r}")
    if options.task_profile is not None and options.task_profile not in set(TaskProfile):
        raise ValueError(f"task_profile must be one of {', '.join(TaskProfile)}, not {options.task_profile!r}")
    if options.run_id is not None and not options.run_id:
        raise ValueError("run_id must be a non-empty string or None")
    if options.spectral_on_instability not in {"rollback", "halt"}:
        raise ValueError(
            f"spectral_on_instability must be 'rollback' or 'halt', not {options.spectral_on_instability!r}"
        )
    if options.spectral_actions and not (options.spectral_enabled and options.enable_guard):
        raise ValueError("spectral_actions needs spectral_enabled and enable_guard: it is the guard that acts")


def guard_options(values: Mapping[str, Any]) -> GuardOptions:
    """The guard's own options from those of `GUARD_OPTIONS` that are among ``values``.

    Raises:
        ValueError: one is out of its range; the message names it as users write it.
    """
    own = {name.removeprefix("guard_"): values[name] for name in GUARD_OPTIONS if name in values}
    try:
        return GuardOptions(**own)
    except ValueError as error:
        raise ValueError(f"guard_{error}") from None
