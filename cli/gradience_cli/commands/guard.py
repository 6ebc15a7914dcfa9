"""`gradience guard`: what a guard would have done in recorded runs."""

from __future__ import annotations

from typing import Annotated

import typer

from gradience_cli.exits import CLEAN, INCONCLUSIVE, USAGE
from gradience_cli.options import Format, Json, Output, PolicyFile, Quiet, Runs

EXAMPLE = "Example: gradience guard simulate outputs --policy strict.toml"
FORMATS = ("text", "json", "md", "html")
_SPIKES = ("warn", "skip")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    guard = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

    @guard.callback()
    def group() -> None:
        """Try the guard on recorded runs."""

    del group
    guard.command("simulate", epilog=EXAMPLE)(simulate)
    app.add_typer(guard, name="guard", help="Try the guard on recorded runs.")


def simulate(
    runs: Runs,
    *,
    policy: PolicyFile = None,
    on_clipped_spike: Annotated[
        str, typer.Option(metavar="warn|skip", help="What a finite spike leads to where the gradient is clipped.")
    ] = "warn",
    fmt: Format = "text",
    json: Json = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Add every run, every action and the limits.")
    ] = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Play a guard over recorded runs, and say what it would have done where."""
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.reports.guard import guard_report
    from gradience_cli.loading import load_all
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.settings import load_settings
    from gradience_cli.simulating import options_of, play

    chosen = chosen_format(fmt, json=json, formats=FORMATS)
    if on_clipped_spike not in _SPIKES:
        raise GradienceError(f"--on-clipped-spike takes {' or '.join(_SPIKES)}, not {on_clipped_spike!r}.")
    options = options_of(load_settings().policy(policy), on_clipped_spike=on_clipped_spike)
    loaded, failed = load_all(runs)
    if not loaded:
        raise typer.Exit(USAGE)
    played = [play(run, options) for run in loaded]
    emit(guard_report(played, options.limits(), verbose=verbose), chosen, output=output, quiet=quiet)
    raise typer.Exit(USAGE if failed else CLEAN if any(item.points for item in played) else INCONCLUSIVE)
