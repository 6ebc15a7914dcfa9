"""The tiny base model: built from a config, the same for a seed, and worth fine-tuning after its warm start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch

from gradience_train.embedded import tiny_qa
from gradience_train.tasks.encoding import Row, encode
from gradience_train.tasks.templated_qa import background, vocabulary
from gradience_train.tiny_models import TINY_CAUSAL, one_thread, tiny_causal_lm, word_tokenizer
from gradience_train.warm_start import warm_start

pytestmark = pytest.mark.hf


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Train on one thread: on a busy machine, two wait for each other."""
    with one_thread():
        yield


def loss_of(model: Any, rows: list[Row]) -> float:
    """Compute the answer loss in nats without the model's own loss: mean of -log softmax at the answers."""
    ids = torch.tensor([row["input_ids"] for row in rows])
    labels = torch.tensor([row["labels"] for row in rows])
    mask = torch.tensor([row["attention_mask"] for row in rows])
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    wanted = labels[:, 1:]
    place = wanted != -100
    return float(-torch.log_softmax(logits[place], dim=-1).gather(1, wanted[place][:, None]).mean())


def test_the_model_is_tiny_and_named() -> None:
    """Given the task's vocabulary, when the model is built, then it is about 80,000 parameters and says its name."""
    model = tiny_causal_lm(word_tokenizer(vocabulary()), seed=0)
    assert 50_000 < model.num_parameters() < 120_000
    assert model.name_or_path == model.config._name_or_path == TINY_CAUSAL


def test_a_seed_decides_the_weights() -> None:
    """Given two models of one seed and one of another, when weights are compared, then the seed decides."""
    tokenizer = word_tokenizer(vocabulary())
    first, same, other = (tiny_causal_lm(tokenizer, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_warm_start_teaches_the_base_its_language() -> None:
    """Given a random base, when it has read some background, then unread background costs it far less."""
    tokenizer = word_tokenizer(vocabulary())
    model = tiny_causal_lm(tokenizer, seed=0)
    unread = encode(background(0, 3000)[-200:], tokenizer)
    before = loss_of(model, unread)
    steps: list[int] = []
    last = warm_start(model, encode(background(0, 2560), tokenizer), on_step=steps.append)
    assert steps == list(range(1, 41))
    assert math.isfinite(last)
    assert abs(before - math.log(len(tokenizer))) < 0.3  # random: every word as likely
    assert loss_of(model, unread) < 2.4  # little over ln 8, the right kind of answer


def test_warm_start_without_rows_says_nan() -> None:
    """Given no rows, when the warm start runs, then its loss is undefined and the weights are as before."""
    model = tiny_causal_lm(word_tokenizer(vocabulary()), seed=0)
    weight = model.model.embed_tokens.weight.detach().clone()
    assert math.isnan(warm_start(model, []))
    assert torch.equal(weight, model.model.embed_tokens.weight)


def test_the_task_keeps_its_rows_apart() -> None:
    """Given the embedded task, when rows of its splits are compared, then no input is in two of them."""
    task = tiny_qa(0, warm_start_steps=0)
    splits = [{tuple(row["input_ids"]) for row in rows} for rows in (task.train, task.val, task.test)]
    assert all(splits)
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]


def test_one_thread_puts_the_number_back() -> None:
    """Given some number of threads, when a block on one thread fails, then the number is as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with suppress(KeyError), one_thread():
            inside = torch.get_num_threads()
            raise KeyError
        assert (inside, torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(before)
