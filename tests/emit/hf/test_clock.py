"""The step clock against a clock the test holds."""

from __future__ import annotations

import pytest

from gradience_emit.hf.clock import StepClock


class Hands:
    """A clock that goes where it is put."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.time


def test_speed_is_that_of_the_steps_since_the_last_report() -> None:
    """Given steps of two micro-batches and 2 s, when reported twice, then each report has its own steps only."""
    hands = Hands()
    clock = StepClock(8, now=hands)
    for _ in range(3):
        hands.time += 2.0
        clock.batch_ended()
        clock.batch_ended()
        clock.step_ended()
    assert clock.unreported_steps == 3
    assert clock.report() == {"step_s": 2.0, "samples_per_s": 8.0}
    hands.time += 4.0
    clock.batch_ended()
    clock.step_ended()
    assert clock.report() == {"step_s": 4.0, "samples_per_s": 2.0}
    assert clock.report() == {}


def test_time_between_a_step_and_the_end_of_an_evaluation_is_left_out() -> None:
    """Given an evaluation of 50 s and a save of 5 s after a step, when reported, then neither is in the step time."""
    hands = Hands()
    clock = StepClock(1, now=hands)
    hands.time += 1.0
    clock.step_ended()
    hands.time += 50.0
    clock.resume()
    hands.time += 5.0
    clock.resume()
    hands.time += 3.0
    clock.step_ended()
    assert clock.report()["step_s"] == 2.0


def test_tokens_per_second_between_the_last_two_counts() -> None:
    """Given counts at every second step only, when reported at others, then the rate is over the counted steps."""
    hands = Hands()
    clock = StepClock(1, tokens=1000, now=hands)
    for step in range(1, 6):
        hands.time += 1.0
        clock.step_ended()
        if step % 2 == 0:
            clock.tokens_seen(1000 + 30 * step)
    assert clock.report()["tokens_per_s"] == pytest.approx(30.0)
    hands.time += 1.0
    clock.step_ended()
    assert "tokens_per_s" not in clock.report()


def test_the_first_count_of_unknown_start_is_no_rate() -> None:
    """Given a first count in the middle of a run, when reported, then there is no rate until the second one."""
    hands = Hands()
    clock = StepClock(1, now=hands)
    hands.time += 1.0
    clock.step_ended()
    clock.tokens_seen(500)
    assert "tokens_per_s" not in clock.report()
    hands.time += 1.0
    clock.step_ended()
    clock.tokens_seen(540)
    assert clock.report()["tokens_per_s"] == pytest.approx(40.0)
