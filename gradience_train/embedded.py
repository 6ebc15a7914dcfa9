"""Embedded tasks ready to train: a small base model that knows its language, and encoded splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from gradience_train.tasks import modular_arithmetic, templated_qa, templated_sentiment
from gradience_train.tasks.encoding import Row, encode, encode_labelled
from gradience_train.tasks.examples import Example, Splits
from gradience_train.tasks.scoring import answer_accuracy, label_accuracy
from gradience_train.tiny_models import TINY, ModelSize, one_thread, tiny_causal_lm, tiny_encoder, word_tokenizer
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


@dataclass(frozen=True, slots=True)
class TaskSource:
    """Where an embedded task comes from, and what a trainer must know about it.

    Attributes:
        dataset_name: Name of the data in telemetry, as `embedded:templated-qa`.
        task_type: PEFT's word for the kind of model: `CAUSAL_LM` or `SEQ_CLS`.
        targets: Linear layers of the base that an adapter can go on, all of them.
        score: `compute_metrics` for a Trainer, to be used with `keep_best_token`.
        warm_start_steps: Steps of training after which the base knows its language.
        warm_start_lr: Learning rate of these steps for a `TINY` model; a wider one takes smaller steps.
        texts: The module that makes the examples.
        labels: Names of the classes; empty for a causal LM.
    """

    dataset_name: str
    task_type: str
    targets: tuple[str, ...]
    score: Callable[[Any], dict[str, float | int]]
    warm_start_steps: int
    warm_start_lr: float
    texts: ModuleType
    labels: tuple[str, ...] = ()

    def splits(self, seed: int, noise: float | None = None) -> Splits:
        """Return the examples of the task; `noise`, 0..1, replaces its share of answers that cannot be known."""
        made: Splits = self.texts.make_splits(seed) if noise is None else self.texts.make_splits(seed, noise=noise)
        return made

    def rows(self, examples: Iterable[Example], tokenizer: Any) -> list[Row]:
        """Return the examples encoded for this kind of model."""
        return encode_labelled(examples, tokenizer, self.labels) if self.labels else encode(examples, tokenizer)

    def base(
        self,
        seed: int,
        *,
        size: ModelSize = TINY,
        steps: int | None = None,
        device: str = "cpu",
        on_step: Callable[[int], None] | None = None,
    ) -> tuple[Any, Any]:
        """Return a base model that has read the background, and its tokenizer.

        Args:
            seed: Decides the weights and the background.
            size: Width and depth of the model.
            steps: Steps of reading; by default as many as make it know its language.
            device: Where the base is trained and left.
            on_step: Called with the number of steps done.
        """
        steps = self.warm_start_steps if steps is None else steps
        tokenizer = word_tokenizer(self.texts.vocabulary())
        if self.labels:
            model = tiny_encoder(tokenizer, seed, len(self.labels), size).to(device)
        else:
            model = tiny_causal_lm(tokenizer, seed, size).to(device)
        rows = self.rows(self.texts.background(seed, steps * _WARM_START_BATCH), tokenizer)
        lr = (
            self.warm_start_lr * (TINY.hidden / size.hidden) ** 2
        )  # at the full rate most of the larger ones stay stuck
        with one_thread():
            warm_start(model, rows, batch_size=_WARM_START_BATCH, lr=lr, on_step=on_step)
        if self.labels:
            _forget_labels(model, seed)
        return model, tokenizer


def _forget_labels(model: Any, seed: int) -> None:
    """Give the classifier new weights: the labels of a published encoder are not those of whoever fine-tunes it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight = model.classifier.weight
        fresh = model.config.initializer_range * torch.randn(weight.shape, generator=generator)
        weight.copy_(fresh)
        model.classifier.bias.zero_()


_LLAMA_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
QA = TaskSource(
    dataset_name=templated_qa.DATASET_NAME,
    task_type="CAUSAL_LM",
    targets=_LLAMA_LAYERS,
    score=answer_accuracy,
    warm_start_steps=WARM_START_STEPS,
    warm_start_lr=3e-3,
    texts=templated_qa,
)
ARITHMETIC = TaskSource(
    dataset_name=modular_arithmetic.DATASET_NAME,
    task_type="CAUSAL_LM",
    targets=_LLAMA_LAYERS,
    score=answer_accuracy,
    warm_start_steps=320,
    warm_start_lr=3e-3,
    texts=modular_arithmetic,
)
SENTIMENT = TaskSource(
    dataset_name=templated_sentiment.DATASET_NAME,
    task_type="SEQ_CLS",
    targets=("query", "key", "value", "dense"),
    score=label_accuracy,
    warm_start_steps=160,
    warm_start_lr=1e-3,
    texts=templated_sentiment,
    labels=templated_sentiment.LABELS,
)


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
    model, tokenizer = QA.base(seed, steps=warm_start_steps, device=device, on_step=on_step)
    splits = QA.splits(seed)
    return EmbeddedTask(
        model=model,
        tokenizer=tokenizer,
        train=QA.rows(splits.train, tokenizer),
        val=QA.rows(splits.val, tokenizer),
        test=QA.rows(splits.test, tokenizer),
    )
