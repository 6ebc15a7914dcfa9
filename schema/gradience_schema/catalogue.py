"""The JSON Schema files of the contract, found and read.

A version is a folder ``telemetry/<version>/``: ``telemetry.schema.json`` (the root, which dispatches on ``event``),
``envelope.schema.json``, shared parts, and ``events/<event>.schema.json``. The files are the only list of events.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import referencing

__all__ = ["EVENT_TYPES", "UnknownSchemaError", "load_schema", "registry", "schema_files", "schema_versions"]

_SUFFIX = ".schema.json"
_VERSIONS = Path(__file__).parent / "telemetry"
_ROOT = "telemetry" + _SUFFIX


class UnknownSchemaError(LookupError):
    """A schema version or an event type that the contract does not have.

    Attributes:
        kind: What was asked for: ``"version"`` or ``"event"``.
        name: The name that is not known.
        known: The names that are, sorted.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(kind, name, self.known)

    def __str__(self) -> str:
        return f"no telemetry schema for {self.kind} {self.name!r}; known: {', '.join(self.known)}"


def schema_versions() -> tuple[str, ...]:
    """The schema versions shipped, sorted by name: ``("v1",)``."""
    return tuple(sorted(path.name for path in _VERSIONS.iterdir() if (path / _ROOT).is_file()))


def load_schema(event: str | None = None, version: str = "v1") -> dict[str, Any]:
    """One schema as plain JSON, read afresh: the caller owns it.

    Args:
        event: An event type; its schema holds the envelope's rules too. None: the root, which dispatches on ``event``
            and accepts event types it does not know.
        version: A schema version, such as ``"v1"``.

    Returns:
        The schema. Its ``$ref`` s are relative to its ``$id``; `registry` resolves them.

    Raises:
        UnknownSchemaError: (a `LookupError`) for an event or a version that has no schema; it names the known ones.
    """
    folder = _folder(version)
    if event is None:
        return _read(folder / _ROOT)
    known = _events(folder)
    if event not in known:
        raise UnknownSchemaError("event", event, known)
    return _read(folder / "events" / (event + _SUFFIX))


def schema_files(version: str = "v1") -> Mapping[str, dict[str, Any]]:
    """Every schema file of a version: the root, the envelope, the shared parts and each event.

    Args:
        version: A schema version, such as ``"v1"``.

    Returns:
        File name → schema, sorted by name. A name is a relative POSIX path (``"telemetry.schema.json"``,
        ``"events/eval.schema.json"``): written under one folder, the files refer to each other as they do here.

    Raises:
        UnknownSchemaError: (a `LookupError`) for a version that is not shipped.
    """
    folder = _folder(version)
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*" + _SUFFIX)}
    return {name: _read(paths[name]) for name in sorted(paths)}


@functools.cache
def registry() -> referencing.Registry[Any]:
    """Every schema of every version by its ``$id``, for a JSON Schema validator to resolve ``$ref`` with.

    Needs the package ``referencing`` (extra ``analysis``), which is imported here and not before.

    Returns:
        An immutable registry, built once per process.
    """
    import referencing

    schemas = (schema for version in schema_versions() for schema in schema_files(version).values())
    empty: Any = cast("Any", referencing.Registry)()
    return cast("referencing.Registry[Any]", empty.with_contents((schema["$id"], schema) for schema in schemas))


def _folder(version: str) -> Path:
    known = schema_versions()
    if version not in known:
        raise UnknownSchemaError("version", version, known)
    return _VERSIONS / version


def _events(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name.removesuffix(_SUFFIX) for path in (folder / "events").glob("*" + _SUFFIX)))


def _read(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


EVENT_TYPES: tuple[str, ...] = _events(_VERSIONS / "v1")
