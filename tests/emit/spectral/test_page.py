"""docs/spectral.md says what the code does: its limits, its keys, and its example runs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch

from gradience_emit import TelemetryWriter
from gradience_emit.spectral import SpectralLimits, SpectralMonitor, Wanted
from tests.emit.hf import tiny

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "spectral.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", PAGE, re.MULTILINE))


def test_the_page_gives_every_limit_its_default() -> None:
    """Given the limits, when looked up in the page, then each row has the default."""
    for field in dataclasses.fields(SpectralLimits):
        assert float(ROWS[field.name]) == field.default, field.name


def test_the_page_explains_every_key_that_is_written() -> None:
    """Given a sample, when its keys are looked up in the page, then each has a row."""
    monitor = SpectralMonitor(tiny.lora())
    monitor.observe(1)
    keys = [key for metrics in monitor.records().values() for key in metrics]
    assert len(keys) > 20
    assert not set(keys) - set(ROWS)


def test_the_page_names_everything_that_can_be_wanted() -> None:
    """Given what a sample may want, when looked up in the page, then each is there."""
    assert not [wanted for wanted in Wanted if f"`{wanted}`" not in PAGE]


def test_the_example_runs(tmp_path: Path) -> None:
    """Given the page's loop, when run on a tiny model, then it writes spectral records at its interval."""
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    model = tiny.lora()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)

    def train_step(step: int) -> None:
        row = tiny.rows(1, seed=step)[0]
        model(**{key: value.unsqueeze(0) for key, value in row.items()}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        names: dict[str, Any] = {"model": model, "optimizer": optimizer, "writer": writer, "train_step": train_step}
        exec(compile(example, "docs/spectral.md", "exec"), names | {"steps": 100})
    spectral = tiny.of(tiny.events(tmp_path), "metrics", kind="spectral")
    assert [record["step"] for record in spectral] == [50, 100]
    assert spectral[-1]["metrics"]["kappa"] > 1
