"""Policy files to typed policies."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from gradience_analysis.errors import InputError, PolicyError
from gradience_analysis.policy.model import Policy, Threshold, is_limit
from gradience_analysis.sources.opening import open_regular

DEFAULT_POLICY = Path(__file__).parent / "v1" / "default.toml"
_VERSION = 1
_MAX_BYTES = 1 << 20
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "value": (int, float),
    "unit": str,
    "meaning": str,
    "source": str,
    "calibrated": bool,
}


def load_policy(path: Path | None = None) -> Policy:
    """The default policy, with the limits that a policy file changes.

    A file of one's own names only what it changes, and only `value` of it, with or without the rest:

        version = 1
        [generalization_gap.ratio]
        value = 1.3

    Args:
        path: A policy file; None for the default policy alone.

    Raises:
        PolicyError: The file cannot be read, names a threshold that does not exist, or a value of the wrong type.
    """
    default = Policy(_VERSION, {name: _threshold(DEFAULT_POLICY, name, table) for name, table in _read(DEFAULT_POLICY)})
    if path is None:
        return default
    limits: dict[str, float] = {}
    for name, table in _read(path):
        value = table.get("value")
        if not is_limit(value):
            raise PolicyError(f"{path}: [{name}] value must be a finite number of at least 0, not {value!r}.")
        _refuse_unknown(path, name, table)
        limits[name] = cast("float", value)
    try:
        return default.with_limits(limits, f"policy file {path}")
    except PolicyError as error:
        raise PolicyError(f"{path}: {error.message}", error.remedy) from error


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each threshold of a file: its name and its table."""
    try:
        with open_regular(path) as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise PolicyError(f"{path}: the policy file is larger than {_MAX_BYTES:,} bytes.", "Check the path.")
        data = tomllib.loads(text.decode("utf-8"))
    except InputError as error:
        message = error.message.removeprefix(f"{path}: ")
        raise PolicyError(f"{path}: the policy file {message}", error.remedy) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"{path}: the policy file cannot be read as TOML: {error}.", "Write it in UTF-8.") from error
    version = data.pop("version", None)
    if version != _VERSION:
        raise PolicyError(f"{path}: version must be {_VERSION}, not {version!r}.", "Write `version = 1` at its top.")
    for diagnostic, tables in data.items():
        if not isinstance(tables, dict):
            raise PolicyError(f"{path}: {diagnostic!r} is no table.", "A threshold is a table: [diagnostic.threshold].")
        for name, table in cast("dict[str, object]", tables).items():
            if not isinstance(table, dict):
                hint = f"A threshold is a table of its own: [{diagnostic}.{name}]."
                raise PolicyError(f"{path}: {diagnostic}.{name} is no table.", hint)
            yield f"{diagnostic}.{name}", cast("dict[str, Any]", table)


def _threshold(path: Path, name: str, table: dict[str, Any]) -> Threshold:
    for key, kind in _TYPES.items():
        value = table.get(key)
        if not isinstance(value, kind) or (key == "value" and not is_limit(value)):
            raise PolicyError(f"{path}: [{name}] {key} is missing or has the wrong type ({value!r}).")
    _refuse_unknown(path, name, table)
    return Threshold(**table)


def _refuse_unknown(path: Path, name: str, table: dict[str, Any]) -> None:
    extra = sorted(table.keys() - _TYPES.keys())
    if extra:
        raise PolicyError(f"{path}: [{name}] has an unknown key {extra[0]!r}.", f"Known: {', '.join(_TYPES)}.")
