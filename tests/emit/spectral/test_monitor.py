"""When samples are due, what they want, and what is written of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradience_analysis.diagnostics import spectral_risk
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_emit import TelemetryWriter
from gradience_emit.spectral import (
    RiskLevel,
    SpectralLimits,
    SpectralMonitor,
    SpectralProbe,
    SpectralSample,
    Wanted,
    emit,
)
from tests.emit.spectral.layers import Lora, linear, model

FEW = SpectralLimits(window=4, fewest=2, hysteresis=1)


class Steered:
    """A model of one adapter whose kappa the test sets."""

    def __init__(self) -> None:
        self.layer = Lora(torch.eye(2, 5), torch.eye(6, 2))
        self.model = model(layer=self.layer)

    def set(self, kappa: float | None) -> None:
        """Give the update this condition number; None makes it zero, NaN breaks it."""
        with torch.no_grad():
            self.layer.lora_A["default"].weight[0, 0] = 0.0 if kappa is None else kappa
            self.layer.lora_A["default"].weight[1, 1] = 0.0 if kappa is None else 1.0


def follow(monitor: SpectralMonitor, steered: Steered, kappas: Iterable[float | None], every: int = 10) -> list[Any]:
    """A sample for each kappa."""
    samples: list[SpectralSample] = []
    for place, kappa in enumerate(kappas, start=1):
        steered.set(kappa)
        samples.append(monitor.observe(place * every))
    return samples


def growing(rate: float, count: int) -> list[float]:
    """Kappas that grow by this share of their value a step, every 10 steps."""
    return [4.0 * math.exp(rate * 10 * place) for place in range(count)]


def test_samples_are_due_every_interval() -> None:
    """Given an interval of 50, when a loop of 200 steps asks, then 50, 100, 150 and 200 are due."""
    monitor = SpectralMonitor(Steered().model, interval=50)
    taken = [step for step in range(1, 201) if monitor.due(step) and monitor.observe(step)]
    assert taken == [50, 100, 150, 200]


def test_a_loop_that_is_resumed_or_wound_back_is_due_at_once() -> None:
    """Given a loop that starts late, or goes back, when it asks, then a sample is due, and then every interval."""
    monitor = SpectralMonitor(Steered().model, interval=50)
    assert monitor.due(1230)
    monitor.observe(1230)
    assert not monitor.due(1279)
    assert monitor.due(1280)
    assert monitor.due(1200)


def test_actions_are_off_by_default() -> None:
    """Given a kappa that runs away, when actions are off, then nothing is wanted and the interval stays."""
    steered = Steered()
    monitor = SpectralMonitor(steered.model, FEW, interval=10, burst_every=2)
    samples = follow(monitor, steered, growing(0.01, 6))
    assert samples[-1].level is RiskLevel.DANGER
    assert {sample.wanted for sample in samples} == {Wanted.NOTHING}
    assert not monitor.bursting
    assert not monitor.due(62)


@pytest.mark.parametrize(("rate", "level", "wanted"), [(0.003, "WARNING", "snapshot"), (0.01, "DANGER", "backoff")])
def test_a_rise_wants_something_once_and_bursts_while_it_lasts(rate: float, level: str, wanted: str) -> None:
    """Given actions on, when a level rises and stays, then it is asked for once, and samples come faster."""
    steered = Steered()
    monitor = SpectralMonitor(steered.model, FEW, interval=10, burst_every=2, actions=True)
    samples = follow(monitor, steered, growing(rate, 4))
    assert [sample.level for sample in samples] == [None, level, level, level]
    assert [sample.wanted for sample in samples] == ["nothing", wanted, "nothing", "nothing"]
    assert [sample.changed for sample in samples] == [False, True, False, False]
    assert monitor.bursting
    assert (monitor.due(41), monitor.due(42)) == (False, True)
    kappa = growing(rate, 4)[-1]
    for step in (60, 70, 80, 90):
        steered.set(kappa)
        last = monitor.observe(step)
    assert (last.level, last.wanted, monitor.bursting) == (RiskLevel.STABLE, Wanted.NOTHING, False)
    assert not monitor.due(92)


@pytest.mark.parametrize("choice", ["rollback", "halt"])
def test_instability_wants_what_was_chosen_and_restored_weights_begin_anew(choice: Any) -> None:
    """Given a kappa that jumps, when it is unstable, then that is wanted once, and again only after a new rise."""
    steered = Steered()
    limits = SpectralLimits(window=8, fewest=2, hysteresis=1)
    monitor = SpectralMonitor(steered.model, limits, interval=10, actions=True, on_instability=choice)
    jumps = [4.0, 4.0, 4.0, 6.0, 3.0, 6.0, 3.0, 6.0]
    samples = follow(monitor, steered, jumps)
    assert samples[-1].level is RiskLevel.INSTABILITY
    assert [sample.wanted for sample in samples].count(Wanted(choice)) == 1
    monitor.restored(30)
    assert monitor.level is None
    steered.set(4.0)
    after = monitor.observe(90)
    assert (after.level, after.wanted) == (RiskLevel.STABLE, Wanted.NOTHING)


def test_what_was_not_measured_holds_the_level_and_says_so() -> None:
    """Given an update of zero and then NaN among the readings, when observed, then kappa is None and nothing fails."""
    steered = Steered()
    monitor = SpectralMonitor(steered.model, FEW, interval=10)
    samples = follow(monitor, steered, [None, 4.0, 4.0, math.nan, None])
    assert [sample.kappa for sample in samples] == [None, 4.0, 4.0, None, None]
    assert [sample.level for sample in samples] == [None, None, "STABLE", "STABLE", "STABLE"]
    assert samples[3].spectral()["nonfinite"] == 1
    assert monitor.final == {"final_kappa": pytest.approx(4.0), "final_risk_level": "STABLE"}


def test_nothing_is_made_up_before_the_first_sample() -> None:
    """Given a monitor that never observed, when asked for records and the end, then there are none."""
    monitor = SpectralMonitor(Steered().model)
    assert monitor.records() == {}
    assert monitor.final == {"final_kappa": None, "final_risk_level": None}


def test_each_matrix_is_decayed_by_its_own_group() -> None:
    """Given groups of different decay, when measured, then the ratio is the mean of decay x norm; one for all wins."""
    lora, head = Lora(3 * torch.eye(2, 5), torch.eye(6, 2)), linear(torch.diag(torch.tensor([5.0, 1.0])))
    network = model(lora=lora, head=head, other=linear(torch.eye(3)))
    groups = [
        {"params": list(lora.parameters()), "weight_decay": 0.1},
        {"params": [head.weight], "weight_decay": 0.01},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    monitor = SpectralMonitor(network, optimizer=optimizer)
    monitor.observe(1)
    assert monitor.records()["structural"]["muon_ratio"] == pytest.approx((0.1 * 3 + 0.01 * 5) / 2, rel=1e-4)
    optimizer.param_groups[1]["weight_decay"] = 0.0
    assert monitor.observe(2).structural()["muon_ratio"] == pytest.approx(0.1 * 3 / 2, rel=1e-4)
    optimizer.param_groups[0]["params"] = [lora.lora_B["default"].weight]
    assert monitor.observe(3).structural()["muon_ratio"] == pytest.approx(0.0), "the decay of A is not known"
    fixed = SpectralMonitor(network, optimizer=optimizer, weight_decay=0.2)
    assert fixed.observe(1).structural()["muon_ratio"] == pytest.approx(0.2 * (3 + 5 + 1) / 3, rel=1e-4)
    assert SpectralMonitor(network).observe(1).structural()["muon_ratio"] is None


def test_telemetry_holds_what_was_measured_and_the_diagnostic_agrees(tmp_path: Path) -> None:
    """Given a run that turns dangerous, when written, then records are valid, alerts mark rises, and levels agree."""
    steered = Steered()
    monitor = SpectralMonitor(steered.model, SpectralLimits(hysteresis=1), interval=10, weight_decay=0.1)
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start({"model_name": "tiny"})
        for sample in follow(monitor, steered, [None, *growing(0.0025, 14), *[6.0] * 20, *growing(0.02, 12)]):
            emit(writer, sample.step, sample)
    records = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text("utf-8").splitlines()]
    spectral = [r["metrics"] for r in records if r.get("kind") == "spectral"]
    structural = [r["metrics"] for r in records if r.get("kind") == "structural"]
    assert len(spectral) == len(structural) == 47
    assert spectral[-1] == pytest.approx(monitor.records()["spectral"])
    assert set(spectral[0]) >= {"kappa", "sigma_max", "sigma_min", "slope", "volatility", "risk_level", "cost_ms"}
    assert spectral[0]["kappa"] is None
    assert structural[-1]["muon_ratio"] == pytest.approx(0.1 * spectral[-1]["sigma_max"])
    levels = [metrics["risk_level"] for metrics in spectral]
    alerts = [(r["severity"], r["context"]["level"]) for r in records if r["event"] == "alert"]
    rises = [
        after
        for before, after in zip([None, *levels], levels, strict=False)
        if after in _ALERTS and RiskLevel(after).rank > RiskLevel(before or "STABLE").rank
    ]
    assert alerts == [(_ALERTS[level], level) for level in rises]
    assert {"WARNING", "INSTABILITY"} <= {level for _, level in alerts}
    run = load_run(tmp_path / "run.jsonl")
    assert not run.issues
    rise, volatility = spectral_risk.measure(run)
    assert rise.value == pytest.approx(spectral[-1]["slope"], rel=1e-9)
    assert spectral_risk.risk_level(rise, volatility, load_policy()) == levels[-1]


_ALERTS = {"WARNING": "info", "DANGER": "info", "INSTABILITY": "info"}


@pytest.mark.parametrize(
    "options", [{"interval": 0}, {"interval": 5, "burst_every": 6}, {"burst_every": 0}, {"on_instability": "explode"}]
)
def test_options_without_sense_are_refused(options: dict[str, Any]) -> None:
    """Given an option out of range, when the monitor is made, then it is a ValueError."""
    with pytest.raises(ValueError, match="must"):
        SpectralMonitor(Steered().model, **options)


def test_the_cost_is_the_time_it_took() -> None:
    """Given a measurement, when it is done, then its cost is positive and no more than the call took."""
    import time

    probe = SpectralProbe(Steered().model)
    started = time.perf_counter()
    reading = probe.measure()
    assert 0 < reading.cost_ms <= 1e3 * (time.perf_counter() - started)
