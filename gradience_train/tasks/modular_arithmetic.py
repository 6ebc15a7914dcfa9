"""Sums of two numbers modulo a prime, whose answers are to be given in words instead of figures.

An operator adds its two numbers and a constant of its own, modulo `PRIME`. `background` answers sums in figures, and
says how each number is spelt. Fine-tuning asks the same kind of sum and wants the word, so a model that has read the
background must learn to put together two things it knows.

- `train`: about two thirds of the sums, each in two phrasings.
- `val`: other sums, in the same phrasings.
- `test`: further sums, in a phrasing that fine-tuning never uses and with more misprints (`TEST_MISPRINTS` against
  `MISPRINTS`). Those two differences are the whole distribution shift.

A misprint is a wrong answer that nothing but having read it tells; memorising those of `train` does not help on `val`.
"""

from __future__ import annotations

import random
from itertools import product

from gradience_train.tasks.examples import Example, Splits

DATASET_NAME = "embedded:modular-arithmetic"
WORDS: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five", "six")
PRIME = len(WORDS)
OPERATORS: tuple[str, ...] = ("plus", "with", "upon", "after")
MISPRINTS = 0.03
TEST_MISPRINTS = 0.06
BACKGROUND_NOISE = 0.02
BACKGROUND_SPELLING = 0.15
BACKGROUND_SKEW = 1.5
"""At the start of the background the number `n` has the weight `(n + 1) ** -BACKGROUND_SKEW`; the exponent falls to 0
at its middle. Where every sum is equally frequent from the start, no single number tells anything about the answer,
and a small model stays on that plateau for thousands of steps. Where small numbers are frequent, it learns `n + 0`
first."""
_PHRASINGS = ("what is {a} {operator} {b} ?", "so {a} {operator} {b} makes ?")
_SHIFTED_PHRASING = "give {a} {operator} {b} !"
_SPELLING = "how is {a} spelt ?"


def make_splits(seed: int, *, noise: float = MISPRINTS) -> Splits:
    """Make every sum once and share them out.

    Args:
        seed: Decides constants, misprints and splits; the same seed gives the same splits.
        noise: Share 0..1 of the sums of `train` and `val` that are misprinted.

    Returns:
        The splits, each in a shuffled order.
    """
    draw = random.Random(f"sums {seed}")  # noqa: S311 - a reproducible data set, no secret
    train: list[Example] = []
    val: list[Example] = []
    test: list[Example] = []
    for operator, constant in zip(OPERATORS, _constants(seed), strict=True):
        for a, b in product(range(PRIME), repeat=2):
            split = draw.choices((train, val, test), weights=(4, 1, 1))[0]
            wrong = draw.random() < (TEST_MISPRINTS if split is test else noise)
            answer = draw.randrange(PRIME) if wrong else (a + b + constant) % PRIME
            phrasings = (_SHIFTED_PHRASING,) if split is test else _PHRASINGS
            split.extend(Example(phrasing.format(a=a, operator=operator, b=b), WORDS[answer]) for phrasing in phrasings)
    for split in (train, val, test):
        draw.shuffle(split)
    return Splits(train=tuple(train), val=tuple(val), test=tuple(test))


def background(seed: int, count: int) -> tuple[Example, ...]:
    """Return `count` questions, drawn with replacement: sums with their answers in figures, and spellings."""
    draw = random.Random(f"background sums {seed}")  # noqa: S311 - a reproducible data set, no secret
    operators = list(zip(OPERATORS, _constants(seed), strict=True))
    numbers = range(PRIME)
    examples: list[Example] = []
    for place in range(count):
        if draw.random() < BACKGROUND_SPELLING:
            number = draw.choice(numbers)
            examples.append(Example(_SPELLING.format(a=number), WORDS[number]))
            continue
        skew = BACKGROUND_SKEW * max(0.0, 1.0 - 2.0 * place / count)
        (operator, constant), (a, b) = (
            draw.choice(operators),
            draw.choices(numbers, [(number + 1) ** -skew for number in numbers], k=2),
        )
        answer = draw.choice(numbers) if draw.random() < BACKGROUND_NOISE else (a + b + constant) % PRIME
        phrasing = draw.choice((*_PHRASINGS, _SHIFTED_PHRASING))
        examples.append(Example(phrasing.format(a=a, operator=operator, b=b), str(answer)))
    return tuple(examples)


def vocabulary() -> tuple[str, ...]:
    """Return every word of the task, sorted: figures, number words, operators and the words of all phrasings."""
    words = {str(number) for number in range(PRIME)} | set(WORDS) | set(OPERATORS)
    for phrasing in (*_PHRASINGS, _SHIFTED_PHRASING, _SPELLING):
        words.update(phrasing.format(a="", operator="", b="").split())
    return tuple(sorted(words))


def _constants(seed: int) -> tuple[int, ...]:
    """The constant 0..PRIME-1 of each operator, all of them different."""
    return tuple(random.Random(f"constants {seed}").sample(range(PRIME), k=len(OPERATORS)))  # noqa: S311 - reproducible
