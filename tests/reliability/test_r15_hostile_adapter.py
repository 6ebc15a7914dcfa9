"""R15 for adapters: names of modules, words of a config and names of adapters never drive what shows an audit."""

from __future__ import annotations

import json
import re
import tempfile
from functools import cache
from pathlib import Path

import pyte
import pytest
from markdown_it import MarkdownIt

from gradience_analysis.audit import audit_adapter
from gradience_analysis.model import Report
from gradience_analysis.render import RENDERERS
from gradience_analysis.reports.audit import AuditView, audit_report
from gradience_cli.terminal import render_text
from tests.analysis.adapters.files import Tensor, adapter, floats
from tests.analysis.reports.known import factors
from tests.cli.command import gradience
from tests.reliability.browser import browser, dump, serving
from tests.reliability.hostile_text import OWNED, payloads
from tests.reliability.test_r15_hostile_text import check_output, lone_surrogate, shape, steering

# A lone surrogate cannot stand in the header of a safetensors file, which is UTF-8: its escape is refused there.
PAYLOADS = [text for text in payloads() if not lone_surrogate(text)]
WIDTH = 100
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
VIEW = AuditView(layers=True, suggest_per_layer=True, top_singular_values=2, verbose=True)
every_payload = pytest.mark.parametrize("text", PAYLOADS, ids=lambda text: f"{PAYLOADS.index(text):03}")


def hostile_adapter(folder: Path, text: str) -> Path:
    """An adapter with this text in the names of modules, in keys that are left out, and in each word of its config."""
    tensors: dict[str, Tensor] = {}
    for layer, name in enumerate((f"model.layers.0.{text}", f"{text}.layers.1.q_proj", "model.layers.2.q_proj")):
        a, b = factors([1.0, 0.5 + layer / 10])
        tensors |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
    tensors[f"base_model.model.{text}.alone.lora_A.weight"] = floats((2, 4))
    tensors[f"base_model.model.{text}.hada_w1_a"] = floats((2, 4))
    tensors[f"base_model.model.{text}.score.weight"] = floats((2, 4))
    words = {"base_model_name_or_path": text, "init_lora_weights": f"pissa{text}", "target_modules": [text, "q_proj"]}
    return adapter(folder, tensors, r=2, lora_alpha=4, **words, rank_pattern={f"x{text}": 3}, task_type=text)


@cache
def report(text: str) -> Report:
    """The audit, in full, of an adapter with this text in every place, in a folder that always has the same name."""
    with tempfile.TemporaryDirectory() as folder:
        made = audit_adapter(hostile_adapter(Path(folder) / "a", text))
        return audit_report([made], "folder/a", VIEW)


@every_payload
def test_a_terminal_shows_text_and_does_nothing(text: str) -> None:
    """Given a payload in every place, when a terminal emulator is fed the report, then it is only lines of text."""
    output = render_text(report(text), width=WIDTH)
    assert steering(output) == []
    lines = output.splitlines()
    screen = pyte.HistoryScreen(WIDTH + 1, len(lines) + 2, history=10)
    mode = set(screen.mode)
    pyte.Stream(screen).feed(output.replace("\n", "\r\n"))
    assert (screen.title, screen.icon_name) == ("", "")
    assert (screen.cursor.y, screen.cursor.x, screen.cursor.hidden) == (len(lines), 0, False)
    assert screen.mode == mode
    assert render_text(report(text), width=WIDTH, ascii_only=True).isascii()


@every_payload
def test_a_page_is_still_a_tree_and_runs_nothing(text: str) -> None:
    """Given a payload in every place, when made a page, then only elements and attributes of ours are in it."""
    page = RENDERERS["html"](report(text))
    assert steering(page) == []
    ours = {
        (tag, tuple(name for name, _ in attributes)) for tag, attributes in shape(RENDERERS["html"](report("plain")))
    }
    found = {(tag, tuple(name for name, _ in attributes)) for tag, attributes in shape(page)}
    # A name may decide which blocks there are, and never what they are made of.
    assert {tag for tag, _ in found} <= {tag for tag, _ in ours} | {"h3"}
    assert not any(name.startswith("on") or name in {"style", "src"} for _, names in found for name in names)


@every_payload
def test_a_comment_links_nothing(text: str) -> None:
    """Given a payload in every place, when made a comment, then it holds no link, image, or mention."""
    made = RENDERERS["md"](report(text))
    assert steering(made) == []
    tokens = MARKDOWN.parse(made)
    inside = {child.type for token in tokens for child in token.children or ()}
    assert not inside & {"link_open", "image"}
    shown = "\n".join(child.content for token in tokens for child in token.children or () if child.type == "text")
    assert not re.search(r"(?<!\w)@\w|(?<!\w)#\d|://|www\.", shown)


@every_payload
def test_programs_get_the_name_as_it_is(text: str) -> None:
    """Given a payload in every place, when written as JSON, then it parses, and the name is that of the file."""
    made = RENDERERS["json"](report(text))
    assert steering(made) == []
    data = json.loads(made)
    assert data["config"]["base_model"] == text
    assert any(text in row["name"] for row in data["layer_data"]["layer_rows"])


def commands_on(folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on an adapter of each text, in each format."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for text in texts:
        path = hostile_adapter(folder / "a", text)
        for options in (("--verbose",), ("--format", "md"), ("--format", "html"), ("--json", "--layers")):
            result = gradience("audit", path, *options)
            assert result.returncode in {0, 1}
            check_output(result.stdout)
            check_output(result.stderr)


def test_commands_are_not_driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given one payload in twenty, when shown by the command in colour, then every escape code is a style of ours."""
    commands_on(tmp_path, PAYLOADS[::20], monkeypatch)


@pytest.mark.soak
def test_commands_are_not_driven_by_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given every payload, when shown by the command in colour, then every escape code is a style of ours."""
    commands_on(tmp_path, PAYLOADS, monkeypatch)


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
def test_a_browser_runs_nothing_and_asks_nobody(tmp_path: Path) -> None:
    """Given pages on adapters of one payload in four, when a browser opens them, then nothing ran or was asked for."""
    program = browser()
    assert program is not None
    with serving() as server:
        texts = [text for text in payloads(server.address) if not lone_surrogate(text)][::4]
        made = [audit_adapter(hostile_adapter(tmp_path / f"{n}", text)) for n, text in enumerate(texts)]
        parts = {f"/{at}": audit_report(made[at : at + 60], "folder") for at in range(0, len(made), 60)}
        server.pages = {path: RENDERERS["html"](one).encode() for path, one in parts.items()}
        for path in parts:
            tree, log = dump(program, server.address + path, tmp_path / f"profile{path[1:]}")
            assert f"<title>{OWNED}</title>" not in tree
            assert "gradience audit" in tree
            assert "Refused" not in log
            assert "CONSOLE" not in log
        assert server.asked == []
