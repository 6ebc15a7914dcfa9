"""The documents agree with the code: links, tables, commands, options and file names."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE_ROOTS = (ROOT, ROOT / "schema", ROOT / "cli")
PACKAGES = (
    "gradience",
    "gradience_emit",
    "gradience_analysis",
    "gradience_train",
    "gradience_schema",
    "gradience_cli",
)
NOT_OURS = {
    *(".git", ".venv", "__pycache__", "dist", "build", "outputs", "gradience-demo", "node_modules"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".import_linter_cache"),
}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")


def our_files() -> Iterator[Path]:
    """Every file of the checkout that belongs to it, found without git."""
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.name in NOT_OURS or path.suffix in {".pyc", ".egg-info", ".log"}:
                continue
            if path.is_dir():
                pending.append(path)
            elif path.is_file():
                yield path


DOCUMENTS = sorted(path for path in our_files() if path.suffix == ".md")


def shown(path: Path) -> str:
    """The path as a reader of the failure types it."""
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """The document without its code blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors that a Markdown reader makes of the document's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row, header rows and rules left out."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def section(path: Path, title: str) -> str:
    """The text under a heading, up to the next heading of its level or above."""
    found = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |^#{{1,2}} |\Z)",
        path.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert found is not None, f"{shown(path)} has no section {title!r}"
    return found.group(2)


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_relative_links_resolve(path: Path) -> None:
    """Given a document, when its relative links are followed, then each leads to a file and, if named, a heading."""
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{shown(path)} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{shown(path)} links to {target}: no such heading"


def test_no_file_holds_a_path_of_the_machine_it_was_written_on() -> None:
    """Given every file, when searched for folders of the machines that wrote it, then none is named."""
    names = ("work", "opt/wheels", "opt/pypi", "root", "home/[a-z]+")
    # Preceded by nothing that would make it the end of a longer path or of an address.
    pattern = re.compile(rf"(?<![\w.~*<>{{}})-])/(?:{'|'.join(names)})(?:[/-]\w)".encode())
    found = [f"{shown(p)}: {m.group().decode()}" for p in our_files() for m in pattern.finditer(p.read_bytes())]
    assert not found, "\n".join(found)


def test_the_readme_lists_the_extras_that_exist() -> None:
    """Given the README's table of extras, when compared with pyproject.toml, then both name the same ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = table_rows(section(ROOT / "README.md", "Extras"))
    named = {CODE.findall(row[0])[0] for row in rows if CODE.findall(row[0])}
    assert named == project["optional-dependencies"].keys()


def test_the_rooms_of_the_contributing_table_exist() -> None:
    """Given a row of "to add a thing", when its paths are looked up, then the room before the placeholder exists."""
    rows = table_rows(section(ROOT / "CONTRIBUTING.md", "To add a thing"))
    paths = [code for row in rows for code in CODE.findall(row[-1]) if "/" in code or code.endswith((".md", ".toml"))]
    assert len(paths) > 10
    missing = [path for path in paths if not (ROOT / path.partition("<")[0]).exists()]
    assert not missing, f"CONTRIBUTING.md names rooms that do not exist: {missing}"


def test_the_architecture_names_modules_that_exist() -> None:
    """Given docs/architecture.md, when its module names are looked up in the packages, then each is there."""
    have = {path.name for root in PACKAGE_ROOTS for package in PACKAGES for path in (root / package).rglob("*")}
    text = prose(ROOT / "docs" / "architecture.md")
    named = {name for code in CODE.findall(text) for name in re.findall(r"[\w*]+\.py\b", code)}
    missing = {name for name in named if not any(Path(there).match(name) for there in have)}
    assert named
    assert not missing


def test_every_emitter_module_has_its_line_in_the_architecture() -> None:
    """Given the emitter's modules, when looked up in docs/architecture.md, then each has a row that covers it."""
    text = section(ROOT / "docs" / "architecture.md", "The way of an event, writing")
    globs = [name for row in table_rows(text) for name in CODE.findall(row[0])]
    modules = [path for path in (ROOT / "gradience_emit").glob("*.py") if path.name != "__init__.py"]
    missing = [path.name for path in modules if not any(path.match(glob) for glob in globs)]
    assert not missing


def test_every_callback_option_is_documented_with_its_default() -> None:
    """Given each field of GradienceCallbackConfig, when looked up in docs/callback.md, then its row has the default."""
    pytest.importorskip("transformers")
    from gradience_emit.hf import GradienceCallbackConfig

    rows = {
        name: row[1]
        for row in table_rows(prose(ROOT / "docs" / "callback.md"))
        if len(row) == 4
        for name in CODE.findall(row[0])
    }
    options = {field.name: field.default for field in dataclasses.fields(GradienceCallbackConfig)}
    assert rows.keys() >= options.keys(), sorted(options.keys() - rows.keys())
    for name, default in options.items():
        assert ast.literal_eval(rows[name].strip("`")) == default, f"{name}: docs/callback.md says {rows[name]}"


def test_every_decision_record_is_listed() -> None:
    """Given the records in docs/adr, when compared with its index, then each is there once, titled by its number."""
    folder = ROOT / "docs" / "adr"
    records = sorted(path for path in folder.glob("[0-9]*.md"))
    listed = re.findall(r"\]\((\d{4}-[^)]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == [path.name for path in records]
    for path in records:
        assert path.read_text(encoding="utf-8").startswith(f"# {path.name[:4]}. ")


def test_the_changelog_covers_the_version_in_pyproject() -> None:
    """Given the project's version, when looked up in CHANGELOG.md, then it has a section."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def commands() -> dict[str, Any]:
    """Every command that the CLI lists: its words → the command."""
    import typer.main

    from gradience_cli.app import build

    found: dict[str, Any] = {}
    pending = [((), typer.main.get_command(build()))]
    while pending:
        words, command = pending.pop()
        inner = getattr(command, "commands", None)
        if inner is None:
            found[" ".join(words)] = command
        else:
            pending += [((*words, name), child) for name, child in inner.items() if not child.hidden]
    return found


def test_every_command_is_in_the_cheatsheet_with_its_options() -> None:
    """Given each command, when looked up in docs/cheatsheet.md, then its section names every option it has."""
    page = ROOT / "docs" / "cheatsheet.md"
    for name, command in commands().items():
        text = section(page, f"gradience {name}")
        options = [spelling for option in command.params for spelling in option.opts if spelling.startswith("--")]
        missing = [option for option in options if option != "--help" and option not in text]
        assert not missing, f"docs/cheatsheet.md, gradience {name}: {missing}"


def test_the_cheatsheet_names_no_command_that_does_not_exist() -> None:
    """Given the cheatsheet's headings, when compared with the CLI, then each names a command."""
    text = (ROOT / "docs" / "cheatsheet.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^#+ gradience (.+)$", text, re.MULTILINE)) == commands().keys()


def test_every_command_has_help_with_an_example() -> None:
    """Given each command, when its help is read, then it has a sentence and shows itself being used."""
    for name, command in commands().items():
        text = f"{command.help or ''}\n{command.epilog or ''}"
        assert text.strip(), f"gradience {name} has no help"
        assert f"gradience {name}" in text, f"the help of gradience {name} shows no example"
