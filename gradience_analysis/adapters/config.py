"""adapter_config.json, read as data: sizes and types checked, nothing in it opened or run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from gradience_analysis.adapters.opening import read_bounded
from gradience_analysis.adapters.patterns import UNKNOWN, Patterns, compile_patterns
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object, shown
from gradience_analysis.errors import InputError
from gradience_analysis.sources.plain import TextFault
from gradience_analysis.sources.yaml_text import parse_yaml

CONFIG_NAME = "adapter_config.json"
CONFIG_NAMES = (CONFIG_NAME, "adapter_config.yaml", "adapter_config.yml")
"""Names under which a folder may hold a config; the first that is there holds."""
MAX_CONFIG_BYTES = 1 << 20
_YAML_SUFFIXES = frozenset({".yaml", ".yml"})
# Variants of LoRA whose update is not lora_B @ lora_A, by the field of the config that asks for them.
_VARIANTS: Mapping[str, str] = {"kasa_config": "KaSA", "use_bdlora": "BD-LoRA", "use_qalora": "QALoRA"}
# The first that fits: a boolean is an integer to Python.
_KINDS: Mapping[type, str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_REMEDY = "Take the adapter_config.json that was saved with the weights."
N = TypeVar("N", int, float)


class AdapterConfigError(InputError):
    """An adapter_config.json, or the same as YAML, that cannot be read.

    Attributes:
        code: `duplicate_key`, `invalid_utf8`, `invalid_json`, `invalid_yaml`, `too_deep` or `not_an_object`.
    """

    def __init__(self, path: str, code: str, message: str) -> None:
        super().__init__(path, f"{message}.", _REMEDY)
        self.code = code


@dataclass(frozen=True)
class AdapterConfig:
    """The configuration of an adapter. None means that it is absent or null, or that it has the wrong type.

    Attributes:
        path: The file it was read from.
        peft_type: Kind of adapter, such as `LORA`, in capitals.
        base_model: `base_model_name_or_path`: a label, never opened.
        revision: Revision of the base model.
        r: Rank, before any pattern.
        init_r: Rank that AdaLoRA started from, and by which it divides.
        lora_alpha: Alpha, before any pattern.
        rank_pattern: Pattern → rank. For AdaLoRA, which keeps a mask there, it is empty.
        alpha_pattern: Pattern → alpha.
        use_rslora: Scaling is alpha / sqrt(r) in place of alpha / r.
        use_dora: The adapter has magnitude vectors.
        fan_in_fan_out: The base stores its weights as (in, out).
        target_modules: Names of target modules; of one string, that string.
        target_parameters: Names of parameters that are targeted themselves (mixtures of experts).
        init_lora_weights: How the factors were initialised; a name in lower case, or True / False.
        wrong_types: Field → the JSON type found there, where it is not the one that belongs there.
        raw: Everything as it was read.
    """

    path: str
    peft_type: str | None = None
    base_model: str | None = None
    revision: str | None = None
    r: int | None = None
    init_r: int | None = None
    lora_alpha: float | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict[str, int])
    alpha_pattern: Mapping[str, float] = field(default_factory=dict[str, float])
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    target_modules: tuple[str, ...] = ()
    target_parameters: tuple[str, ...] = ()
    init_lora_weights: bool | str | None = None
    wrong_types: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def rank_of(self, module: str) -> int | None:
        """The rank of a module: of the first pattern that matches its name, else `r`.

        None when neither says one, or when a pattern cannot be tried in bounded time.

        Args:
            module: Its name without `base_model.model.`.
        """
        clear, value = self._ranks.find(module)
        if not clear:
            return None
        return self.r if value is None else cast("int", value)

    def alpha_of(self, module: str) -> float | None:
        """The alpha of a module, looked up apart from its rank; None under the same conditions."""
        clear, value = self._alphas.find(module)
        if not clear:
            return None
        return self.lora_alpha if value is None else cast("float", value)

    def alpha_is_contested(self, module: str) -> bool:
        """Whether entries of `alpha_pattern` with different values match a module.

        PEFT takes the first, but sorts the entries when it saves them: what holds in the file need not be what the
        adapter was trained with. (Ranks that change places show in the shapes.)
        """
        return len(set(self._alphas.matching(module))) > 1

    @property
    def variant(self) -> str:
        """The variant of LoRA whose update is not lora_B @ lora_A, such as `KaSA`; empty for all others."""
        return next((name for field, name in _VARIANTS.items() if self.raw.get(field)), "")

    @property
    def oddities(self) -> tuple[str, ...]:
        """What is of the right type and still makes no sense, a sentence each; `wrong_types` holds the rest.

        An alpha of 0 switches the adapter off, and a negative one subtracts what was learned. AdaLoRA takes its rank
        in place of such an alpha.
        """
        named = {"lora_alpha": self.lora_alpha}
        named |= {f"alpha_pattern[{shown(key)}]": alpha for key, alpha in self.alpha_pattern.items()}
        found: list[str] = []
        for name, alpha in named.items():
            if alpha is None or alpha > 0:
                continue
            if self.peft_type == "ADALORA":
                what = "AdaLoRA takes the rank in its place"
            else:
                what = "delta_w is subtracted" if alpha < 0 else "delta_w is zero"
            found.append(f"{name} is {alpha:g}: {what}.")
        return tuple(found)

    @cached_property
    def _ranks(self) -> Patterns:
        return self._patterns("rank_pattern", self.rank_pattern)

    @cached_property
    def _alphas(self) -> Patterns:
        return self._patterns("alpha_pattern", self.alpha_pattern)

    def _patterns(self, key: str, taken: Mapping[str, Any]) -> Patterns:
        """The patterns in the order of the file; one whose value was left out must not pass on to those after it."""
        written = self.raw.get(key)
        if key not in self.wrong_types or not isinstance(written, dict):
            return compile_patterns(taken)
        return compile_patterns({one: taken.get(one, UNKNOWN) for one in cast("dict[str, Any]", written)})


def config_in(folder: Path) -> Path:
    """The config of a folder: the first of `CONFIG_NAMES` that is there; adapter_config.json when none is."""
    return next((folder / name for name in CONFIG_NAMES if (folder / name).is_file()), folder / CONFIG_NAME)


def read_adapter_config(path: Path) -> AdapterConfig:
    """The configuration in a file; a field of the wrong type is left out and named in `wrong_types`.

    Args:
        path: The file; `.yaml` and `.yml` are read as YAML without tags and aliases, anything else as JSON.

    Raises:
        AdapterConfigError: The file holds no strict JSON object, or no plain YAML mapping.
        InputError: It cannot be opened, is no regular file, or is larger than 1 MiB.
    """
    data = read_bounded(path, MAX_CONFIG_BYTES)
    if path.suffix.lower() in _YAML_SUFFIXES:
        return adapter_config(_yaml_object(data, str(path)), str(path))
    try:
        return adapter_config(parse_object(data), str(path))
    except StrictJsonError as error:
        raise AdapterConfigError(str(path), error.code, error.message) from error


def _yaml_object(data: bytes, path: str) -> dict[str, Any]:
    try:
        value = parse_yaml(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte 0x{data[error.start]:02X} at byte {error.start + 1}"
        raise AdapterConfigError(path, "invalid_utf8", message) from error
    except TextFault as fault:
        raise AdapterConfigError(path, "invalid_yaml", fault.message.rstrip(".")) from fault
    except ModuleNotFoundError:
        raise InputError(path, "is YAML, and PyYAML is not installed.", "Install gradience[analysis].") from None
    if not isinstance(value, dict):
        raise AdapterConfigError(path, "not_an_object", "is YAML, but not a mapping")
    return cast("dict[str, Any]", value)


def adapter_config(raw: Mapping[str, Any], path: str = "") -> AdapterConfig:
    """The configuration in a JSON object; never raises on a wrong type."""
    taken = _Fields(raw)
    peft_type = (taken.text("peft_type") or "").upper()
    # AdaLoRA keeps its mask in rank_pattern, and looks at no alpha_pattern.
    patterns = peft_type != "ADALORA"
    return AdapterConfig(
        path=path,
        peft_type=peft_type or None,
        base_model=taken.text("base_model_name_or_path"),
        revision=taken.text("revision"),
        r=taken.rank(raw.get("r"), "r"),
        init_r=taken.rank(raw.get("init_r"), "init_r"),
        lora_alpha=taken.number(raw.get("lora_alpha"), "lora_alpha"),
        rank_pattern=taken.entries("rank_pattern", taken.rank) if patterns else {},
        alpha_pattern=taken.entries("alpha_pattern", taken.number) if patterns else {},
        use_rslora=taken.flag("use_rslora"),
        use_dora=taken.flag("use_dora"),
        fan_in_fan_out=taken.flag("fan_in_fan_out"),
        target_modules=taken.names("target_modules"),
        target_parameters=taken.names("target_parameters"),
        init_lora_weights=taken.initialisation(),
        wrong_types=taken.wrong,
        raw=raw,
    )


class _Fields:
    """Takes the fields of an object; null is as good as absent, a value of the wrong type is noted and left out."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self.wrong: dict[str, str] = {}

    def text(self, key: str) -> str | None:
        value = self._raw.get(key)
        if value is None or isinstance(value, str):
            return value or None
        self._note(key, value)
        return None

    def flag(self, key: str) -> bool:
        value = self._raw.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._note(key, value)
        return False

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self._raw.get(key)
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        if value is not None:
            self._note(key, value)
        return {}

    def rank(self, value: object, key: str) -> int | None:
        if value is None:
            return None
        if type(value) is int and value > 0:
            return value
        self._note(key, value, "number not above 0" if type(value) is int else "")
        return None

    def number(self, value: object, key: str) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._note(key, value)
            return None
        try:
            number = float(value)
        except OverflowError:
            self._note(key, value, "number beyond a double")
            return None
        if math.isfinite(number):
            return number
        self._note(key, value, "number that is not finite")
        return None

    def entries(self, key: str, take: Callable[[object, str], N | None]) -> dict[str, N]:
        """The entries of a mapping whose values can be taken; the others are noted."""
        found: dict[str, N] = {}
        for name, value in self.mapping(key).items():
            taken = take(value, key)
            if taken is not None:
                found[name] = taken
            elif value is None:
                self._note(key, value)
        return found

    def names(self, key: str) -> tuple[str, ...]:
        value = self._raw.get(key)
        if value is None:
            return ()
        items: list[object] = [value] if isinstance(value, str) else cast("list[object]", value)
        if isinstance(items, list):  # pyright: ignore[reportUnnecessaryIsInstance] - it is whatever the file holds
            names = tuple(item for item in items if isinstance(item, str))
            if len(names) == len(items):
                return names
        self._note(key, value)
        return ()

    def initialisation(self) -> bool | str | None:
        value = self._raw.get("init_lora_weights")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return value.lower()
        self._note("init_lora_weights", value)
        return None

    def _note(self, key: str, value: object, kind: str = "") -> None:
        self.wrong[key] = kind or next((word for one, word in _KINDS.items() if isinstance(value, one)), "null")
