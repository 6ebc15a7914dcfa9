"""What each code of an issue stands for, and what to do about it; `docs/validating.md` shows the same."""

from __future__ import annotations

from collections.abc import Iterable

from gradience_analysis.model.report import Meaning

_LINES = (
    ("invalid_json", "The line is not JSON.", "Write one JSON object per line; the message names the byte."),
    ("invalid_utf8", "The line holds a byte that is not UTF-8.", "Write the file as UTF-8."),
    (
        "nul_bytes",
        "The line is a block of NUL bytes.",
        "The disk gave out space that was never filled: sync more often.",
    ),
    ("too_deep", "The line nests too deeply to be read.", "Log a summary in place of the nested structure."),
    ("number_too_long", "The line holds an integer of too many digits.", "Write the number as a string or a float."),
    (
        "line_too_long",
        "The line is longer than 1 MiB and was not read.",
        "Log a summary in place of raw text or tensors.",
    ),
    (
        "torn_tail",
        "The last line is cut off in the middle; one event is lost.",
        "The writer was stopped: delete the line.",
    ),
    ("no_final_newline", "The last line lacks its newline.", "Close the file properly; the event was read."),
    ("blank_line", "The line is blank.", "Write no blank lines; this one costs nothing."),
    ("crlf", "Lines end with CRLF.", "Write LF alone; the lines were read."),
    ("bom", "The file starts with a byte order mark, which JSON does not allow.", "Write UTF-8 without a BOM."),
    ("nonfinite_token", "The line holds a bare NaN or Infinity.", "Write null, and name the value under `nonfinite`."),
    ("number_overflow", "A number is too large for a double.", "Write null, and name the value under `nonfinite`."),
    (
        "lone_surrogate",
        "A string holds half of a surrogate pair.",
        "Write whole characters; U+FFFD was read in its place.",
    ),
    ("repeated_key", "A key stands more than once in an object.", "Write each key once; the last value was read."),
    ("read_error", "The disk refused to give more of the file.", "Check the disk; what came before was read."),
    ("gzip_fault", "The compressed data break off or are damaged.", "Compress the file again; the rest of it is lost."),
)
_RECORDS = (
    ("not_an_object", "The line holds a JSON value that is not an object.", "Write one JSON object per line."),
    ("missing_field", "The record lacks a required field.", "Add the field that the message names."),
    ("wrong_type", "A field has the wrong JSON type.", "Write the type that `gradience schema show EVENT` names."),
    (
        "bad_value",
        "A field has a value that v1 does not allow.",
        "See `gradience schema show EVENT` for what it may be.",
    ),
    ("unknown_schema", "The record follows a version that this release does not read.", "Update gradience."),
    ("unknown_event", "The event type is not one that v1 knows; its record is kept.", "Check the name for a typo."),
    ("step_too_large", "A step is beyond 64 bits.", "Tables have none in its place; log the optimizer step."),
    (
        "nonfinite_unplaced",
        "`nonfinite` names a place where there is no null.",
        "Write null in the place that it names.",
    ),
    ("foreign_layout", "The file is a training log of another tool.", "Convert it with `gradience import`."),
    ("no_events", "There is not one valid event in the file.", "Check that it is the run.jsonl of a run."),
)
_ACROSS_LINES = (
    (
        "no_run_start",
        "The first record is not run_start.",
        "Write run_start first: without it a run has no configuration.",
    ),
    ("second_run_start", "A second run_start stands in the file.", "Write each segment to a file of its own."),
    ("after_run_end", "Training goes on, or ends again, after run_end.", "Write run_end once, when training is over."),
    ("several_run_ids", "Records of several runs stand in one file.", "Write each run to a file of its own."),
    ("ts_backwards", "The clock goes back by more than a second.", "Check the clock of the machine; order by seq."),
    ("step_backwards", "The step goes back.", "Write a resumed run to a segment of its own; log the optimizer step."),
    (
        "seq_gap",
        "Numbers of seq are missing or come again.",
        "Events were lost or written twice: check the disk and writers.",
    ),
    ("metric_type_changed", "A metric changes its JSON type.", "Log one type, a number as a number (.item())."),
    ("number_in_string", "A metric is a string that holds a number.", "Log the number itself (.item())."),
)
_OTHER_TOOLS = (
    (
        "no_timestamps",
        "The log holds no times; `ts` is the order of its records.",
        "Take no speed from it.",
    ),
    ("new_segment", "The step goes back, or training goes on after its end.", "It is read as a further segment."),
    (
        "hidden_nonfinite_loss",
        "A loss of 0.0 stands with a gradient norm that is not finite.",
        "Set `logging_nan_inf_filter=False`; the loss is read as NaN.",
    ),
    ("string_number", "Numbers stand in strings, as in scraped logs.", "They are read as numbers; check them."),
    ("unfit_value", "A loss, rate, norm or epoch is no number.", "It is kept as `x_<name>`; log a number."),
    ("no_step", "A row has no step, or one that is none.", "Its step is null; log one."),
    ("no_rows", "Nothing was logged.", "Check that the log is the right one."),
    ("bad_timestamp", "A time cannot be read.", "That of the record before is used."),
    ("naive_timestamp", "A time names no zone.", "It is read as UTC; write the zone."),
    ("importer_unusable", "An importer of another package failed, and is skipped.", "Update or remove that package."),
    ("unknown_record", "A record is none of this format.", "It is left out; check the file."),
    ("invalid_csv", "A line cannot be read as CSV.", "It is left out; check the file."),
    ("wrong_width", "A row has more or fewer cells than the header.", "It is left out; check the file."),
)
_RUNS = (
    ("other_runs", "The folder holds further runs.", "Give the file of the run that is meant."),
    ("duplicate_file", "A file holds the same records as another.", "It is left out; delete the copy."),
    ("no_rank_0", "There is no segment of rank 0.", "Give the folder in which the file of rank 0 is."),
)

GROUPS: dict[str, tuple[Meaning, ...]] = {
    title: tuple(Meaning(*entry) for entry in entries)
    for title, entries in {
        "One line": _LINES,
        "One record": _RECORDS,
        "Across lines": _ACROSS_LINES,
        "Logs of other tools": _OTHER_TOOLS,
        "Several files": _RUNS,
    }.items()
}
"""Every code, in the groups in which the documentation shows them."""


def meanings(codes: Iterable[str]) -> tuple[Meaning, ...]:
    """What these codes stand for, in the order of the table; a code that is not in it has none."""
    wanted = set(codes)
    return tuple(meaning for group in GROUPS.values() for meaning in group if meaning.code in wanted)
