"""Question and answer pairs as rows of token ids, with the loss taken on the answer alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradience_train.tasks.templated_qa import Example

IGNORED_LABEL = -100
Row = dict[str, list[int]]


def encode(examples: Iterable[Example], tokenizer: Any, length: int = 16) -> list[Row]:
    """Return one row per example, padded on the right to `length` tokens.

    A row reads `<s> question answer </s>`. Its labels are the answer token and nothing else, so the loss is
    the mean negative log-likelihood of the answers in nats.

    Raises:
        ValueError: An example needs more than `length` tokens.
    """
    return [_encode_one(example, tokenizer, length) for example in examples]


def _encode_one(example: Example, tokenizer: Any, length: int) -> Row:
    question: list[int] = tokenizer.convert_tokens_to_ids(example.question.split())
    answer: int = tokenizer.convert_tokens_to_ids(example.answer)
    ids = [tokenizer.bos_token_id, *question, answer, tokenizer.eos_token_id]
    padding = length - len(ids)
    if padding < 0:
        raise ValueError(f"{len(ids)} tokens do not fit in a row of {length}: {example.question!r}")
    return {
        "input_ids": ids + [tokenizer.pad_token_id] * padding,
        "attention_mask": [1] * len(ids) + [0] * padding,
        "labels": [IGNORED_LABEL] * (len(question) + 1) + [answer] + [IGNORED_LABEL] * (padding + 1),
    }
