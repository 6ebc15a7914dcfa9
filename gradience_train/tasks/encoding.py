"""Examples as rows of token ids: for a causal LM with the loss on the answer alone, for a classifier with a label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gradience_train.tasks.examples import Example

IGNORED_LABEL = -100
Row = dict[str, Any]
"""`input_ids` and `attention_mask`, lists of int, and `labels`: a list of int for a causal LM, one for a classifier."""


def encode(examples: Iterable[Example], tokenizer: Any, length: int = 16) -> list[Row]:
    """Return one row per example, padded on the right to `length` tokens.

    A row reads `<s> question answer </s>`. Its labels are the answer token and nothing else, so the loss is
    the mean negative log-likelihood of the answers in nats.

    Raises:
        ValueError: An example needs more than `length` tokens.
    """
    return [_encode_one(example, tokenizer, length) for example in examples]


def encode_labelled(examples: Iterable[Example], tokenizer: Any, labels: Sequence[str], length: int = 12) -> list[Row]:
    """Return one row per example for a classifier: `<s> text </s>`, padded, with the place of the answer in `labels`.

    Raises:
        ValueError: An example needs more than `length` tokens, or its answer is no label.
    """
    return [_encode_labelled_one(example, tokenizer, labels, length) for example in examples]


def _encode_labelled_one(example: Example, tokenizer: Any, labels: Sequence[str], length: int) -> Row:
    if example.answer not in labels:
        raise ValueError(f"{example.answer!r} is none of the labels {', '.join(labels)}: {example.question!r}")
    row = _row(tokenizer, _ids(tokenizer, example.question), length, example.question)
    return row | {"labels": labels.index(example.answer)}


def _encode_one(example: Example, tokenizer: Any, length: int) -> Row:
    question = _ids(tokenizer, example.question)
    answer: int = tokenizer.convert_tokens_to_ids(example.answer)
    row = _row(tokenizer, [*question, answer], length, example.question)
    behind = length - len(question) - 2
    return row | {"labels": [IGNORED_LABEL] * (len(question) + 1) + [answer] + [IGNORED_LABEL] * behind}


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.convert_tokens_to_ids(text.split())
    return ids


def _row(tokenizer: Any, words: list[int], length: int, shown: str) -> Row:
    ids = [tokenizer.bos_token_id, *words, tokenizer.eos_token_id]
    padding = length - len(ids)
    if padding < 0:
        raise ValueError(f"{len(ids)} tokens do not fit in a row of {length}: {shown!r}")
    return {
        "input_ids": ids + [tokenizer.pad_token_id] * padding,
        "attention_mask": [1] * len(ids) + [0] * padding,
    }
