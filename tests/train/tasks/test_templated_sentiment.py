"""The reviews: reproducible, disjoint, labelled by their words, and shifted exactly as documented."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_train.tasks.examples import Example
from gradience_train.tasks.templated_sentiment import BLAME, DEPENDS, NOUNS, PRAISE, background, make_splits, vocabulary

SEEDS = st.integers(min_value=0, max_value=10_000)


def read(example: Example) -> tuple[str, str]:
    """Find the adjective and the noun of a review, by its words."""
    words = set(example.question.split())
    (adjective,) = words & {*PRAISE, *BLAME, *DEPENDS}
    (noun,) = words & set(NOUNS)
    return adjective, noun


def praises(example: Example) -> bool:
    """Say whether the review's adjective praises, given its label: a review that negates means the opposite."""
    negated = bool({"not", "nobody"} & set(example.question.split()))
    return (example.answer == "good") != negated


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_same_seed_same_splits(seed: int) -> None:
    """Given a seed, when the splits are made twice, then they are equal, and another seed gives others."""
    assert make_splits(seed) == make_splits(seed) != make_splits(seed + 1)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_no_pair_is_in_two_splits(seed: int) -> None:
    """Given any seed, when adjective and noun are read back, then each pair is in one split, and none is missing."""
    splits = make_splits(seed)
    train, val, test = ({read(e) for e in split} for split in (splits.train, splits.val, splits.test))
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train | val | test) == 28 * 12


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_labels_follow_the_words_without_noise(seed: int) -> None:
    """Given no slips, when labels are read, then clear words mean what they say, and half of the others praise."""
    splits = make_splits(seed, noise=0.0)
    meanings: dict[str, set[bool]] = defaultdict(set)
    for example in splits.train + splits.val + splits.test:
        adjective, noun = read(example)
        # Test keeps its slips, but they come in pairs: both of its templates about a pair are wrong.
        if example not in splits.test:
            meanings[adjective].add(praises(example))
        assert noun in NOUNS
    assert all(meanings[word] == {True} for word in PRAISE)
    assert all(meanings[word] == {False} for word in BLAME)
    assert sum(meanings[word] == {True} for word in DEPENDS) == 6
    assert sum(meanings[word] == {False} for word in DEPENDS) == 6


def test_slips_are_as_frequent_as_documented() -> None:
    """Given many seeds, when wrong labels of clear words are counted, then test has about twice as many as train."""
    share = {"train": 0.0, "test": 0.0}
    for name in share:
        clear = [
            (praises(e), read(e)[0] in PRAISE)
            for seed in range(30)
            for e in getattr(make_splits(seed), name)
            if read(e)[0] not in DEPENDS
        ]
        share[name] = sum(got != wanted for got, wanted in clear) / len(clear)
    assert 0.02 < share["train"] < 0.04
    assert 0.045 < share["test"] < 0.075


def test_only_test_uses_the_shifted_templates() -> None:
    """Given all splits, when pairs are taken out, then val has the templates of train and test has its own."""
    splits = make_splits(5)
    kinds: list[set[str]] = []
    for split in (splits.train, splits.val, splits.test):
        kinds.append({" ".join(w if w not in read(e) else "_" for w in e.question.split()) for e in split})
    assert kinds[0] == kinds[1]
    assert len(kinds[0]) == 4
    assert len(kinds[2]) == 2
    assert not kinds[0] & kinds[2]


def test_the_background_leaves_open_what_depends() -> None:
    """Given a background, when labels are counted, then clear words are nearly always clear, and the others never."""
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    for example in background(7, 20_000):
        counts[read(example)[0]][praises(example)] += 1
    good = {word: count[True] / count.total() for word, count in counts.items()}
    assert all(good[word] > 0.9 for word in PRAISE)
    assert all(good[word] < 0.1 for word in BLAME)
    assert all(0.4 < good[word] < 0.6 for word in DEPENDS)


def test_vocabulary_covers_every_word() -> None:
    """Given all splits and background, when their words are collected, then the vocabulary has each, once."""
    words = vocabulary()
    splits = make_splits(3)
    used = {word for e in splits.train + splits.val + splits.test + background(3, 2000) for word in e.question.split()}
    assert used <= set(words)
    assert list(words) == sorted(set(words))
