"""The options of the controller: two spellings, ranges, and a word for what does not exist."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gradience_emit.controller import GradienceController
from gradience_emit.guard.options import GuardOptions
from gradience_emit.hf.config import GradienceCallbackConfig
from tests.emit.controller.loops import Training, events, watched


def test_both_spellings_mean_the_same(tmp_path: Path) -> None:
    """Given an option's two spellings, when controllers are made with each, then they have the same options."""
    one = GradienceController(
        out_dir=tmp_path,
        guard_enabled=False,
        guard_snapshot_interval=7,
        guard_violation_threshold=1e6,
        telemetry_interval=3,
    )
    other = GradienceController(
        output_dir=str(tmp_path), enable_guard=False, guard_snapshot_every=7, guard_grad_threshold=1e6, log_every=3
    )
    assert one.options == other.options
    assert (one.options.guard.snapshot_every, one.options.guard.grad_threshold, one.options.log_every) == (7, 1e6, 3)


def test_every_option_of_the_guard_is_taken(tmp_path: Path) -> None:
    """Given each option of the guard as the callback spells it, when it is given its default, then it is known."""
    defaults = GuardOptions()
    for option in dataclasses.fields(GuardOptions):
        assert f"guard_{option.name}" in {f.name for f in dataclasses.fields(GradienceCallbackConfig)}
        GradienceController(tmp_path, **{f"guard_{option.name}": getattr(defaults, option.name)})


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"guard_snapshot_evry": 5}, "no option 'guard_snapshot_evry'; did you mean 'guard_snapshot_every'"),
        ({"snapshot": 5}, "GradienceController has no option 'snapshot'"),
        ({"train_eval_samples": 5}, "no option 'train_eval_samples'"),
        ({"log_every": 5, "telemetry_interval": 5}, "got 'log_every' twice: 'telemetry_interval' is another name"),
        ({"output_dir": "elsewhere"}, "got 'output_dir' twice"),
    ],
)
def test_what_does_not_exist_is_a_type_error(tmp_path: Path, keywords: dict[str, Any], message: str) -> None:
    """Given a keyword that is no option, when a controller is made, then the error names it and the nearest one."""
    with pytest.raises(TypeError, match=message):
        GradienceController(tmp_path, **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"guard_ring_size": 0}, "guard_ring_size must be an integer >= 1"),
        ({"guard_mode": "watch"}, "guard_mode must be 'act' or 'observe'"),
        ({"log_every": -1}, "log_every must be an integer >= 0"),
        ({"log_every": True}, "log_every must be an integer"),
        ({"initial_step": 1.5}, "initial_step must be an integer >= 0"),
        ({"spectral_interval": 0}, "spectral_interval must be an integer >= 1"),
        ({"filename": "a/run.jsonl"}, "folders go into out_dir"),
        ({"task_profile": "sorting"}, "task_profile must be one of"),
        ({"spectral_actions": True}, "spectral_actions needs spectral_enabled and enable_guard"),
        ({"spectral_on_instability": "stop"}, "must be 'rollback' or 'halt'"),
    ],
)
def test_what_is_out_of_range_is_a_value_error(tmp_path: Path, keywords: dict[str, Any], message: str) -> None:
    """Given a value out of its range, when a controller is made, then the error names the option as it is written."""
    with pytest.raises(ValueError, match=message):
        GradienceController(tmp_path, **keywords)


def test_a_folder_and_an_optimizer_are_needed(tmp_path: Path) -> None:
    """Given no folder, or a model without its optimizer, when a controller is made, then the error says so."""
    with pytest.raises(TypeError, match="needs out_dir"):
        GradienceController()
    with pytest.raises(TypeError, match="needs model and optimizer together"):
        GradienceController(tmp_path, model=Training().model)


def test_no_log_rows_when_none_are_wanted(tmp_path: Path) -> None:
    """Given log_every=0, when a loop is watched, then there is no train_step, and the final loss is known."""
    summary = watched(tmp_path, Training(tells_loss=True), log_every=0)
    assert [e for e in events(tmp_path) if e["event"] == "train_step"] == []
    assert summary["final_loss"] > 0


def test_the_end_of_an_interval_is_logged_too(tmp_path: Path) -> None:
    """Given 7 updates logged every 5, when the run ends, then the last two are logged as well."""
    watched(tmp_path, Training(updates=7, tells_loss=True), log_every=5)
    assert [e["step"] for e in events(tmp_path) if e["event"] == "train_step"] == [5, 7]


def test_without_the_guard_there_is_telemetry(tmp_path: Path) -> None:
    """Given enable_guard=False, when a loop is watched, then its steps are written and nothing of a guard."""
    summary = watched(tmp_path, Training(), {7: "nan_batch"}, enable_guard=False)
    assert summary["guard"] is None
    kinds = {e["event"] for e in events(tmp_path)}
    assert kinds == {"run_start", "train_step", "run_end"}
