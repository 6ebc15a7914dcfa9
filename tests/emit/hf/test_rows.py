"""Rows of the trainer's log: which kind each is, and its names in telemetry/v1."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.hf.rows import perplexity, read_evaluation, row_kind, step_fields

_NAMES = st.from_regex(r"[a-z][a-z0-9/]{0,8}", fullmatch=True).filter(lambda name: name not in {"runtime", "epoch"})


@pytest.mark.parametrize(
    ("logs", "kind"),
    [
        ({"loss": 1.0, "learning_rate": 1e-3, "epoch": 0.1}, "step"),
        ({"loss": 1.0, "train_runtime": 3.0, "train_tokens_per_second": 9.0}, "step"),
        ({"train_runtime": 3.0, "train_samples_per_second": 2.0, "train_loss": 1.0, "total_flos": 0.0}, "summary"),
        ({"train_loss": 1.0}, "summary"),
        ({"eval_loss": 1.0, "eval_runtime": 1.0, "eval_samples_per_second": 5.0}, "evaluation"),
        ({"holdout_runtime": 1.0, "holdout_samples_per_second": 5.0}, "evaluation"),
        ({"eval_bleu": 0.3}, "other"),
        ({"judge": 1}, "other"),
        ({}, "other"),
    ],
)
def test_the_kind_of_a_row(logs: dict[str, Any], kind: str) -> None:
    """Given a row, when its kind is asked for, then it is the documented one."""
    assert row_kind(logs) == kind


def test_tokens_come_from_the_trainer_else_from_trl() -> None:
    """Given both token counts, one, or none, when the row is read, then `tokens` is the trainer's, else TRL's."""
    assert step_fields({"num_input_tokens_seen": 5, "num_tokens": 7}) == {"tokens": 5, "num_tokens": 7}
    assert step_fields({"num_tokens": 7}) == {"tokens": 7}
    assert step_fields({"loss": 1.0}) == {"loss": 1.0}


@given(st.dictionaries(st.sampled_from(["learning_rate", "lr", "tokens", "num_tokens", "loss", "x"]), st.integers()))
def test_no_value_is_lost_in_renaming(logs: dict[str, int]) -> None:
    """Given a row whose names may collide after renaming, when it is read, then every value is still there."""
    assert sorted(step_fields(logs).values()) == sorted(logs.values())


@pytest.mark.parametrize(
    ("prefix", "split"),
    [
        ("eval", "val"),
        ("test", "test"),
        ("eval_train", "train"),
        ("eval_hard_set", "hard_set"),
        ("validation", "val"),
        ("dev", "val"),
        ("holdout", "holdout"),
    ],
)
def test_the_split_is_read_from_the_prefix(prefix: str, split: str) -> None:
    """Given metrics under a prefix, when they are read, then split and names are plain and the epoch stands beside."""
    metrics = {f"{prefix}_loss": 1.0, f"{prefix}_runtime": 2.0, "epoch": 0.5}
    found = read_evaluation(metrics, "other")
    assert (found.split, found.metrics, found.beside) == (split, {"loss": 1.0, "runtime": 2.0}, {"epoch": 0.5})


@given(st.sampled_from(["eval", "test", "eval_a"]), st.dictionaries(_NAMES, st.floats(allow_nan=False), max_size=6))
def test_metrics_come_back_without_their_prefix(prefix: str, metrics: dict[str, float]) -> None:
    """Given any metrics, also ones that end in _runtime, when prefixed and read, then they are what they were."""
    metrics = {**metrics, "runtime": 1.0, "decode_runtime": 2.0}
    found = read_evaluation({f"{prefix}_{key}": value for key, value in metrics.items()}, "other")
    assert found.metrics == metrics


def test_metrics_without_a_prefix_stay_as_they_are() -> None:
    """Given metrics that no trainer made, when they are read, then names stay and the split is the default."""
    assert read_evaluation({"bleu": 0.3}, "test").split == "test"
    assert read_evaluation({"bleu": 0.3}, "test").metrics == {"bleu": 0.3}


@given(st.floats(min_value=-50, max_value=700))
def test_perplexity_is_the_exponential(loss: float) -> None:
    """Given a loss in nats, when its perplexity is taken, then its logarithm is the loss."""
    value = perplexity(loss)
    assert value is not None
    assert math.isclose(math.log(value), loss, rel_tol=1e-12, abs_tol=1e-12)


def test_perplexity_of_what_is_no_finite_number() -> None:
    """Given a huge loss, NaN, text or nothing, when its perplexity is taken, then it is inf, NaN or None."""
    assert perplexity(800.0) == math.inf
    assert math.isnan(perplexity(math.nan) or 0.0)
    assert [perplexity(value) for value in ("1.0", None, True)] == [None, None, None]
