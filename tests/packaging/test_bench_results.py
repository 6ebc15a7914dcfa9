"""The benchmark runner: what it writes when scripts pass, fail and print tables."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, pointed at a folder of its own."""
    spec = importlib.util.spec_from_file_location("bench_results", ROOT / "scripts" / "bench_results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "FOLDER", folder)
    return module


def test_results_hold_every_script_and_name_the_one_that_failed(runner: ModuleType) -> None:
    """Given a table, plain text and a crash, when run, then all three stand in the file and the exit code is 1."""
    (runner.FOLDER / "a_table.py").write_text("print('| x |\\n|---|\\n| 7 |')")
    (runner.FOLDER / "b_text.py").write_text("print('plain figures')")
    (runner.FOLDER / "c_crash.py").write_text("raise SystemExit('the disk is on fire')")
    (runner.FOLDER / "_shared.py").write_text("raise SystemExit('never run')")
    code = runner.main([])
    text = (runner.FOLDER / "results.md").read_text(encoding="utf-8")
    assert code == 1
    assert "\n| x |\n|---|\n| 7 |\n" in text
    assert "```text\nplain figures\n```" in text
    assert "**Failed** with exit code 1" in text
    assert "the disk is on fire" in text
    assert "_shared" not in text


def test_an_unknown_name_is_refused(runner: ModuleType) -> None:
    """Given a name that no script has, when asked for, then it says which there are and writes nothing."""
    (runner.FOLDER / "emit.py").write_text("print('x')")
    with pytest.raises(SystemExit, match="no such benchmark: emitt; there are emit"):
        runner.main(["emitt"])
    assert not (runner.FOLDER / "results.md").exists()
