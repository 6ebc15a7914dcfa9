"""A file of settings, read within bounds: JSON or YAML, at most 1 MiB, and nothing that it names is ever opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from gradience_analysis.config_check.reading.json_text import parse_json
from gradience_analysis.errors import InputError
from gradience_analysis.sources.opening import open_regular, read_fault, refuse_container, shown_name
from gradience_analysis.sources.plain import TextFault
from gradience_analysis.sources.yaml_text import parse_yaml

MAX_BYTES = 1 << 20
_JSON = frozenset({".json", ".jsonl"})
_YAML = frozenset({".yaml", ".yml"})
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE_REMEDY = (
    "Write the arguments as JSON in the program that has them: "
    "Path('training_args.json').write_text(trainer.args.to_json_string())."
)


def read_document(path: Path) -> dict[str, Any]:
    """The settings in a file, as they are nested there; empty when the file is.

    `.json` is read as JSON and `.yaml` or `.yml` as YAML; another name as what its first character says.

    Raises:
        InputError: The path is no regular file, is too large, or holds no mapping of settings.
    """
    name = shown_name(path)
    text = _text(path, name)
    try:
        value = parse_json(text) if _is_json(path, text) else parse_yaml(text)
    except TextFault as fault:
        raise InputError(name, fault.message, fault.remedy) from fault
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(name, f"holds {_kind(value)} where settings (`name: value`) are expected.")
    return cast("dict[str, Any]", value)


def refuse_pickle(path: Path) -> None:
    """Refuse a file that is a pickle by its name, before it is looked at.

    Raises:
        InputError: It is one.
    """
    if path.suffix in {".bin", ".pt", ".pth", ".pkl", ".pickle"}:
        raise InputError(str(path), "is a pickle, which runs code when it is loaded.", _PICKLE_REMEDY)


def _text(path: Path, name: str) -> str:
    refuse_pickle(path)
    data = _bytes(path, name)
    if data.startswith(_PICKLES) or (data.startswith(b"PK\x03\x04") and b".pkl" in data[:256]):
        raise InputError(name, "is a pickle, which runs code when it is loaded.", _PICKLE_REMEDY)
    refuse_container(data, path)
    if len(data) > MAX_BYTES:
        raise InputError(name, "is larger than 1 MiB.", "A file of settings is small; look at what this one holds.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: byte 0x{data[error.start]:02X} at byte {error.start + 1:,}."
        raise InputError(name, what) from error
    return text if text.strip() else ""


def _bytes(path: Path, name: str) -> bytes:
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on a name that is too long
        raise InputError(name, "is a folder where a file is needed.", "Folders go to --peft-dir and --training-dir.")
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
            fault = read_fault(file)
    except InputError as error:
        # Its remedies are about telemetry.
        raise InputError(name, error.message.removeprefix(f"{name}: ")) from error
    if fault:
        raise InputError(name, f"cannot be read: {fault}.")
    return data


def _is_json(path: Path, text: str) -> bool:
    if not text:
        return False
    suffix = path.suffix.lower()
    return suffix in _JSON or (suffix not in _YAML and text.lstrip()[0] in "{[")


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "a text" if isinstance(value, str) else "a single value"
