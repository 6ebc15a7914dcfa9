"""Files, folders, globs and `-`: what each stands for, and what is said when it stands for nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.telemetry.paths import expand, survey

TREE = ("b.jsonl", "a.jsonl.gz", "notes.txt", "x/run.jsonl", "x/y/run.1.jsonl", "x/y/trainer_state.json", ".h/z.jsonl")


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a few files in it."""
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*paths: str | Path) -> list[str]:
    """The files that the paths stand for, in words."""
    return [str(file) for file in expand(paths)]


@pytest.mark.parametrize(
    ("paths", "files"),
    [
        (["b.jsonl"], ["b.jsonl"]),
        (["notes.txt"], ["notes.txt"]),
        (["x"], ["x/run.jsonl", "x/y/run.1.jsonl"]),
        (["./x/"], ["x/run.jsonl", "x/y/run.1.jsonl"]),
        (["."], [".h/z.jsonl", "a.jsonl.gz", "b.jsonl", "x/run.jsonl", "x/y/run.1.jsonl"]),
        (["*.jsonl"], ["b.jsonl"]),
        (["*.jsonl*"], ["a.jsonl.gz", "b.jsonl"]),
        (["*.txt"], ["notes.txt"]),
        (["**/*.jsonl"], ["b.jsonl", "x/run.jsonl", "x/y/run.1.jsonl"]),
        (["**/**/*.jsonl"], ["b.jsonl", "x/run.jsonl", "x/y/run.1.jsonl"]),
        (["x/**"], ["x/run.jsonl", "x/y/run.1.jsonl"]),
        (["**/y"], ["x/y/run.1.jsonl"]),
        (["*/y/run.?.jsonl"], ["x/y/run.1.jsonl"]),
        (["x/*/[r]un.[0-9].jsonl"], ["x/y/run.1.jsonl"]),
        ([".*/*.jsonl"], [".h/z.jsonl"]),
        (["-"], ["-"]),
        (["-", "b.jsonl", "-"], ["-", "b.jsonl"]),
        (["x", "x/run.jsonl", "b.jsonl", "./b.jsonl"], ["x/run.jsonl", "x/y/run.1.jsonl", "b.jsonl"]),
        ([], []),
    ],
)
def test_paths_stand_for_files(paths: list[str], files: list[str]) -> None:
    """Given each kind of path, when expanded, then its files come, sorted, and each once."""
    assert shown(*paths) == files
    assert shown(*(Path(path) for path in paths)) == files


def test_absolute_paths_and_globs_stay_absolute(inside: Path) -> None:
    """Given an absolute folder and glob, when expanded, then so are the files."""
    assert shown(inside / "x") == shown(f"{inside}/x/**/*.jsonl")
    assert shown(inside / "x")[0] == f"{inside}/x/run.jsonl"


