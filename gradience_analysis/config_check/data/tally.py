"""Counts over the examples of one file while they stream by; memory grows with their number, not with their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, cast

from gradience_analysis.config_check.data.facts import FieldFacts, LengthFacts, ScanFacts
from gradience_analysis.config_check.data.layouts import (
    Layout,
    content_text,
    known_fields,
    layout_of,
    strings,
)

Finder = Callable[[str], Collection[str]]
"""Kinds of personal data and secrets in a text, such as `EMAIL`; empty when there is none."""

IGNORED_LABEL = -100
SHOWN = 5
_MAX_CLASSES = 1000
_CLASS_CHARS = 64
_SAMPLE_CHARS = 8 << 20
_SAMPLE_TEXT_CHARS = 100_000
_SAMPLE_HEAD, _SAMPLE_EVERY, _SAMPLE_MOST = 500, 50, 2000


class Marks(NamedTuple):
    """What the tokenizer is known to write into examples.

    Attributes:
        eos: End-of-sequence string; None when it is not known or not worth looking for.
        pad_id: Padding id; None when it is not known.
    """

    eos: str | None = None
    pad_id: int | None = None


class Layouts:
    """Which fields the examples have, and which of them hold nothing."""

    def __init__(self) -> None:
        self._present: Counter[frozenset[str]] = Counter()
        self._first: dict[frozenset[str], int] = {}
        self._empty: Counter[str] = Counter()
        self._first_empty: dict[str, int] = {}
        self._names: Counter[str] = Counter()

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Count an example."""
        present = known_fields(row)
        if present not in self._first:
            self._first[present] = number
        self._present[present] += 1
        if len(self._names) < _MAX_CLASSES:
            self._names.update(row.keys())
        for name in present:
            value = row[name]
            if value == [] or (isinstance(value, str) and not value.strip()):
                self._empty[name] += 1
                self._first_empty.setdefault(name, number)

    def majority(self) -> Layout | None:
        """The layout of most examples, when most have one that is known."""
        counts: Counter[Layout | None] = Counter()
        for present, count in self._present.items():
            counts[layout_of(present)] += count
        return counts.most_common(1)[0][0] if counts else None

    def fields(self, layout: Layout | None) -> tuple[FieldFacts, ...]:
        """What of that layout's fields is absent or empty."""
        return tuple(self._field(name) for name in layout.fields) if layout else ()

    def _field(self, name: str) -> FieldFacts:
        without = [present for present in self._present if name not in present]
        return FieldFacts(
            name,
            sum(self._present[present] for present in without),
            self._empty[name],
            min((self._first[present] for present in without), default=None),
            self._first_empty.get(name),
        )

    def names(self) -> tuple[str, ...]:
        """The field names, most frequent first, shortened to what a report can show."""
        return tuple(name[:_CLASS_CHARS] for name, _ in self._names.most_common(20))


class Repeats:
    """Examples that stood before in the file, and the digests that another file is compared with."""

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}
        self.contents: dict[bytes, int] = {}
        self.count = 0
        self.lines: list[tuple[int, int]] = []

    def add(self, number: int, exact: bytes, content: bytes) -> None:
        """Count an example by its two digests."""
        first = self._seen.setdefault(exact, number)
        if first != number:
            self.count += 1
            if len(self.lines) < SHOWN:
                self.lines.append((number, first))
        self.contents.setdefault(content, number)


