"""What counts as a fault: the spike rule against its formula in numpy, the cap, and what a step's signals add up to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.guard import GuardOptions, Judgement, Signals, Trigger, Triggers, Verdict
from gradience_emit.guard.triggers import SpikeRule

LARGEST = 1.7976931348623157e308
norms = st.floats(1e-6, 1e6)
histories = st.lists(norms, min_size=16, max_size=150)
options = st.builds(
    GuardOptions,
    spike_deviations=st.floats(0.5, 20),
    spike_ratio=st.floats(1, 50),
    spike_window=st.integers(16, 80),
    grad_threshold=st.floats(1e-3, 1e3),
)


def rule_after(history: Sequence[float], given_options: GuardOptions | None = None) -> SpikeRule:
    """A rule that has seen these norms."""
    rule = SpikeRule(given_options or GuardOptions())
    for norm in history:
        rule.observe(norm)
    return rule


def triggers_after(history: Sequence[float], given_options: GuardOptions | None = None) -> Triggers:
    """Triggers that have judged these norms."""
    triggers = Triggers(given_options or GuardOptions())
    for norm in history:
        triggers.judge(Signals(norm=norm))
    return triggers


def expected_limit(history: Sequence[float], given_options: GuardOptions) -> float:
    """The limit as the module's docstring states it, in numpy."""
    logs = np.log(np.asarray(history[-given_options.spike_window :], dtype=np.float64))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    ratio = np.log(given_options.spike_ratio)
    by_window = min(middle + given_options.spike_deviations * spread, logs.max() + ratio)
    return float(np.exp(max(middle + ratio, by_window)))


@given(histories, options)
def test_the_limit_is_the_formula(history: list[float], given_options: GuardOptions) -> None:
    """Given any norms, when enough are known, then the limit is that of median, MAD and largest over the window."""
    assert rule_after(history, given_options).limit() == pytest.approx(expected_limit(history, given_options), rel=1e-9)


@given(histories, norms, options)
def test_a_norm_is_a_spike_when_it_is_above_the_limit(
    history: list[float], norm: float, given_options: GuardOptions
) -> None:
    """Given any norms and a next one, when judged, then it is a spike exactly when it is above the formula's limit."""
    limit = expected_limit(history, given_options)
    if math.isclose(norm, limit, rel_tol=1e-6):
        return
    trigger, told = rule_after(history, given_options).judge(norm)
    assert trigger is (Trigger.GRADIENT_SPIKE if norm > limit else None)
    assert told <= limit * (1 + 1e-9)


@given(histories, norms, st.floats(1e-30, 1e30))
def test_spikes_do_not_depend_on_the_scale(history: list[float], norm: float, scale: float) -> None:
    """Given a run whose loss is multiplied by a number, when judged, then the same norms are spikes."""
    limit = expected_limit(history, GuardOptions())
    if math.isclose(norm, limit, rel_tol=1e-6):
        return
    plain = rule_after(history).judge(norm)[0]
    assert rule_after([scale * one for one in history]).judge(scale * norm)[0] is plain


@given(st.lists(norms, max_size=15), norms)
def test_the_cap_holds_while_few_norms_are_known(history: list[float], norm: float) -> None:
    """Given fewer than 16 norms, when judged, then a norm above 100 and four times their median is above the cap."""
    trigger, _ = rule_after(history).judge(norm)
    ordinary = 4 * math.exp(float(np.median(np.log(history)))) if history else 0.0
    if not math.isclose(norm, ordinary, rel_tol=1e-9):
        assert trigger is (Trigger.GRADIENT_CAP if norm > 100 and norm > ordinary else None)


@given(st.floats(0.7, 1.4), st.floats(1, 1e6), st.integers(1, 100))
def test_a_run_of_large_norms_loses_one_step_at_most(noise: float, level: float, steps: int) -> None:
    """Given a run whose ordinary norm is far above the cap, when judged from its start, then one step is called bad."""
    triggers = Triggers(GuardOptions())
    found = [triggers.judge(Signals(norm=level * noise ** (step % 3))).verdict for step in range(steps)]
    assert sum(verdict > Verdict.GOOD for verdict in found) == (level > 100)
    assert found[1:] == [Verdict.GOOD] * (steps - 1)


