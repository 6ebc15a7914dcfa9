"""R13: one bad line costs one line: damage k lines of a real file, lose exactly those k, be told of exactly those."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_analysis.model import Event, Issue
from gradience_analysis.telemetry.batches import BatchReader, Rows
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_analysis.telemetry.validate import validate
from gradience_schema import Severity
from tests.analysis.mutations import FIXTURES
from tests.analysis.reference import FOLDER, V1
from tests.reliability import damage
from tests.reliability.lengths import lengths

READERS = (EventReader, BatchReader)
RUNS = [*sorted(FIXTURES.glob("runs/*/*.jsonl")), *sorted(FIXTURES.glob("sweep/*/run.jsonl"))]
REFERENCE = [FOLDER / name for name in V1 if (FOLDER / name).is_file()]
files = pytest.mark.parametrize("path", [pytest.param(path, id="/".join(path.parts[-3:])) for path in RUNS + REFERENCE])


def read(path: Path, reader_type: type[EventReader | BatchReader]) -> tuple[list[Event], list[Issue]]:
    """Events and issues of a file."""
    log = IssueLog(keep_per_code=1_000_000)
    events: list[Event] = []
    for batch in reader_type(path, log):
        events += batch.events() if isinstance(batch, Rows) else [batch]
    return events, log.kept


def essence(event: Event) -> str:
    """Everything of an event but where its line begins: types and bits of all values, keys in any order."""
    return repr(event._replace(payload=dict(sorted(event.payload.items())), byte_offset=0))


def written(path: Path, lines: list[bytes]) -> Path:
    """The lines as a file."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def begins(lines: list[bytes]) -> list[int]:
    """Byte offset of each line."""
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line) + 1)
    return offsets


def check_lost(folder: Path, source: Path, good: list[bytes], damaged: dict[int, bytes]) -> None:
    """Exactly the damaged lines are lost and reported; all others give what they gave, at their true offsets."""
    before = {event.line: essence(event) for event in read(source, EventReader)[0]}
    told = {(issue.line, issue.code) for issue in read(source, EventReader)[1]}
    lines = [damaged.get(number, line) for number, line in enumerate(good, 1)]
    path, offsets = written(folder / "damaged.jsonl", lines), begins(lines)
    for reader_type in READERS:
        events, issues = read(path, reader_type)
        assert {event.line: essence(event) for event in events} == {
            number: text for number, text in before.items() if number not in damaged
        }
        assert all(event.byte_offset == offsets[event.line - 1] for event in events)
        new = [issue for issue in issues if (issue.line, issue.code) not in told]
        errors = [issue for issue in new if issue.severity is Severity.ERROR]
        assert {issue.line for issue in errors} == set(damaged)
        assert {issue.code for issue in new if issue.severity is not Severity.ERROR} <= {"crlf"}
        for issue in errors:
            assert issue.line is not None
            assert issue.byte_offset is not None
            assert offsets[issue.line - 1] <= issue.byte_offset <= offsets[issue.line] - 1
            assert issue.message
    report = validate(path, cross_line=False)
    assert (sum(report.events.values()), report.rejected) == (len(before) - len(damaged), len(damaged))


