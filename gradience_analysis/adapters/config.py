"""adapter_config.json, read as data: sizes and types checked, nothing in it opened or run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from gradience_analysis.adapters.opening import read_bounded
from gradience_analysis.adapters.patterns import Patterns, compile_patterns
from gradience_analysis.adapters.strict_json import StrictJsonError, parse_object
from gradience_analysis.errors import InputError

CONFIG_NAME = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
_KINDS: Mapping[type, str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_REMEDY = "Take the adapter_config.json that was saved with the weights."


class AdapterConfigError(InputError):
    """An adapter_config.json that cannot be read.

    Attributes:
        code: `duplicate_key`, `invalid_utf8`, `invalid_json`, `too_deep` or `not_an_object`.
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

    @cached_property
    def _ranks(self) -> Patterns:
        return compile_patterns(self.rank_pattern)

    @cached_property
    def _alphas(self) -> Patterns:
        return compile_patterns(self.alpha_pattern)


def read_adapter_config(path: Path) -> AdapterConfig:
    """The configuration in a file; a field of the wrong type is left out and named in `wrong_types`.

    Raises:
        AdapterConfigError: The file holds no strict JSON object.
        InputError: It cannot be opened, is no regular file, or is larger than 1 MiB.
    """
    data = read_bounded(path, MAX_CONFIG_BYTES)
    try:
        return adapter_config(parse_object(data), str(path))
    except StrictJsonError as error:
        raise AdapterConfigError(str(path), error.code, error.message) from error


def adapter_config(raw: Mapping[str, Any], path: str = "") -> AdapterConfig:
    """The configuration in a JSON object; never raises on a wrong type."""
    taken = _Fields(raw)
    peft_type = (taken.text("peft_type") or "").upper()
    ranks: Mapping[str, Any] = {} if peft_type == "ADALORA" else taken.mapping("rank_pattern")
    return AdapterConfig(
        path=path,
        peft_type=peft_type or None,
        base_model=taken.text("base_model_name_or_path"),
        revision=taken.text("revision"),
        r=taken.rank(raw.get("r"), "r"),
        lora_alpha=taken.number(raw.get("lora_alpha"), "lora_alpha"),
        rank_pattern={key: rank for key, value in ranks.items() if (rank := taken.rank(value, "rank_pattern"))},
        alpha_pattern={
            key: number
            for key, value in taken.mapping("alpha_pattern").items()
            if (number := taken.number(value, "alpha_pattern")) is not None
        },
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
            return float(value)
        except OverflowError:
            self._note(key, value, "number beyond a double")
            return None

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
        self.wrong[key] = kind or _KINDS.get(type(value), "null")
