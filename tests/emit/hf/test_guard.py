"""What the guard does about faults that come back, that cannot be undone, and that come at an awkward moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from gradience_analysis.diagnostics.every import diagnose_run
from gradience_analysis.telemetry.assemble import load_run
from tests.emit.hf import faulty, tiny

# from the oldest peft that is supported, about a base model that is only in memory
pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
ADAPTER: dict[str, Any] = {"rows": faulty.points, "max_grad_norm": 1.0}


def _guarded(out: Path, faults: Any, *callbacks: Any, **options: Any) -> Any:
    return faulty.guarded(out, faults, *callbacks, model=faulty.Adapter(), **(ADAPTER | options))


def _without(out: Path, dropped: Any, **options: Any) -> dict[str, Any]:
    trainer = faulty.unguarded(out, without=dropped, model=faulty.Adapter(), **(ADAPTER | options))
    return faulty.state_of(trainer)


def _actions(out: Path) -> list[tuple[int, str]]:
    return [(act["step"], act["action"]) for act in faulty.acts(out)]


class BeforeUpdate(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Notes the learning rates of the updates that are applied: the optimizer's and the schedule's own."""

    def __init__(self) -> None:
        self.rates: dict[int, tuple[float, float]] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note them, unless there is no gradient."""
        group = kwargs["optimizer"].param_groups[0]
        if any(parameter.grad is not None for parameter in group["params"]):
            self.rates[state.global_step + 1] = (group["lr"], kwargs["lr_scheduler"].get_last_lr()[0])


def test_a_loss_that_stays_nan_ends_training_with_finite_weights(tmp_path: Path) -> None:
    """Given NaN from step 4 on, when 5 bad steps have passed, then training stops where it was after step 3."""
    faults = dict.fromkeys(range(4, 16), faulty.nan_loss)
    trainer = _guarded(tmp_path / "with", faults, steps=15, guard_max_skips=5)
    assert trainer.state.global_step == 8
    assert _actions(tmp_path / "with") == [(4, "skip"), (5, "skip"), (6, "skip"), (7, "skip"), (8, "abort")]
    reference = _without(tmp_path / "without", range(4, 16), steps=15)
    assert faulty.differences(faulty.state_of(trainer), reference) == []
    (alert,) = faulty.alerts(tmp_path / "with", "GUARD_ABORT")
    assert (alert["severity"], alert["context"]["bad_in_a_row"]) == ("error", 5)
    end = tiny.events(tmp_path / "with")[-1]
    assert (end["status"], end["reason"]) == ("aborted", "stopped by the guard (5 bad steps in a row) at step 8 of 15")
    said = faulty.summary(tmp_path / "with")
    assert (said["integrity_status"], said["gave_up"], said["total_skips"]) == ("aborted", "5 bad steps in a row", 4)


def test_giving_up_can_go_on_without_the_guard(tmp_path: Path) -> None:
    """Given on_abort="continue", when the guard gives up, then training goes on from finite weights, unguarded."""
    faults = dict.fromkeys(range(4, 7), faulty.nan_loss)
    options: dict[str, Any] = {"guard_max_skips": 3, "guard_on_abort": "continue"}
    trainer = _guarded(tmp_path / "with", faults, **options)
    assert _actions(tmp_path / "with") == [(4, "skip"), (5, "skip"), (6, "abort")]
    assert trainer.state.global_step == 10
    assert faulty.differences(faulty.state_of(trainer), _without(tmp_path / "without", range(4, 7))) == []
    assert tiny.events(tmp_path / "with")[-1]["status"] == "ok"
    assert faulty.summary(tmp_path / "with")["integrity_status"] == "aborted"

    ruined = _guarded(tmp_path / "ruined", faults | {8: faulty.nan_loss}, **options)
    assert not faulty.is_finite(ruined)
    assert faulty.summary(tmp_path / "ruined")["integrity_status"] == "corrupted"


def test_weights_that_break_again_and_again_end_training_with_finite_ones(tmp_path: Path) -> None:
    """Given NaN weights at every step, when cooldown and window have run out, then sound weights are what is left."""
    faults = dict.fromkeys(range(5, 21), faulty.nan_weights)
    options: dict[str, Any] = {"steps": 20}
    trainer = _guarded(
        tmp_path / "with", faults, guard_snapshot_every=2, guard_cooldown_steps=3, guard_max_rollbacks=2, **options
    )
    skips = [(step, "skip") for step in (6, 7, 9, 10)]
    expected = sorted([(5, "rollback"), (8, "rollback"), (11, "abort"), *skips])
    assert _actions(tmp_path / "with") == expected
    assert [act.get("reason") for act in faulty.acts(tmp_path / "with") if act["action"] == "skip"] == (
        ["3 steps of cooldown since the rollback"] * 4
    )
    assert trainer.state.global_step == 11
    assert faulty.is_finite(trainer)
    dropped = faulty.dropped(tmp_path / "with")
    assert dropped == list(range(dropped[0], 12))
    reference = _without(tmp_path / "without", [*dropped, *range(12, 21)], **options)
    assert faulty.differences(faulty.state_of(trainer), reference) == []
    said = faulty.summary(tmp_path / "with")
    assert (said["total_rollbacks"], said["gave_up"]) == (2, "2 rollbacks within 50 steps")
    assert said["integrity_status"] == "aborted"


def test_a_second_fault_in_the_cooldown_waits_for_its_end(tmp_path: Path) -> None:
    """Given NaN weights at steps 6 and 8, when the cooldown is 4 steps, then 8 and 9 are skipped, 10 rolls back."""
    trainer = _guarded(
        tmp_path / "with",
        {6: faulty.nan_weights, 8: faulty.nan_weights},
        steps=14,
        guard_snapshot_every=2,
        guard_cooldown_steps=4,
    )
    assert _actions(tmp_path / "with") == [(6, "rollback"), (8, "skip"), (9, "skip"), (10, "rollback")]
    reference = _without(tmp_path / "without", faulty.dropped(tmp_path / "with"), steps=14)
    assert faulty.differences(faulty.state_of(trainer), reference) == []
    assert faulty.summary(tmp_path / "with")["total_recoveries"] == 2


def test_without_a_snapshot_there_is_nothing_to_restore(tmp_path: Path) -> None:
    """Given NaN weights before the first snapshot, when training begins, then it ends, and the record says so."""
    trainer = _guarded(tmp_path, {1: faulty.nan_weights})
    assert trainer.state.global_step == 1
    (alert,) = faulty.alerts(tmp_path, "GUARD_ABORT_NO_SNAPSHOT")
    assert (alert["step"], alert["severity"]) == (1, "error")
    said = faulty.summary(tmp_path)
    assert (said["integrity_status"], said["gave_up"]) == ("corrupted", "there is no snapshot to restore")


def test_the_learning_rate_is_lowered_three_times_beside_the_schedule(tmp_path: Path) -> None:
    """Given 5 rollbacks and a back-off of a half, when updates are applied, then at an eighth of the schedule."""
    rates = BeforeUpdate()
    trainer = _guarded(
        tmp_path,
        dict.fromkeys((3, 5, 7, 9, 11), faulty.nan_weights),
        rates,
        steps=14,
        guard_snapshot_every=1,
        guard_cooldown_steps=0,
        guard_max_rollbacks=9,
        guard_lr_backoff=0.5,
    )
    assert [step for step, action in _actions(tmp_path) if action == "rollback"] == [3, 5, 7, 9, 11]
    factors = {step: used / planned for step, (used, planned) in rates.rates.items()}
    assert factors == {1: 1, 2: 1, 4: 0.5, 6: 0.25, 8: 0.125, 10: 0.125, 12: 0.125, 13: 0.125, 14: 0.125}
    assert trainer.optimizer.param_groups[0]["lr"] == trainer.lr_scheduler.get_last_lr()[0]
    logged = {
        row["step"]: (row["lr"], row.get("lr_multiplier")) for row in tiny.of(tiny.events(tmp_path), "train_step")
    }
    assert logged[2] == (rates.rates[2][1], None)
    assert logged[4] == (rates.rates[4][1], 0.5)
    assert faulty.summary(tmp_path)["lr_multiplier"] == 0.125


def test_an_older_snapshot_can_be_restored_and_the_newer_ones_go(tmp_path: Path) -> None:
    """Given steps_back=2, when weights break twice, then each time the second newest snapshot is what is left."""
    trainer = _guarded(
        tmp_path / "with",
        {8: faulty.nan_weights, 10: faulty.nan_weights},
        steps=14,
        guard_snapshot_every=2,
        guard_steps_back=2,
        guard_cooldown_steps=0,
    )
    # 0, 2, 4, 6 at step 8; 4 is restored and 6 dropped; step 9 takes 8, step 10 goes back behind it, to 4 again
    assert [act["restored_step"] for act in faulty.acts(tmp_path / "with")] == [4, 4]
    reference = _without(tmp_path / "without", range(5, 11), steps=14)
    assert faulty.differences(faulty.state_of(trainer), reference) == []


@pytest.mark.parametrize(
    "options",
    [
        {"save_strategy": "steps", "save_steps": 5},
        {"save_strategy": "epoch", "max_steps": 5, "num_train_epochs": 1},
    ],
    ids=["steps", "epoch"],
)
def test_a_checkpoint_holds_finite_weights_though_its_step_broke_them(tmp_path: Path, options: dict[str, Any]) -> None:
    """Given an update that leaves NaN weights, when they are saved right after, then what is saved is finite."""
    # no snapshot is due at step 5, so that its update is applied
    options = {"steps": options.get("max_steps", 9), "guard_snapshot_every": 3, "model": tiny.lora()} | options
    trainer = faulty.guarded(tmp_path, {5: faulty.nan_moments}, **options)
    saved = load_file(tmp_path / "checkpoint-5" / "adapter_model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.values())
    optimizer = torch.load(tmp_path / "checkpoint-5" / "optimizer.pt")
    assert all(bool(torch.isfinite(e["exp_avg"]).all()) for e in optimizer["state"].values())
    assert _actions(tmp_path) == [(5, "rollback")]
    assert faulty.is_finite(trainer)


def test_a_cooldown_does_not_keep_what_is_saved_damaged(tmp_path: Path) -> None:
    """Given a rollback just before, when weights broke and are to be saved, then they are restored all the same."""
    trainer = faulty.guarded(
        tmp_path,
        {3: faulty.nan_weights, 5: faulty.nan_moments},
        model=tiny.lora(),
        guard_snapshot_every=3,
        save_strategy="steps",
        save_steps=5,
    )
    saved = load_file(tmp_path / "checkpoint-5" / "adapter_model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.values())
    assert _actions(tmp_path) == [(3, "rollback"), (5, "rollback")]
    assert faulty.is_finite(trainer)


def test_nan_of_the_very_last_update_is_undone(tmp_path: Path) -> None:
    """Given weights that the last update breaks, when training ends, then it is the run up to the last snapshot."""
    trainer = _guarded(tmp_path / "with", {10: faulty.nan_moments}, guard_snapshot_every=4)
    assert _actions(tmp_path / "with") == [(10, "rollback")]
    dropped = faulty.dropped(tmp_path / "with")
    assert dropped == [9, 10]
    assert faulty.differences(faulty.state_of(trainer), _without(tmp_path / "without", dropped)) == []
    assert faulty.summary(tmp_path / "with")["integrity_status"] == "recovered"


class BreakAtTheEnd(TrainerCallback):  # type: ignore[misc] # transformers is Any to mypy
    """Breaks the optimizer's state after the last step."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Break it."""
        optimizer = kwargs["optimizer"]
        optimizer.state[optimizer.param_groups[0]["params"][0]]["exp_avg"].fill_(float("nan"))


