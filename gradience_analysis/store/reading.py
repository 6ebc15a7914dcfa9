"""What is done for one file or one run, in this process or in another one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradience_analysis.errors import InputError
from gradience_analysis.store.contents import Finding, Source, columns_of
from gradience_analysis.store.merge import Fresh
from gradience_schema import Severity

_PIECE = 1 << 20


@dataclass(frozen=True)
class Same:
    """A file with the content that the store has of it, and another time of change."""

    path: str
    mtime_ns: int


@dataclass(frozen=True)
class Unread:
    """A file that could not be read; an exception would not come whole out of another process."""

    path: str
    message: str
    remedy: str

    def error(self) -> InputError:
        """The same as an error."""
        return InputError(self.path, self.message.removeprefix(f"{self.path}: "), self.remedy)


@dataclass(frozen=True)
class Wanted:
    """A file to read.

    Attributes:
        path: The file.
        bytes: Its size, to share out the work.
        known_sha256: Content that need not be read again; None to read it in any case.
    """

    path: str
    bytes: int
    known_sha256: str | None


def read_sources(wanted: Sequence[Wanted]) -> list[Fresh | Same | Unread]:
    """Read files, each to its tables and its identity."""
    return [_read(one) for one in wanted]


def _read(wanted: Wanted) -> Fresh | Same | Unread:
    # The identity is taken first: a file that grows while it is read has then changed, and is read again next time.
    try:
        status = os.stat(wanted.path)  # noqa: PTH116
        digest = _sha256(wanted.path)
    except OSError as error:
        return Unread(wanted.path, f"cannot be read: {error.strerror or error}.", "")
    if digest == wanted.known_sha256:
        return Same(wanted.path, status.st_mtime_ns)
    from gradience_analysis.tables.read_file import read_file

    try:
        tables = read_file(wanted.path, bad_lines=True)
    except InputError as error:
        return Unread(wanted.path, error.message, error.remedy)
    run_ids = tuple(dict.fromkeys(tables.parts["run_id"].to_pylist()))
    columns = columns_of(tables.steps)
    return Fresh(Source(wanted.path, status.st_size, status.st_mtime_ns, digest, run_ids, columns), tables)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def judge_runs(runs: Sequence[tuple[str, str]]) -> list[Finding]:
    """Diagnose runs, each given by its run_id and one of its files."""
    return [_judge(run_id, path) for run_id, path in runs]


def _judge(run_id: str, path: str) -> Finding:
    from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
    from gradience_analysis.policy import load_policy
    from gradience_analysis.telemetry.assemble import load_run

    policy = load_policy()
    try:
        run = load_run(path, run_id=run_id)
    except InputError as error:
        return Finding(run_id, None, None, None, None, policy.version, str(error))
    counts = Counter(finding.severity for finding in diagnose(run, DIAGNOSTICS, policy).findings)
    return Finding(
        run_id,
        critical=counts[Severity.CRITICAL],
        error=counts[Severity.ERROR],
        warning=counts[Severity.WARNING],
        info=counts[Severity.INFO],
        policy_version=policy.version,
        reason=None,
    )