@given(st.lists(norms, min_size=64, max_size=64), st.lists(st.floats(1, 1e300), max_size=10))
def test_spikes_in_the_window_hardly_move_the_limit(history: list[float], spikes: list[float]) -> None:
    """Given some explosions among the last norms, when the limit is asked for, then no norm so large is let pass."""
    before = rule_after(history)
    for factor in spikes:
        before.observe(max(history) * factor)
    logs = np.sort(np.log(history))
    spread = 2 * 1.4826 * float(logs[-1] - logs[0])  # twice the range is more than a tenth of outliers can add
    assert math.log(before.limit()) <= logs[-1] + max(8 * spread, math.log(4)) + 1e-9


def test_a_hundredfold_norm_is_seen_among_norms_that_vary_by_factors() -> None:
    """Given norms with a deviation of 1 on the log scale, when one is 100 times their median, then it is a spike."""
    draw = np.random.default_rng(5)
    history = np.exp(draw.normal(0.0, 1.0, 64)).tolist()
    rule = rule_after(history)
    assert rule.judge(100.0)[0] is Trigger.GRADIENT_SPIKE
    assert rule.judge(max(history))[0] is None
    by_deviations_alone = math.exp(8 * 1.4826 * float(np.median(np.abs(np.log(history) - np.median(np.log(history))))))
    assert by_deviations_alone > 100


def test_a_spike_does_not_blind_the_rule_to_the_next() -> None:
    """Given even norms and then an explosion, when a tenfold norm follows, then it is a spike as well."""
    rule = rule_after([1.0 + 0.01 * (step % 7) for step in range(40)])
    rule.observe(1e8)
    assert rule.judge(10.0)[0] is Trigger.GRADIENT_SPIKE


@pytest.mark.parametrize("window", [16, 64])
def test_norms_that_rise_for_good_pass_after_half_a_window(window: int) -> None:
    """Given norms that become ten times as large and stay so, when judged, then they pass once half are of the new."""
    triggers = triggers_after([1.0] * window, GuardOptions(spike_window=window))
    found = [triggers.judge(Signals(norm=10.0)).verdict is Verdict.SKIP for _ in range(window)]
    held = sum(found)
    assert found == [True] * held + [False] * (window - held)
    assert held <= window // 2 + 1


@pytest.mark.parametrize("norm", [5e-324, 1e-300, 1.0, 1e300, LARGEST])
@pytest.mark.parametrize("count", [1, 15, 16, 64])
def test_the_limit_is_finite_at_the_ends_of_the_range(norm: float, count: int) -> None:
    """Given the smallest or the largest norms, when the limit is asked for, then it is finite and above 0."""
    rule = rule_after([norm] * count)
    assert 0 < rule.limit() < math.inf
    assert (rule.judge(norm)[0] is None) == (norm < LARGEST)


@pytest.mark.parametrize("norm", [0.0, -0.0, -1.0])
def test_a_norm_of_zero_says_nothing_of_the_scale(norm: float) -> None:
    """Given norms of 0, as with masked batches, when taken in, then they are neither faults nor known norms."""
    rule = rule_after([norm] * 30)
    assert rule.known == 0
    assert rule.judge(norm)[0] is None
    assert rule.judge(99.0)[0] is None
    assert rule.judge(101.0)[0] is Trigger.GRADIENT_CAP


@given(st.lists(norms, max_size=200), st.integers(16, 40))
def test_the_rule_remembers_its_window_and_no_more(history: list[float], window: int) -> None:
    """Given any norms, when taken in, then the limit is that of a rule which saw the last of them only."""
    limits = GuardOptions(spike_window=window)
    rule = rule_after(history, limits)
    assert rule.known == min(len(history), window)
    assert rule.limit() == rule_after(history[-window:], limits).limit()


