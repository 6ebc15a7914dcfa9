"""R12: the reader ends on any path, in bounded memory, whatever a file holds."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.telemetry.batches import BatchReader
from gradience_analysis.telemetry.issues import IssueLog
from gradience_analysis.telemetry.read import EventReader
from gradience_analysis.telemetry.validate import validate
from tests.analysis.mutations import FIXTURES
from tests.reliability.lengths import lengths

MIB = 1 << 20
LINE_CAP = MIB
LIMIT_MIB = 64 + 2 * LINE_CAP / MIB
ROOM = LINE_CAP - 400
START = b'{"schema":"gradience.vnext.telemetry/v1","ts":1.0,"run_id":"r","event":"run_start","step":null,"config":{}}\n'
CHILD = Path(__file__).with_name("reading_child.py")
WARM = FIXTURES / "runs" / "nan_batch" / "run.jsonl"
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux counts it")
both = pytest.mark.parametrize("how", ["validate", "EventReader"])


def step(member: str, *, run_id: str = "r", event: str = "train_step") -> bytes:
    """A line with this member at its end."""
    head = f'{{"schema":"gradience.vnext.telemetry/v1","ts":1.0,"run_id":"{run_id}","event":"{event}","step":1'
    return f"{head},{member}}}\n".encode()


def filled(before: str, unit: str, after: str) -> str:
    """As many units, with commas between them, as a line has room for."""
    count = (ROOM - len(before) - len(after)) // (len(unit) + 1)
    return before + ",".join([unit] * count) + after


def long(number: int) -> str:
    """A name that fills a line and that no other number gives."""
    return f"{number:06d}{'k' * (ROOM - 6)}"


FULL_LINES: dict[str, Callable[[int], bytes]] = {
    "a new run id of a megabyte": lambda n: step('"loss":1', run_id=long(n)),
    "a new key of a megabyte": lambda n: step(f'"{long(n)}":1'),
    "a number in a string under a key of a megabyte": lambda n: step(f'"{long(n)}":"1"'),
    "a metric of another type under a key of a megabyte": lambda n: step(f'"{long(n // 2)}":{1 if n % 2 else "true"}'),
    "NaN under a key of a megabyte": lambda n: step(f'"{long(n)}":NaN'),
    "a lone surrogate under a key of a megabyte": lambda n: step(rf'"{long(n)}":"\ud800"'),
    "an unknown event of a megabyte": lambda n: step('"x":1', event=long(n)),
    "a new split of a megabyte": lambda n: step(f'"metrics":{{"a":1}},"split":"{long(n)}"', event="eval"),
    "a wrong value under a key of a megabyte": lambda n: step(
        f'"config":{{"lora":{{"rank_pattern":{{"{long(n)}":"x"}}}}}}', event="run_start"
    ),
    "hundreds of new keys": lambda n: step(",".join(f'"{n:06d}{k:03d}{"k" * 2_000}":1' for k in range(500))),
    "eight new keys more in each line": lambda n: step(
        ",".join(f'"{k}{"k" * 200}":1' for k in range(min(512, 8 * n + 8)))
    ),
}
LARGE_VALUES: dict[str, str] = {
    "empty objects": filled('"x":[', "{}", "]"),
    "nested objects": filled('"x":[', '{"":{"":{}}}', "]"),
    "nested objects and a NaN": filled('"x":[', '{"":{}}', ",NaN]"),
    "NaN tokens": filled('"x":[', "NaN", "]"),
    "NaN tokens below a long key": f'"{"k" * (ROOM // 2)}":[{",".join(["NaN"] * (ROOM // 10))}]',
    "numbers beyond a double": filled('"x":[', "1e999", "]"),
    "lone surrogates": filled('"x":[', r'"\ud800"', "]"),
    "strings for learning rates": filled('"lr":[', '""', "]"),
    "one key again and again": filled("", '"a":1', ""),
    "objects with repeated keys": filled('"x":[', '{"a":1,"a":2}', "]"),
    "marks of nothing": '"nonfinite":{' + ",".join(f'"/x/{n:06d}":"nan"' for n in range(ROOM // 20)) + "}",
    "marks of a wrong kind": '"nonfinite":{' + ",".join(f'"/x/{n:06d}":"nnn"' for n in range(ROOM // 20)) + "}",
    "short strings": filled('"x":[', '"ab"', "]"),
}


def cost(how: str, path: Path, environment: dict[str, str]) -> dict[str, Any]:
    """What reading a file took, in a process that is stopped when it takes far more than it may."""
    done = subprocess.run(
        [sys.executable, str(CHILD), how, str(path), str(WARM)],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        timeout=1_000,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["mib"] <= LIMIT_MIB, found
    return found


def write(path: Path, lines: Iterator[bytes]) -> Path:
    """A file of these lines behind a run_start."""
    with path.open("wb") as file:
        file.write(START)
        file.writelines(lines)
    return path


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "read",
    [validate, lambda path: list(EventReader(path, IssueLog())), lambda path: list(BatchReader(path, IssueLog()))],
)
def test_what_may_never_end_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """Given a FIFO, a socket, a device or a folder, when read, then an error that names it comes at once."""
    fifo, place = tmp_path / "fifo", tmp_path / "s"
    os.mkfifo(fifo)
    (tmp_path / "link").symlink_to(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(place) if len(str(place)) > 100 else str(place))
    paths = {
        fifo: "FIFO",
        tmp_path / "link": "FIFO",
        place: "socket",
        tmp_path: "directory",
        Path("/dev/zero"): "device",
    }
    for path, word in (paths | {Path("/dev/random"): "device", Path("/dev/null"): "device"}).items():
        with pytest.raises(InputError, match=word):
            read(path)


@needs_linux
@pytest.mark.parametrize("how", ["validate", pytest.param("EventReader", marks=pytest.mark.soak)])
def test_a_line_of_a_gigabyte_is_reported_not_loaded(
    tmp_path: Path, how: str, child_environment: dict[str, str]
) -> None:
    """Given a sparse line of 1 GB between two records, when read, then it is one error, and memory stays bounded."""
    path = tmp_path / "run.jsonl"
    with path.open("wb") as file:
        file.write(START)
        file.seek(1_000_000_000, os.SEEK_CUR)
        file.write(b"\n" + step('"loss":1'))
    found = cost(how, path, child_environment)
    assert found["codes"] == {"line_too_long": 1}
    assert (found["events"], found["lost"], found["lines"]) == (2, 1, 3)
    assert found["size"] == path.stat().st_size


def bomb(path: Path, mebibytes: int) -> None:
    """One gzip member that gives so many MiB of NUL; made of one block, repeated."""
    zeros = bytes(MIB)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(START) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(zeros) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(START)
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    end = deflate.flush(zlib.Z_FINISH)
    size = (len(START) + mebibytes * MIB) % (1 << 32)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    path.write_bytes(head + first + block * mebibytes + end + struct.pack("<II", checksum, size))


@needs_linux
@lengths("mebibytes", 1_024, 20_480)
def test_a_gzip_bomb_is_read_in_pieces(tmp_path: Path, mebibytes: int, child_environment: dict[str, str]) -> None:
    """Given a small gzip file that holds gigabytes, when validated, then it is one bad line, and memory bounded."""
    path = tmp_path / "run.jsonl.gz"
    bomb(path, mebibytes)
    found = cost("validate", path, child_environment)
    assert found["size"] == len(START) + mebibytes * MIB
    assert path.stat().st_size < found["size"] / 500
    assert (found["events"], found["lost"]) == (1, 1)
    assert found["codes"] == {"torn_tail": 1} or found["codes"] == {"line_too_long": 1}


@needs_linux
@lengths("count", 100_000, 2_000_000)
def test_millions_of_bad_lines_are_counted_not_kept(
    tmp_path: Path, count: int, child_environment: dict[str, str]
) -> None:
    """Given up to two million bad lines, when validated, then each is counted, and memory does not grow with them."""
    path = write(tmp_path / "run.jsonl", (b'{"oops %d\n' % n for n in range(count)))
    found = cost("validate", path, child_environment)
    assert found["codes"] == {"invalid_json": count}
    assert found["lost"] == count


@needs_linux
@lengths("count", 20_000, 1_000_000)
def test_a_million_names_are_not_kept(tmp_path: Path, count: int, child_environment: dict[str, str]) -> None:
    """Given a run id, a metric, an event name and a split of its own a line, when validated, memory is bounded."""
    kinds = (
        lambda n: step(f'"metric_{n}":1', run_id=f"run-{n}"),
        lambda n: step(f'"text_{n}":"1.5"'),
        lambda n: step(f'"metrics":{{"loss_{n}":1}},"split":"split_{n}"', event="eval"),
        lambda n: step('"x":1', event=f"an_event_whose_name_is_of_its_own_{n}"),
    )
    path = write(tmp_path / "run.jsonl", (kinds[n % 4](n) for n in range(count)))
    found = cost("validate", path, child_environment)
    assert found["events"] == count + 1
    assert found["codes"]["unknown_event"] == count // 4


@needs_linux
@lengths("lines", 80, 1_000)
@pytest.mark.parametrize("kind", FULL_LINES)
def test_names_of_a_megabyte_are_not_kept(
    tmp_path: Path, kind: str, lines: int, child_environment: dict[str, str]
) -> None:
    """Given lines of a megabyte, each with names of its own, when validated, then memory does not grow with them."""
    path = write(tmp_path / "run.jsonl", (FULL_LINES[kind](n) for n in range(lines)))
    found = cost("validate", path, child_environment)
    assert found["events"] + found["lost"] == lines + 1


@needs_linux
@both
@pytest.mark.soak
@pytest.mark.parametrize("kind", LARGE_VALUES)
def test_a_line_at_the_cap_costs_no_more_than_its_values(
    tmp_path: Path, how: str, kind: str, child_environment: dict[str, str]
) -> None:
    """Given lines at the cap that hold as much as a line can, when read, then memory is bounded, and time is too."""
    path = write(tmp_path / "run.jsonl", (step(LARGE_VALUES[kind]) for _ in range(3)))
    found = cost(how, path, child_environment)
    assert found["events"] + found["lost"] == 4
    assert "line_too_long" not in found["codes"]


@needs_linux
def test_lines_at_the_cap_of_every_kind(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Given a line at the cap of each kind, one after the other, when validated, then memory is bounded all the way."""
    path = write(tmp_path / "run.jsonl", (step(value) for value in LARGE_VALUES.values()))
    found = cost("validate", path, child_environment)
    assert found["events"] == len(LARGE_VALUES) - 1
    assert found["lost"] == 2
