"""The register of importers: every module is in it, foreign ones join it, and a broken one costs nothing."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gradience_analysis.importers
from gradience_analysis.errors import GradienceError, InputError
from gradience_analysis.importers import IMPORTERS, find_importer, importer_named, importer_names, registry
from gradience_analysis.model import Event, Issue
from tests.analysis.importers.foreign import FOLDER, jsonl
from tests.analysis.records import healthy_run, write

NO_IMPORTERS = {"__init__", "base", "registry"}


class Another:
    """An importer of another distribution."""

    name = "another"
    title = "a log of another tool"

    def sniff(self, head: bytes, path: Path) -> bool:
        """Files that begin with its name; one word of it breaks it."""
        if head.startswith(b"broken"):
            raise RuntimeError("what is this?")
        return head.startswith(b"another")

    def read(self, path: Path) -> Iterator[Event | Issue]:
        """Nothing."""
        return iter(())


class Entry:
    """An entry point that loads to something, or fails."""

    def __init__(self, name: str, loads: Any) -> None:
        self.name = name
        self._loads = loads

    def load(self) -> Any:
        """What was given; an exception is raised."""
        if isinstance(self._loads, Exception):
            raise self._loads
        return self._loads


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Entry]]:
    """Entry points of the group, to be filled by a test."""
    listed: list[Entry] = []
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **wanted: listed if wanted.get("group") == "gradience.importers" else real(**wanted),
    )
    registry._third_party.cache_clear()
    yield listed
    registry._third_party.cache_clear()


def test_every_module_of_importers_is_registered() -> None:
    """Given the modules of the folder, when compared with IMPORTERS, then each has its importer there."""
    folder = Path(next(iter(gradience_analysis.importers.__path__)))
    modules = {path.stem for path in folder.glob("*.py")} - NO_IMPORTERS
    registered = {type(importer).__module__.rpartition(".")[2] for importer in IMPORTERS}
    missing = modules - registered
    assert not missing, (
        f"add an instance of the importer of {', '.join(sorted(missing))} to IMPORTERS in importers/registry.py, "
        "its format to docs/importing.md, and a log that the tool wrote to fixtures/foreign/ (see "
        "scripts/make_foreign_fixtures.py). What is no importer belongs into importers/rows/."
    )
    assert registered <= modules


def test_names_are_slugs_titles_are_words_and_both_are_documented() -> None:
    """Given the importers, when their names are compared with docs/importing.md, then the page has each of them."""
    page = (FOLDER.parents[1] / "docs" / "importing.md").read_text(encoding="utf-8")
    names = [importer.name for importer in IMPORTERS]
    assert len(set(names)) == len(names)
    for importer in IMPORTERS:
        assert f"| `{importer.name}` |" in page, f"docs/importing.md has no row for {importer.name}"
        assert importer.title.startswith(("a ", "an "))


def test_an_importer_of_another_distribution_joins(entries: list[Entry], tmp_path: Path) -> None:
    """Given entry points to an importer class, when a file of its format is looked at, then its importer is found."""
    entries.append(Entry("another", Another))
    path = tmp_path / "log.txt"
    path.write_text("another log\n")
    found = find_importer(path)
    assert isinstance(found, Another)
    assert importer_named("another") is not None
    assert importer_names()[-1] == "another"


@pytest.mark.parametrize(
    ("loads", "sentence"),
    [
        (ImportError("no module named x"), "could not be loaded: ImportError: no module named x."),
        (SyntaxError("bad"), "could not be loaded: SyntaxError"),
        (object(), "is no importer: it has no name and no title and no sniff and no read."),
        (type("Taken", (Another,), {"name": "llama-factory"}), "has the name of another importer"),
    ],
    ids=["import", "syntax", "object", "name"],
)
def test_a_broken_one_is_reported_and_skipped(loads: Any, sentence: str, entries: list[Entry], tmp_path: Path) -> None:
    """Given an entry point that cannot be used, when a file is looked at, then that is said, and others are asked."""
    entries.extend([Entry("broken-one", loads), Entry("another", Another())])
    path = tmp_path / "log.txt"
    path.write_text("another log\n")
    issues: list[Issue] = []
    assert isinstance(find_importer(path, report=issues.append), Another)
    (issue,) = issues
    assert issue.code == "importer_unusable"
    assert "broken-one" in issue.message
    assert sentence in issue.message
    with pytest.warns(RuntimeWarning, match="broken-one"):
        find_importer(path)


def test_one_that_fails_when_asked_is_reported_and_skipped(entries: list[Entry], tmp_path: Path) -> None:
    """Given an importer that raises in sniff, when a file is looked at, then that is said, and none is found."""
    entries.append(Entry("another", Another))
    path = tmp_path / "log.txt"
    path.write_text("broken\n")
    issues: list[Issue] = []
    assert find_importer(path, report=issues.append) is None
    assert [issue.code for issue in issues] == ["importer_unusable"]
    assert "RuntimeError: what is this?" in issues[0].message


def test_a_name_that_is_not_there_is_answered_with_those_that_are(entries: list[Entry]) -> None:
    """Given a format that does not exist, when it is asked for, then the error lists the formats, and what failed."""
    entries.append(Entry("gone", ImportError("x")))
    with pytest.raises(GradienceError, match=r"hf-trainer-state, llama-factory, .* 'gone' .* could not be loaded"):
        importer_named("nope")


def test_files_that_are_nobodys(entries: list[Entry], tmp_path: Path) -> None:
    """Given telemetry/v1, text, an empty file and stdin, when an importer is looked for, then there is none."""
    text, empty = tmp_path / "text.jsonl", tmp_path / "empty.jsonl"
    text.write_text("hello\n")
    empty.write_bytes(b"")
    mixed = jsonl(tmp_path / "mixed.jsonl", [{"current_steps": 1, "total_steps": 2}, {"schema": "x", "event": "e"}])
    for path in (write(tmp_path / "run.jsonl", healthy_run()), text, empty, mixed, Path("-")):
        assert find_importer(path) is None, path


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_what_cannot_be_opened_is_an_input_error(name: str, tmp_path: Path) -> None:
    """Given a path that is no file, when an importer is looked for, then the sentence is that of every reader."""
    with pytest.raises(InputError):
        find_importer(tmp_path / name)
