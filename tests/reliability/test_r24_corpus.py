"""R24: every input that once broke a reader is kept, and read right."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradience_analysis.model import Event, Issue
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader

CORPUS = Path(__file__).with_name("corpus")
# File → lines that give an event, and every issue as line, code and byte offset.
EXPECTED: dict[str, tuple[list[int], list[tuple[int, str, int]]]] = {
    # The fast reader took a row without its event for a train_step.
    "row_without_event.jsonl": ([1, 2, 3, 5], [(4, "missing_field", 314)]),
    # A NaN that a repeated key replaced left no place to name: an IndexError.
    "bare_token_under_a_repeated_key.jsonl": ([1, 2, 3], [(2, "nonfinite_token", 108), (2, "repeated_key", 108)]),
    # The offset of the fault did not count the three bytes of the mark.
    "fault_behind_a_bom.jsonl": ([2], [(1, "bom", 0), (1, "invalid_json", 107)]),
    # One NUL was taken for UTF-16, and the whole file refused.
    "nul_as_second_byte.jsonl": ([2], [(1, "invalid_json", 1)]),
    # Keys of lone surrogates became one key without a word.
    "lone_surrogates_in_keys.jsonl": ([1, 2, 3], [(2, "lone_surrogate", 108)]),
}


def read(path: Path, reader_type: type[EventReader | BatchReader]) -> tuple[list[Event], list[Issue]]:
    """Events and issues of a file."""
    log = IssueLog()
    events: list[Event] = []
    for batch in reader_type(path, log):
        events += batch.events() if isinstance(batch, Rows) else [batch]
    return events, log.kept


def test_every_file_of_the_corpus_has_its_expectation() -> None:
    """Given the corpus, when listed, then every file is in the table, and every entry of the table a file."""
    assert {path.name for path in CORPUS.glob("*.jsonl")} == set(EXPECTED)


@pytest.mark.parametrize("reader_type", [EventReader, BatchReader])
@pytest.mark.parametrize("name", EXPECTED)
def test_what_once_broke_a_reader_is_read_right(name: str, reader_type: type[EventReader | BatchReader]) -> None:
    """Given an input that once broke a reader, when read, then its events and issues are those that it holds."""
    events, issues = read(CORPUS / name, reader_type)
    lines, expected = EXPECTED[name]
    assert [event.line for event in events] == lines
    assert sorted((issue.line, issue.code, issue.byte_offset) for issue in issues) == sorted(expected)
