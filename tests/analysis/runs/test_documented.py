"""The Python of docs/many-runs.md runs, and says what it says it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradience_analysis.runs.collection import Runs
from gradience_analysis.runs.expression import Expression
from gradience_analysis.runs.summary import FINDINGS, ISSUES
from gradience_analysis.workers.pool import ONE_PROCESS_BYTES

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "many-runs.md").read_text(encoding="utf-8")


def test_the_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Given the blocks of the document, when run one after the other in the checkout, then each does its work."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, names)
    assert len(names["runs"]) == 24
    assert len(names["small"]) == 4
    assert names["table"]["count"].tolist() == [2] * 12
    assert len(names["best"]) == len(names["gaps"]) == len(names["last"]) == 24
    assert "r2_lr0.001_s1" in capsys.readouterr().out


def test_every_frame_and_column_is_documented() -> None:
    """Given the frames of Runs and the columns of ours in its row, when looked for, then the document names them."""
    for name in ("runs", "steps", "evals", "metrics", "alerts", "issues", "raw", "failures", "unjudged"):
        assert hasattr(Runs, name) or name == "failures"
        assert f"`runs.{name}`" in TEXT
    for name in (*FINDINGS, *ISSUES, "gap", "loss.min", "loss.final", "started", "duration_s", "segments", "reason"):
        assert f"`{name}`" in TEXT
    assert ONE_PROCESS_BYTES == 20 << 20


def test_every_expression_of_the_table_can_be_parsed() -> None:
    """Given the expressions of the document's table, when parsed, then none is refused."""
    table = TEXT.split("| in an expression | |")[1].split("\n\n")[0]
    found = [cell.strip() for pair in re.findall(r"``\s(.+?)\s``|`([^`]+)`", table) for cell in pair if cell]
    expressions = [text for text in found if re.search(r"[<>=]|\bin\b|\bis\b", text)]
    assert len(expressions) >= 8
    for text in expressions:
        assert Expression(text).names
