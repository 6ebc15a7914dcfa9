"""`gradience check`: what a configuration, its data, base model and machine say before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradience_cli.exits import INCONCLUSIVE
from gradience_cli.options import FailOn, Format, Json, Output, PolicyFile, Quiet, exit_code

if TYPE_CHECKING:
    from gradience_analysis.model import Report

EXAMPLE = "Example: gradience check recipe.yaml --training training_args.json --data train.jsonl --model ./base --env"
FORMATS = ("text", "json", "md", "html")


Config = Annotated[
    Path | None,
    typer.Argument(metavar="CONFIG", help="Configuration in JSON or YAML, nested or flat; - for stdin."),
]
Peft = Annotated[
    Path | None, typer.Option("--peft", metavar="FILE", help="adapter_config.json; fills what CONFIG leaves open.")
]
PeftDir = Annotated[
    Path | None,
    typer.Option("--peft-dir", metavar="DIR", help="Folder with one; weights beside it are examined too."),
]
Training = Annotated[
    Path | None, typer.Option("--training", metavar="FILE", help="training_args.json; fills what is still open.")
]
TrainingDir = Annotated[
    Path | None, typer.Option("--training-dir", metavar="DIR", help="Folder with one, at its root or below.")
]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="Training examples, JSON Lines: look through them.")
]
EvalData = Annotated[
    Path | None, typer.Option("--eval-data", metavar="FILE", help="Evaluation examples: hold them against these.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|DIR", help="Base model; of a folder, JSON files and headers are read."),
]
Dataset = Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="Data set, a label.")]
Task = Annotated[
    str | None, typer.Option("--task", metavar="NAME", help="Task, such as gsm8k; a known one implies its profile.")
]
Profile = Annotated[
    str | None,
    typer.Option(metavar="PROFILE", help="easy_classification, hard_reasoning, generation or unknown."),
]
Optimizer = Annotated[str | None, typer.Option(metavar="NAME", help="Optimizer.")]
LearningRate = Annotated[float | None, typer.Option("--lr", metavar="X", help="Peak learning rate.")]
WeightDecay = Annotated[float | None, typer.Option(metavar="X", help="Weight decay.")]
Rank = Annotated[int | None, typer.Option("--r", metavar="N", help="LoRA rank.")]
Alpha = Annotated[float | None, typer.Option("--alpha", metavar="X", help="LoRA alpha.")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--targets", metavar="T", help="Target modules, separated by commas; may be given again."),
]
Notes = Annotated[str | None, typer.Option(metavar="TEXT", help="Free text, kept in the JSON report.")]
Env = Annotated[bool, typer.Option("--env/--no-env", help="Look at the machine: devices, memory, versions.")]
OutputDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the run is to write: probe permissions, disk and locks. Implies --env."),
]
ResumeFrom = Annotated[Path | None, typer.Option(metavar="DIR", help="Checkpoint to resume from: is it complete?")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Add evidence, every setting with its source, every measurement.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("check", epilog=EXAMPLE)(check)


def check(
    config: Config = None,
    *,
    peft: Peft = None,
    peft_dir: PeftDir = None,
    training: Training = None,
    training_dir: TrainingDir = None,
    data: Data = None,
    eval_data: EvalData = None,
    model: Model = None,
    dataset: Dataset = None,
    task: Task = None,
    task_profile: Profile = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    weight_decay: WeightDecay = None,
    r: Rank = None,
    alpha: Alpha = None,
    targets: Targets = None,
    notes: Notes = None,
    env: Env = False,
    output_dir: OutputDir = None,
    resume_from: ResumeFrom = None,
    policy: PolicyFile = None,
    fail_on: FailOn = None,
    verbose: Verbose = False,
    fmt: Format = "text",
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Check a configuration before training: settings, and if asked data, base model and machine."""
    from gradience_analysis.config_check.preflight import Wanted, adapter_diagnosis, preflight
    from gradience_analysis.reports.check import check_report
    from gradience_cli.output import chosen_format, emit
    from gradience_cli.settings import load_settings

    chosen = chosen_format(fmt, json=json, formats=FORMATS)
    settings = load_settings()
    level = settings.fail_on(fail_on) or "error"
    limits = settings.policy(policy)
    wanted = Wanted(
        config=config,
        peft=peft,
        peft_dir=peft_dir,
        training=training,
        training_dir=training_dir,
        flags=_flags(model, dataset, task, task_profile, optimizer, lr, weight_decay, r, alpha, targets, notes),
        data=data,
        eval_data=eval_data,
        model=model,
        output_dir=output_dir,
        resume_from=resume_from,
        machine=env,
    )
    subject = preflight(wanted, _finder() if data is not None else None)
    report = check_report(subject, limits, adapter_diagnosis(wanted, limits), verbose=verbose)
    emit(report, chosen, output=output, quiet=quiet)
    raise typer.Exit(_code(report, level))


def _flags(  # noqa: PLR0917 - one for each flag, in the order of the signature
    model: str | None,
    dataset: str | None,
    task: str | None,
    profile: str | None,
    optimizer: str | None,
    lr: float | None,
    weight_decay: float | None,
    r: int | None,
    alpha: float | None,
    targets: list[str] | None,
    notes: str | None,
) -> dict[str, tuple[str, Any]]:
    """Canonical name of each setting that has a flag → the flag, and its value."""
    return {
        "model_name": ("--model", model),
        "dataset_name": ("--dataset", dataset),
        "task": ("--task", task),
        "task_profile": ("--task-profile", _profile(profile)),
        "optimizer.name": ("--optimizer", optimizer),
        "optimizer.lr": ("--lr", lr),
        "optimizer.weight_decay": ("--weight-decay", weight_decay),
        "lora.r": ("--r", r),
        "lora.alpha": ("--alpha", alpha),
        "lora.target_modules": ("--targets", _names(targets)),
        "notes": ("--notes", notes),
    }


def _names(targets: list[str] | None) -> list[str] | str | None:
    """The names of target modules, from one option or several."""
    if not targets:
        return None
    names = [name.strip() for one in targets for name in one.split(",") if name.strip()]
    # To PEFT this word is a selection by itself, and in a list the name of a module.
    return names[0] if names == ["all-linear"] else names


def _profile(name: str | None) -> str | None:
    """The name of a profile that exists.

    Raises:
        GradienceError: It does not.
    """
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.model.near import did_you_mean
    from gradience_schema import TaskProfile

    known = [str(profile) for profile in TaskProfile]
    if name is not None and name not in known:
        hint = did_you_mean(name, known)
        raise GradienceError(
            f"There is no task profile {name[:80]!r}.", f"{hint} Profiles: {', '.join(known)}.".strip()
        )
    return name


def _finder() -> Any:
    from gradience_cli.scanning import find_private

    return find_private


def _code(report: Report, level: str) -> int:
    if not report.data["judged"]:
        return INCONCLUSIVE
    return exit_code(report.data["findings"], level)
