"""What a person sees: golden reports, every width, every encoding, and nothing that steers the terminal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gradience_analysis.model import Report
from gradience_analysis.policy import load_policy
from gradience_analysis.render.sparkline import sparkline
from gradience_analysis.reports.monitor import monitor_report
from gradience_analysis.telemetry.assemble import load_run
from gradience_cli.terminal import MIN_WIDTH, render_text
from gradience_cli.wrap import wrap
from tests.analysis.records import CONFIG, end, evaluation, healthy_run, record, troubled_run, write
from tests.analysis.reference import FOLDER, V1, needs_reference_runs
from tests.cli.command import gradience, in_own_process

GOLDEN = Path(__file__).parent / "golden"
RUNS = {"healthy": healthy_run, "troubled": troubled_run}


def report_of(path: Path, *, verbose: bool = False) -> Report:
    """The monitor report of a file."""
    return monitor_report([load_run(path)], load_policy(), verbose=verbose)


@pytest.mark.parametrize("verbose", [False, True], ids=["plain", "verbose"])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", RUNS)
def test_report_looks_as_it_was_approved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, width: int, verbose: bool, update_golden: bool
) -> None:
    """Given two small runs, when rendered at three widths, then the text is that of the golden file."""
    monkeypatch.chdir(tmp_path)
    write(Path("run.jsonl"), RUNS[name]())
    text = render_text(report_of(Path("run.jsonl"), verbose=verbose), width=width)
    golden = GOLDEN / f"{name}_{width}{'_verbose' if verbose else ''}.txt"
    if update_golden:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8"), "look at the change, then run: pytest tests/cli --update-golden"


@pytest.mark.parametrize("width", [MIN_WIDTH, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("name", RUNS)
def test_no_line_is_wider_than_the_screen(tmp_path: Path, name: str, width: int) -> None:
    """Given any width, when rendered, then no line is wider, and none ends in a blank."""
    text = render_text(report_of(write(tmp_path / "run.jsonl", RUNS[name]()), verbose=True), width=width)
    for line in text.splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()


@needs_reference_runs
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", V1)
def test_reference_report_fits_a_screen(monkeypatch: pytest.MonkeyPatch, name: str, width: int) -> None:
    """Given a real run, when rendered, then it takes at most 30 lines, verdict first."""
    monkeypatch.chdir(FOLDER)
    text = render_text(report_of(Path(name)), width=width)
    assert text.startswith("OK  Ran to its end")
    assert len(text.splitlines()) <= 30


def test_ascii_terminal_gets_ascii(tmp_path: Path) -> None:
    """Given an encoding that shows ASCII only, when printed, then every byte is ASCII and nothing is lost."""
    config = {**CONFIG, "model_name": "模型-é"}
    path = write(tmp_path / "run.jsonl", [record("run_start", config=config), *healthy_run()[1:]])
    result = in_own_process("monitor", path, PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert result.returncode == 0
    assert result.stdout.isascii()
    assert "\\u6a21\\u578b-\\xe9" in result.stdout
    assert "@" in result.stdout


def test_pipe_gets_whole_lines_without_colour(tmp_path: Path) -> None:
    """Given a pipe, when printed, then long values stay on their line, and there are no escape codes."""
    name = "m" * 150
    path = write(
        tmp_path / "run.jsonl", [record("run_start", config={**CONFIG, "model_name": name}), *healthy_run()[1:]]
    )
    result = gradience("monitor", path)
    assert any(name in line for line in result.stdout.splitlines())
    assert "\x1b" not in result.stdout


def test_colour_variables_are_honoured(tmp_path: Path) -> None:
    """Given FORCE_COLOR and NO_COLOR, when printed to a pipe, then colour is there, or is not."""
    path = write(tmp_path / "run.jsonl", healthy_run())
    assert "\x1b[" in in_own_process("monitor", path, FORCE_COLOR="1", TERM="xterm-256color").stdout
    coloured = in_own_process("monitor", path, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[3" not in coloured


HOSTILE = (
    "\x1b[2J\x1b[H\x1b]0;owned\x07",
    "\x9b31m\x90q\x9c",
    "a\nVERDICT OK\rb",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "[red]markup[/red] [link=http://x]y[/link] :smile:",
    "\ud800\udfff lone",
    "\x00\x08\x08\x7f",
    "\U000e0041\u2028\u2029\u0085",
)


def hostile_run(text: str) -> list[dict[str, Any]]:
    """A run with this text in every field that a report shows."""
    lora = {"target_modules": [text], "peft_type": text, "r": 4}
    config = {
        **CONFIG,
        "model_name": text,
        "dataset_name": text,
        "lora": lora,
        "optimizer": {"name": text},
        "training": {"dtype": text, "lr_scheduler": text},
    }
    return [
        record("run_start", run_id=f"id{text}", config=config),
        record("train_step", 1, ts=1.0, run_id=f"id{text}", loss=2.0, **{f"k{text}": 1.0}),
        evaluation(1, f"s{text}", ts=1.0, run_id=f"id{text}", **{"loss": 2.5, f"m{text}": 1.0}),
        record("metrics", 1, ts=1.0, run_id=f"id{text}", kind=f"k{text}", metrics={}),
        record("alert", 1, ts=1.0, run_id=f"id{text}", severity="error", code=text or "c", message=text),
        record(f"e{text}", 1, ts=1.0, run_id=f"id{text}"),
        end("error", ts=2.0, run_id=f"id{text}", reason=text),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_files_never_drives_the_terminal(tmp_path: Path, text: str) -> None:
    """Given escape sequences in every field, when shown in a terminal emulator, then they are only text on it."""
    path = write(tmp_path / "run.jsonl", hostile_run(text))
    for verbose in (False, True):
        output = render_text(report_of(path, verbose=verbose), width=100)
        assert not [char for char in output if char != "\n" and not char.isprintable()]
        lines = output.splitlines()
        screen = pyte.HistoryScreen(100, len(lines) + 2, history=10)
        pyte.Stream(screen).feed(output.replace("\n", "\r\n"))
        shown = [line.rstrip() for line in screen.display]
        assert shown[: len(lines)] == lines
        assert screen.title == ""
        assert {char.fg for row in screen.buffer.values() for char in row.values()} <= {"default"}


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_and_colour_come_from_us_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Given hostile fields and colour forced on, when printed by the command, then every escape code is a style."""
    path = write(tmp_path / "run.jsonl", hostile_run(text))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for arguments in (("monitor",), ("validate",), ("monitor", "--json"), ("validate", "--json")):
        result = gradience(*arguments, path)
        for piece in result.stdout.split("\x1b")[1:]:
            assert piece[0] == "["
            assert piece[1:].partition("m")[0].replace(";", "").isdigit()
        assert not set(result.stdout) & {"\x07", "\x08", "\x9b", "\x90", "\r", "\u202e", "\u200b", "\x00"}


