"""What is done about bad steps: against a policy written down once more, and case by case."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.guard import Action, GuardOptions, Policy, Verdict

GO, SKIP, ROLLBACK, ABORT = Action.GO, Action.SKIP, Action.ROLLBACK, Action.ABORT
BAD = (Verdict.SCALED, Verdict.SKIP, Verdict.RESTORE)


def actions(verdicts: Sequence[Verdict], options: GuardOptions, *, first: int = 1, can_restore: bool = True) -> str:
    """What is decided from step `first` on, a letter each: g, s, r, a."""
    policy = Policy(options)
    steps = enumerate(verdicts, first)
    return "".join(policy.decide(step, one, can_restore=can_restore).action[0] for step, one in steps)


def expected(verdicts: Sequence[Verdict], options: GuardOptions, can_restore: Sequence[bool]) -> list[Action]:
    """The same decisions, from everything that happened so far and without any state but a list of it."""
    done: list[Action] = []
    for step, verdict in enumerate(verdicts, 1):
        if ABORT in done:
            done.append(GO)
            continue
        row = 0
        while row < len(done) and verdicts[step - 2 - row] > Verdict.WARN:
            row += 1
        rollbacks = [place for place, action in enumerate(done, 1) if action is ROLLBACK]
        if verdict <= Verdict.WARN:
            action = GO
        elif verdict is Verdict.FAILED or row + 1 >= options.max_skips:
            action = ABORT
        elif verdict is not Verdict.RESTORE:
            action = GO if verdict is Verdict.SCALED else SKIP
        elif not can_restore[step - 1]:
            action = ABORT
        elif rollbacks and step < rollbacks[-1] + options.cooldown_steps:
            action = SKIP
        elif sum(step - place < options.window_steps for place in rollbacks) >= options.max_rollbacks:
            action = ABORT
        else:
            action = ROLLBACK
        done.append(action)
    return done


@given(
    st.lists(st.tuples(st.sampled_from(Verdict), st.booleans()), max_size=80),
    st.builds(
        GuardOptions,
        max_skips=st.integers(1, 12),
        max_rollbacks=st.integers(0, 4),
        window_steps=st.integers(1, 40),
        cooldown_steps=st.integers(0, 15),
    ),
)
def test_decisions_are_those_of_the_rules(steps: list[tuple[Verdict, bool]], options: GuardOptions) -> None:
    """Given any verdicts and limits, when decided step by step, then the decisions are those of the rules."""
    verdicts, restorable = [one for one, _ in steps], [one for _, one in steps]
    policy = Policy(options)
    found = [
        policy.decide(step, verdict, can_restore=can).action
        for step, (verdict, can) in enumerate(zip(verdicts, restorable, strict=True), 1)
    ]
    assert found == expected(verdicts, options, restorable)


@given(st.lists(st.sampled_from(Verdict), max_size=60))
def test_the_same_verdicts_give_the_same_decisions(verdicts: list[Verdict]) -> None:
    """Given the verdicts that ranks agreed on, when each rank decides, then they decide the same, words included."""
    one, other = Policy(GuardOptions()), Policy(GuardOptions())
    for step, verdict in enumerate(verdicts):
        assert one.decide(step, verdict, can_restore=True) == other.decide(step, verdict, can_restore=True)


@pytest.mark.parametrize("gap", [9, 10, 11])
def test_cooldown_counts_from_the_step_of_the_rollback(gap: int) -> None:
    """Given a rollback at step 7, when the state is damaged again, then up to step 16 it is skipped over."""
    policy = Policy(GuardOptions(cooldown_steps=10))
    assert policy.decide(7, Verdict.RESTORE, can_restore=True).action is ROLLBACK
    second = policy.decide(7 + gap, Verdict.RESTORE, can_restore=True)
    assert second.action is (SKIP if gap < 10 else ROLLBACK)
    assert ("cooldown" in second.reason) == (gap < 10)


@pytest.mark.parametrize(("fourth", "action"), [(50, ABORT), (51, ROLLBACK), (500, ROLLBACK)])
def test_three_rollbacks_within_fifty_steps_and_no_more(fourth: int, action: Action) -> None:
    """Given rollbacks at steps 1, 20 and 40, when a fourth is due, then it is an abort until the first is 50 ago."""
    policy = Policy(GuardOptions())
    for step in (1, 20, 40):
        assert policy.decide(step, Verdict.RESTORE, can_restore=True).action is ROLLBACK
        policy.decide(step + 1, Verdict.GOOD, can_restore=True)
    decision = policy.decide(fourth, Verdict.RESTORE, can_restore=True)
    assert decision.action is action
    assert policy.gave_up == (action is ABORT)
    assert (decision.reason == "3 rollbacks within 50 steps") == (action is ABORT)


@pytest.mark.parametrize("verdict", BAD[:2])
def test_a_row_of_bad_steps_ends_in_an_abort(verdict: Verdict) -> None:
    """Given bad steps in a row, when the twentieth comes, then the guard gives up and lets everything pass."""
    letter = "g" if verdict is Verdict.SCALED else "s"
    assert actions([verdict] * 25, GuardOptions()) == letter * 19 + "a" + "g" * 5


@pytest.mark.parametrize("good", [Verdict.GOOD, Verdict.WARN])
def test_an_applied_update_ends_a_row(good: Verdict) -> None:
    """Given nineteen bad steps, one that is applied, and nineteen more, when decided, then there is no abort."""
    assert actions([Verdict.SKIP] * 19 + [good] + [Verdict.SKIP] * 19, GuardOptions()) == "s" * 19 + "g" + "s" * 19


def test_a_rollback_does_not_end_a_row() -> None:
    """Given a fault that no rollback mends, when it comes back at every step, then rollbacks end in an abort."""
    found = actions([Verdict.RESTORE] * 30, GuardOptions(cooldown_steps=4, max_rollbacks=100, max_skips=10))
    assert found == "rsssrsssr" + "a" + "g" * 20


def test_what_the_scaler_leaves_out_is_left_to_it() -> None:
    """Given an overflow under a gradient scaler, when decided, then the step goes on, with the reason."""
    decision = Policy(GuardOptions()).decide(1, Verdict.SCALED, can_restore=False)
    assert decision.action is GO
    assert "scaler" in decision.reason


@pytest.mark.parametrize("verdict", list(Verdict))
def test_without_a_snapshot_damage_is_the_end(verdict: Verdict) -> None:
    """Given no snapshot, when a step is judged, then damage is an abort, and a bad gradient is only skipped."""
    found = actions([verdict], GuardOptions(), can_restore=False)
    assert found == {Verdict.RESTORE: "a", Verdict.FAILED: "a", Verdict.SKIP: "s"}.get(verdict, "g")


def test_reasons_are_given_where_the_verdict_does_not_say_it() -> None:
    """Given each way to give up, when decided, then the reason names it; a skip and a rollback need none."""
    policy = Policy(GuardOptions(max_skips=2))
    assert policy.decide(1, Verdict.SKIP, can_restore=True).reason == ""
    assert policy.decide(2, Verdict.SKIP, can_restore=True).reason == "2 bad steps in a row"
    assert policy.decide(3, Verdict.FAILED, can_restore=True).reason == "the guard has given up"
    assert Policy(GuardOptions()).decide(1, Verdict.RESTORE, can_restore=True).reason == ""
    assert "no snapshot" in Policy(GuardOptions()).decide(1, Verdict.RESTORE, can_restore=False).reason
    assert "failed" in Policy(GuardOptions()).decide(1, Verdict.FAILED, can_restore=True).reason


@pytest.mark.parametrize(
    ("options", "expected_factor"),
    [
        (GuardOptions(lr_backoff=0.5), 0.125),
        (GuardOptions(lr_backoff=0.5, max_backoffs=1), 0.5),
        (GuardOptions(lr_backoff=0.5, max_backoffs=0), 1.0),
        (GuardOptions(), 1.0),
    ],
)
def test_the_learning_rate_is_lowered_as_often_as_allowed(options: GuardOptions, expected_factor: float) -> None:
    """Given five rollbacks far apart, when decided, then the rate is lowered after each, three times by default."""
    policy = Policy(options)
    for step in range(0, 500, 100):
        assert policy.decide(step, Verdict.RESTORE, can_restore=True).action is ROLLBACK
        policy.decide(step + 1, Verdict.GOOD, can_restore=True)
    assert policy.lr_multiplier == expected_factor


@pytest.mark.parametrize("verdict", [Verdict.SKIP, Verdict.SCALED, Verdict.WARN])
def test_a_skip_does_not_lower_the_learning_rate(verdict: Verdict) -> None:
    """Given steps that are bad but no damage, when decided, then the learning rate stays."""
    policy = Policy(GuardOptions(lr_backoff=0.5))
    for step in range(10):
        policy.decide(step, verdict, can_restore=True)
    assert policy.lr_multiplier == 1.0
