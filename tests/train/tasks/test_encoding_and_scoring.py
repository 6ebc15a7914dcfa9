"""Rows carry their loss on the answer alone, and accuracy counts exactly those tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gradience_train.tasks.encoding import IGNORED_LABEL, encode
from gradience_train.tasks.scoring import answer_accuracy, keep_best_token
from gradience_train.tasks.templated_qa import Example, make_splits, vocabulary
from gradience_train.tiny_models import word_tokenizer

QUESTION = Example("where does ada live ?", "rome")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Give the task's tokenizer."""
    return word_tokenizer(vocabulary())


def test_a_row_reads_back_as_its_example(tokenizer: Any) -> None:
    """Given an example, when its row is decoded, then the text is the question and the answer between the marks."""
    (row,) = encode([QUESTION], tokenizer)
    used = sum(row["attention_mask"])
    assert tokenizer.decode(row["input_ids"][:used]) == "<s> where does ada live ? rome </s>"
    assert set(row["input_ids"][used:]) == {tokenizer.pad_token_id}


def test_only_the_answer_is_labelled(tokenizer: Any) -> None:
    """Given all splits, when labels are read, then each row has one, equal to its own input at that place."""
    splits = make_splits(0)
    for row in encode(splits.train + splits.val + splits.test, tokenizer):
        places = [i for i, label in enumerate(row["labels"]) if label != IGNORED_LABEL]
        assert len(places) == 1
        assert row["labels"][places[0]] == row["input_ids"][places[0]]
        assert row["input_ids"][places[0] + 1] == tokenizer.eos_token_id
        assert {len(values) for values in row.values()} == {16}


def test_a_row_that_is_too_long_is_refused(tokenizer: Any) -> None:
    """Given too little room, when an example is encoded, then the error says how much it needs."""
    with pytest.raises(ValueError, match="8 tokens do not fit in a row of 7"):
        encode([QUESTION], tokenizer, length=7)


def test_no_word_of_the_task_is_unknown(tokenizer: Any) -> None:
    """Given all splits, when they are encoded, then the unknown token does not occur; a foreign word gives it."""
    splits = make_splits(1)
    rows = encode(splits.train + splits.val + splits.test, tokenizer)
    assert not any(tokenizer.unk_token_id in row["input_ids"] for row in rows)
    assert tokenizer("zeppelin").input_ids == [tokenizer.unk_token_id]


def test_accuracy_looks_one_position_back() -> None:
    """Given logits with one right and one wrong answer, when they are scored, then accuracy is one half of two."""
    labels = np.array([[IGNORED_LABEL, IGNORED_LABEL, 2], [IGNORED_LABEL, 1, IGNORED_LABEL]])
    logits = torch.zeros(2, 3, 4)
    logits[0, 1, 2] = 1.0  # position 1 predicts token 2 at position 2: right
    logits[1, 0, 3] = 1.0  # position 0 predicts token 3 at position 1, where 1 is wanted: wrong
    best = keep_best_token(logits, labels)
    scores = answer_accuracy(SimpleNamespace(predictions=best.numpy(), label_ids=labels))
    assert scores == {"accuracy": 0.5, "n": 2}


def test_no_answers_give_no_accuracy() -> None:
    """Given labels without an answer, when they are scored, then no accuracy is made up."""
    labels = np.full((2, 3), IGNORED_LABEL)
    assert answer_accuracy(SimpleNamespace(predictions=np.zeros((2, 3)), label_ids=labels)) == {"n": 0}
