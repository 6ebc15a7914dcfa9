"""The spectral monitor in a loop of one's own, and what it may do there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradience_emit.controller import GradienceController, GuardAbortError
from gradience_emit.spectral import RiskLevel, RiskWindow
from gradience_emit.spectral.levels import Reading
from tests.emit.controller.loops import Training, differences, events, watched
from tests.emit.controller.test_told_afterwards import begun, tell


def rising(monkeypatch: pytest.MonkeyPatch, level: RiskLevel, at: int) -> None:
    """Make the monitor see a level from its reading number ``at`` on."""
    add = RiskWindow.add
    seen = [Reading()]
    count = 0

    def added(self: RiskWindow, step: int, kappa: float | None) -> Reading:
        nonlocal count
        count += 1
        add(self, step, kappa)
        found = level if count >= at else RiskLevel.STABLE
        seen[0] = Reading(slope=0.01, volatility=0.0, raw=found, level=found)
        return seen[0]

    monkeypatch.setattr(RiskWindow, "add", added)
    monkeypatch.setattr(RiskWindow, "reading", property(lambda _: seen[0]))


ACTING: dict[str, Any] = {"spectral_enabled": True, "spectral_actions": True, "spectral_interval": 5}


def test_measurements_are_written_and_change_nothing(tmp_path: Path) -> None:
    """Given the monitor on, when a loop is watched, then its samples are written and the loop ends as alone."""
    trained = Training("one_cycle")
    summary = watched(tmp_path, trained, spectral_enabled=True, spectral_interval=5)
    assert differences(trained, Training("one_cycle").run()) == []
    samples = [e for e in events(tmp_path) if e["event"] == "metrics" and e["kind"] == "spectral"]
    assert [e["step"] for e in samples] == [5, 10, 15, 20]
    assert summary["spectral"]["final_kappa"] == samples[-1]["metrics"]["kappa"]
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["spectral"] == summary["spectral"]


def test_a_loop_that_tells_afterwards_is_measured_too(tmp_path: Path) -> None:
    """Given the monitor on, when a loop tells of its steps, then its samples are written."""
    trained = Training()
    controller = begun(tmp_path, trained, spectral_enabled=True, spectral_interval=10)
    tell(trained, controller)
    assert controller.finalize()["spectral"]["final_kappa"] > 0
    assert [e["step"] for e in events(tmp_path) if e.get("kind") == "spectral"] == [10, 20]


def test_a_halt_is_an_error_of_the_guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given INSTABILITY that halts, when it is seen after step 10, then the loop is left at the next step."""
    rising(monkeypatch, RiskLevel.INSTABILITY, at=2)
    with pytest.raises(GuardAbortError, match="INSTABILITY"):
        watched(tmp_path, Training(), **ACTING, spectral_on_instability="halt")
    last = events(tmp_path)[-1]
    assert (last["status"], last["global_step"]) == ("aborted", 10)


def test_a_halt_makes_step_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given INSTABILITY that halts, when a loop tells of step 10, then it is told to stop."""
    rising(monkeypatch, RiskLevel.INSTABILITY, at=2)
    trained = Training()
    controller = begun(tmp_path, trained, **ACTING, spectral_on_instability="halt")
    assert tell(trained, controller) == 10
    controller.finalize()
    assert events(tmp_path)[-1]["status"] == "aborted"


@pytest.mark.parametrize("options", [{"guard_on_abort": "continue"}, {"guard_mode": "observe"}])
def test_a_halt_that_may_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """Given a guard that may not stop or only observes, when INSTABILITY halts, then the loop goes on as alone."""
    rising(monkeypatch, RiskLevel.INSTABILITY, at=2)
    summary = watched(tmp_path, trained := Training(), **ACTING, spectral_on_instability="halt", **options)
    assert summary["total_steps"] == 20
    assert differences(trained, Training().run()) == []
    assert summary["spectral"]["final_risk_level"] == "INSTABILITY"


def test_a_rollback_that_the_monitor_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given INSTABILITY after step 10, when it rolls back, then the updates since the snapshot are missing."""
    rising(monkeypatch, RiskLevel.INSTABILITY, at=2)
    trained = Training("one_cycle")
    watched(tmp_path, trained, **ACTING, guard_snapshot_every=4)
    [rollback] = [e for e in events(tmp_path) if e.get("code") == "GUARD_ROLLBACK"]
    assert (rollback["step"], rollback["context"]["restored_step"]) == (10, 8)
    assert differences(trained, Training("one_cycle").run(left_out=(9, 10))) == []


def test_a_lower_learning_rate_that_the_monitor_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given DANGER after step 10, when the guard may back off, then the rate is halved from then on."""
    rising(monkeypatch, RiskLevel.DANGER, at=2)
    summary = watched(tmp_path, Training(), **ACTING, guard_lr_backoff=0.5, log_every=1)
    factors = {e["step"]: e.get("lr_multiplier") for e in events(tmp_path) if e["event"] == "train_step"}
    assert {step for step, factor in factors.items() if factor == 0.5} == set(range(11, 21))
    assert summary["guard"]["lr_multiplier"] == 0.5


def test_a_monitor_that_fails_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a monitor that fails, when a loop is watched, then it ends as alone."""

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(RiskWindow, "add", broken)
    watched(tmp_path, trained := Training(), spectral_enabled=True, spectral_interval=5)
    assert differences(trained, Training().run()) == []


def test_the_controller_needs_no_monitor(tmp_path: Path) -> None:
    """Given the monitor off, when a run ends, then the summary says that nothing was watched."""
    training = Training(updates=2)
    controller = GradienceController(tmp_path, **training.parts())
    with controller.watch():
        training.run()
    assert controller.summary is not None
    assert controller.summary["spectral"] is None
