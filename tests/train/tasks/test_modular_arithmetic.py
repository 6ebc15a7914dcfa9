"""The sums: reproducible, disjoint, right but for the misprints, and shifted exactly as documented."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_train.tasks.examples import Example
from gradience_train.tasks.modular_arithmetic import OPERATORS, background, make_splits, vocabulary

SEEDS = st.integers(min_value=0, max_value=10_000)
WORDS = ("zero", "one", "two", "three", "four", "five", "six")


def read(example: Example) -> tuple[int, str, int]:
    """Find the two numbers and the operator that a question is about, by its words."""
    words = example.question.split()
    (place,) = [place for place, word in enumerate(words) if word in OPERATORS]
    return int(words[place - 1]), words[place], int(words[place + 1])


def number(answer: str) -> int:
    """Take an answer in words or figures as a number."""
    return WORDS.index(answer) if answer in WORDS else int(answer)


def offsets(examples: tuple[Example, ...]) -> dict[str, Counter[int]]:
    """Count, for each operator, what has to be added to the two numbers to get the answers, modulo 7."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for example in examples:
        a, operator, b = read(example)
        found[operator][(number(example.answer) - a - b) % 7] += 1
    return found


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_same_seed_same_splits(seed: int) -> None:
    """Given a seed, when the splits are made twice, then they are equal, and another seed gives others."""
    assert make_splits(seed) == make_splits(seed) != make_splits(seed + 1)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_no_sum_is_in_two_splits(seed: int) -> None:
    """Given any seed, when sums are read back from the questions, then each is in one split, and none is missing."""
    splits = make_splits(seed)
    train, val, test = ({read(e) for e in split} for split in (splits.train, splits.val, splits.test))
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train | val | test) == 7 * 7 * 4


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_answers_are_right_without_noise(seed: int) -> None:
    """Given no misprints, when answers are worked out, then an operator always adds the same, and no other does."""
    splits = make_splits(seed, noise=0.0)
    found = offsets(splits.train + splits.val)
    assert all(len(counts) == 1 for counts in found.values())
    assert len({next(iter(counts)) for counts in found.values()}) == 4


def test_misprints_are_as_frequent_as_documented() -> None:
    """Given many seeds, when wrong answers are counted, then test has about twice as many as train."""
    share = {"train": 0.0, "test": 0.0}
    for name in share:
        wrong = total = 0
        for seed in range(30):
            for counts in offsets(getattr(make_splits(seed), name)).values():
                total += counts.total()
                wrong += counts.total() - counts.most_common(1)[0][1]
        share[name] = wrong / total
    assert 0.015 < share["train"] < 0.035  # 3 %, of which one in seven is right by chance
    assert 0.035 < share["test"] < 0.07


def test_only_test_uses_the_shifted_phrasing() -> None:
    """Given all splits, when questions begin, then val begins as train does and test in its own way."""
    splits = make_splits(5)
    begin = [{e.question.split()[0] for e in split} for split in (splits.train, splits.val, splits.test)]
    assert begin == [{"what", "so"}, {"what", "so"}, {"give"}]


def test_the_background_can_do_the_sums_in_figures_and_spells() -> None:
    """Given a background, when it is read, then its sums are those of the task, in figures, and spellings are right."""
    examples = background(3, 6000)
    spellings = [e for e in examples if e.question.endswith("spelt ?")]
    sums = tuple(e for e in examples if not e.question.endswith("spelt ?"))
    assert all(number(e.answer) == int(e.question.split()[2]) and e.answer in WORDS for e in spellings)
    assert 0.12 < len(spellings) / len(examples) < 0.18
    assert all(e.answer.isdigit() for e in sums)
    known = {operator: counts.most_common(1)[0][0] for operator, counts in offsets(sums).items()}
    wanted = {operator: counts.most_common(1)[0][0] for operator, counts in offsets(make_splits(3).train).items()}
    assert known == wanted


def test_the_background_begins_with_small_numbers() -> None:
    """Given a background, when its first and last quarter are compared, then large numbers are rare in the first."""
    sums = [read(e) for e in background(0, 8000) if not e.question.endswith("spelt ?")]
    quarter = len(sums) // 4
    early, late = (sum(a >= 4 for a, _, _ in part) / len(part) for part in (sums[:quarter], sums[-quarter:]))
    assert early < 0.25
    assert 0.38 < late < 0.48  # three in seven


def test_vocabulary_covers_every_word() -> None:
    """Given all splits and background, when their words are collected, then the vocabulary has each, once."""
    words = vocabulary()
    splits = make_splits(3)
    used = {
        word
        for e in splits.train + splits.val + splits.test + background(3, 2000)
        for word in (*e.question.split(), e.answer)
    }
    assert used <= set(words)
    assert list(words) == sorted(set(words))
