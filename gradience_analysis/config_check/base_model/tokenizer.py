"""The tokenizer's files: how many tokens it has, which of them end and pad a text, whether it has a chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from gradience_analysis.adapters.opening import read_bounded
from gradience_analysis.config_check.base_model.documents import read_object_if_there, text_in
from gradience_analysis.config_check.base_model.facts import TokenizerFacts
from gradience_analysis.errors import InputError

# The largest in use hold 35 MB: a vocabulary of 260,000 tokens with its merges.
_TOKENIZER_BYTES = 128 << 20


class _Added(msgspec.Struct):
    id: int
    content: str


class _Backend(msgspec.Struct):
    """What is needed of a tokenizer.json; the merges, its largest part, are passed over."""

    model: msgspec.Raw = msgspec.Raw(b"{}")
    added_tokens: list[_Added] = []
    post_processor: msgspec.Raw = msgspec.Raw(b"null")


class _ByName(msgspec.Struct):
    vocab: dict[str, int]


class _ByPlace(msgspec.Struct):
    vocab: list[tuple[str, float]]


def gather_tokenizer(folder: Path) -> TokenizerFacts | None:
    """The tokenizer in a model's folder; None when none of its files can be read."""
    config = read_object_if_there(folder / "tokenizer_config.json")
    special = read_object_if_there(folder / "special_tokens_map.json")
    vocabulary, closing, path = _vocabulary(folder)
    if not (config or special or vocabulary):
        return None
    if vocabulary:
        vocabulary.update(_declared(config))
    eos, pad = _token(config, special, "eos_token"), _token(config, special, "pad_token")
    return TokenizerFacts(
        path=path,
        size=len(vocabulary) or None,
        eos=eos,
        eos_id=None if eos is None else vocabulary.get(eos),
        pad=pad,
        pad_id=None if pad is None else vocabulary.get(pad),
        chat_template=_has_template(folder, config),
        appends_eos=config.get("add_eos_token") is True or (eos is not None and json.dumps(eos).encode() in closing),
    )


def _vocabulary(folder: Path) -> tuple[dict[str, int], bytes, str]:
    """Token to id, the text of the post-processor, and the path of the tokenizer.json where there is one."""
    path = folder / "tokenizer.json"
    try:
        backend = msgspec.json.decode(read_bounded(path, _TOKENIZER_BYTES), type=_Backend)
        vocabulary = _of_model(backend.model)
    except (InputError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _of_older_files(folder), b"", ""
    vocabulary.update((token.content, token.id) for token in backend.added_tokens)
    return vocabulary, bytes(backend.post_processor), str(path)


def _of_model(model: msgspec.Raw) -> dict[str, int]:
    try:
        return msgspec.json.decode(model, type=_ByName).vocab
    except msgspec.ValidationError:
        pieces = msgspec.json.decode(model, type=_ByPlace).vocab
    return {piece: place for place, (piece, _) in enumerate(pieces)}


def _of_older_files(folder: Path) -> dict[str, int]:
    """vocab.json or vocab.txt, with added_tokens.json; empty for a SentencePiece model, which is not read."""
    found = _ids(read_object_if_there(folder / "vocab.json", _TOKENIZER_BYTES))
    if not found:
        try:
            lines = read_bounded(folder / "vocab.txt", _TOKENIZER_BYTES).decode("utf-8", "replace").splitlines()
        except InputError:
            return {}
        found = {line: place for place, line in enumerate(lines)}
    return found | _ids(read_object_if_there(folder / "added_tokens.json"))


def _ids(document: Mapping[str, Any]) -> dict[str, int]:
    return {token: number for token, number in document.items() if isinstance(number, int)}


def _declared(config: Mapping[str, Any]) -> dict[str, int]:
    """Added tokens that tokenizer_config.json names by their ids."""
    declared: dict[str, int] = {}
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        for number, entry in cast("dict[str, Any]", decoder).items():
            content = cast("dict[str, Any]", entry).get("content") if isinstance(entry, dict) else None
            if isinstance(content, str) and number.isascii() and number.isdigit():
                declared[content] = int(number[:18])
    return declared


def _token(config: dict[str, Any], special: dict[str, Any], name: str) -> str | None:
    for document in (config, special):
        entry = document.get(name)
        text = text_in(cast("dict[str, Any]", entry), "content") if isinstance(entry, dict) else text_in(document, name)
        if text:
            return text
    return None


def _has_template(folder: Path, config: Mapping[str, Any]) -> bool:
    files = ("chat_template.jinja", "chat_template.json")
    return bool(config.get("chat_template")) or any((folder / name).is_file() for name in files)
