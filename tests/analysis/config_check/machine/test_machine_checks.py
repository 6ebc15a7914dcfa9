"""What the checks of the machine say of machines that are made up."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.config_check.base_model.gather import gather_model
from gradience_analysis.config_check.machine.facts import DeviceFacts, FolderFacts, MachineFacts
from gradience_analysis.config_check.subject import Preflight
from tests.analysis.config_check import built

GIB = 1 << 30


def _device(index: int = 0, free: int = 40 * GIB, capability: float | None = 8.0) -> DeviceFacts:
    return DeviceFacts(index, "A Device", 40 * GIB, 40 * GIB - free, free, capability, "550.54")


def _on(*devices: DeviceFacts, reason: str = "") -> MachineFacts:
    return MachineFacts(looked=True, devices=devices, devices_reason=reason)


def test_without_a_device_nothing_is_said_of_one(tmp_path: Path) -> None:
    """Given no device, when checked, then memory, precision and sharing are not measured, for the reason given."""
    subject = built.on_model(built.model_folder(tmp_path), ["q_proj"], batch_size=4, max_length=64, dtype="bf16")
    diagnosis = built.diagnosis(built.with_machine(subject, _on(reason="No device was found: none.")))
    for name in ("memory_estimate", "compute_capability", "device_memory_in_use"):
        assert diagnosis.measurement(name).value is None
        assert diagnosis.measurement(name).reason == "No device was found: none."
    assert diagnosis.measurement("memory_estimate").details["estimate"] > 0


def test_bf16_matters_only_when_it_is_asked_for(tmp_path: Path) -> None:
    """Given an old device, when fp16 is asked for, then nothing is said; bf16 by flag or type trips."""
    machine = _on(_device(capability=7.5))
    for training, values, expected in (
        ({"dtype": "float16"}, {}, 0),
        ({}, {"training__bf16": False}, 0),
        ({}, {"training__bf16": True}, 1),
        ({"dtype": "torch.bfloat16"}, {}, 1),
    ):
        config = built.configured(training=training)
        subject = Preflight(built.settings(**values), config, machine=machine)
        assert len(built.following(subject, "G02")) == expected


def test_only_as_many_devices_count_as_there_are_ranks() -> None:
    """Given a second device in use, when one rank is to run, then it does not matter; with two it does."""
    machine = _on(_device(0), _device(1, free=10 * GIB))
    alone = Preflight(config=built.configured(training={"world_size": 1}), machine=machine)
    pair = Preflight(config=built.configured(training={"world_size": 2}), machine=machine)
    assert not built.following(alone, "G07")
    (finding,) = built.following(pair, "G07")
    assert finding.evidence["device"] == 1


def test_the_estimate_is_the_sum_of_its_documented_parts(tmp_path: Path) -> None:
    """Given a model, when its memory is estimated, then each part follows the formula in the documentation."""
    folder = built.model_folder(tmp_path)
    shapes = gather_model(folder).shapes
    parameters = sum(map(prod, shapes.values()))
    for values, wide, whole in (
        ({}, 2, True),
        ({"training__bf16": True}, 1, True),
        ({"training__gradient_checkpointing": True}, 2, False),
        ({"load_in_4bit": True}, 2, True),
    ):
        subject = built.on_model(folder, ["q_proj"], 4, batch_size=3, max_length=50)
        subject = replace(subject, settings={**subject.settings, **built.settings(**values)}, machine=_on(_device()))
        found = built.diagnosis(subject).measurement("memory_estimate")
        layer = 34 * 150 * built.HIDDEN * wide
        kept = 2 * 150 * built.HIDDEN * wide
        parts = {
            "weights": round(0.6 * parameters) if "load_in_4bit" in values else 4 * parameters,
            "adapter": 16 * built.LAYERS * 4 * (2 * built.HIDDEN),
            "activations": built.LAYERS * layer if whole else built.LAYERS * kept + layer,
            "logits": 10 * 150 * built.ROWS,
        }
        assert {name: found.details[name] for name in parts} == parts
        assert found.value == sum(parts.values())
        assert found.details["low"] < found.value < found.details["high"]


def test_an_estimate_above_what_is_free_proposes_changes(tmp_path: Path) -> None:
    """Given little free memory, when checked, then a smaller batch and checkpointing are proposed, not surely."""
    subject = built.on_model(built.model_folder(tmp_path), ["q_proj"], batch_size=8, max_length=64)
    found = built.diagnosis(subject).measurement("memory_estimate").details
    tight = built.with_machine(subject, _on(_device(free=int(found["estimate"]))))
    (finding,) = built.following(tight, "G01")
    assert finding.confidence < 0.5
    assert [change.setting for change in finding.changes] == ["training.batch_size", "training.gradient_checkpointing"]
    (finding,) = built.following(built.with_machine(subject, _on(_device(free=int(found["low"]) - 1))), "G01")
    assert finding.confidence > 0.5
    roomy = built.with_machine(subject, _on(_device(free=int(found["estimate"] / 0.9) + 1)))
    assert not built.following(roomy, "G01")


@pytest.mark.parametrize(("kept", "expected"), [(None, 0), (2, 0), (10**7, 1)])
def test_the_checkpoints_that_are_kept_count(tmp_path: Path, kept: int | None, expected: int) -> None:
    """Given 20 GB free, when ever more checkpoints are kept, then the disk is too small at 1.2 times their size."""
    subject = built.on_model(built.model_folder(tmp_path), ["q_proj"], 4)
    folder = FolderFacts(str(tmp_path), str(tmp_path), free_bytes=20_000_000_000)
    values: dict[str, Any] = {"training__save_total_limit": kept}
    subject = replace(
        subject,
        settings={**subject.settings, **built.settings(**values)},
        machine=MachineFacts(looked=True, folder=folder),
    )
    found = built.following(subject, "P02")
    assert len(found) == expected
    if found:
        assert found[0].evidence["needed"] == pytest.approx(1.2 * kept * 12 * built.LAYERS * 4 * 2 * built.HIDDEN)


def test_every_check_says_why_it_could_not_look() -> None:
    """Given a machine that was not looked at, when checked, then nothing is found and each number has its reason."""
    diagnosis = built.diagnosis(Preflight(machine=MachineFacts()))
    for name in ("disk_free", "file_system", "locked_files", "output_writable", "version_of_torch"):
        assert diagnosis.measurement(name).value is None
        assert "--env" in diagnosis.measurement(name).reason
    assert not [one for one in diagnosis.findings if one.rule[:1] in {"G", "P", "Q"}]