LOSSES = (None, True, False)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", [None, 1.0, 1e6, math.nan, math.inf])
@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("on_clipped_spike", ["warn", "skip"])
def test_verdicts(loss: bool | None, norm: float | None, clipped: bool, scaled: bool, on_clipped_spike: str) -> None:
    """Given every mix of signals after twenty steps, when judged, then the verdict is that of the first fault seen."""
    triggers = triggers_after([1.0] * 20, GuardOptions(on_clipped_spike=on_clipped_spike))  # type: ignore[arg-type]
    judged = triggers.judge(Signals(loss, norm, clipped=clipped, scaled=scaled))
    if loss is False:
        expected = (Verdict.SKIP, Trigger.NONFINITE_LOSS)
    elif norm is None or norm == 1.0:
        expected = (Verdict.GOOD, None)
    elif norm == 1e6:
        expected = (
            Verdict.WARN if clipped and on_clipped_spike == "warn" else Verdict.SKIP,
            Trigger.GRADIENT_SPIKE,
        )
    elif scaled and loss:
        expected = (Verdict.SCALED, Trigger.NONFINITE_GRADIENT)
    else:
        expected = (Verdict.SKIP, Trigger.NONFINITE_GRADIENT)
    assert (judged.verdict, judged.trigger) == expected
    assert judged.norm is norm
    assert (judged.limit is not None) == (judged.trigger is Trigger.GRADIENT_SPIKE)


def test_a_scaler_does_not_excuse_a_gradient_under_an_unknown_loss() -> None:
    """Given a gradient scaler and no loss seen, when the norm is infinite, then the step is skipped all the same."""
    judged = Triggers(GuardOptions()).judge(Signals(None, math.inf, scaled=True))
    assert judged == Judgement(Verdict.SKIP, Trigger.NONFINITE_GRADIENT, math.inf)


@pytest.mark.parametrize("norm", [math.nan, math.inf])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_not_finite_never_enters_the_window(norm: float, loss: bool | None) -> None:
    """Given NaN and infinite norms in between, when a later norm is judged, then it is as if they had not been."""
    with_them, without = (triggers_after([1.0] * 20) for _ in range(2))
    with_them.judge(Signals(loss, norm))
    for later in (3.9, 4.1, 1e6):
        assert with_them.judge(Signals(True, later)) == without.judge(Signals(True, later))


def test_verdicts_are_ordered_by_what_they_cost() -> None:
    """Given the verdicts, when ordered, then ranks that take the largest take the worst."""
    order = [Verdict.GOOD, Verdict.WARN, Verdict.SCALED, Verdict.SKIP, Verdict.RESTORE, Verdict.FAILED]
    assert sorted(Verdict) == order
    assert max(Verdict.WARN, Verdict.SKIP) is Verdict.SKIP


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("snapshot_every", "ring_size", "max_skips", "window_steps") for value in (0, 1.5)),
        *((name, -1) for name in ("max_rollbacks", "cooldown_steps", "max_backoffs")),
        *(("spike_ratio", value) for value in (0.99, math.inf, math.nan, True, "4", None)),
        *((name, value) for name in ("grad_threshold", "spike_deviations") for value in (0, -1, math.nan, math.inf)),
        *(("lr_backoff", value) for value in (0, 1.1, -0.5, math.nan, True)),
        *(("spike_window", value) for value in (15, 0, 64.0)),
        *(("mode", value) for value in ("off", None)),
        ("on_clipped_spike", "ignore"),
        ("on_abort", "raise"),
    ],
)
def test_an_option_out_of_its_range_is_named(name: str, value: object) -> None:
    """Given an option that makes no sense, when the options are made, then the error begins with its name."""
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        GuardOptions(**{name: value})  # type: ignore[arg-type]


def test_options_at_the_ends_of_their_ranges() -> None:
    """Given the smallest options that make sense, when the options are made, then they are kept, and all are told."""
    least = {"spike_ratio": 1.0, "max_rollbacks": 0, "cooldown_steps": 0, "max_backoffs": 0, "lr_backoff": 1.0}
    made = GuardOptions(**least, spike_min_history=1, spike_window=1)  # type: ignore[arg-type]
    told = made.limits()
    assert {name: told[name] for name in least} == least
    assert told.keys() == {name for name in dir(made) if not name.startswith("_")} - {"limits"}
