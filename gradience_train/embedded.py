"""Embedded tasks ready to train: a small base model that knows its language, and encoded splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradience_train.tasks.encoding import Row, encode
from gradience_train.tasks.templated_qa import background, make_splits, vocabulary
from gradience_train.tiny_models import one_thread, tiny_causal_lm, word_tokenizer
from gradience_train.warm_start import warm_start

WARM_START_STEPS = 240
_WARM_START_BATCH = 64


@dataclass(frozen=True, slots=True)
class EmbeddedTask:
    """A base model and the rows to fine-tune and to evaluate it on.

    Attributes:
        model: The base, without an adapter.
        tokenizer: Its tokenizer.
        train: Rows to train on.
        val: Rows from the same distribution, none of them in `train`.
        test: Rows from a shifted distribution, none of them in `train` or `val`.
    """

    model: Any
    tokenizer: Any
    train: list[Row]
    val: list[Row]
    test: list[Row]


def tiny_qa(
    seed: int,
    *,
    warm_start_steps: int = WARM_START_STEPS,
    device: str = "cpu",
    on_step: Callable[[int], None] | None = None,
) -> EmbeddedTask:
    """Build the templated question-answer task with a tiny causal LM.

    Args:
        seed: Decides the weights and the data.
        warm_start_steps: Steps of training the base, about 30 ms each. With 0 the base is random, and
            an adapter on it learns next to nothing.
        device: Where the base is trained and left.
        on_step: Called with the number of warm-start steps done.
    """
    tokenizer = word_tokenizer(vocabulary())
    model = tiny_causal_lm(tokenizer, seed).to(device)
    general = encode(background(seed, warm_start_steps * _WARM_START_BATCH), tokenizer)
    with one_thread():
        warm_start(model, general, batch_size=_WARM_START_BATCH, on_step=on_step)
    splits = make_splits(seed)
    return EmbeddedTask(
        model=model,
        tokenizer=tokenizer,
        train=encode(splits.train, tokenizer),
        val=encode(splits.val, tokenizer),
        test=encode(splits.test, tokenizer),
    )