def test_the_best_model_is_not_overwritten_by_a_snapshot(tmp_path: Path) -> None:
    """Given load_best_model_at_end, when the state breaks at the end, then the best weights are what is left."""
    trainer = faulty.guarded(
        tmp_path,
        {},
        BreakAtTheEnd(),
        steps=8,
        model=tiny.lora(),
        load_best_model_at_end=True,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=3,
        save_steps=3,
    )
    best = load_file(Path(trainer.state.best_model_checkpoint) / "adapter_model.safetensors")
    left = {
        name.replace(".default", ""): value for name, value in tiny.weights(trainer.model).items() if "lora" in name
    }
    assert left.keys() == best.keys()
    assert all(torch.equal(left[name], best[name]) for name in best)


def test_observing_changes_nothing_and_says_what_it_would_have_done(tmp_path: Path) -> None:
    """Given an observing guard and a NaN gradient, when training ends, then it is the unguarded run, fault and all."""
    faults = {4: faulty.nan_gradient}
    trainer = _guarded(tmp_path / "with", faults, guard_mode="observe", guard_max_skips=4)
    reference = faulty.unguarded(tmp_path / "without", faults=faults, model=faulty.Adapter(), **ADAPTER)
    assert faulty.differences(faulty.state_of(trainer), faulty.state_of(reference)) == []
    assert trainer.state.global_step == 10
    said = [(a["step"], a["context"]["would"]) for a in faulty.alerts(tmp_path / "with", "GUARD_TRIGGERED")]
    assert said == [(4, "skip"), (5, "rollback"), (6, "skip"), (7, "abort")]
    assert faulty.acts(tmp_path / "with") == []
    counted = faulty.summary(tmp_path / "with")
    assert (counted["mode"], counted["total_skips"], counted["total_snapshots"]) == ("observe", 2, 0)
    assert counted["integrity_status"] == "corrupted"


