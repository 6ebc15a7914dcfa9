"""Which importers there are, and which one a file is for."""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from gradience_analysis.errors import GradienceError
from gradience_analysis.importers.base import HEAD_BYTES, Importer
from gradience_analysis.importers.early_flat import EarlyFlat
from gradience_analysis.importers.early_nested import EarlyNested
from gradience_analysis.importers.hf_trainer_state import TrainerState
from gradience_analysis.importers.lightning_csv import LightningCsv
from gradience_analysis.importers.llama_factory import LlamaFactory
from gradience_analysis.model import Issue
from gradience_analysis.sources.lines import BOM
from gradience_analysis.sources.opening import STDIN, open_regular
from gradience_schema import Severity

IMPORTERS: tuple[Importer, ...] = (
    TrainerState(),
    LlamaFactory(),
    LightningCsv(),
    EarlyNested(),
    EarlyFlat(),
)
"""The importers of this package, in the order in which they are asked."""

ENTRY_POINTS = "gradience.importers"
_PARTS = ("name", "title", "sniff", "read")
# Whatever code of another distribution can do wrong while it is imported or looks at some bytes.
_FOREIGN_FAULTS = (
    *(ImportError, SyntaxError, AttributeError, TypeError, ValueError),
    *(LookupError, ArithmeticError, AssertionError, RuntimeError, OSError),
)

Report = Callable[[Issue], None]


def find_importer(path: str | Path, *, report: Report | None = None) -> Importer | None:
    """The importer for a file, by its first 64 KiB; None when no format is recognised.

    The importers of this package are asked first, then those of other distributions (entry point group
    `gradience.importers`). One of those that cannot be loaded, or fails when asked, is reported and skipped.

    Args:
        path: A file, gzip or not. Standard input (`-`) cannot be looked at and then read, and gives None.
        report: Takes the issues about other distributions; without one they become a RuntimeWarning.

    Raises:
        InputError: The path cannot be opened.
    """
    path = Path(path)
    if str(path) == STDIN:
        return None
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES).removeprefix(BOM)
    for importer in IMPORTERS:
        if importer.sniff(head, path):
            return importer
    others, issues = _third_party()
    for issue in issues:
        _tell(issue, report)
    for importer in others:
        try:
            if importer.sniff(head, path):
                return importer
        except _FOREIGN_FAULTS as error:
            _tell(_fault(importer.name, f"failed on {path.name}: {_words(error)}"), report)
    return None


def importer_names() -> tuple[str, ...]:
    """The name of every importer that can be loaded, those of this package first."""
    return tuple(importer.name for importer in (*IMPORTERS, *_third_party()[0]))


def importer_named(name: str) -> Importer:
    """The importer with this name.

    Raises:
        GradienceError: There is none; the message lists those there are.
    """
    for importer in IMPORTERS:
        if importer.name == name:
            return importer
    others, issues = _third_party()
    found = next((importer for importer in others if importer.name == name), None)
    if found is not None:
        return found
    known = ", ".join(importer.name for importer in (*IMPORTERS, *others))
    failed = "".join(f" {issue.message}" for issue in issues)
    raise GradienceError(f"There is no format {name[:80]!r} to import from.", f"Formats: {known}.{failed}")


@functools.cache
def _third_party() -> tuple[tuple[Importer, ...], tuple[Issue, ...]]:
    """Importers of other distributions, and what is wrong with those that cannot be used."""
    found: list[Importer] = []
    issues: list[Issue] = []
    taken = {importer.name for importer in IMPORTERS}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            loaded: Any = entry.load()
            importer = cast("Importer", loaded() if isinstance(loaded, type) else loaded)
            missing = [part for part in _PARTS if not hasattr(importer, part)]
        except _FOREIGN_FAULTS as error:
            issues.append(_fault(entry.name, f"could not be loaded: {_words(error)}"))
            continue
        if missing:
            issues.append(_fault(entry.name, f"is no importer: it has no {' and no '.join(missing)}."))
        elif importer.name in taken:
            issues.append(_fault(entry.name, f"has the name of another importer, {importer.name!r}."))
        else:
            taken.add(importer.name)
            found.append(importer)
    return tuple(found), tuple(issues)


def _fault(name: str, what: str) -> Issue:
    message = f"The importer {name[:80]!r} of another package {what} It is skipped."
    return Issue("importer_unusable", Severity.WARNING, message, ENTRY_POINTS)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}".rstrip(".") + "."


def _tell(issue: Issue, report: Report | None) -> None:
    if report is None:
        warnings.warn(issue.message, RuntimeWarning, stacklevel=3)
    else:
        report(issue)
