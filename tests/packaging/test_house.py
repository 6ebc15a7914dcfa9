"""The shape of the house: sizes, names, import budgets, typing markers and the one broad except."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "gradience": ROOT / "gradience",
    "gradience_emit": ROOT / "gradience_emit",
    "gradience_analysis": ROOT / "gradience_analysis",
    "gradience_train": ROOT / "gradience_train",
    "gradience_schema": ROOT / "schema" / "gradience_schema",
    "gradience_cli": ROOT / "cli" / "gradience_cli",
}
MODULES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "process", "misc", "common"}
BOUNDARY = PACKAGES["gradience_emit"] / "boundary.py"
BROAD = {"Exception", "BaseException"}


def shown(path: Path) -> str:
    """The path as a reader of the failure types it."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of the module, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def broad_handlers(path: Path) -> list[int]:
    """Line numbers of `except:`, `except Exception` and `except BaseException` that do not re-raise at their end."""
    found: list[int] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = [] if node.type is None else [n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)]
        broad = node.type is None or bool(BROAD & set(caught))
        clean_up = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        if broad and not clean_up:
            found.append(node.lineno)
    return found


def loaded_by(statement: str) -> set[str]:
    """The top-level modules in `sys.modules` after the statement ran in a fresh interpreter."""
    path = [str(ROOT), str(ROOT / "schema"), str(ROOT / "cli")]
    code = (
        f"import sys; sys.path[:0] = {path!r}\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_there_are_modules_to_look_at() -> None:
    """Given the checkout, when modules are collected, then every package has some, and no test below passes empty."""
    without = [name for name, folder in PACKAGES.items() if not any(folder.rglob("*.py"))]
    assert not without, f"packages without a module: {without}"


def test_no_module_is_longer_than_two_rooms() -> None:
    """Given every module, when its lines are counted, then none has more than 400."""
    sizes = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = {name: size for name, size in sizes.items() if size > MAX_MODULE_LINES}
    assert not long, f"split these, they hold more than one room: {long}"


def test_no_function_is_longer_than_sixty_lines() -> None:
    """Given every function, when its lines without the docstring are counted, then none has more than 60."""
    long = [
        f"{shown(path)}:{function.lineno} {function.name} has {lines_of_code(function)}"
        for path in MODULES
        for function in functions(path)
        if lines_of_code(function) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_ninety_five_percent_of_the_functions_are_within_forty_lines() -> None:
    """Given every function, when sorted by length, then at most one in twenty is longer than 40 lines."""
    sizes = [lines_of_code(function) for path in MODULES for function in functions(path)]
    assert sum(size > 40 for size in sizes) <= 0.05 * len(sizes)


def test_no_module_has_a_name_that_says_nothing() -> None:
    """Given every module and folder name, when compared with the names not used here, then none is among them."""
    named = [shown(path) for path in MODULES if FORBIDDEN_NAMES & {path.stem, *path.relative_to(ROOT).parts[:-1]}]
    assert not named, f"name these after what they hold: {named}"


def test_broad_excepts_live_in_the_boundary_only() -> None:
    """Given every `except` clause, when it catches everything and goes on, then it stands in the callback boundary."""
    found = {shown(path): broad_handlers(path) for path in MODULES if path != BOUNDARY and broad_handlers(path)}
    assert not found, f"catch what can happen, or go through {shown(BOUNDARY)}: {found}"
    assert broad_handlers(BOUNDARY), "the boundary has moved; say so here"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    """Given a package, when a type checker looks for its marker, then py.typed is there."""
    assert (PACKAGES[package] / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_is_empty(package: str) -> None:
    """Given a folder of a package, when it is there, then something lives in it."""
    empty = [
        shown(folder)
        for folder in PACKAGES[package].rglob("*")
        if folder.is_dir() and folder.name != "__pycache__" and not any(f.stat().st_size for f in files_in(folder))
    ]
    assert not empty, f"rooms appear with their first tenant: {empty}"


def files_in(folder: Path) -> list[Path]:
    """The files under the folder that are not compiled ones."""
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import gradience", {"torch", "numpy", "pandas", "transformers", "typer", "rich", "jsonschema", "msgspec"}),
        ("import gradience_emit", {"torch", "numpy", "pandas", "transformers", "msgspec", "jsonschema"}),
        ("import gradience_schema", {"torch", "numpy", "pandas", "jsonschema", "referencing"}),
        ("import gradience_analysis", {"torch", "numpy", "pandas", "transformers", "typer", "rich"}),
        ("import gradience_cli.__main__", {"torch", "numpy", "pandas", "transformers"}),
    ],
)
def test_import_budget(statement: str, unwanted: set[str]) -> None:
    """Given a fresh interpreter, when only this is imported, then none of the heavy libraries comes with it."""
    assert not loaded_by(statement) & unwanted


def test_the_emitter_needs_the_standard_library_only() -> None:
    """Given an interpreter without site-packages, when the writer is imported, then nothing is missing."""
    path = [str(ROOT), str(ROOT / "schema")]
    code = f"import sys; sys.path[:0] = {path!r}; from gradience import TelemetryWriter, Severity, load_schema"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
