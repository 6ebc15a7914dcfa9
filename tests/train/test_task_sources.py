"""Every embedded task comes with a base of either size that has learned something from its background."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gradience_train.embedded import ARITHMETIC, QA, SENTIMENT, TaskSource, tiny_qa
from gradience_train.tasks.encoding import Row
from gradience_train.tiny_models import SMALL, TINY, one_thread

pytestmark = pytest.mark.hf
SOURCES = (QA, ARITHMETIC, SENTIMENT)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Train on one thread: on a busy machine, two wait for each other."""
    with one_thread():
        yield


def logits_and_labels(model: Any, rows: list[Row]) -> tuple[Any, Any]:
    """Predict each answer of the rows: logits, and the answers."""
    batch = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
    labels = torch.tensor([row["labels"] for row in rows])
    model.eval()
    with torch.no_grad():
        logits = model(**batch).logits
    if labels.dim() == 1:
        return logits, labels
    place = labels[:, 1:] != -100
    return logits[:, :-1][place], labels[:, 1:][place]


def loss_of(model: Any, rows: list[Row]) -> float:
    """Compute the answer loss in nats without the model's own loss."""
    logits, labels = logits_and_labels(model, rows)
    return float(-torch.log_softmax(logits, dim=-1).gather(1, labels[:, None]).mean())


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.dataset_name)
def test_the_sizes_and_their_names(source: TaskSource) -> None:
    """Given a task, when its base is built in both sizes, then they are as large as documented and say their names."""
    (tiny, _), (small, _) = (source.base(0, size=size, steps=0) for size in (TINY, SMALL))
    assert 60_000 < tiny.num_parameters() < 100_000
    assert 220_000 < small.num_parameters() < 280_000
    kind = "encoder" if source is SENTIMENT else "causal"
    assert [tiny.name_or_path, small.name_or_path] == [f"embedded:tiny-{kind}", f"embedded:small-{kind}"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.dataset_name)
def test_an_adapter_fits_the_layers_named(source: TaskSource) -> None:
    """Given a task, when its base's modules are listed, then every named layer is one, and linear."""
    model, _ = source.base(0, steps=0)
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(("lm_head", "classifier"))
    }
    assert linear == set(source.targets)


def test_a_seed_decides_the_base() -> None:
    """Given bases of one seed and of another, when weights are compared, then the seed decides, the new head too."""
    first, same, other = (SENTIMENT.base(seed, steps=2)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], same[key]) for key in first)
    for key in ("bert.embeddings.word_embeddings.weight", "classifier.weight"):
        assert not torch.equal(first[key], other[key])


def test_the_background_teaches_arithmetic() -> None:
    """Given the background of the sums, when a base has read it, then unread sums are far from chance."""
    model, tokenizer = ARITHMETIC.base(1)
    unread = ARITHMETIC.rows(ARITHMETIC.texts.background(99, 300), tokenizer)
    own = ARITHMETIC.rows(ARITHMETIC.texts.background(1, 320 * 64)[-300:], tokenizer)
    assert loss_of(model, own) < 0.9
    assert loss_of(model, unread) > loss_of(model, own)  # another seed has other constants


def test_the_background_teaches_what_clear_words_mean() -> None:
    """Given the background of the reviews, when an encoder has read it, then its last layer tells praise from blame."""
    model, tokenizer = SENTIMENT.base(1)
    rows = SENTIMENT.rows(SENTIMENT.texts.make_splits(1, noise=0.0).train, tokenizer)
    clear = [row for row in rows if tokenizer.decode(row["input_ids"][:6]).split()[1] != "what"][:150]
    batch = {name: torch.tensor([row[name] for row in clear]) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        features = model.eval().bert(**batch).pooler_output
    labels = torch.tensor([row["labels"] for row in clear]).float() * 2 - 1
    weights = torch.linalg.lstsq(features, labels[:, None]).solution
    assert float(((features @ weights)[:, 0].sign() == labels).float().mean()) > 0.75


def test_the_new_head_knows_nothing() -> None:
    """Given a base of the reviews, when it labels them, then it does no better than a coin, and says so."""
    model, tokenizer = SENTIMENT.base(2)
    rows = SENTIMENT.rows(SENTIMENT.splits(2).train, tokenizer)
    assert loss_of(model, rows) == pytest.approx(math.log(2), abs=0.15)


def test_noise_replaces_the_tasks_own() -> None:
    """Given a share of noise, when splits are made, then they are the module's with it; by default, its own."""
    for source in SOURCES:
        assert source.splits(4) == source.texts.make_splits(4)
        assert source.splits(4, 0.5) == source.texts.make_splits(4, noise=0.5) != source.splits(4)


def test_tiny_qa_is_the_qa_source() -> None:
    """Given a seed, when the demo's task is built, then base and rows are those of the source."""
    task = tiny_qa(5, warm_start_steps=2)
    model, tokenizer = QA.base(5, steps=2)
    assert all(torch.equal(a, b) for a, b in zip(task.model.parameters(), model.parameters(), strict=True))
    assert task.val == QA.rows(QA.splits(5).val, tokenizer)
