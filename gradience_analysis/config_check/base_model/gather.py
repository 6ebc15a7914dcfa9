"""Reads the JSON files and safetensors headers of a base model or a checkpoint; imports and unpickles nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from gradience_analysis.config_check.base_model.documents import count_in, read_object, text_in
from gradience_analysis.config_check.base_model.facts import CheckpointFacts, ModelFacts
from gradience_analysis.config_check.base_model.tokenizer import gather_tokenizer
from gradience_analysis.config_check.base_model.weights import gather_weights
from gradience_analysis.errors import InputError

_STEP = re.compile(r"-(\d{1,15})\Z")
_MOST_FILES = 1000
# A state with a long history of logged metrics; the largest seen held 30 MB.
_STATE_BYTES = 256 << 20


def gather_model(path: Path) -> ModelFacts:
    """What a base model's folder says of itself; what cannot be read is said in the facts, never raised."""
    fault = _folder_fault(path)
    if fault:
        return ModelFacts(str(path), fault)
    try:
        config = read_object(path / "config.json")
    except InputError as error:
        return ModelFacts(str(path), str(error))
    weights = gather_weights(path)
    inner = _text_part(config)
    return ModelFacts(
        path=str(path),
        model_type=text_in(config, "model_type"),
        architectures=_texts(config.get("architectures")),
        max_position_embeddings=count_in(
            inner, "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx"
        ),
        hidden_size=count_in(inner, "hidden_size", "n_embd", "d_model", "dim"),
        layers=count_in(inner, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        heads=count_in(inner, "num_attention_heads", "n_head", "n_heads", "num_heads"),
        intermediate_size=count_in(inner, "intermediate_size", "n_inner", "ffn_dim", "hidden_dim", "d_ff"),
        vocab_size=count_in(inner, "vocab_size", "n_vocab", "padded_vocab_size"),
        tied=_flag(config.get("tie_word_embeddings")),
        quantized=isinstance(config.get("quantization_config"), dict),
        shapes=weights.shapes,
        weights_fault=weights.fault,
        weight_bytes=None if weights.fault else weights.size,
        tokenizer=gather_tokenizer(path),
    )


def gather_checkpoint(path: Path) -> CheckpointFacts:
    """Names and sizes in a checkpoint's folder, and the step that trainer_state.json holds."""
    fault = _folder_fault(path)
    if fault:
        return CheckpointFacts(str(path), fault)
    named = _STEP.search(path.absolute().name)
    step: int | None = None
    state_fault = ""
    try:
        state = read_object(path / "trainer_state.json", _STATE_BYTES).get("global_step")
        step = state if isinstance(state, int) and not isinstance(state, bool) else None
        state_fault = "" if step is not None else "trainer_state.json names no global_step."
    except InputError as error:
        state_fault = str(error)
    return CheckpointFacts(
        path=str(path),
        sizes=_sizes(path),
        sharded_state=any(path.glob("global_step*/")) or any(path.glob("optimizer_*/")),
        global_step=step,
        state_fault=state_fault,
        named_step=int(named[1]) if named else None,
    )


def _folder_fault(path: Path) -> str:
    try:
        if path.is_dir():
            return ""
        return "is not a folder." if path.exists() else "does not exist."
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}."


def _sizes(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    try:
        for entry in sorted(folder.iterdir())[:_MOST_FILES]:
            if entry.is_file():
                sizes[entry.name] = entry.stat().st_size
    except OSError:
        return sizes
    return sizes


def _text_part(config: dict[str, Any]) -> dict[str, Any]:
    """The part that describes the language model; a model of several kinds of input has one of its own for it."""
    for name in ("text_config", "llm_config", "language_config"):
        part = config.get(name)
        if isinstance(part, dict):
            return config | cast("dict[str, Any]", part)
    return config


def _texts(value: object) -> tuple[str, ...]:
    return (
        tuple(item for item in cast("list[object]", value) if isinstance(item, str)) if isinstance(value, list) else ()
    )


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