def test_hostile_path_does_not_reach_stderr(tmp_path: Path) -> None:
    """Given a path with an escape sequence, when it cannot be read, then the complaint shows it escaped."""
    result = gradience("monitor", tmp_path / "\x1b[31mx.jsonl")
    assert "\x1b" not in result.stderr
    assert "\\x1b[31mx.jsonl" in result.stderr


@given(st.text(max_size=80), st.integers(1, 40))
def test_wrapping_loses_nothing(text: str, width: int) -> None:
    """Given any text, when wrapped, then every word character is still there in order."""
    pieces = wrap(text, width)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert pieces


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats()), max_size=60), st.integers(1, 40), st.booleans())
def test_sparkline_takes_any_curve(points: list[tuple[int, float]], width: int, plain: bool) -> None:
    """Given any curve, when drawn, then it fits its width, marks what is not finite, and is ASCII when asked."""
    drawn = sparkline(sorted(points, key=lambda point: point[0]), width, plain=plain)
    assert len(drawn) <= width
    assert drawn.isascii() or not plain
    if len(points) >= 3 and not all(math.isfinite(value) for _, value in points):
        assert "!" in drawn


def test_sparkline_rises_and_falls() -> None:
    """Given a rising and a flat curve, when drawn, then the blocks rise, and stay low."""
    assert sparkline([(n, float(n)) for n in range(8)], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([(n, 1.0) for n in range(4)], 4) == "▁▁▁▁"
    assert sparkline([(0, 1.0), (1, 2.0)], 8) == ""
    assert sparkline([(n, float(n)) for n in range(8)], 8, plain=True) == "_.-=+*#@"
