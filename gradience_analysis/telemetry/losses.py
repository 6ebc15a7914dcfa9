"""The training loss as a curve that says something about learning, or why it does not."""

from __future__ import annotations

import math

from gradience_analysis.model import Run

LossCurve = list[tuple[int, float]]
"""(step, loss) in order; every loss is finite and none is below 0."""

# Trainers write the loss with four digits: one that really reached 0.0 came there through values as small as this.
_NEAR_ZERO = 0.01
_NOT_LOGGED = "no finite training loss was logged. Log the loss with each train_step."
_ONLY_ZERO = "every logged loss is 0.0, which no training reaches from its first step. Log the loss before any filter."
_SURROGATE = (
    "the loss is the objective of reinforcement learning, whose level says nothing about learning. "
    "Log the reward, and judge by that."
)


def training_losses(run: Run) -> LossCurve | str:
    """The logged training loss, without what is no loss.

    Left out are values that are not finite, and a loss of exactly 0.0 that follows one above 0.01: that is what a
    trainer writes in the place of a NaN (`logging_nan_inf_filter`).

    Returns:
        The curve, or a sentence that says why there is none: nothing logged, zeros alone, or a loss whose level has
        no meaning (negative values, or a `reward` beside it, as in reinforcement learning).
    """
    if run.series("reward"):
        return _SURROGATE
    curve: LossCurve = []
    last, zeros = math.inf, 0
    for point in run.series("loss"):
        loss = point[1]
        if 0 < loss < math.inf or (loss == 0 and last <= _NEAR_ZERO):
            curve.append(point)
            last = loss
        elif loss == 0:
            zeros += 1
        elif -math.inf < loss < 0:
            return _SURROGATE
    return curve or (_ONLY_ZERO if zeros else _NOT_LOGGED)
