"""A guard played over a record: the same decisions as in training, and what a record cannot tell."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.guard import Action, GuardOptions, Policy, Signals, Trigger, Triggers, Verdict
from gradience_emit.guard.replay import Played, ReplayAction, ReplayPoint, replay

NAN, INF = math.nan, math.inf
norms = st.one_of(st.none(), st.floats(1e-3, 1e5), st.sampled_from([NAN, INF, 0.0]))
points = st.builds(
    ReplayPoint,
    step=st.integers(1, 100),
    loss=st.one_of(st.none(), st.floats(0, 10), st.just(NAN)),
    grad_norm=norms,
    nonfinite_loss=st.booleans(),
    nonfinite_grad=st.booleans(),
    clipped=st.booleans(),
    scaled=st.booleans(),
)


def healthy(count: int, first: int = 1) -> list[ReplayPoint]:
    """So many steps with a norm of about 1."""
    return [ReplayPoint(step, 2.0, 1.0 + 0.01 * (step % 5)) for step in range(first, first + count)]


def trained(given_points: list[ReplayPoint], options: GuardOptions) -> list[tuple[int, str]]:
    """What a guard in training does with these steps: each step whose update it judged bad, and the decision."""
    triggers, policy, done = Triggers(options), Policy(options), list[tuple[int, str]]()
    for place, point in enumerate(given_points):
        bad_loss = point.nonfinite_loss or (point.loss is not None and not math.isfinite(point.loss))
        known = point.loss is not None or point.nonfinite_loss
        norm = point.grad_norm
        if point.nonfinite_grad and (norm is None or math.isfinite(norm)):
            norm = NAN
        signals = Signals(not bad_loss if known else None, norm, point.clipped, point.scaled, point.loss)
        judged = triggers.judge(signals)
        action = policy.decide(point.step, judged.verdict, can_restore=False).action
        if judged.verdict > Verdict.GOOD:
            done.append((place, str(action) if action is not Action.GO else judged.verdict.name.lower()))
        if action is Action.ABORT:
            break
    return done


@given(st.lists(points, max_size=60), st.sampled_from(["warn", "skip"]), st.integers(1, 25))
def test_the_same_decisions_as_in_training(given_points: list[ReplayPoint], spikes: str, max_skips: int) -> None:
    """Given any steps, when played, then each action is the one that triggers and policy give in training."""
    options = GuardOptions(on_clipped_spike=spikes, max_skips=max_skips)  # type: ignore[arg-type]
    played = replay(given_points, options)
    expected = trained(given_points, options)
    assert [(action.step, str(action.action)) for action in played.actions] == [
        (given_points[place].step, what) for place, what in expected
    ]
    aborted = any(what == "abort" for _, what in expected)
    assert (played.stopped_at is not None) == aborted
    assert played.points == (expected[-1][0] + 1 if aborted else len(given_points))


def test_a_healthy_record_gives_nothing() -> None:
    """Given a hundred ordinary steps of a run of a thousand, when played, then nothing happens, and both are told."""
    played = replay(healthy(100), GuardOptions(), steps=1000)
    assert (played.actions, played.points, played.steps, played.with_norm) == ((), 100, 1000, 100)
    assert played.stopped_at is None
    assert set(played.counts.values()) == {0}
    assert played.triggers == {}


@pytest.mark.parametrize(
    ("point", "action", "trigger"),
    [
        (ReplayPoint(50, NAN, 1.0), Played.SKIP, Trigger.NONFINITE_LOSS),
        (ReplayPoint(50, 2.0, 1.0, nonfinite_loss=True), Played.SKIP, Trigger.NONFINITE_LOSS),
        (ReplayPoint(50, 2.0, NAN), Played.SKIP, Trigger.NONFINITE_GRADIENT),
        (ReplayPoint(50, 2.0, INF, clipped=True), Played.SKIP, Trigger.NONFINITE_GRADIENT),
        (ReplayPoint(50, 2.0, 1.0, nonfinite_grad=True), Played.SKIP, Trigger.NONFINITE_GRADIENT),
        (ReplayPoint(50, 2.0, None, nonfinite_grad=True), Played.SKIP, Trigger.NONFINITE_GRADIENT),
        (ReplayPoint(50, 2.0, INF, scaled=True), Played.SCALED, Trigger.NONFINITE_GRADIENT),
        (ReplayPoint(50, 2.0, INF, nonfinite_loss=True, scaled=True), Played.SKIP, Trigger.NONFINITE_LOSS),
        (ReplayPoint(50, 2.0, 50.0), Played.SKIP, Trigger.GRADIENT_SPIKE),
        (ReplayPoint(50, 2.0, 50.0, clipped=True), Played.WARN, Trigger.GRADIENT_SPIKE),
        (ReplayPoint(50, None, 50.0), Played.SKIP, Trigger.GRADIENT_SPIKE),
    ],
)
def test_one_bad_step(point: ReplayPoint, action: Played, trigger: Trigger) -> None:
    """Given one bad step among ordinary ones, when played, then it is the only action, with what was seen."""
    played = replay([*healthy(49), point, *healthy(49, 51)], GuardOptions())
    (found,) = played.actions
    assert (found.step, found.action, found.trigger, found.follows) == (50, action, trigger, False)
    assert played.counts == {str(kind): int(kind is action) for kind in Played}
    assert played.triggers == {str(trigger): 1}
    assert (found.limit is not None) == (trigger is Trigger.GRADIENT_SPIKE)


def test_a_high_norm_at_the_start_meets_the_cap() -> None:
    """Given a norm of 150 as the first of a record, when played, then it is above the cap of 100."""
    (found,) = replay([ReplayPoint(1, 2.0, 150.0)], GuardOptions()).actions
    assert found == ReplayAction(1, Played.SKIP, Trigger.GRADIENT_CAP, 150.0, 100.0)


def test_a_row_of_nan_ends_where_the_guard_would_give_up() -> None:
    """Given a record that is NaN from step 31 on, when played, then one skip is the fault's and the rest follow it."""

    def record() -> Iterator[ReplayPoint]:
        yield from healthy(30)
        for step in range(31, 10_000):
            yield ReplayPoint(step, NAN, NAN)
            assert step <= 50, "more of the record was taken than was played"

    played = replay(record(), GuardOptions(), steps=10_000)
    assert played.counts == {"warn": 0, "scaled": 0, "skip": 19, "abort": 1}
    assert played.stopped_at == 50
    assert [action.follows for action in played.actions] == [False] + [True] * 19
    assert played.actions[-1].reason == "20 bad steps in a row"


