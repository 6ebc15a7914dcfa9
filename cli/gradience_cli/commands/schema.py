"""`gradience schema`: the published JSON Schema of telemetry/v1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    schema = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)
    schema.command("list", epilog="Example: gradience schema list")(list_events)
    schema.command("show", epilog="Example: gradience schema show train_step")(show)
    schema.command("export", epilog="Example: gradience schema export schemas/")(export)
    app.add_typer(schema, name="schema", help="Show or export the JSON Schema of telemetry/v1.")


def list_events() -> None:
    """List the event types of telemetry/v1, each with what it records."""
    from gradience_cli.streams import write
    from gradience_schema import EVENT_TYPES, load_schema

    width = max(map(len, EVENT_TYPES))
    lines = [f"{name:<{width}}  {_first_sentence(load_schema(name))}".rstrip() for name in EVENT_TYPES]
    write("\n".join(lines) + "\n")


def show(
    event: Annotated[str | None, typer.Argument(help="Event type; the dispatching root schema without one.")] = None,
) -> None:
    """Print the JSON Schema of one event type, or the root schema."""
    from gradience_analysis.errors import GradienceError
    from gradience_cli.streams import write
    from gradience_schema import UnknownSchemaError, load_schema

    try:
        schema = load_schema(event)
    except UnknownSchemaError as error:
        raise GradienceError(f"{error}.") from error
    write(json.dumps(schema, indent=2) + "\n")


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; made when it is not there.")],
) -> None:
    """Write every schema file of telemetry/v1 below a folder, with working references between them."""
    from gradience_analysis.errors import InputError
    from gradience_cli.streams import write
    from gradience_schema import schema_files

    files = schema_files()
    for name, schema in files.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(str(target), f"cannot be written: {error.strerror}.") from error
    write(f"{len(files)} schema files written to {folder}\n")


def _first_sentence(schema: dict[str, object]) -> str:
    text = str(schema.get("description", "")).strip()
    return text.partition(". ")[0].rstrip(".")
