"""A fault inside the callback is counted and logged once, and training is what it would have been without it."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from gradience_emit import segments
from gradience_emit.hf import GradienceCallback
from gradience_emit.hf import journal as hf_journal
from gradience_emit.hf import session as hf_session
from gradience_emit.hf import snapshot as hf_snapshot
from tests.emit.hf import tiny

_BREAKABLE = [
    (hf_session, "find_trainer"),
    (hf_session, "run_meta"),
    (hf_session, "snapshot_config"),
    (hf_session, "Recording"),
    (hf_session, "StepHook"),
    (hf_session, "NormHook"),
    (hf_session, "_samples_per_batch"),
    (hf_journal, "read_memory"),
    (hf_journal, "step_fields"),
    (hf_journal, "row_kind"),
    (hf_journal.NonfiniteProbe, "saw_loss"),
    (hf_journal.NonfiniteProbe, "saw_gradients"),
    (hf_journal.NonfiniteProbe, "saw_norm"),
    (hf_journal.NonfiniteProbe, "step_is_complete"),
    (hf_snapshot, "snapshot_lora"),
]


def _train(out: Path, *callbacks: Any) -> tuple[dict[str, Any], list[float]]:
    trainer = tiny.trainer(out, *callbacks, eval_strategy="steps", eval_steps=2)
    trainer.train()
    return tiny.weights(trainer.model), [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[float]]:
    """Weights and losses of the run without the callback."""
    return _train(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(("place", "name"), _BREAKABLE, ids=[name for _, name in _BREAKABLE])
def test_whatever_breaks_training_is_the_same(
    tmp_path: Path,
    place: Any,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    undisturbed: tuple[dict[str, Any], list[float]],
) -> None:
    """Given any part of the callback raising at every call, when training runs, then its result is untouched."""

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError(f"{name} is broken")

    monkeypatch.setattr(place, name, broken)
    weights, losses = _train(tmp_path, GradienceCallback(telemetry_interval=1, train_eval_samples=2))
    assert tiny.same_weights(weights, undisturbed[0])
    assert losses == undisturbed[1]
    told = [record for record in caplog.records if record.name == "gradience_emit" and record.exc_info]
    assert told, "the first fault is logged with its traceback"


def test_the_count_is_in_the_stream_and_the_log_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Given memory readings that fail at 4 steps, when training ends, then run_end counts 4 and the log has one."""

    def broken() -> dict[str, float]:
        raise OSError("no memory reading")

    monkeypatch.setattr(hf_journal, "read_memory", broken)
    with caplog.at_level(logging.WARNING, "gradience_emit"):
        records = tiny.record(tmp_path, callback={"telemetry_interval": 1})
    assert records[-1]["telemetry_faults"] == 4
    assert len([r for r in caplog.records if r.name == "gradience_emit"]) == 1


def test_an_unreadable_adapter_costs_only_its_own_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an adapter that cannot be read, when the run starts, then the rest of the configuration is there."""

    def broken(_model: Any) -> Any:
        raise RuntimeError("exotic adapter")

    monkeypatch.setattr(hf_snapshot, "snapshot_lora", broken)
    start = tiny.record(tmp_path)[0]
    assert start["config"]["lora"]["r"] is None
    assert start["config"]["optimizer"]["name"] == "adamw_torch_fused"
    assert start["config"]["training"]["max_steps"] == 4


def test_a_full_disk_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[dict[str, Any], list[float]]
) -> None:
    """Given a disk that refuses every write, when training runs, then it reaches its end with the same weights."""

    def full(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(segments, "_write", full)
    weights, losses = _train(tmp_path, GradienceCallback())
    assert tiny.same_weights(weights, undisturbed[0])
    assert losses == undisturbed[1]


def test_a_path_that_is_a_folder_does_not_stop_training(tmp_path: Path) -> None:
    """Given a folder in the place of the file, when training runs, then it ends and the next name is used."""
    (tmp_path / "run.jsonl").mkdir()
    tiny.trainer(tmp_path, GradienceCallback()).train()
    assert tiny.events(tmp_path, "run.1.jsonl")[-1]["status"] == "ok"
