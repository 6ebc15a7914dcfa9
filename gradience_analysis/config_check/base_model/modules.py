"""Which modules of a model a LoRA configuration reaches, told from tensor names, by the rules of PEFT."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gradience_analysis.config_check.base_model.facts import ModelFacts
from gradience_analysis.config_check.subject import Preflight

ALL_LINEAR = "all-linear"
_WEIGHTS = (".weight", ".qweight")
_EMBEDDINGS = frozenset({"wte", "wpe", "shared", "relative_attention_bias"})
_HEADS = frozenset({"lm_head", "embed_out", "output_projection"})
_CLASSIFIERS = frozenset({"score", "classifier"})
_INPUTS = ("embed_tokens", "wte", "word_embeddings", "shared", "tok_embeddings", "embed_in")
_LAYER = re.compile(r".*?\.[^.]*\.(?P<index>\d+)\.")


@dataclass(frozen=True, slots=True)
class Targeting:
    """What a configuration says about the modules to adapt; None means that it says nothing.

    Attributes:
        targets: One regular expression, or names and suffixes.
        exclude: The same for modules to leave out.
        saved: Modules that are trained as a whole, which no adapter is put on.
        layers: Numbers of the layers to adapt.
        layers_pattern: Names of the list of layers.
    """

    targets: str | tuple[str, ...] | None = None
    exclude: str | tuple[str, ...] | None = None
    saved: tuple[str, ...] = ()
    layers: frozenset[int] | None = None
    layers_pattern: tuple[str, ...] = ()


def targeting(subject: Preflight) -> Targeting:
    """The targeting of a configuration; a value of the wrong type counts as not set."""
    layers = lora_setting(subject, "layers_to_transform")
    numbers = cast("list[Any]", layers) if isinstance(layers, list | tuple) else [layers]
    wanted = frozenset(item for item in numbers if isinstance(item, int) and not isinstance(item, bool))
    saved, pattern = (_names(lora_setting(subject, name)) for name in ("modules_to_save", "layers_pattern"))
    return Targeting(
        targets=_names(lora_setting(subject, "target_modules")) or subject.config.lora.target_modules or None,
        exclude=_names(lora_setting(subject, "exclude_modules")),
        saved=(saved,) if isinstance(saved, str) else saved or (),
        layers=wanted or None,
        layers_pattern=(pattern,) if isinstance(pattern, str) else pattern or (),
    )


def lora_setting(subject: Preflight, name: str) -> Any:
    """A setting of the adapter by PEFT's name for it, also where only the extras of the configuration have it."""
    value = subject.value(f"lora.{name}")
    return subject.config.lora.extras.get(name) if value is None else value


def _names(value: object) -> str | tuple[str, ...] | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(item for item in cast("Iterable[object]", value) if isinstance(item, str))
    return None


def modules(model: ModelFacts) -> dict[str, tuple[int, ...]]:
    """Modules that an adapter can be put on, each with the shape of its weight: those with a weight of 2 to 5 axes."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in model.shapes.items():
        suffix = next((end for end in _WEIGHTS if name.endswith(end)), "")
        if suffix and 2 <= len(shape) <= 5:
            found[name.removesuffix(suffix)] = shape
    embedding = input_embedding(model)
    speaks = any("LM" in name or "Generation" in name for name in model.architectures)
    if speaks and embedding and not any(name.rpartition(".")[2] in _HEADS for name in found):
        found["lm_head"] = embedding  # tied weights are saved once, under the name of the embedding
    return found


def input_embedding(model: ModelFacts) -> tuple[int, ...] | None:
    """The shape of the input embedding, rows first; None when no tensor is named like one."""
    for last in _INPUTS:
        for name, shape in model.shapes.items():
            module, _, kind = name.rpartition(".")
            if kind == "weight" and len(shape) == 2 and module.rpartition(".")[2] == last:
                return shape
    return None


def matched(model: ModelFacts, wanted: Targeting) -> list[str]:
    """Modules that the configuration reaches.

    The names in a file may lack the prefix that the loaded model has, or have one that it lacks; a module counts
    when it matches under any of these names, so that nothing is missed for a prefix.

    Raises:
        re.error: A pattern is no regular expression.
    """
    if wanted.targets is None:
        return []
    if isinstance(wanted.targets, str) and wanted.targets.lower() == ALL_LINEAR:
        linear = frozenset(name for name, shape in modules(model).items() if len(shape) == 2 and is_inner(name))
        return [name for name in linear if _reached(name, linear, wanted)]
    prefixes = tuple(dict.fromkeys(("model", "transformer", model.model_type or "model")))
    return [
        name for name in modules(model) if any(_reached(key, wanted.targets, wanted) for key in _called(name, prefixes))
    ]


def _called(name: str, prefixes: Sequence[str]) -> Iterable[str]:
    """The names that a module may have once it is loaded."""
    yield name
    head, _, rest = name.partition(".")
    if head in prefixes and rest:
        yield rest
    for prefix in prefixes:
        if head != prefix:
            yield f"{prefix}.{name}"


def _reached(key: str, targets: str | Iterable[str], wanted: Targeting) -> bool:
    if wanted.exclude and _fits(key, wanted.exclude):
        return False
    if any(re.match(rf"(^|.*\.){name}($|\..*)", key) for name in wanted.saved):
        return False
    if not _fits(key, targets):
        return False
    return isinstance(targets, str) or wanted.layers is None or _layer(key, wanted.layers_pattern) in wanted.layers


def _fits(key: str, names: str | Iterable[str]) -> bool:
    """PEFT's rule: one text is a regular expression for the whole name, a list holds names and their last parts."""
    if isinstance(names, str):
        return re.fullmatch(names, key) is not None
    if isinstance(names, frozenset):
        return key in names
    return any(key == name or key.endswith(f".{name}") for name in names)


def _layer(key: str, patterns: Sequence[str]) -> int | None:
    """The number of the layer that a module is in."""
    found = _LAYER.match(key) if not patterns else None
    for pattern in patterns:
        found = found or re.match(rf"(?:^|.*?\.){pattern}\.(?P<index>\d+)\.", key)
    return int(found["index"]) if found else None


def is_inner(name: str) -> bool:
    """Whether a module with a matrix is neither an embedding nor an output layer, as far as its name tells."""
    last = name.rpartition(".")[2]
    return not (is_embedding(name) or last in _HEADS or name in _CLASSIFIERS)


def is_embedding(name: str) -> bool:
    """Whether a module is an embedding, as far as its name tells."""
    last = name.rpartition(".")[2]
    return last in _EMBEDDINGS or ("embed" in last and last not in _HEADS and "proj" not in last)


def kinds(names: Iterable[str]) -> list[str]:
    """The last parts of module names that are no number, each once, in order of their first appearance."""
    return list(dict.fromkeys(last for name in names if not (last := name.rpartition(".")[2]).isdigit()))


def rank_of(name: str, rank: int, patterns: Mapping[str, int]) -> int:
    """The rank of a module: that of the first pattern that its name ends with, else the general one.

    Raises:
        re.error: A pattern is no regular expression.
    """
    return next((own for key, own in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), rank)
