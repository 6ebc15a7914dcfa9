"""The templated questions: reproducible, disjoint, and shifted exactly as documented."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_train.tasks.templated_qa import (
    ATTRIBUTES,
    BACKGROUND_NOISE,
    CLUB_SIZE,
    NAMES,
    Example,
    background,
    make_splits,
    vocabulary,
)

SEEDS = st.integers(min_value=0, max_value=10_000)


def fact(example: Example) -> tuple[str, str]:
    """Find the person and the attribute that a question is about, by its words."""
    (name,) = [word for word in example.question.split() if word in NAMES]
    (attribute,) = [a.name for a in ATTRIBUTES if example.answer in a.values]
    return name, attribute


def phrasing(example: Example) -> str:
    """Take the name out of a question again."""
    return example.question.replace(fact(example)[0], "{name}")


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_same_seed_same_splits(seed: int) -> None:
    """Given a seed, when the splits are made twice, then they are equal."""
    assert make_splits(seed) == make_splits(seed)


def test_other_seed_other_facts() -> None:
    """Given two seeds, when the splits are made, then the facts differ."""
    assert make_splits(1).train != make_splits(2).train


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_no_fact_is_in_two_splits(seed: int) -> None:
    """Given any seed, when facts are read back from the questions, then each is in one split only."""
    splits = make_splits(seed)
    train, val, test = ({fact(e) for e in split} for split in (splits.train, splits.val, splits.test))
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train | val | test) == len(NAMES) * len(ATTRIBUTES)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_test_questions_use_phrasings_training_never_sees(seed: int) -> None:
    """Given any seed, when phrasings are compared, then val shares those of train and test has its own."""
    splits = make_splits(seed)
    train, val, test = ({phrasing(e) for e in split} for split in (splits.train, splits.val, splits.test))
    assert val <= train
    assert not test & train


def test_test_split_has_more_exceptions() -> None:
    """Given many seeds, when answers off their club's majority are counted, then test has clearly more of them."""
    share = {"train": 0.0, "test": 0.0}
    for name in share:
        off = total = 0
        for seed in range(20):
            splits = make_splits(seed)
            majority = _majorities(seed)
            for example in getattr(splits, name):
                off += example.answer != majority[fact(example)]
                total += 1
        share[name] = off / total
    assert 0.015 < share["train"] < 0.04
    assert 0.04 < share["test"] < 0.08


def _majorities(seed: int) -> dict[tuple[str, str], str]:
    """Find each club's common answer by itself: clubs are read off last year's background answers."""
    habits: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for example in background(seed, 4000):
        name, attribute = fact(example)
        habits[name][attribute][example.answer] += 1
    club = {n: tuple(habits[n][a.name].most_common(1)[0][0] for a in ATTRIBUTES) for n in NAMES}
    now: dict[tuple[tuple[str, ...], str], Counter[str]] = defaultdict(Counter)
    splits = make_splits(seed)
    for name, attribute, answer in {(*fact(e), e.answer) for e in splits.train + splits.val + splits.test}:
        now[club[name], attribute][answer] += 1
    return {(n, a.name): now[club[n], a.name].most_common(1)[0][0] for n in NAMES for a in ATTRIBUTES}


def test_background_shares_habits_within_clubs_of_the_documented_size() -> None:
    """Given much background, when people are grouped by their usual answers, then clubs of six come out."""
    habits: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for example in background(7, 20_000):
        name, attribute = fact(example)
        habits[name][attribute][example.answer] += 1
    clubs = Counter(tuple(habits[n][a.name].most_common(1)[0][0] for a in ATTRIBUTES) for n in NAMES)
    assert set(clubs.values()) == {CLUB_SIZE}
    usual = sum(habits[n][a.name].most_common(1)[0][1] for n in NAMES for a in ATTRIBUTES)
    expected = 1 - BACKGROUND_NOISE * 7 / 8
    assert abs(usual / 20_000 - expected) < 0.01


def test_vocabulary_covers_every_word() -> None:
    """Given all splits and background, when their words are collected, then the vocabulary has each, once."""
    words = vocabulary()
    splits = make_splits(3)
    examples = splits.train + splits.val + splits.test + background(3, 2000)
    used = {word for e in examples for word in (*e.question.split(), e.answer)}
    assert used <= set(words)
    assert len(words) == len(set(words))
