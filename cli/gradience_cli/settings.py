"""Options with a name: flag, then environment, then the project's file, then the default; each knows its source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from gradience_analysis.errors import GradienceError

if TYPE_CHECKING:
    from gradience_analysis.policy import Policy

OWN_FILE: Final = "gradience.toml"
PROJECT_FILE: Final = "pyproject.toml"
PREFIX: Final = "GRADIENCE_"
_THRESHOLDS: Final = "thresholds"
_MAX_BYTES: Final = 1 << 20
FAIL_LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    "error": ("error", "critical"),
    "warning": ("warning", "error", "critical"),
}
"""What `--fail-on` may be, and the severities of the findings that it fails on."""


class SettingsError(GradienceError):
    """A file or a variable of the environment that sets an option wrongly."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of an option, and where it comes from, in words."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set besides the flags of a command.

    Attributes:
        options: By name; only those that are set.
        thresholds: By the name of the threshold; only those that are set.
    """

    options: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    thresholds: Mapping[str, Setting] = field(default_factory=dict[str, Setting])

    def value(self, name: str, flag: Any = None) -> Any:
        """The value of an option: that of the flag, else what is set, else None."""
        if flag is not None:
            return flag
        setting = self.options.get(name)
        return None if setting is None else setting.value

    def fail_on(self, flag: str | None = None) -> str | None:
        """The severity of findings to fail on.

        Raises:
            GradienceError: The flag names another one.
        """
        level: str | None = self.value("fail_on", flag)
        if level is not None and level not in FAIL_LEVELS:
            raise GradienceError(f"--fail-on takes {' or '.join(FAIL_LEVELS)}, not {level!r}.")
        return level

    def policy(self, file: Path | None = None, gap_threshold: float | None = None) -> Policy:
        """The thresholds to judge by: the policy file, then single thresholds, then the gap's own option.

        Args:
            file: Value of `--policy`.
            gap_threshold: Value of `--gap-threshold`.

        Raises:
            GradienceError: A threshold is unknown, or has no sense.
        """
        from gradience_analysis.policy import load_policy

        policy = load_policy(self.value("policy", file))
        for name, setting in self.thresholds.items():
            policy = policy.with_limits({name: setting.value}, setting.source)
        gap = self.value("gap_threshold", gap_threshold)
        return policy if gap is None else policy.with_gap_threshold(gap)


def load_settings(folder: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """What the environment and the nearest project file set.

    The project file is the first `gradience.toml`, or `pyproject.toml` with a table `[tool.gradience]`, in the folder
    or one above it. A relative path in it is relative to the file.

    Args:
        folder: Where to begin; None for the current folder.
        environ: The environment; None for that of this process.

    Raises:
        SettingsError: An option is unknown, or has a value of the wrong kind; or the file cannot be read.
    """
    here = Path.cwd() if folder is None else folder
    options: dict[str, Setting] = {}
    thresholds: dict[str, Setting] = {}
    found = _project_file(here)
    if found is not None:
        path, table = found
        for name, value in _thresholds(path, table.pop(_THRESHOLDS, {})).items():
            thresholds[name] = Setting(value, str(path))
        for name, value in table.items():
            options[name] = Setting(_checked(name, value, str(path), path.parent), str(path))
    for name in OPTIONS:
        variable = PREFIX + name.upper()
        text = (os.environ if environ is None else environ).get(variable)
        if text:
            options[name] = Setting(_checked(name, text, f"the variable {variable}", here), f"environment {variable}")
    return Settings(options, thresholds)


def _project_file(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest file that sets something, and what it sets."""
    for place in (folder, *folder.parents):
        own = place / OWN_FILE
        if own.is_file():
            return own, _read(own)
        project = place / PROJECT_FILE
        if project.is_file():
            table = _read(project).get("tool", {}).get("gradience")
            if isinstance(table, dict):
                return project, cast("dict[str, Any]", table)
    return None


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SettingsError(f"{path}: is larger than {_MAX_BYTES:,} bytes.", "Is it the right file?")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}.", "Check its permissions.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        remedy = "Mend it, or run the command elsewhere."
        raise SettingsError(f"{path}: cannot be read as TOML: {error}.", remedy) from error


def _thresholds(path: Path, table: object) -> dict[str, float]:
    """Thresholds by their full names: `"loss_spike.deviations" = 9`, or a table for each diagnostic."""
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: [{_THRESHOLDS}] is no table.", "Write [tool.gradience.thresholds].")
    found: dict[str, float] = {}
    for name, value in cast("dict[str, object]", table).items():
        entries = cast("dict[str, object]", value) if isinstance(value, dict) else {"": value}
        for last, limit in entries.items():
            full = f"{name}.{last}" if last else name
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise SettingsError(f"{path}: the threshold {full[:80]} is {limit!r}, not a number.")
            found[full] = float(limit)
    return found


def _checked(name: str, value: object, place: str, folder: Path) -> Any:
    if name not in OPTIONS:
        from gradience_analysis.model.near import did_you_mean

        known = (*OPTIONS, _THRESHOLDS)
        hint = did_you_mean(name, known) or f"Known: {', '.join(known)}."
        raise SettingsError(f"{place}: there is no option {name[:80]!r}.", hint)
    try:
        return OPTIONS[name].read(value, folder)
    except ValueError as error:
        raise SettingsError(f"{place}: {name} must be {error}, not {value!r}.") from None


def _path(value: object, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("the path of a file")
    return folder / Path(value).expanduser()


def _number(value: object, folder: Path) -> float:
    del folder
    if not isinstance(value, bool) and isinstance(value, str | int | float):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    raise ValueError("a number")


def _severity(value: object, folder: Path) -> str:
    del folder
    if value not in FAIL_LEVELS:
        raise ValueError(" or ".join(FAIL_LEVELS))
    return str(value)


@dataclass(frozen=True, slots=True)
class Option:
    """An option that can be set outside the command line.

    Attributes:
        read: Its value from a file or the environment; raises ValueError with what it must be.
        default: What holds when nothing sets it, in words.
        meaning: What it decides.
    """

    read: Callable[[object, Path], Any]
    default: str
    meaning: str


OPTIONS: Final[Mapping[str, Option]] = {
    "policy": Option(_path, "the shipped thresholds", "A policy file: thresholds to judge by."),
    "gap_threshold": Option(_number, "that of the policy", "Generalization gap above which there is a finding."),
    "fail_on": Option(_severity, "that of the command", "Severity of findings from which on the exit code is 1."),
}
"""Every option that can be set outside the command line, by its name there; the flag has dashes."""