def test_only_an_unbroken_row_follows() -> None:
    """Given two single NaN steps and a spike next to one, when played, then none follows another."""
    bad = {10: NAN, 20: NAN, 21: 900.0, 40: NAN}
    record = [ReplayPoint(step, 2.0, bad.get(step, 1.0)) for step in range(1, 60)]
    played = replay(record, GuardOptions())
    assert [action.step for action in played.actions] == sorted(bad)
    assert not any(action.follows for action in played.actions)


def test_a_point_between_logs_says_so() -> None:
    """Given a NaN that a counter tells of, when played, then the action says after which log it happened."""
    record = [*healthy(20), ReplayPoint(29, nonfinite_grad=True, after=20), ReplayPoint(30, 2.0, 1.0)]
    (found,) = replay(record, GuardOptions()).actions
    assert (found.step, found.after) == (29, 20)


def test_it_needs_nothing_but_the_standard_library() -> None:
    """Given an interpreter that cannot import torch or numpy, when the replay is imported, then it plays."""
    code = """
import sys
for name in ("torch", "numpy", "transformers"):
    sys.modules[name] = None
from gradience_emit.guard import GuardOptions
from gradience_emit.guard.replay import ReplayPoint, replay
print(len(replay([ReplayPoint(1, 2.0, float("nan"))], GuardOptions()).actions))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")