def test_home_is_expanded_also_in_globs(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given `~`, which no shell expands inside quotes, when expanded, then it is the home folder."""
    monkeypatch.setenv("HOME", str(inside))
    assert shown("~/*.jsonl") == [f"{inside}/b.jsonl"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("absent.jsonl", "absent.jsonl: does not exist. Check the path."),
        ("~nobody-of-this-name/run.jsonl", "does not exist"),
        ("*.parquet", "*.parquet: matches no file."),
        ("absent/**/*.jsonl", "absent/**/*.jsonl: matches no file."),
        ("empty", "empty: holds no .jsonl or .jsonl.gz file. Give the run.jsonl of a run."),
        ("", "is an empty path"),
        ("a\0b", "does not exist"),
        ("n" * 5000, "cannot be read: File name too long."),
    ],
)
def test_a_path_that_gives_nothing_is_an_error_that_names_it(path: str, says: str) -> None:
    """Given a path without a file, when expanded beside a good one, then it alone is an error, with the remedy."""
    Path("empty").mkdir()
    with pytest.raises(InputError) as caught:
        expand(["b.jsonl", path])
    assert says in str(caught.value)
    found = survey(["b.jsonl", path, "x/run.jsonl"])
    assert [str(file) for file in found.files] == ["b.jsonl", "x/run.jsonl"]
    assert [str(error) for error in found.errors] == [str(caught.value)]


def test_names_that_look_like_patterns_are_taken_as_they_are() -> None:
    """Given a file called `run[1].jsonl` and one called `-`, when named, then those files are meant."""
    Path("run[1].jsonl").touch()
    Path("-").touch()
    assert shown("run[1].jsonl") == ["run[1].jsonl"]
    assert shown("./-") == [str(Path.cwd() / "-")]
    assert shown("[-]") == [str(Path.cwd() / "-")]


def test_links_are_followed_once_and_loops_end() -> None:
    """Given folders that link to each other and to what is above them, when expanded, then each file comes once."""
    Path("x/up").symlink_to("..")
    Path("x/self").symlink_to("self")
    Path("x/y/back").symlink_to(Path.cwd() / "x", target_is_directory=True)
    Path("latest").symlink_to("x")
    assert shown("x") == ["x/run.jsonl", "x/up/.h/z.jsonl", "x/up/a.jsonl.gz", "x/up/b.jsonl", "x/y/run.1.jsonl"]
    assert shown("latest") == [name.replace("x/", "latest/", 1) for name in shown("x")]
    assert shown("**/*.jsonl") == ["b.jsonl", "x/run.jsonl", "x/y/run.1.jsonl"]


def test_a_linked_file_comes_by_its_own_name() -> None:
    """Given a link beside its file and one that leads nowhere, when expanded, then the file and the dead link come."""
    Path("x/a-link.jsonl").symlink_to("run.jsonl")
    Path("x/dead.jsonl").symlink_to("nowhere.jsonl")
    assert shown("x") == ["x/dead.jsonl", "x/run.jsonl", "x/y/run.1.jsonl"]


def test_a_folder_with_the_name_of_a_file_is_a_folder() -> None:
    """Given a folder called `odd.jsonl`, when expanded, then it gives what is in it."""
    Path("odd.jsonl").mkdir()
    Path("odd.jsonl/in.jsonl").touch()
    assert shown("odd.jsonl") == ["odd.jsonl/in.jsonl"]
    assert "odd.jsonl/in.jsonl" in shown(".")


def test_a_folder_that_cannot_be_listed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given one closed folder in a tree, when expanded, then it is named once and the other files still come."""
    listing = os.scandir

    def closed(path: Path) -> object:
        if str(path) == "x/y":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr("os.scandir", closed)
    for path in ("x", "x/**/*.jsonl"):
        found = survey([path])
        assert [str(file) for file in found.files] == ["x/run.jsonl"]
        assert [str(error) for error in found.errors] == [
            "x/y: cannot be listed: Permission denied. Check its permissions."
        ]


def test_other_suffixes_can_be_asked_for() -> None:
    """Given suffixes, when a folder is expanded, then files with these come, and no others."""
    assert [str(file) for file in expand(["x"], suffixes=(".json",))] == ["x/y/trainer_state.json"]


@pytest.mark.parametrize("seed", range(20))
def test_a_folder_gives_what_a_plain_walk_finds(tmp_path: Path, seed: int) -> None:
    """Given a random tree without links, when expanded, then it equals a walk of the library, in any order made."""
    chance = random.Random(seed)
    top = tmp_path / "tree"
    top.mkdir()
    folders = [top]
    for number in range(60):
        place = chance.choice(folders) / f"{chance.choice('abc.')}{number}"
        if chance.random() < 0.4:
            place.mkdir()
            folders.append(place)
        else:
            place.with_name(place.name + chance.choice(["", ".jsonl", ".jsonl.gz"])).touch()
    walked = [Path(folder) / name for folder, _, names in os.walk(top) for name in names]
    expected = sorted(path for path in walked if path.name.endswith((".jsonl", ".jsonl.gz")))
    assert expand([top]) == expected
    visible = [path for path in expected if not any(part.startswith(".") for part in path.relative_to(top).parts)]
    assert survey([f"{top}/**/*.jsonl", f"{top}/**/*.jsonl.gz"]).files == sorted(
        visible, key=lambda path: path.suffix == ".gz"
    )
