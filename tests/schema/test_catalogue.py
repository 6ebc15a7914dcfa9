"""Loading schemas by name, and what an import of the package costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gradience_schema
from gradience_schema import EVENT_TYPES, UnknownSchemaError, load_schema, registry, schema_files, schema_versions


def test_root_and_events_load_by_name() -> None:
    """Given no event, then the root is loaded; given an event, then its schema."""
    assert load_schema() == schema_files()["telemetry.schema.json"]
    for event in EVENT_TYPES:
        assert load_schema(event) == load_schema(event, "v1") == schema_files("v1")[f"events/{event}.schema.json"]


def test_loaded_schema_belongs_to_the_caller() -> None:
    """Given a loaded schema that its caller changes, when it is loaded again, then the change is not there."""
    load_schema("eval").clear()
    schema_files()["envelope.schema.json"].clear()
    assert load_schema("eval")["title"] == "telemetry/v1 eval"
    assert schema_files()["envelope.schema.json"]["required"]


@pytest.mark.parametrize("name", ["train_stp", "envelope", "", "../envelope", "events/eval", "eval.schema.json"])
def test_unknown_event_is_an_error_that_names_the_known(name: str) -> None:
    """Given a name that is no event, when loaded, then a LookupError carries it and names every event."""
    with pytest.raises(UnknownSchemaError) as caught:
        load_schema(name)
    assert isinstance(caught.value, LookupError)
    assert (caught.value.kind, caught.value.name, caught.value.known) == ("event", name, EVENT_TYPES)
    assert repr(name) in str(caught.value)
    assert all(event in str(caught.value) for event in EVENT_TYPES)


@pytest.mark.parametrize("version", ["v2", "1", "", "..", "v1/events"])
def test_unknown_version_is_an_error_that_names_the_known(version: str) -> None:
    """Given a version that is not shipped, when anything of it is asked for, then the error names v1."""
    for ask in (lambda: load_schema(None, version), lambda: schema_files(version)):
        with pytest.raises(UnknownSchemaError, match=r"known: v1$") as caught:
            ask()
        assert (caught.value.kind, caught.value.known) == ("version", schema_versions())


def test_registry_is_built_once() -> None:
    """Given two calls, when registries are compared, then they are one object with every schema in it."""
    assert registry() is registry()
    assert {schema["$id"] for schema in schema_files().values()} == set(registry())


def test_every_public_name_is_there() -> None:
    """Given __all__, when each name is fetched, then it exists and is listed by dir()."""
    for name in gradience_schema.__all__:
        assert getattr(gradience_schema, name) is not None
    assert set(gradience_schema.__all__) <= set(dir(gradience_schema))
    with pytest.raises(AttributeError, match="no attribute 'Severty'"):
        _ = gradience_schema.Severty  # type: ignore[attr-defined]


PROBE = "import sys; before = set(sys.modules); {}; print(*sorted(set(sys.modules) - before))"


def imported_by(statement: str) -> set[str]:
    """Modules that a fresh interpreter without site-packages has after ``statement`` and had not before."""
    program = PROBE.format(statement)
    where = Path(gradience_schema.__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, check=True, cwd=where, timeout=60, text=True
    )
    return set(found.stdout.split())


def test_import_reads_nothing_and_builds_nothing() -> None:
    """Given a fresh interpreter, when the package is imported, then dataclasses, pathlib and the types are not."""
    loaded = imported_by("import gradience_schema")
    assert "gradience_schema" in loaded
    assert not loaded & {"dataclasses", "inspect", "pathlib", "gradience_schema.types", "gradience_schema.catalogue"}


def test_every_module_needs_the_standard_library_only() -> None:
    """Given an interpreter without site-packages, when every schema is loaded and type used, then it works."""
    loaded = imported_by(
        "from gradience_schema import *; import gradience_schema as g; g.schema_files(); g.ConfigSnapshot().to_dict()"
    )
    third_party = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"gradience_schema"}
    assert third_party == set()
