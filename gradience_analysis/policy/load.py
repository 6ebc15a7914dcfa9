"""Policy files to typed policies."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gradience_analysis.errors import PolicyError
from gradience_analysis.policy.model import Policy, Threshold

DEFAULT_POLICY = Path(__file__).parent / "v1" / "default.toml"
_THRESHOLDS = ("generalization_gap", "nonfinite_steps", "events_lost")
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "value": (int, float),
    "unit": str,
    "source": str,
    "calibrated": bool,
}


def load_policy(path: Path = DEFAULT_POLICY) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: The file cannot be read, a threshold is missing or unknown, or has a wrong type.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(f"The policy file {path} cannot be read: {error}.") from error
    unknown = sorted(data.keys() - {"version", *_THRESHOLDS})
    if unknown:
        raise PolicyError(f"{path}: unknown key {unknown[0]!r}.", f"Known: version, {', '.join(_THRESHOLDS)}.")
    if data.get("version") != 1:
        raise PolicyError(f"{path}: version must be 1, not {data.get('version')!r}.")
    return Policy(1, **{name: _threshold(path, name, data.get(name)) for name in _THRESHOLDS})


def _threshold(path: Path, name: str, table: object) -> Threshold:
    if not isinstance(table, dict):
        raise PolicyError(f"{path}: the table [{name}] is missing.")
    entries = cast("dict[str, Any]", table)
    for key, kind in _TYPES.items():
        value = entries.get(key)
        if not isinstance(value, kind) or (key == "value" and not _is_limit(value)):
            raise PolicyError(f"{path}: [{name}] {key} is missing or has the wrong type ({value!r}).")
    extra = sorted(entries.keys() - _TYPES.keys())
    if extra:
        raise PolicyError(f"{path}: [{name}] has an unknown key {extra[0]!r}.", f"Known: {', '.join(_TYPES)}.")
    return Threshold(**entries)


def _is_limit(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and value >= 0
