"""`gradience config`: which options are set, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradience_cli.options import Json, Output, Quiet

EXAMPLE = "Example: gradience config show --json"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    config = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

    @config.callback()
    def group() -> None:
        """Show the options that are set outside the command line."""

    del group
    config.command("show", epilog=EXAMPLE)(show)
    app.add_typer(config, name="config", help="Show which options are set, and where.")


def show(
    *,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show the thresholds with this policy file.")
    ] = None,
    fmt: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Show every option and threshold with its value and where that comes from."""
    from gradience_analysis.policy import load_policy
    from gradience_analysis.reports.config import OptionRow, config_report
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.settings import OPTIONS, load_settings

    chosen = chosen_format(fmt, json=json)
    settings = load_settings()
    rows: list[OptionRow] = []
    for name, option in OPTIONS.items():
        setting = settings.options.get(name)
        if name == "policy" and policy is not None:
            rows.append(OptionRow(name, str(policy), "flag --policy", option.meaning))
        elif setting is None:
            rows.append(OptionRow(name, None, f"default: {option.default}", option.meaning))
        else:
            rows.append(OptionRow(name, str(setting.value), setting.source, option.meaning))
    emit(config_report(rows, settings.policy(policy), load_policy()), chosen, output=output, quiet=quiet)
