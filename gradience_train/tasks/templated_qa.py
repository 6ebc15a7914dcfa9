"""Questions about the members of made-up clubs, written from templates, with a known shift between splits.

Eight clubs of six people. The members of a club have the same city, job, pet and colour, except that a few
facts are exceptions: they hold for one person only and nothing but having read them tells them.

- `train`: about half of the facts, each asked in two or three phrasings.
- `val`: other facts about the same people, in the same phrasings. What a club has in common answers them; the
  exceptions among them cannot be known.
- `test`: further facts, asked in phrasings that fine-tuning never uses, and with more exceptions
  (`TEST_EXCEPTIONS` against `EXCEPTIONS`). Those two differences are the whole distribution shift.

So the task can be learned, and it can be over-fitted: exceptions in `train` can only be memorised, and
memorising them does not help on `val`.

`background` holds the same people a year earlier, when every club had other habits and there were no
exceptions. A model that has read it knows the language, the phrasings and who belongs together, and nothing
of this year.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from gradience_train.tasks.examples import Example, Splits

DATASET_NAME = "embedded:templated-qa"
CLUB_SIZE = 6
NAMES: tuple[str, ...] = (
    "ada", "alan", "amir", "anna", "bela", "boris", "carl", "cleo", "dana", "dora", "emil", "esra",
    "fay", "finn", "gita", "gus", "hana", "hugo", "ines", "ivan", "jana", "june", "kai", "kofi",
    "lena", "luca", "maja", "max", "mina", "nora", "omar", "otto", "pavel", "pia", "quin", "rafa",
    "rosa", "sami", "sven", "tara", "theo", "udo", "vera", "will", "xenia", "yara", "yusuf", "zoe",
)  # fmt: skip
EXCEPTIONS = 0.03
TEST_EXCEPTIONS = 0.06
BACKGROUND_NOISE = 0.15


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing to know about a person, its values, and the ways to ask for it."""

    name: str
    values: tuple[str, ...]
    phrasings: tuple[str, ...]
    shifted_phrasings: tuple[str, ...]


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        name="city",
        values=("rome", "oslo", "lima", "cairo", "paris", "delhi", "quito", "tokyo"),
        phrasings=("where does {name} live ?", "which city is home to {name} ?", "in what town is {name} ?"),
        shifted_phrasings=("what is the home of {name} ?", "to which city does {name} belong ?"),
    ),
    Attribute(
        name="job",
        values=("baker", "pilot", "nurse", "judge", "miner", "actor", "tailor", "farmer"),
        phrasings=("what does {name} do ?", "what is the job of {name} ?", "which trade does {name} follow ?"),
        shifted_phrasings=("what does {name} work as ?", "how does {name} earn a living ?"),
    ),
    Attribute(
        name="pet",
        values=("cat", "dog", "parrot", "rabbit", "pony", "turtle", "goat", "snake"),
        phrasings=("which pet does {name} have ?", "what animal does {name} keep ?", "what is the pet of {name} ?"),
        shifted_phrasings=("which animal lives with {name} ?", "what pet belongs to {name} ?"),
    ),
    Attribute(
        name="colour",
        values=("red", "blue", "green", "white", "black", "pink", "grey", "gold"),
        phrasings=(
            "which colour does {name} like ?",
            "what colour is dear to {name} ?",
            "what does {name} paint with ?",
        ),
        shifted_phrasings=("what is the best colour for {name} ?", "in which colour does {name} dress ?"),
    ),
)


def make_splits(seed: int, *, noise: float = EXCEPTIONS) -> Splits:
    """Draw this year's facts and share them out.

    Args:
        seed: Decides clubs, facts, exceptions and splits; the same seed gives the same splits.
        noise: Share 0..1 of the facts of `train` and `val` that are exceptions.

    Returns:
        The splits, each in a shuffled order.
    """
    draw = random.Random(f"splits {seed}")  # noqa: S311 - a reproducible data set, no secret
    club_of = _clubs(seed)
    train: list[Example] = []
    val: list[Example] = []
    test: list[Example] = []
    for attribute in ATTRIBUTES:
        shared = draw.sample(attribute.values, k=len(attribute.values))
        for name in NAMES:
            split = draw.choices((train, val, test), weights=(3, 1, 1))[0]
            rare = draw.random() < (TEST_EXCEPTIONS if split is test else noise)
            answer = draw.choice(attribute.values) if rare else shared[club_of[name]]
            phrasings = attribute.shifted_phrasings if split is test else attribute.phrasings
            split.extend(Example(phrasing.format(name=name), answer) for phrasing in phrasings)
    for split in (train, val, test):
        draw.shuffle(split)
    return Splits(train=tuple(train), val=tuple(val), test=tuple(test))


def background(seed: int, count: int) -> tuple[Example, ...]:
    """Return `count` questions, drawn with replacement, answered as they were a year earlier."""
    draw = random.Random(f"background {seed}")  # noqa: S311 - a reproducible data set, no secret
    club_of = _clubs(seed)
    shared = {a.name: draw.sample(a.values, k=len(a.values)) for a in ATTRIBUTES}
    examples: list[Example] = []
    for _ in range(count):
        attribute, name = draw.choice(ATTRIBUTES), draw.choice(NAMES)
        phrasing = draw.choice(attribute.phrasings + attribute.shifted_phrasings)
        habit = shared[attribute.name][club_of[name]]
        answer = draw.choice(attribute.values) if draw.random() < BACKGROUND_NOISE else habit
        examples.append(Example(phrasing.format(name=name), answer))
    return tuple(examples)


def vocabulary() -> tuple[str, ...]:
    """Return every word of the task, sorted: names, values and the words of all phrasings."""
    words: set[str] = set(NAMES)
    for attribute in ATTRIBUTES:
        words.update(attribute.values)
        for phrasing in attribute.phrasings + attribute.shifted_phrasings:
            words.update(phrasing.format(name="").split())
    return tuple(sorted(words))


def _clubs(seed: int) -> dict[str, int]:
    """Assign each name to a club 0..7; the clubs stay the same from one year to the next."""
    shuffled = random.Random(f"clubs {seed}").sample(NAMES, k=len(NAMES))  # noqa: S311 - reproducible
    return {name: place // CLUB_SIZE for place, name in enumerate(shuffled)}
