"""What `gradience validate` says about the files it read, and about those it could not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gradience_analysis.errors import InputError
from gradience_analysis.model import Block, Field, Fields, Issue, Note, Notes, Report, Section, Table, plural
from gradience_analysis.model.gravity import SEVERITY_RANK
from gradience_analysis.model.report import Result
from gradience_analysis.reports.format import clipped
from gradience_analysis.reports.issue_codes import meanings
from gradience_analysis.reports.remarks import place
from gradience_analysis.telemetry.validate import ValidationReport
from gradience_schema import Severity

SCHEMA = "gradience.validate/v1"
EXAMPLES = 5
_ALL_FILES = 20
_BAD_FILES = 50
_UNREAD = 20


def validate_report(
    files: Sequence[ValidationReport],
    unreadable: Sequence[InputError] = (),
    *,
    examples: int = EXAMPLES,
    skipped_rules: Collection[str] = (),
    list_unreadable: bool = True,
) -> Report:
    """The issues of all files by code, a summary of each file, and a verdict over all of them.

    Args:
        files: The files that were read.
        unreadable: What could not be read: it makes the verdict an error.
        examples: Issues of each code to show; all are counted.
        skipped_rules: Codes of the rules that were not checked.
        list_unreadable: Name what could not be read in a section too; not wanted where stderr has just said it.

    Raises:
        ValueError: There is no file.
    """
    if not files and not unreadable:
        raise ValueError("a validation report needs at least one file")
    verdict = _verdict(files, len(unreadable))
    groups = _groups(files)
    results = [Result(file.path, tuple(map(_short, file.issues)), file.issue_counts) for file in files]
    results += [Result(error.path, unmeasured=str(error)) for error in unreadable]
    data = {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "ok": not unreadable and all(file.ok for file in files),
        "issue_counts": [
            {"code": group.code, "severity": str(group.severity), "count": group.count, "files": group.files}
            for group in groups
        ],
        "skipped_rules": list(skipped_rules),
        "files": [_data(file) for file in files],
        "unreadable": [{"path": error.path, "message": error.message, "remedy": error.remedy} for error in unreadable],
    }
    return Report(
        kind="validate",
        title=files[0].path if len(files) == 1 else plural(len(files), "file"),
        verdict=verdict,
        sections=tuple(_sections(files, unreadable if list_unreadable else (), groups, examples, skipped_rules)),
        data=data,
        results=tuple(results),
        meanings=meanings(group.code for group in groups),
    )


@dataclass
class _Group:
    """The issues of one code and severity in all files.

    Attributes:
        code: Issue code.
        severity: How much each of them matters.
        count: How many there are.
        files: How many files have one.
        kept: Those that were kept, each with the number of its file.
    """

    code: str
    severity: Severity
    count: int = 0
    files: int = 0
    kept: list[tuple[int, Issue]] = field(default_factory=list[tuple[int, Issue]])

    def examples(self, number: int) -> list[Issue]:
        """Some of them in order of their place: the first of each file before the second of any."""
        seen: Counter[int] = Counter()
        turns: list[tuple[int, int]] = []
        for index, (file, _) in enumerate(self.kept):
            seen[file] += 1
            turns.append((seen[file], index))
        return [self.kept[index][1] for index in sorted(index for _, index in sorted(turns)[:number])]


def _groups(files: Sequence[ValidationReport]) -> list[_Group]:
    groups: dict[tuple[str, Severity], _Group] = {}
    for number, file in enumerate(files):
        for item in file.issue_counts:
            group = groups.setdefault((item.code, item.severity), _Group(item.code, item.severity))
            group.count += item.count
            group.files += 1
        for issue in file.issues:
            groups[issue.code, issue.severity].kept.append((number, issue))
    return sorted(groups.values(), key=lambda group: (SEVERITY_RANK[group.severity], -group.count, group.code))


def _verdict(files: Sequence[ValidationReport], unreadable: int) -> Note:
    unread = f"{plural(unreadable, 'file')} could not be read." if unreadable else ""
    if not files:
        return Note(Severity.ERROR, unread)
    errors = sum(file.count(Severity.ERROR) for file in files)
    warnings = sum(file.count(Severity.WARNING) for file in files)
    what = plural(len(files), "file")
    if errors:
        bad = sum(not file.ok for file in files)
        text = f"{plural(errors, 'error')} and {plural(warnings, 'warning')} in {bad} of {what}."
    elif warnings:
        text = f"Valid telemetry/v1, with {plural(warnings, 'warning')} ({what})."
    else:
        text = f"Valid telemetry/v1: {what}, {plural(sum(map(_total, files)), 'record')}."
    severity = Severity.ERROR if errors or unread else Severity.WARNING if warnings else Severity.INFO
    # What failed comes first, so that no verdict of an error begins with the word "valid".
    return Note(severity, (f"{text} {unread}" if errors else f"{unread} {text}").strip())


def _total(file: ValidationReport) -> int:
    return sum(file.events.values())


def _sections(
    files: Sequence[ValidationReport],
    unreadable: Sequence[InputError],
    groups: Sequence[_Group],
    examples: int,
    skipped_rules: Collection[str],
) -> Iterator[Section]:
    skipped = (Fields((Field("Not checked", ", ".join(skipped_rules)),)),) if skipped_rules else ()
    if len(files) == 1:
        yield Section(files[0].path, (_fields(files[0], groups), *skipped))
    elif files:
        yield Section("Files", (*_overview(files), *skipped))
    if unreadable:
        notes = [Note(Severity.ERROR, clipped(str(error))) for error in unreadable[:_UNREAD]]
        if len(unreadable) > _UNREAD:
            notes.append(Note(Severity.ERROR, f"and {plural(len(unreadable) - _UNREAD, 'more file')}"))
        yield Section("Not read", (Notes(tuple(notes)),))
    if groups:
        yield Section("Issues", (Notes(tuple(_note(group, examples, several=len(files) > 1) for group in groups)),))


def _fields(file: ValidationReport, groups: Sequence[_Group]) -> Fields:
    events = ", ".join(f"{name[:80]} {number:,}" for name, number in file.events.items()) or "none"
    fields = [
        Field("Lines", f"{file.lines:,} ({file.size:,} bytes), {plural(file.rejected, 'line')} refused"),
        Field("Records", events),
    ]
    return Fields(tuple(fields) if groups else (*fields, Field("Issues", "none")))


def _overview(files: Sequence[ValidationReport]) -> Iterator[Block]:
    """One row for each file; of many files, those with an issue."""
    rows = [file for file in files if len(files) <= _ALL_FILES or file.issue_counts]
    bad = sum(bool(file.issue_counts) for file in files)
    columns = ("file", "lines", "records", "errors", "warnings", "remarks")
    severities = (Severity.ERROR, Severity.WARNING, Severity.INFO)
    cells = tuple(
        (file.path, f"{file.lines:,}", f"{_total(file):,}", *(_some(file.count(severity)) for severity in severities))
        for file in rows[:_BAD_FILES]
    )
    if cells:
        yield Table(columns, cells, right=frozenset(columns[1:]))
    fields: list[Field] = []
    if len(rows) > _BAD_FILES:
        fields.append(Field("Not shown", f"{plural(len(rows) - _BAD_FILES, 'more file')} with issues (--json has all)"))
    if len(files) > _ALL_FILES:
        clean = [file for file in files if not file.issue_counts]
        fields.append(
            Field("Clean", f"{len(files) - bad:,} of {len(files):,} files, {plural(sum(map(_total, clean)), 'record')}")
        )
    if fields:
        yield Fields(tuple(fields))


def _some(number: int) -> str:
    return f"{number:,}" if number else ""


def _note(group: _Group, examples: int, *, several: bool) -> Note:
    shown = group.examples(examples)
    details = [f"{clipped(issue.path)}: {place(issue)}" if several else place(issue) for issue in shown]
    if group.count > len(shown):
        details.append(f"and {group.count - len(shown):,} more" if shown else "no example kept")
    where = f" in {plural(group.files, 'file')}" if several else ""
    return Note(group.severity, f"{group.code}: {plural(group.count, 'time')}{where}", tuple(details))


def _short(issue: Issue) -> Issue:
    """The issue without what no format has the room for: a name in a file can be as long as a line."""
    pointer = None if issue.pointer is None else clipped(issue.pointer)
    return replace(issue, message=clipped(issue.message), pointer=pointer)


def _data(file: ValidationReport) -> dict[str, Any]:
    return {
        "path": file.path,
        "ok": file.ok,
        "lines": file.lines,
        "bytes": file.size,
        "rejected": file.rejected,
        "events": dict(file.events),
        "run_ids": list(file.run_ids),
        "errors": file.count(Severity.ERROR),
        "warnings": file.count(Severity.WARNING),
        "infos": file.count(Severity.INFO),
        "issue_counts": [
            {"code": item.code, "severity": str(item.severity), "count": item.count} for item in file.issue_counts
        ],
        "issues": [issue.to_dict() for issue in file.issues],
    }