class Labels:
    """What the labels are: classes, or one of each token."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._classes: Counter[str] | None = Counter()
        self._with_labels = 0
        self._ignored = 0
        self.ignored_lines: list[int] = []
        self._padded = 0

    def add(self, number: int, row: Mapping[str, Any], layout: Layout | None) -> None:
        """Count an example."""
        labels = row.get("labels")
        if isinstance(labels, list) and labels:
            self._add_tokens(number, row, cast("list[Any]", labels))
        if layout is not None and layout.label and self._classes is not None:
            self._add_class(row[layout.label])

    def _add_class(self, value: Any) -> None:
        classes = self._classes
        if classes is None:
            return
        if isinstance(value, float) and not value.is_integer():
            self._classes = None  # a number to predict, not a class
        elif isinstance(value, str | int | float):
            classes[str(value)[:_CLASS_CHARS]] += 1
            if len(classes) > _MAX_CLASSES:
                self._classes = None

    def _add_tokens(self, number: int, row: Mapping[str, Any], labels: list[Any]) -> None:
        self._with_labels += 1
        if labels.count(IGNORED_LABEL) == len(labels):
            self._ignored += 1
            if len(self.ignored_lines) < SHOWN:
                self.ignored_lines.append(number)
        ids = row.get("input_ids")
        pad = self._marks.pad_id
        # One token of that id at the end may be the end of the text; a second one is padding.
        if pad is not None and isinstance(ids, list) and ids[-2:] == [pad, pad] and labels[-1] == pad:
            self._padded += 1

    @property
    def classes(self) -> tuple[tuple[str, int], ...]:
        """Class labels, most frequent first; empty when there are none."""
        return tuple((self._classes or Counter()).most_common())

    @property
    def ignored(self) -> int | None:
        """Examples whose labels are all ignored; None without lists of labels."""
        return self._ignored if self._with_labels else None

    @property
    def unmasked_padding(self) -> int | None:
        """Examples whose padding is learned; None when there is nothing to tell it from."""
        return self._padded if self._with_labels and self._marks.pad_id is not None else None


class Texts:
    """How long the texts are, how they end, and a sample of them."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._ids: Counter[int] = Counter()
        self._characters: Counter[int] = Counter()
        self._room = _SAMPLE_CHARS
        self.sample: list[tuple[int, str, str]] = []
        self.plain = 0
        self._ends = 0
        self._seen = 0

    def add(self, number: int, row: Mapping[str, Any], layout: Layout | None) -> None:
        """Count an example."""
        ids = row.get("input_ids")
        if isinstance(ids, list):
            self._ids[len(cast("list[Any]", ids))] += 1
        text = content_text(row, layout)
        if text:
            self._characters[len(text)] += 1
        plain = row["text"] if layout is not None and layout.name == "text" else None
        if isinstance(plain, str):
            self.plain += 1
            self._ends += bool(self._marks.eos) and plain.rstrip().endswith(self._marks.eos or "")
        if self._wants():
            whole = " \n".join(strings(dict(row)))[:_SAMPLE_TEXT_CHARS]
            self._room -= len(whole)
            self.sample.append((number, text[:_SAMPLE_TEXT_CHARS], whole))
        self._seen += 1

    def _wants(self) -> bool:
        """The first examples, then one in fifty, until there are enough."""
        due = self._seen < _SAMPLE_HEAD or self._seen % _SAMPLE_EVERY == 0
        return due and self._room > 0 and len(self.sample) < _SAMPLE_MOST

    @property
    def ends(self) -> int | None:
        """Plain texts that end with the end-of-sequence string; None when that is not known."""
        return self._ends if self._marks.eos and self.plain else None

    def lengths(self, count_tokens: Callable[[list[str]], list[int] | None]) -> LengthFacts | None:
        """Token counts: from the ids, else by a tokenizer over the sample, else characters; None without either."""
        if self._ids:
            return LengthFacts("input_ids", _ascending(self._ids))
        if not self._characters:
            return None
        counted = count_tokens([text for _, text, _ in self.sample if text])
        if counted:
            return LengthFacts("tokenizer", _ascending(Counter(counted)))
        return LengthFacts("characters", _ascending(self._characters))

    def scan(self, find: Finder) -> ScanFacts:
        """Search the sample for personal data and secrets."""
        kinds: Counter[str] = Counter()
        lines: list[int] = []
        for number, _, whole in self.sample:
            found = set(find(whole))
            if found:
                kinds.update(found)
                lines.append(number)
        return ScanFacts(len(self.sample), len(lines), dict(kinds.most_common()), tuple(lines[:SHOWN]))


def _ascending(counts: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(counts.items()))


def shared(
    train: Mapping[bytes, int], evaluation: Iterable[tuple[bytes, int]]
) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Contents of the evaluation file that the training file has too: how many, and the first few places."""
    found = [(line, train[digest]) for digest, line in evaluation if digest in train]
    return len(found), tuple(found[:SHOWN])
