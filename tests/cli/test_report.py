"""`gradience report`: one whole file, never over something else, and the verdict on the terminal."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.analysis.records import healthy_run, troubled_run, write
from tests.analysis.render.dom import parse
from tests.cli.command import gradience


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write(Path("run.jsonl"), healthy_run())


def files(folder: Path = Path()) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()}


def test_a_page_is_written(run: Path) -> None:
    """Given a run, when reported, then report.html has its curves and stdout the verdict and where the page is."""
    result = gradience("report", run)
    assert result.returncode == 0
    root = parse(Path("report.html").read_text(encoding="utf-8"))
    assert [node.one("strong").text for node in root.all("figure")][:2] == ["Loss", "Perplexity"]
    assert "gradience monitor" in root.one("head").one("title").text
    assert result.stdout.startswith("OK  Ran to its end")
    assert "report.html (" in result.stdout
    assert files() == {"run.jsonl", "report.html"}


def test_the_name_says_the_format(run: Path) -> None:
    """Given a file that ends in .md, when reported, then it is Markdown; --format decides where it is given."""
    assert gradience("report", run, "-o", "a.md", "--quiet").stdout == ""
    assert Path("a.md").read_text(encoding="utf-8").startswith("<!-- gradience monitor -->\n### OK: Ran to its end")
    gradience("report", run, "-o", "b.txt", "--format", "md")
    assert Path("b.txt").read_bytes() == Path("a.md").read_bytes()
    gradience("report", run, "--format", "md")
    assert Path("report.md").read_bytes() == Path("a.md").read_bytes()
    assert gradience("report", run, "--format", "pdf").returncode == 2


def test_several_runs_have_an_overview(run: Path) -> None:
    """Given two runs and one that is not there, when reported, then the two are in the page, and the exit code is 2."""
    other = write(Path("other.jsonl"), troubled_run())
    result = gradience("report", run, other, "nothing.jsonl", "-o", "both.html")
    assert result.returncode == 2
    assert "nothing.jsonl" in result.stderr
    root = parse(Path("both.html").read_text(encoding="utf-8"))
    assert [node.text for node in root.all("h2")] == ["Overview", "run.jsonl", "other.jsonl"]
    assert gradience("report", run, other, "-o", "both.html").returncode == 0


def test_nothing_to_report_writes_nothing(run: Path) -> None:
    """Given no run that can be read, when reported, then there is no file and the exit code is 2."""
    assert gradience("report", "nothing.jsonl").returncode == 2
    assert files() == {run.name}


def test_only_a_report_is_written_over(run: Path) -> None:
    """Given files in the place, when reported, then a report or an empty file is replaced, any other only by force."""
    for name in ("page.html", "text.md"):
        assert gradience("report", run, "-o", name).returncode == 0
        Path(name).write_text(Path(name).read_text(encoding="utf-8") + "old", encoding="utf-8")
        assert gradience("report", run, "-o", name).returncode == 0
        assert not Path(name).read_text(encoding="utf-8").endswith("old")
    Path("empty").touch()
    assert gradience("report", run, "-o", "empty").returncode == 0
    Path("thesis.html").write_text("<html>my thesis</html>", encoding="utf-8")
    result = gradience("report", run, "-o", "thesis.html")
    assert result.returncode == 2
    assert "exists and is no report of Gradience" in result.stderr
    assert Path("thesis.html").read_text(encoding="utf-8") == "<html>my thesis</html>"
    assert gradience("report", run, "-o", "thesis.html", "--force").returncode == 0
    assert "Ran to its end" in Path("thesis.html").read_text(encoding="utf-8")


def test_a_run_is_never_written_over(run: Path) -> None:
    """Given a run as the place, by its name or a link, when forced, then it is refused and stays as it was."""
    before = run.read_bytes()
    Path("link.html").symlink_to(run)
    for name in ("run.jsonl", "link.html"):
        assert gradience("report", run, "-o", name, "--force").returncode == 2
    assert run.read_bytes() == before


def test_what_is_no_file_is_refused(run: Path) -> None:
    """Given a folder or a FIFO as the place, when reported, then it is refused before anything is read."""
    os.mkfifo("fifo")
    Path("folder").mkdir()
    for name in ("fifo", "folder"):
        result = gradience("report", "nothing.jsonl", "-o", name, "--force")
        assert result.returncode == 2
        assert "is no regular file" in result.stderr
        assert "nothing.jsonl" not in result.stderr
    assert Path("fifo").is_fifo()


def test_a_link_stays_a_link(run: Path) -> None:
    """Given a link to an older report, when reported, then what it points to is new."""
    gradience("report", run, "-o", "old.html")
    Path("latest.html").symlink_to("old.html")
    Path("old.html").write_text(Path("old.html").read_text(encoding="utf-8") + "old", encoding="utf-8")
    assert gradience("report", run, "-o", "latest.html").returncode == 0
    assert Path("latest.html").is_symlink()
    assert not Path("old.html").read_text(encoding="utf-8").endswith("old")


def test_a_failed_write_leaves_what_was_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a disk that fills up half-way, when reported, then the older report is whole and nothing lies beside it."""
    gradience("report", run)
    before = Path("report.html").read_bytes()

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = gradience("report", run)
    assert result.returncode == 2
    assert "report.html: cannot be written: No space left on device" in result.stderr
    assert Path("report.html").read_bytes() == before
    assert files() == {"run.jsonl", "report.html"}


def test_the_file_has_the_rights_of_a_new_file(run: Path) -> None:
    """Given the umask of the session, when reported, then others may read the page as far as it says."""
    before = os.umask(0o027)
    try:
        gradience("report", run)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("report.html").stat().st_mode) == 0o640


def test_thresholds_can_be_given(run: Path) -> None:
    """Given a lower threshold for the gap, when reported, then the page has the finding that was not there before."""
    gradience("report", run, "--gap-threshold", "1.01")
    assert "[generalization_gap]" in Path("report.html").read_text(encoding="utf-8")
    Path("policy.toml").write_text("version = 1\n[generalization_gap.ratio]\nvalue = 9.0\n", encoding="utf-8")
    gradience("report", run, "--policy", "policy.toml")
    assert "[generalization_gap]" not in Path("report.html").read_text(encoding="utf-8")
