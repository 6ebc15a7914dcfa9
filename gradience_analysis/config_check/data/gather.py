"""Reads files of examples, JSON Lines with or without gzip, in one pass and within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from gradience_analysis.config_check.base_model.facts import ModelFacts, TokenizerFacts
from gradience_analysis.config_check.data.facts import BadLine, DataFacts, SplitFacts
from gradience_analysis.config_check.data.layouts import content_digest, exact_digest, known_fields, layout_of
from gradience_analysis.config_check.data.tally import SHOWN, Finder, Labels, Layouts, Marks, Repeats, Texts, shared
from gradience_analysis.config_check.data.token_lengths import token_lengths
from gradience_analysis.errors import InputError
from gradience_analysis.sources.decode import (
    UndecodableError,
    decode,
    decode_strict,
    repeated_keys,
    repeats_a_key,
)
from gradience_analysis.sources.lines import MAX_LINE_BYTES, Line, iter_lines
from gradience_analysis.sources.opening import open_regular, read_fault, shown_name


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of a file is looked at.

    Attributes:
        lines: Lines, blank ones not counted.
        size: Bytes, after decompression.
    """

    lines: int = 100_000
    size: int = 128 << 20


DEFAULT_CAPS = Caps()


def gather_data(
    train: Path | None,
    evaluation: Path | None = None,
    *,
    model: ModelFacts | None = None,
    find: Finder | None = None,
    caps: Caps = DEFAULT_CAPS,
) -> DataFacts:
    """What the files of examples hold, as far as `caps` allow.

    Args:
        train: The training file; `-` is standard input.
        evaluation: The evaluation file.
        model: The base model; its tokenizer counts tokens, and names the end-of-sequence and padding tokens.
        find: Finds personal data and secrets in a text; without it that search is not made.
        caps: How much of each file is looked at.

    Raises:
        InputError: The evaluation file cannot be opened. For the training file that is a finding.
    """
    tokenizer = model.tokenizer if model else None
    first = None if train is None else _read_train(train, tokenizer, find, caps)
    second = None if evaluation is None else _read(evaluation, tokenizer, find, caps)
    overlap: int | None = None
    places: tuple[tuple[int, int], ...] = ()
    if first and second and not first.fault:
        overlap, places = shared(first.repeats.contents, second.repeats.contents.items())
    return DataFacts(
        first.facts(train) if first else None, second.facts(evaluation) if second else None, overlap, places
    )


class _Split:
    """One file while it is read."""

    def __init__(self, tokenizer: TokenizerFacts | None, find: Finder | None) -> None:
        eos = tokenizer.eos if tokenizer and not tokenizer.appends_eos else None
        marks = Marks(eos, tokenizer.pad_id if tokenizer else None)
        self._tokenizer = tokenizer.path if tokenizer else ""
        self._find = find
        self.fault = ""
        self.lines = self.oversized = self.invalid = self.examples = 0
        self.stopped = ""
        self.bad: list[BadLine] = []
        self.layouts, self.repeats, self.labels, self.texts = Layouts(), Repeats(), Labels(marks), Texts(marks)

    def add(self, line: Line) -> None:
        """Take in a line that is not blank."""
        self.lines += 1
        if line.size > MAX_LINE_BYTES:
            self.oversized += 1
            return
        try:
            row = _example(line.data)
            layout = layout_of(known_fields(row))
            exact, content = exact_digest(row, layout), content_digest(row, layout)
        except UndecodableError as error:
            self.reject(line.number, line.offset + error.position, error.message)
            return
        except RecursionError:
            self.reject(line.number, line.offset, "nests too deeply to be read.")
            return
        self.examples += 1
        self.layouts.add(line.number, row)
        self.repeats.add(line.number, exact, content)
        self.labels.add(line.number, row, layout)
        self.texts.add(line.number, row, layout)

    def reject(self, number: int, offset: int, reason: str) -> None:
        """Count a line that is no example."""
        self.invalid += 1
        if len(self.bad) < SHOWN:
            self.bad.append(BadLine(number, offset, reason))

    def facts(self, path: Path | None) -> SplitFacts:
        """What was seen."""
        if self.fault:
            return SplitFacts(str(path), self.fault)
        layout = self.layouts.majority()
        return SplitFacts(
            path=shown_name(str(path)),
            lines=self.lines,
            examples=self.examples,
            complete=not self.stopped,
            stopped=self.stopped,
            oversized=self.oversized,
            invalid=self.invalid,
            bad_lines=tuple(self.bad),
            layout=layout.name if layout else "",
            fields=self.layouts.fields(layout),
            names=self.layouts.names(),
            duplicates=self.repeats.count,
            duplicate_lines=tuple(self.repeats.lines),
            lengths=self.texts.lengths(self._count_tokens),
            all_ignored=self.labels.ignored,
            all_ignored_lines=tuple(self.labels.ignored_lines),
            classes=self.labels.classes,
            texts=self.texts.plain,
            ends=self.texts.ends,
            unmasked_padding=self.labels.unmasked_padding,
            scan=None if self._find is None else self.texts.scan(self._find),
        )

    def _count_tokens(self, texts: list[str]) -> list[int] | None:
        return token_lengths(Path(self._tokenizer), texts) if self._tokenizer and texts else None


def _example(data: bytes) -> dict[str, Any]:
    """The example in a line.

    Raises:
        UndecodableError: It is no strict JSON object.
    """
    value = decode_strict(data)
    if value is None:
        decoded = decode(data)
        if decoded.tolerated:
            first = decoded.tolerated[0]
            raise UndecodableError(first.code, f"is not strict JSON: {first.message}")
    if not isinstance(value, dict):
        raise UndecodableError("not_an_object", f"holds {_kind(value)}, not a JSON object.")
    row = cast("dict[str, Any]", value)
    repeated = repeated_keys(data) if repeats_a_key(data, row) else None
    if repeated:
        raise UndecodableError("duplicate_key", f"repeats the key {ascii(repeated[0][0])[:80]}.")
    return row


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    return "an array" if isinstance(value, list) else "a text" if isinstance(value, str) else "a number"


def _read_train(path: Path, tokenizer: TokenizerFacts | None, find: Finder | None, caps: Caps) -> _Split:
    try:
        return _read(path, tokenizer, find, caps)
    except InputError as error:
        split = _Split(tokenizer, find)
        split.fault = _without_path(error, path)
        return split


def _read(path: Path, tokenizer: TokenizerFacts | None, find: Finder | None, caps: Caps) -> _Split:
    split = _Split(tokenizer, find)
    with open_regular(path) as file:
        number, offset = _read_lines(file, path, split, caps)
        fault = read_fault(file)
        if fault:
            split.reject(number + 1, offset, f"cannot be read: {fault}.")
    return split


def _read_lines(file: IO[bytes], path: Path, split: _Split, caps: Caps) -> tuple[int, int]:
    """Take in the lines up to a cap; the number of the last one, and the offset behind it."""
    number = offset = 0
    try:
        for line in iter_lines(file, path):
            if split.lines >= caps.lines or line.offset >= caps.size:
                split.stopped = f"after {split.lines:,} lines and {line.offset:,} bytes"
                break
            number, offset = line.number, line.offset + line.size + line.ended
            if line.data.strip():
                split.add(line)
    except InputError as error:
        split.reject(number + 1, offset, _without_path(error, path))
    return number, offset


def _without_path(error: InputError, path: Path) -> str:
    return error.message.removeprefix(f"{shown_name(path)}: ")