def chosen(rng: random.Random, source: Path) -> tuple[list[bytes], dict[int, bytes]]:
    """The lines of a file, and k of them damaged, from none to all.

    The first line keeps its first four bytes: what begins like UTF-16 or gzip is no damaged line but another file.
    """
    good = source.read_bytes().splitlines()
    places = rng.sample(range(1, len(good) + 1), rng.choice((0, 1, 2, 5, len(good) // 2, len(good))) % (len(good) + 1))
    damaged = {place: damage.lose(rng, good[place - 1], rng.choice(sorted(damage.LOSING))) for place in places}
    while 1 in damaged and damaged[1][:4] != good[0][:4]:
        damaged[1] = damage.lose(
            rng, good[0], rng.choice(["cut off", "0xFF inside", "text after", "ts of another type"])
        )
    return good, damaged


@lengths("rounds", 3, 300)
@files
def test_k_damaged_lines_are_lost_and_reported_and_no_other(tmp_path: Path, path: Path, rounds: int) -> None:
    """Given k lines of a real file damaged in any way, when read, then exactly those k are lost, and reported."""
    for seed in range(rounds):
        check_lost(tmp_path, path, *chosen(random.Random(f"{path.name}{seed}"), path))


@pytest.mark.parametrize("kind", damage.LOSING)
def test_each_kind_of_damage_loses_its_lines(tmp_path: Path, kind: str) -> None:
    """Given every third line of a real file damaged in one way, when read, then exactly those are lost and reported."""
    source, rng = FIXTURES / "runs" / "healthy" / "run.jsonl", random.Random(kind)
    good = source.read_bytes().splitlines()
    damaged = {place: damage.lose(rng, good[place - 1], kind) for place in range(2, len(good) + 1, 3)}
    check_lost(tmp_path, source, good, damaged)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_place_of_a_line(tmp_path: Path, data: st.DataObject) -> None:
    """Given any bytes that are no record in place of lines of a real file, when read, then those lines are lost."""
    source = data.draw(st.sampled_from(RUNS))
    good = source.read_bytes().splitlines()
    places = data.draw(st.lists(st.integers(2, len(good)), max_size=5, unique=True))
    garbage = st.binary(min_size=1, max_size=60).filter(
        lambda text: b"\n" not in text and text.removesuffix(b"\r").strip() != b""
    )
    check_lost(tmp_path, source, good, {place: data.draw(garbage) for place in places})


@pytest.mark.parametrize("kind", damage.READ)
@pytest.mark.parametrize("path", [pytest.param(path, id="/".join(path.parts[-3:])) for path in RUNS[:6] + REFERENCE])
def test_what_is_tolerated_is_reported_where_it_is(tmp_path: Path, path: Path, kind: str) -> None:
    """Given k lines with a departure that loses nothing, when read, then every line is read, and those k reported."""
    make, code = damage.READ[kind]
    rng = random.Random(kind)
    good = path.read_bytes().splitlines()
    original, before = read(path, EventReader)
    numbers = [event.line for event in original if not event.nonfinite]
    places = set(rng.sample(numbers, min(4, len(numbers))))
    lines = [make(rng, line) if number in places else line for number, line in enumerate(good, 1)]
    for reader_type in READERS:
        events, issues = read(written(tmp_path / "odd.jsonl", lines), reader_type)
        assert [event.line for event in events] == [event.line for event in original]
        assert [essence(event) for event in events if event.line not in places] == [
            essence(event) for event in original if event.line not in places
        ]
        assert {(issue.line, issue.code) for issue in issues} == {
            *((issue.line, issue.code) for issue in before),
            *((place, code) for place in places),
        }


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("ts_backwards", lambda record: record | {"ts": record["ts"] - 100.0}),
        ("step_backwards", lambda record: record | {"step": 0}),
        ("several_run_ids", lambda record: record | {"run_id": f"other-{record['ts']!r}"}),
        ("number_in_string", lambda record: record | {f"x{record['ts']!r}": "1.5"}),
        ("metric_type_changed", lambda record: record | {"epoch_text": 1} if record["step"] else record),
    ],
)
@pytest.mark.parametrize("path", [pytest.param(path, id="/".join(path.parts[-3:])) for path in RUNS[:6:2]])
def test_rules_across_lines_name_the_line(tmp_path: Path, path: Path, code: str, change: Any) -> None:
    """Given k steps that break a rule across lines, when validated, then that rule names exactly those k lines."""
    records = [json.loads(line) | {"epoch_text": "a"} for line in path.read_bytes().splitlines()]
    steps = [place for place, record in enumerate(records, 1) if record["event"] == "train_step"]
    places = set(random.Random(code).sample(steps[1:], min(2, len(steps) - 1)))
    assert places or len(steps) == 1
    changed = [change(record) if place in places else record for place, record in enumerate(records, 1)]
    report = validate(written(tmp_path / "run.jsonl", [damage.dump(record) for record in changed]))
    assert report.rejected == 0
    assert {issue.line for issue in report.issues if issue.code == code} == places


@pytest.mark.parametrize(
    "path", [pytest.param(path, id="/".join(path.parts[-3:])) for path in [*RUNS[2:4], *REFERENCE[:1]]]
)
def test_a_file_cut_anywhere_in_its_last_line(tmp_path: Path, path: Path) -> None:
    """Given a file cut at each byte of its last line, when read, then what is before is kept, and the cut reported."""
    data = path.read_bytes()
    data += b"" if data.endswith(b"\n") else b"\n"
    last = data.rindex(b"\n", 0, -1) + 1
    whole = [essence(event) for event in read(path, EventReader)[0]]
    target = tmp_path / "cut.jsonl"
    for end in range(last, len(data) + 1):
        target.write_bytes(data[:end])
        complete = end >= len(data) - 1
        for reader_type in READERS:
            events, issues = read(target, reader_type)
            assert [essence(event) for event in events] == whole[: len(whole) - (not complete)]
            codes = [issue.code for issue in issues if issue.line == data.count(b"\n")]
            if end == len(data):
                assert codes == []
            elif complete:
                assert codes == ["no_final_newline"]
            else:
                assert codes == (["torn_tail"] if end > last else [])


@pytest.mark.parametrize("newline", [b"\r\n", b"\n\n", b"\n \n"])
@files
def test_line_ends_and_blank_lines_cost_nothing(tmp_path: Path, path: Path, newline: bytes) -> None:
    """Given a file with CRLF or blank lines, with a byte order mark, when read, then all is there, and it is said."""
    lines = path.read_bytes().splitlines()
    odd = tmp_path / "odd.jsonl"
    odd.write_bytes(b"\xef\xbb\xbf" + newline.join(lines) + newline)
    original, before = read(path, EventReader)
    for reader_type in READERS:
        events, issues = read(odd, reader_type)
        assert [essence(event._replace(line=0)) for event in events] == [
            essence(event._replace(line=0)) for event in original
        ]
        extra = {"bom", "crlf" if newline == b"\r\n" else "blank_line"}
        codes = {issue.code for issue in before if issue.code != "no_final_newline"}
        assert {issue.code for issue in issues} == codes | extra


@pytest.mark.parametrize("path", [pytest.param(path, id="/".join(path.parts[-3:])) for path in RUNS[:4]])
def test_a_gzip_cut_off_gives_what_is_before_the_cut(tmp_path: Path, path: Path) -> None:
    """Given a gzip file cut off at any place, when read, then events are the first of the file, and it is said."""
    data, rng = gzip.compress(path.read_bytes()), random.Random(path.name)
    whole = [essence(event) for event in read(path, EventReader)[0]]
    target = tmp_path / "run.jsonl.gz"
    for place in rng.sample(range(20, len(data)), 40):
        target.write_bytes(data[:place])
        for reader_type in READERS:
            events, issues = read(target, reader_type)
            assert [essence(event) for event in events] == whole[: len(events)]
            assert "gzip_fault" in {issue.code for issue in issues}
