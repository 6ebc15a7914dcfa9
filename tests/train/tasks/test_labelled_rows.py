"""Rows for a classifier carry one label, and its accuracy counts rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gradience_train.tasks.encoding import IGNORED_LABEL, encode_labelled
from gradience_train.tasks.examples import Example
from gradience_train.tasks.scoring import keep_best_token, label_accuracy
from gradience_train.tasks.templated_sentiment import LABELS, make_splits, vocabulary
from gradience_train.tiny_models import word_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Give the task's tokenizer."""
    return word_tokenizer(vocabulary())


def test_a_row_reads_back_as_its_example(tokenizer: Any) -> None:
    """Given reviews, when their rows are decoded, then the text is there, padded, and the label is its place."""
    rows = encode_labelled([Example("the lamp is fine", "good"), Example("the lamp is dull", "bad")], tokenizer, LABELS)
    used = sum(rows[0]["attention_mask"])
    assert tokenizer.decode(rows[0]["input_ids"][:used]) == "<s> the lamp is fine </s>"
    assert set(rows[0]["input_ids"][used:]) == {tokenizer.pad_token_id}
    assert [row["labels"] for row in rows] == [1, 0]
    assert {len(row[name]) for row in rows for name in ("input_ids", "attention_mask")} == {12}


def test_no_word_of_the_task_is_unknown(tokenizer: Any) -> None:
    """Given all splits, when they are encoded, then the unknown token does not occur."""
    splits = make_splits(1)
    rows = encode_labelled(splits.train + splits.val + splits.test, tokenizer, LABELS)
    assert not any(tokenizer.unk_token_id in row["input_ids"] for row in rows)


def test_what_does_not_fit_is_refused(tokenizer: Any) -> None:
    """Given too little room, or an answer that is no label, when a review is encoded, then that is an error."""
    with pytest.raises(ValueError, match="6 tokens do not fit in a row of 5"):
        encode_labelled([Example("the lamp is fine", "good")], tokenizer, LABELS, length=5)
    with pytest.raises(ValueError, match="'fair' is none of the labels bad, good"):
        encode_labelled([Example("the lamp is fine", "fair")], tokenizer, LABELS)


def test_accuracy_counts_rows_with_a_label() -> None:
    """Given logits with one right, one wrong and one unlabelled row, when scored, then accuracy is half of two."""
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.4]])
    labels = np.array([1, 1, IGNORED_LABEL])
    best = keep_best_token(logits, labels)
    scores = label_accuracy(SimpleNamespace(predictions=best.numpy(), label_ids=labels))
    assert scores == {"accuracy": 0.5, "n": 2}


def test_no_labels_give_no_accuracy() -> None:
    """Given rows without a label, when they are scored, then no accuracy is made up."""
    labels = np.full(3, IGNORED_LABEL)
    assert label_accuracy(SimpleNamespace(predictions=np.zeros(3), label_ids=labels)) == {"n": 0}
