"""The spectral monitor in the callback: what it writes, that it disturbs nothing, and what it does when it may act."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradience_emit.hf import GradienceCallback, GuardUnsupportedError
from gradience_emit.hf.watch import Watch
from gradience_emit.spectral import RiskLevel, SpectralMonitor
from tests.emit.hf import tiny

EVERY_STEP = {"spectral_enabled": True, "spectral_interval": 1}


def test_kappa_is_that_of_the_adapter(tmp_path: Path) -> None:
    """Given a sample after the last step, when held against a dense SVD of the updates, then kappa is their median."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(**EVERY_STEP))
    trainer.train()
    last = tiny.of(tiny.events(tmp_path), "metrics", kind="spectral")[-1]
    kappas, largest = [], []
    for _, module in trainer.model.named_modules():
        if hasattr(module, "lora_A"):
            update = module.get_delta_weight("default").double().detach().numpy()
            sigma = np.linalg.svd(update, compute_uv=False)[: module.r["default"]]
            kept = sigma[sigma > max(update.shape) * np.finfo(np.float32).eps * sigma[0]]
            kappas.append(kept[0] / kept[-1])
            largest.append(sigma[0])
    assert last["step"] == 4
    assert last["metrics"]["kappa"] == pytest.approx(np.median(kappas), rel=1e-4)
    assert last["metrics"]["sigma_max"] == pytest.approx(max(largest), rel=1e-5)


def test_nothing_is_disturbed(tmp_path: Path) -> None:
    """Given dropout, when the monitor measures at each step, then the weights are those of a run without it."""
    bare = tiny.trainer(tmp_path / "without")
    bare.train()
    watched = tiny.trainer(tmp_path / "with", GradienceCallback(**EVERY_STEP))
    watched.train()
    assert tiny.same_weights(tiny.weights(bare.model), tiny.weights(watched.model))


def test_the_summary_ends_with_it(tmp_path: Path) -> None:
    """Given a monitored run without a guard, when it ended, then summary.json has its last kappa and no guard."""
    records = tiny.record(tmp_path, callback=EVERY_STEP)
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    last = tiny.of(records, "metrics", kind="spectral")[-1]["metrics"]
    assert summary["guard"] is None
    assert summary["spectral"] == {"final_kappa": last["kappa"], "final_risk_level": None}  # four readings are too few
    assert summary["final_loss"] == tiny.of(records, "train_step")[-1]["loss"]
    assert summary["run_id"] == records[0]["run_id"]


def test_it_is_off_by_default(tmp_path: Path) -> None:
    """Given the defaults, when a run is recorded, then nothing spectral and no summary is written."""
    records = tiny.record(tmp_path)
    assert not tiny.of(records, "metrics", kind="spectral")
    assert not (tmp_path / "summary.json").exists()


def test_a_fault_of_the_monitor_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a monitor that fails at each sample, when training runs, then it reaches its end and counts the faults."""

    def fail(self: object, step: int) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(SpectralMonitor, "observe", fail)
    records = tiny.record(tmp_path, callback=EVERY_STEP)
    assert records[-1]["status"] == "ok"
    assert records[-1]["telemetry_faults"] == 4


def _at(level: RiskLevel) -> Any:
    """A monitor's judgement that is always this level, from the third step on."""
    real = SpectralMonitor.observe

    def observe(self: Any, step: int) -> Any:
        sample = real(self, step)
        if step != 3:
            return sample
        wanted = self._wanted.get(level)
        return type(sample)(sample.step, sample.reading, sample.course, sample.previous, wanted)

    return observe


ACTING = {**EVERY_STEP, "enable_guard": True, "spectral_actions": True, "guard_lr_backoff": 0.5}


def test_a_warning_takes_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given actions on, when the level reaches WARNING after step 3, then the state before step 4 is kept."""
    monkeypatch.setattr(SpectralMonitor, "observe", _at(RiskLevel.WARNING))
    records = tiny.record(tmp_path, callback=ACTING)
    snapshots = [r["step"] for r in tiny.of(records, "metrics", kind="guard") if r["metrics"]["action"] == "snapshot"]
    assert snapshots == [0, 3]


def test_danger_lowers_the_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given actions and a back-off, when the level reaches DANGER after step 3, then step 4 runs at half the rate."""
    monkeypatch.setattr(SpectralMonitor, "observe", _at(RiskLevel.DANGER))
    records = tiny.record(tmp_path, callback=ACTING)
    assert [r.get("lr_multiplier", 1.0) for r in tiny.of(records, "train_step")] == [1.0, 1.0, 1.0, 0.5]


def test_instability_rolls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given actions on, when INSTABILITY comes after step 3, then the newest snapshot is restored and it says why."""
    monkeypatch.setattr(SpectralMonitor, "observe", _at(RiskLevel.INSTABILITY))
    records = tiny.record(tmp_path, callback=ACTING)
    (rollback,) = tiny.of(records, "alert", code="GUARD_ROLLBACK")
    assert rollback["context"]["trigger"] == "spectral_instability"
    assert rollback["context"]["restored_step"] == 0
    assert records[-1]["status"] == "ok"


def test_instability_halts_where_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given ``spectral_on_instability="halt"``, when INSTABILITY comes after step 3, then training stops there."""
    monkeypatch.setattr(SpectralMonitor, "observe", _at(RiskLevel.INSTABILITY))
    records = tiny.record(tmp_path, callback={**ACTING, "spectral_on_instability": "halt"})
    assert records[-1]["status"] == "aborted"
    assert "stopped by the guard (the spectral monitor reached INSTABILITY) at step 3" in records[-1]["reason"]


def test_without_actions_no_level_changes_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a guard and a monitor without actions, when the level is INSTABILITY, then only telemetry tells."""
    monkeypatch.setattr(SpectralMonitor, "observe", _at(RiskLevel.INSTABILITY))
    records = tiny.record(tmp_path, callback={**EVERY_STEP, "enable_guard": True})
    assert not tiny.of(records, "alert", code="GUARD_ROLLBACK")
    assert records[-1]["status"] == "ok"


def test_actions_without_a_guard_are_refused() -> None:
    """Given spectral actions without the guard, when the callback is made, then it says what is missing."""
    with pytest.raises(ValueError, match="spectral_actions needs spectral_enabled and enable_guard"):
        GradienceCallback(spectral_enabled=True, spectral_actions=True)


class _Ranks:
    """As much of the arguments as is asked for the number of ranks."""

    world_size = 2
    optim = "adamw_torch"


def test_actions_on_several_ranks_are_refused(tmp_path: Path) -> None:
    """Given two ranks, when spectral actions are on, then training is refused before its first step."""
    options = GradienceCallback(**ACTING).config
    model = torch.nn.Linear(2, 2)
    event = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1), "lr_scheduler": None}
    watch = Watch(options, lambda: None, lambda fault, where: None)
    with pytest.raises(GuardUnsupportedError, match="spectral_actions on several ranks"):
        watch.begin(object(), _Ranks(), object(), event)
