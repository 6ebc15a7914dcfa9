"""What was asked for to the subject of the checks: the files are opened from here, and by no check."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradience_analysis.adapters import find_weights
from gradience_analysis.config_check.profiles import profile_of
from gradience_analysis.config_check.reading.combine import combine
from gradience_analysis.config_check.reading.document import read_document
from gradience_analysis.config_check.reading.locate import find_adapter_config, find_training_args
from gradience_analysis.config_check.reading.settings import Kind, Reading, flags, read_settings
from gradience_analysis.config_check.subject import Preflight, Setting
from gradience_analysis.errors import GradienceError
from gradience_analysis.sources.opening import shown_name
from gradience_schema import TaskProfile

if TYPE_CHECKING:
    from gradience_analysis.config_check.machine.facts import MachineFacts
    from gradience_analysis.diagnostics.base import Diagnosis
    from gradience_analysis.policy import Policy

FLAGS = "the command line"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The files and flags that configure a run; None where there is none.

    Attributes:
        config: A configuration, nested or flat, JSON or YAML.
        peft: An adapter_config.json.
        peft_dir: A folder with one.
        training: A training_args.json.
        training_dir: A folder with one.
        flags: Canonical name → the flag, and its value.
        data: Training examples, one JSON object a line.
        eval_data: Evaluation examples.
        model: Name or path of the base model; looked at when it is a path.
        output_dir: The folder that the run is to write to.
        resume_from: A checkpoint to resume from.
        machine: Whether to look at the machine.
    """

    config: Path | None = None
    peft: Path | None = None
    peft_dir: Path | None = None
    training: Path | None = None
    training_dir: Path | None = None
    flags: Mapping[str, tuple[str, Any]] = field(default_factory=dict[str, tuple[str, Any]])
    data: Path | None = None
    eval_data: Path | None = None
    model: str | None = None
    output_dir: Path | None = None
    resume_from: Path | None = None
    machine: bool = False


def preflight(wanted: Wanted, find: Callable[[str], Collection[str]] | None = None) -> Preflight:
    """Everything that was asked for, read and gathered.

    Args:
        wanted: What was asked for.
        find: Finds personal data and secrets in a text; without it the data are not searched for them.

    Raises:
        GradienceError: As `read_configuration`, or the evaluation data cannot be opened.
    """
    subject = read_configuration(wanted)
    model = _model_folder(wanted.model)
    # What was not asked for is not even imported: the pre-flight is to start at once.
    if model is not None or wanted.resume_from is not None:
        from gradience_analysis.config_check.base_model.gather import gather_checkpoint, gather_model

        checkpoint = None if wanted.resume_from is None else gather_checkpoint(wanted.resume_from)
        subject = replace(subject, base_model=None if model is None else gather_model(model), checkpoint=checkpoint)
    if wanted.data is not None or wanted.eval_data is not None:
        from gradience_analysis.config_check.data.gather import gather_data

        facts = gather_data(wanted.data, wanted.eval_data, model=subject.base_model, find=find)
        subject = replace(subject, data=facts)
    return replace(subject, machine=_machine(wanted))


def _model_folder(name: str | None) -> Path | None:
    """The base model's folder: a path that exists, or that can be meant as nothing else than a path."""
    if name is None:
        return None
    looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/")
    return Path(name).expanduser() if looks_like_a_path or os.path.exists(name) else None  # noqa: PTH110


def _machine(wanted: Wanted) -> MachineFacts:
    from gradience_analysis.config_check.machine.gather import gather_machine
    from gradience_analysis.config_check.machine.paths import path_facts

    given: Iterable[tuple[str, Path | None, str]] = (
        ("--data", wanted.data, "file"),
        ("--eval-data", wanted.eval_data, "file"),
    )
    paths = [path_facts(label, path, kind) for label, path, kind in given if path is not None and str(path) != "-"]
    return gather_machine(wanted.output_dir, look=wanted.machine or wanted.output_dir is not None, paths=paths)


def read_configuration(wanted: Wanted) -> Preflight:
    """The settings of a run: flags over the configuration, and what neither says from adapter and trainer.

    Raises:
        InputError: A file cannot be read, or a folder does not hold the one that is looked for.
        GradienceError: A file and a folder are given for the same thing.
    """
    readings = [Reading(FLAGS, {one.key: one for one in flags(wanted.flags)})]
    for path, kind in _files(wanted):
        readings.append(read_settings(read_document(path), shown_name(path), kind))
    if not readings[0].settings:
        del readings[0]
    _add_profile(readings)
    return combine(readings)


def adapter_diagnosis(wanted: Wanted, policy: Policy) -> Diagnosis | None:
    """What the files of the adapter in `peft_dir` show; None when there is none, or no weights beside its config.

    Raises:
        InputError: The folder holds no adapter, or several.
    """
    if wanted.peft_dir is None:
        return None
    folder = find_adapter_config(wanted.peft_dir).parent
    if find_weights(folder).empty:
        return None
    from gradience_analysis.adapter_check import check_adapter

    base = _model_folder(wanted.model)
    return check_adapter(folder, policy, base=base if base is not None and base.is_dir() else None)


def _files(wanted: Wanted) -> list[tuple[Path, Kind]]:
    for one, other, name in (
        (wanted.peft, wanted.peft_dir, "peft"),
        (wanted.training, wanted.training_dir, "training"),
    ):
        if one is not None and other is not None:
            raise GradienceError(f"--{name} and --{name}-dir say the same thing twice.", "Give one of them.")
    files = [(wanted.config, Kind.CONFIG)]
    adapter = wanted.peft if wanted.peft_dir is None else find_adapter_config(wanted.peft_dir)
    training = wanted.training if wanted.training_dir is None else find_training_args(wanted.training_dir)
    files += [(adapter, Kind.ADAPTER), (training, Kind.TRAINING)]
    return [(path, kind) for path, kind in files if path is not None]


def _add_profile(readings: list[Reading]) -> None:
    """The profile that the name of a task says, where nothing else says one."""
    set_ones = [reading.settings["task_profile"].value for reading in readings if "task_profile" in reading.settings]
    if any(profile != TaskProfile.UNKNOWN for profile in set_ones):
        return
    for reading in readings:
        task = reading.settings.get("task")
        profile = None if task is None else profile_of(task.value)
        if task is not None and profile is not None:
            remark = f"follows from the task {task.value}"
            derived = Setting("task_profile", profile, task.raw, task.name, task.source, remark)
            readings.insert(0, Reading("", {"task_profile": derived}))
            return