def test_the_record_says_what_the_guard_may_do_and_did(tmp_path: Path) -> None:
    """Given a skip and a rollback, when the run is over, then init, snapshots, acts and summary.json tell of them."""
    _guarded(tmp_path, {4: faulty.nan_loss, 9: faulty.nan_weights}, steps=12, guard_snapshot_every=3, guard_ring_size=2)
    (init,) = faulty.alerts(tmp_path, "GUARD_INIT")
    assert (init["step"], init["context"]["snapshot_every"], init["context"]["max_skips"]) == (0, 3, 20)
    records = tiny.events(tmp_path)
    kinds = [r["metrics"]["action"] for r in tiny.of(records, "metrics", kind="guard")]
    assert kinds == ["init", "snapshot", "skip", "snapshot", "snapshot", "rollback", "snapshot", "summary"]
    snapshots = tiny.of(records, "metrics", kind="guard")
    held = [r["metrics"]["snapshot_count"] for r in snapshots if r["metrics"]["action"] == "snapshot"]
    assert held == [1, 2, 2, 2]
    (first,) = faulty.alerts(tmp_path, "GUARD_SNAPSHOT")
    assert first["context"]["snapshot_count"] == 1
    rolled = faulty.acts(tmp_path)[-1]
    assert (rolled["optimizer_restored"], rolled["restored"]) == (True, ["weights", "optimizer", "scheduler", "rng"])
    content = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert (content["total_steps"], content["telemetry"]) == (12, "run.jsonl")
    assert content["run_id"] == records[0]["run_id"]
    assert content["final_loss"] == tiny.of(records, "train_step")[-1]["loss"]
    guard = content["guard"]
    assert guard.pop("ms_per_step") > 0
    assert guard == {
        "total_rollbacks": 1,
        "total_skips": 1,
        "total_recoveries": 2,
        "total_snapshots": 4,
        "total_triggers": 2,
        "integrity_status": "recovered",
        "gave_up": None,
        "lr_multiplier": 1.0,
        "mode": "act",
    }


