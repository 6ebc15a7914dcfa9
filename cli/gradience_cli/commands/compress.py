"""`gradience compress`: a smaller adapter, with the proof of what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN
from gradience_cli.options import Format, Json, Output, Quiet

if TYPE_CHECKING:
    from gradience_analysis.compression import RankRule

EXAMPLE = "Example: gradience compress outputs/adapter --out outputs/adapter-small --policy energy@0.99"
FORMATS = ("text", "json", "md", "html")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("compress", epilog=EXAMPLE)(compress)


def compress(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The adapter's folder, as save_pretrained writes it.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write; must not exist, or be empty.")],
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Rank policy, such as energy@0.99 (default) or energy@0.999."),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, metavar="N", help="One rank for every module.")] = None,
    suggestions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON of gradience audit --suggest-per-layer, or {module: rank}."),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which adapter, where the folder holds several.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Number format: same, float32, float16, bfloat16 or float64.")
    ] = "same",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, and say what would be.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List every module, not only those that lose most.")
    ] = False,
    fmt: Format = "text",
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Write a smaller adapter by cutting every module to the rank it needs, and prove what that costs."""
    from gradience_analysis.compression import compress_adapter
    from gradience_analysis.reports.compress import compress_report
    from gradience_cli.output import chosen_format, emit

    chosen = chosen_format(fmt, json=json, formats=FORMATS)
    rule = _rule(policy, rank, suggestions)
    done = compress_adapter(folder, out, rule=rule, dtype=dtype, adapter=adapter, dry_run=dry_run)
    emit(compress_report(done, verbose=verbose), chosen, output=output, quiet=quiet)
    raise typer.Exit(CLEAN)


def _rule(policy: str | None, rank: int | None, suggestions: Path | None) -> RankRule:
    """The way to choose ranks that was asked for.

    Raises:
        GradienceError: More than one was, or it has no sense.
    """
    from gradience_analysis.compression import fixed_rule, given_rule, policy_rule, read_suggestions
    from gradience_analysis.errors import GradienceError

    if sum(one is not None for one in (policy, rank, suggestions)) > 1:
        raise GradienceError("--policy, --rank and --suggestions exclude each other.", "Give one of them.")
    if rank is not None:
        return fixed_rule(rank)
    if suggestions is not None:
        return given_rule(read_suggestions(suggestions), suggestions.name)
    return policy_rule() if policy is None else policy_rule(policy)
