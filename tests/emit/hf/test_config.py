"""The callback's options: both spellings, their errors, and those of the guard among them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gradience_emit.guard import GuardOptions
from gradience_emit.hf import GradienceCallback, GradienceCallbackConfig


def test_the_names_and_defaults_users_know() -> None:
    """Given no option, when the config is made, then names and defaults are the documented ones."""
    expected: dict[str, Any] = {
        "output_dir": None,
        "filename": "run.jsonl",
        "dataset_name": None,
        "task_profile": None,
        "notes": None,
        "telemetry_allow_text": False,
        "telemetry_max_str_len": 256,
        "enable_guard": False,
        "guard_mode": "act",
        "guard_snapshot_every": 10,
        "guard_ring_size": 5,
        "guard_grad_threshold": 100.0,
        "guard_spike_deviations": 8.0,
        "guard_spike_ratio": 4.0,
        "guard_spike_window": 64,
        "guard_spike_min_history": 16,
        "guard_on_clipped_spike": "warn",
        "guard_max_skips": 20,
        "guard_max_rollbacks": 3,
        "guard_window_steps": 50,
        "guard_cooldown_steps": 10,
        "guard_steps_back": 1,
        "guard_prune_newer_on_rollback": True,
        "guard_on_abort": "stop",
        "guard_lr_backoff": None,
        "guard_max_backoffs": 3,
        "spectral_enabled": False,
        "spectral_interval": 50,
        "spectral_actions": False,
        "spectral_on_instability": "rollback",
        "telemetry_interval": 10,
        "train_eval_samples": 0,
        "train_eval_seed": 0,
        "rank_telemetry": False,
        "allow_hostname": False,
        "run_id": None,
    }
    assert dataclasses.asdict(GradienceCallbackConfig()) == expected


def test_keyword_style_gives_the_same_options() -> None:
    """Given the other spelling of the options, when the callback is made, then they arrive under their own names."""
    callback = GradienceCallback(
        out_dir=Path("there"),
        guard_enabled=False,
        guard_snapshot_interval=100,
        guard_violation_threshold=1e6,
        guard_max_rollbacks=2,
        guard_lr_backoff=0.5,
        spectral_enabled=False,
        spectral_interval=25,
        telemetry_interval=5,
    )
    assert callback.config == GradienceCallbackConfig(
        output_dir="there",
        guard_snapshot_every=100,
        guard_grad_threshold=1e6,
        guard_max_rollbacks=2,
        guard_lr_backoff=0.5,
        spectral_interval=25,
        telemetry_interval=5,
    )


def test_keywords_go_over_the_config() -> None:
    """Given a config and a keyword, when both are passed, then the keyword wins and the config is unchanged."""
    config = GradienceCallbackConfig(notes="first", filename="a.jsonl")
    assert GradienceCallback(config, notes="second").config == GradienceCallbackConfig(
        notes="second", filename="a.jsonl"
    )
    assert config.notes == "first"


def test_the_guard_gets_every_option_of_the_callback() -> None:
    """Given a value of its own for each guard option, when they are read, then each arrives under the guard's name."""
    given: dict[str, Any] = {
        "mode": "observe",
        "snapshot_every": 7,
        "ring_size": 2,
        "grad_threshold": 50.0,
        "spike_deviations": 6.0,
        "spike_ratio": 3.0,
        "spike_window": 32,
        "spike_min_history": 8,
        "on_clipped_spike": "skip",
        "max_skips": 5,
        "max_rollbacks": 1,
        "window_steps": 20,
        "cooldown_steps": 4,
        "steps_back": 2,
        "prune_newer_on_rollback": False,
        "on_abort": "continue",
        "lr_backoff": 0.25,
        "max_backoffs": 1,
    }
    callback = GradienceCallback(None, enable_guard=True, **{f"guard_{name}": value for name, value in given.items()})
    options = callback.config.guard_options()
    assert options.limits() == given
    assert set(given) == {field.name for field in dataclasses.fields(GuardOptions)}
    assert not any(getattr(GuardOptions(), name) == value for name, value in given.items())


def test_the_defaults_of_the_guard_are_its_own() -> None:
    """Given no guard option, when the guard's are read, then they are the defaults of the guard itself."""
    assert GradienceCallbackConfig(enable_guard=True).guard_options() == GuardOptions()


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [("telemetry_intervall", "'telemetry_interval'"), ("outdir", "'out_dir'"), ("enable_gaurd", "'enable_guard'")],
)
def test_a_misspelt_keyword_names_the_right_one(keyword: str, hint: str) -> None:
    """Given a keyword off by a letter, when the callback is made, then the TypeError names the one that was meant."""
    with pytest.raises(TypeError, match=f"did you mean {hint}"):
        GradienceCallback(**{keyword: 1})


def test_a_foreign_keyword_gets_no_guess() -> None:
    """Given a keyword like none, when the callback is made, then the TypeError makes no suggestion."""
    with pytest.raises(TypeError, match=r"no option 'zzz'$"):
        GradienceCallback(zzz=1)


def test_one_option_under_both_names_is_refused() -> None:
    """Given an option under its two names, when the callback is made, then it is a TypeError."""
    with pytest.raises(TypeError, match="twice"):
        GradienceCallback(out_dir="a", output_dir="b")


def test_a_config_of_another_type_is_refused() -> None:
    """Given a dictionary as config, when the callback is made, then it is a TypeError."""
    with pytest.raises(TypeError, match="GradienceCallbackConfig, not dict"):
        GradienceCallback({"output_dir": "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"filename": ""},
        {"filename": "logs/run.jsonl"},
        {"telemetry_interval": -1},
        {"telemetry_interval": 2.5},
        {"train_eval_samples": True},
        {"task_profile": "hard"},
        {"run_id": ""},
        {"guard_snapshot_every": 0},
        {"guard_mode": "watch"},
        {"guard_lr_backoff": 1.5},
        {"guard_spike_window": 15},
        {"guard_grad_threshold": float("nan")},
        {"spectral_interval": 0},
        {"spectral_on_instability": "stop"},
        {"spectral_actions": True},
        {"spectral_actions": True, "enable_guard": True},
        {"spectral_actions": True, "spectral_enabled": True},
    ],
)
def test_nonsense_is_refused_at_construction(options: dict[str, Any]) -> None:
    """Given an option out of range, when the config is made, then it is a ValueError naming the option."""
    with pytest.raises(ValueError, match=next(iter(options))):
        GradienceCallbackConfig(**options)