@pytest.mark.parametrize(
    ("faults", "options", "expected"),
    [
        ({}, {}, set()),
        ({4: faulty.nan_loss, 9: faulty.nan_weights}, {}, {"guard_rollbacks"}),
        (dict.fromkeys(range(4, 13), faulty.nan_loss), {"guard_max_skips": 4}, {"guard_aborted"}),
        ({1: faulty.nan_weights}, {}, {"guard_aborted"}),
    ],
    ids=["healthy", "recovered", "gave-up", "no-snapshot"],
)
def test_the_diagnostics_read_the_record(
    tmp_path: Path, faults: Any, options: dict[str, Any], expected: set[str]
) -> None:
    """Given a guarded run, when it is diagnosed, then it is told what the guard did, and nothing it did not."""
    _guarded(tmp_path, faults, steps=12, guard_snapshot_every=3, **options)
    diagnosis = diagnose_run(load_run(tmp_path))
    assert {finding.code for finding in diagnosis.findings if finding.code.startswith("guard_")} == expected


def test_an_abort_at_the_very_last_step_is_an_abort(tmp_path: Path) -> None:
    """Given a guard that gives up at the last step, when the run has ended, then its end is not called ok."""
    faulty.guarded(tmp_path, dict.fromkeys((1, 2, 3), faulty.nan_loss), steps=3, guard_max_skips=3)
    end = tiny.events(tmp_path)[-1]
    assert (end["event"], end["status"]) == ("run_end", "aborted")
    assert "3 bad steps in a row" in end["reason"]
