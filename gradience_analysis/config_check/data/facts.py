"""What was seen in the files of examples: counts and places, never the text of an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no JSON object in strict UTF-8.

    Attributes:
        number: 1-based.
        offset: 0-based byte offset of the fault in the (decompressed) file.
        reason: What is wrong with it, in words that follow "the line".
    """

    number: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """One required field of the layout that most examples have.

    Attributes:
        name: Its name.
        absent: Examples that lack it, or hold null in it (count).
        empty: Examples that hold an empty or blank string, or an empty list in it (count).
        first_absent: Line of the first that lacks it, or None.
        first_empty: Line of the first that is empty, or None.
    """

    name: str
    absent: int = 0
    empty: int = 0
    first_absent: int | None = None
    first_empty: int | None = None


@dataclass(frozen=True, slots=True)
class LengthFacts:
    """How long the examples are.

    Attributes:
        method: `input_ids`, `tokenizer` or `characters`.
        counts: Tokens (characters for `characters`) of an example, ascending, each with how many have that length.
    """

    method: str
    counts: tuple[tuple[int, int], ...]

    @property
    def examples(self) -> int:
        """Examples that were measured."""
        return sum(count for _, count in self.counts)

    def longer_than(self, limit: float) -> int:
        """Examples longer than `limit`, in the unit of `counts`."""
        return sum(count for length, count in self.counts if length > limit)

    def quantile(self, share: float) -> int | None:
        """The smallest length that at least `share` (0..1) of the examples do not exceed; None without examples."""
        total, seen = self.examples, 0
        for length, count in self.counts:
            seen += count
            if seen >= share * total:
                return length
        return None


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """What a search for personal data and secrets found in a sample.

    Attributes:
        examples: Examples that were searched.
        hits: Examples in which something was found.
        kinds: For each kind, such as `EMAIL`, the examples that hold it.
        lines: Lines of the first few of them.
    """

    examples: int
    hits: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict[str, int])
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One file of examples, one JSON object a line.

    Attributes:
        path: As it was given.
        fault: Why the file could not be read (on); empty when it could.
        lines: Lines that were looked at, blank ones not counted.
        examples: Lines among them that hold a JSON object.
        complete: Whether the whole file was looked at.
        stopped: Where the looking stopped, in words; empty when it did not.
        oversized: Lines beyond 1 MiB, which were passed over.
        invalid: Lines that are no JSON object in strict UTF-8.
        bad_lines: The first few of them.
        layout: Name of the layout that most examples have, such as `messages`; empty when none is known.
        fields: The required fields of that layout.
        names: Field names seen, most frequent first (at most 20).
        duplicates: Examples whose fields of the layout, labels included, repeat those of an earlier line exactly.
        duplicate_lines: The first few of them, each with the line it repeats.
        lengths: How long the examples are; None when nothing in them could be measured.
        all_ignored: Examples with a list of labels that is -100 throughout; None without lists of labels.
        all_ignored_lines: Lines of the first few of them.
        classes: For each class label, most frequent first, its examples; empty without class labels.
        texts: Examples of the layout `text` (count).
        ends: Those of them that end with the tokenizer's end-of-sequence string; None when it is not known, or
            when the tokenizer appends it by itself.
        unmasked_padding: Examples padded with the padding id whose labels there are not -100; None when not known.
        scan: The search for personal data and secrets; None when there was none.
    """

    path: str
    fault: str = ""
    lines: int = 0
    examples: int = 0
    complete: bool = True
    stopped: str = ""
    oversized: int = 0
    invalid: int = 0
    bad_lines: tuple[BadLine, ...] = ()
    layout: str = ""
    fields: tuple[FieldFacts, ...] = ()
    names: tuple[str, ...] = ()
    duplicates: int = 0
    duplicate_lines: tuple[tuple[int, int], ...] = ()
    lengths: LengthFacts | None = None
    all_ignored: int | None = None
    all_ignored_lines: tuple[int, ...] = ()
    classes: tuple[tuple[str, int], ...] = ()
    texts: int = 0
    ends: int | None = None
    unmasked_padding: int | None = None
    scan: ScanFacts | None = None


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The files of examples that were given.

    Attributes:
        train: The training file; None when none was given.
        evaluation: The evaluation file; None when none was given.
        overlap: Evaluation examples whose normalised content stands in the training file too; None without both files.
        overlap_lines: The first few, each as (line of the evaluation file, line of the training file).
    """

    train: SplitFacts | None = None
    evaluation: SplitFacts | None = None
    overlap: int | None = None
    overlap_lines: tuple[tuple[int, int], ...] = ()
