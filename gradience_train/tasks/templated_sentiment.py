"""One-sentence reviews written from templates, to be labelled `good` or `bad`.

The clear adjectives praise or blame everywhere. What the others mean depends on what is reviewed: in `background`,
which is about everything, each praises as often as it blames, and in the one trade that fine-tuning is about it does
one of the two. So a model that has read the background must learn what these words mean in the trade. One template in
four negates its adjective.

- `train`: about three fifths of the pairs of adjective and noun, each in two templates.
- `val`: other pairs, in the same templates.
- `test`: further pairs, in templates that fine-tuning never uses, with more slips of the pen (`TEST_SLIPS` against
  `SLIPS`). Those two differences are the whole distribution shift.

A slip is a wrong label that nothing but having read it tells; memorising those of `train` does not help on `val`.
"""

from __future__ import annotations

import random
from itertools import product

from gradience_train.tasks.examples import Example, Splits

DATASET_NAME = "embedded:templated-sentiment"
LABELS: tuple[str, ...] = ("bad", "good")
NOUNS: tuple[str, ...] = (
    "blade", "chair", "clock", "coat", "drum", "kite", "lamp", "rope", "sail", "stove", "tent", "wheel",
)  # fmt: skip
PRAISE: tuple[str, ...] = ("clever", "fine", "handy", "lovely", "neat", "proper", "solid", "superb")
BLAME: tuple[str, ...] = ("awful", "broken", "cheap", "dull", "flimsy", "nasty", "sloppy", "useless")
DEPENDS: tuple[str, ...] = (
    "cold", "dark", "heavy", "loud", "plain", "quick", "sharp", "soft", "stiff", "thick", "thin", "warm",
)  # fmt: skip
SLIPS = 0.03
TEST_SLIPS = 0.06
BACKGROUND_NOISE = 0.05
_TEMPLATES: tuple[tuple[str, bool], ...] = (
    ("the {noun} is {adjective}", True),
    ("i call this {noun} {adjective}", True),
    ("what a {adjective} {noun}", True),
    ("the {noun} is not {adjective}", False),
)
"""A template, and whether its adjective means what it says."""
_SHIFTED_TEMPLATES: tuple[tuple[str, bool], ...] = (
    ("{adjective} is the word for the {noun}", True),
    ("nobody calls this {noun} {adjective}", False),
)


def make_splits(seed: int, *, noise: float = SLIPS) -> Splits:
    """Write the reviews of the trade and share them out.

    Args:
        seed: Decides meanings, slips and splits; the same seed gives the same splits.
        noise: Share 0..1 of wrong labels in `train` and `val`.

    Returns:
        The splits, each in a shuffled order; an example's answer is one of `LABELS`.
    """
    draw = random.Random(f"reviews {seed}")  # noqa: S311 - a reproducible data set, no secret
    praises = _praises(seed)
    train: list[Example] = []
    val: list[Example] = []
    test: list[Example] = []
    for adjective, noun in product(praises, NOUNS):
        split = draw.choices((train, val, test), weights=(3, 1, 1))[0]
        templates = _SHIFTED_TEMPLATES if split is test else draw.sample(_TEMPLATES, k=2)
        wrong = draw.random() < (TEST_SLIPS if split is test else noise)
        split.extend(_review(template, adjective, noun, praises[adjective] != wrong) for template in templates)
    for split in (train, val, test):
        draw.shuffle(split)
    return Splits(train=tuple(train), val=tuple(val), test=tuple(test))


def background(seed: int, count: int) -> tuple[Example, ...]:
    """Return `count` reviews of other trades, drawn with replacement, in all templates."""
    draw = random.Random(f"background reviews {seed}")  # noqa: S311 - a reproducible data set, no secret
    adjectives = PRAISE + BLAME + DEPENDS
    examples: list[Example] = []
    for _ in range(count):
        adjective, noun = draw.choice(adjectives), draw.choice(NOUNS)
        wrong = draw.random() < (0.5 if adjective in DEPENDS else BACKGROUND_NOISE)
        template = draw.choice(_TEMPLATES + _SHIFTED_TEMPLATES)
        examples.append(_review(template, adjective, noun, (adjective in PRAISE) != wrong))
    return tuple(examples)


def vocabulary() -> tuple[str, ...]:
    """Return every word of the reviews, sorted: nouns, adjectives and the words of all templates."""
    words = {*NOUNS, *PRAISE, *BLAME, *DEPENDS}
    for template, _ in _TEMPLATES + _SHIFTED_TEMPLATES:
        words.update(template.format(adjective="", noun="").split())
    return tuple(sorted(words))


def _review(template: tuple[str, bool], adjective: str, noun: str, praises: bool) -> Example:
    text, literal = template
    return Example(text.format(adjective=adjective, noun=noun), LABELS[praises == literal])


def _praises(seed: int) -> dict[str, bool]:
    """Whether each adjective praises in the trade; half of those that depend do."""
    draw = random.Random(f"meanings {seed}")  # noqa: S311 - reproducible
    good = set(draw.sample(DEPENDS, k=len(DEPENDS) // 2))
    return {word: word in PRAISE or word in good for word in PRAISE + BLAME + DEPENDS}
