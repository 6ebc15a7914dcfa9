"""`gradience audit`: how much of its rank an adapter uses, how large its update is, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradience_cli.exits import CLEAN, INCONCLUSIVE
from gradience_cli.options import FailOn, Format, Json, Output, PolicyFile, Quiet, exit_code

if TYPE_CHECKING:
    from gradience_analysis.reports.audit_view import AuditView

EXAMPLE = "Example: gradience audit outputs/adapter --base-model ./base --append outputs/run.jsonl"
FORMATS = ("text", "json", "md", "html")

Folder = Annotated[
    Path | None, typer.Argument(metavar="DIR", help="Folder of the adapter, as save_pretrained writes it.")
]
PeftDir = Annotated[Path | None, typer.Option("--peft-dir", metavar="DIR", help="The same as DIR.")]
AdapterConfig = Annotated[
    Path | None, typer.Option("--adapter-config", metavar="FILE", help="Config to take in place of the folder's.")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="Weights to take in place of the folder's.")
]
Adapter = Annotated[
    str | None, typer.Option("--adapter", metavar="NAME", help="The adapter that is meant, of several in DIR.")
]
Wasteful = Annotated[
    int, typer.Option("--top-wasteful", metavar="N", min=0, help="Modules to name whose rank could shrink most.")
]
SingularValues = Annotated[
    int,
    typer.Option("--top-singular-values", metavar="K", min=0, help="Singular values of each module; adds --layers."),
]
Layers = Annotated[bool, typer.Option("--layers", help="A row a module.")]
PerLayer = Annotated[bool, typer.Option("--suggest-per-layer", help="The rank that each module is suggested.")]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--rank-policies", metavar="P,...", help="Rules to suggest ranks by; the first judges single modules."
    ),
]
BaseModel = Annotated[
    Path | None,
    typer.Option("--base-model", metavar="PATH", help="The base's safetensors, local: update dominance ratio (UDR)."),
]
NormsCache = Annotated[
    Path | None, typer.Option("--base-norms-cache", metavar="FILE", help="Keeps the base's norms for the next audit.")
]
NoUdr = Annotated[bool, typer.Option("--no-udr", help="Leave the base's norms out, though a base is given.")]
Against = Annotated[
    Path | None, typer.Option("--against", metavar="DIR", help="Hold the adapter against this other one.")
]
Append = Annotated[
    Path | None, typer.Option("--append", metavar="RUN.jsonl", help="Add the summary to this run, as a metrics event.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read pickled weights, in a process with limits of its own.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Add evidence, every key left out, every measurement without a value.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("audit", epilog=EXAMPLE)(audit)


def audit(
    folder: Folder = None,
    *,
    peft_dir: PeftDir = None,
    adapter_config: AdapterConfig = None,
    weights: Weights = None,
    adapter: Adapter = None,
    top_wasteful: Wasteful = 5,
    top_singular_values: SingularValues = 0,
    layers: Layers = False,
    suggest_per_layer: PerLayer = False,
    rank_policies: Policies = None,
    base_model: BaseModel = None,
    base_norms_cache: NormsCache = None,
    no_udr: NoUdr = False,
    against: Against = None,
    append: Append = None,
    allow_pickle: AllowPickle = False,
    policy: PolicyFile = None,
    fail_on: FailOn = None,
    verbose: Verbose = False,
    fmt: Format = "text",
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Audit an adapter: how much of its rank it uses, and how large its update is."""
    from gradience_cli.auditing import Wanted, alone, append_summary, compared, start_one_thread
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.settings import load_settings

    chosen = chosen_format(fmt, json=json, formats=FORMATS)
    settings = load_settings()
    level = settings.fail_on(fail_on) or "error"
    wanted = Wanted(
        folder=_folder(folder, peft_dir),
        policy=settings.policy(policy),
        config=adapter_config,
        weights=weights,
        adapter=adapter,
        base=None if no_udr else base_model,
        cache=base_norms_cache,
        against=against,
        append=append,
        allow_pickle=allow_pickle,
    )
    start_one_thread(wanted)
    policies = _policies(rank_policies)
    view = _view(top_wasteful, top_singular_values, policies, layers, suggest_per_layer, verbose)
    report, judged = compared(wanted, against, view) if against is not None else alone(wanted, view)
    emit(report, chosen, output=output, quiet=quiet)
    if append is not None:
        append_summary(append, report, quiet=quiet)
    code = exit_code(report.data.get("findings", ()), level)
    raise typer.Exit(INCONCLUSIVE if code == CLEAN and not judged else code)


def _view(  # noqa: PLR0917 - one for each flag
    top_wasteful: int,
    top_singular_values: int,
    policies: tuple[str, ...],
    layers: bool,
    suggest_per_layer: bool,
    verbose: bool,
) -> AuditView:
    from gradience_analysis.reports.audit_view import AuditView

    return AuditView(top_wasteful, top_singular_values, layers, suggest_per_layer, policies, verbose)


def _folder(argument: Path | None, option: Path | None) -> Path:
    """The folder that is meant.

    Raises:
        GradienceError: There is none, or there are two.
    """
    from gradience_analysis.errors import GradienceError

    given = {path for path in (argument, option) if path is not None}
    if len(given) > 1:
        raise GradienceError(
            f"DIR and --peft-dir are the same, and differ: {argument} and {option}.", "Give one of them."
        )
    if not given:
        raise GradienceError(
            "There is nothing to audit.", "Give the folder of an adapter, as save_pretrained writes it."
        )
    return given.pop()


def _policies(given: list[str] | None) -> tuple[str, ...]:
    """The rules that were asked for, in that order; all of them without a wish.

    Raises:
        GradienceError: One of them does not exist.
    """
    from gradience_analysis.audit.ranks import RANK_POLICIES, known_policy

    names = [name.strip() for one in given or () for name in one.split(",") if name.strip()]
    return tuple(dict.fromkeys(known_policy(name) for name in names)) or tuple(RANK_POLICIES)
