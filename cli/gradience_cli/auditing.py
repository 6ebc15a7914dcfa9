"""The work of `gradience audit`: which adapters, against what, and where the summary goes."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from gradience_analysis.audit import AdapterAudit
    from gradience_analysis.model import Report
    from gradience_analysis.policy import Policy
    from gradience_analysis.reports.audit_view import AuditView
    from gradience_cli.progress import Progress

_SMALL = 64 << 20
"""Bytes of weights that one thread reads as fast as several."""
_SEVERAL = "Name the one that is meant with --adapter."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be audited, and how.

    Attributes:
        folder: Folder of the adapter, or of several.
        policy: Thresholds to judge by.
        config, weights: Files in place of the folder's.
        adapter: The adapter that is meant.
        base: The base model; None for no norms of it.
        cache: Where these norms are kept.
        against: Folder of another adapter to hold it against.
        append: Run that the summary goes into.
        allow_pickle: Whether pickled weights are read.
    """

    folder: Path
    policy: Policy = field(repr=False)
    config: Path | None = None
    weights: Path | None = None
    adapter: str | None = None
    base: Path | None = None
    cache: Path | None = None
    against: Path | None = None
    append: Path | None = None
    allow_pickle: bool = False


def alone(wanted: Wanted, view: AuditView) -> tuple[Report, bool]:
    """The report on the adapters of the folder, and whether each of them could be judged."""
    from gradience_analysis.reports.audit import audit_report
    from gradience_cli.appending import RunFile

    if wanted.append is not None:
        # Looked at first: a wrong path must not cost an audit.
        RunFile(wanted.append)
    audits = _audits(wanted)
    if wanted.append is not None:
        _refuse_to_append(audits)
    report = audit_report(audits, str(wanted.folder), view)
    return report, report.data["judged"]


def compared(wanted: Wanted, other: Path, view: AuditView) -> tuple[Report, bool]:
    """How two adapters lie to each other, and whether they have anything in common.

    Raises:
        GradienceError: An option was given that has no part in it.
    """
    from gradience_analysis.audit.overlap import compare_adapters
    from gradience_analysis.errors import GradienceError
    from gradience_analysis.reports.overlap import overlap_report

    given = {
        "--append": wanted.append,
        "--adapter-config": wanted.config,
        "--weights": wanted.weights,
        "--base-model": wanted.base,
        "--suggest-per-layer": view.suggest_per_layer,
    }
    for name in (name for name, value in given.items() if value):
        raise GradienceError(f"{name} has no part in --against.", f"Leave out {name}, or --against.")
    result = compare_adapters(
        wanted.folder, other, adapter_a=wanted.adapter, policy=wanted.policy, allow_pickle=wanted.allow_pickle
    )
    return overlap_report(result, verbose=view.verbose, layers=view.layers), bool(result.rows)


def _audits(wanted: Wanted) -> list[AdapterAudit]:
    """Each adapter of the folder, or the one that is meant."""
    from gradience_analysis.adapters import adapter_folders
    from gradience_analysis.sources.opening import is_folder

    folders: tuple[Path, ...] = (wanted.folder,)
    if wanted.adapter is None and wanted.weights is None and wanted.config is None and is_folder(wanted.folder):
        folders = adapter_folders(wanted.folder) or folders
    return [_audit(wanted, folder) for folder in folders]


def _audit(wanted: Wanted, folder: Path) -> AdapterAudit:
    from gradience_analysis.audit import audit_adapter

    with BaseProgress(str(wanted.base)) as progress:
        return audit_adapter(
            folder,
            wanted.base,
            adapter=wanted.adapter,
            config=wanted.config,
            weights=wanted.weights,
            norms_cache=wanted.cache,
            policy=wanted.policy,
            allow_pickle=wanted.allow_pickle,
            progress=progress.at,
        )


class BaseProgress:
    """How far the norms of the base are; their number is known only when the first is begun.

    Args:
        name: What is measured.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = contextlib.ExitStack()
        self._line: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self._shown.close()

    def at(self, done: int, total: int) -> None:
        """So many of so many are done."""
        if self._line is None:
            from gradience_cli.progress import Progress

            self._line = self._shown.enter_context(Progress("measuring base weights", total))
        if done < total:
            self._line.start(self._name)


def _refuse_to_append(audits: list[AdapterAudit]) -> None:
    """Refuse what is not the audit of one adapter.

    Raises:
        GradienceError: There is more than one, or it is of nothing.
    """
    from gradience_analysis.errors import GradienceError

    if len(audits) > 1:
        raise GradienceError(f"--append takes one audit, and there are {len(audits)} adapters.", _SEVERAL)
    if not audits[0].rows:
        raise GradienceError(
            "Nothing was audited, so there is nothing to append.", "Run it without --append to see why."
        )


def append_summary(path: Path, report: Report, *, quiet: bool) -> None:
    """The totals as a new record of the run, beside the name of the adapter; a line on stderr says so.

    Raises:
        InputError: The run cannot be added to.
    """
    from gradience_analysis.diagnostics.audit_record import KIND
    from gradience_cli.appending import RunFile
    from gradience_cli.streams import tell

    seq = RunFile(path).append("metrics", kind=KIND, metrics=report.data["summary"], adapter=report.data["name"])
    if not quiet:
        tell(f"appended to {path} as record {seq:,} (metrics of kind {KIND}).")


def start_one_thread(wanted: Wanted) -> None:
    """Keep numpy to one thread for a small adapter.

    Starting one for each processor takes longer than the audit of a few megabytes. The variable is read when numpy is
    imported first; one that is set already is left as it is.
    """
    if "numpy" in sys.modules:
        return
    with contextlib.suppress(OSError):
        files = (wanted.weights,) if wanted.weights else wanted.folder.glob("*.safetensors")
        if wanted.base is None and sum(path.stat().st_size for path in files) < _SMALL:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
