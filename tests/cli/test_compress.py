"""`gradience compress` as users run it: what it says, what it writes, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradience_analysis.reports.compress import SCHEMA
from gradience_cli.commands.compress import FORMATS
from tests.analysis.compression.test_compressing import factors, folder
from tests.cli.command import gradience


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with one adapter of r = 6 whose energy lies in few values."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "adapter", factors(0, decay=0.3))


def test_the_text_begins_with_the_verdict(tmp_path: Path) -> None:
    """Given an adapter, when compressed, then the first line says what was saved, and that evaluation decides."""
    done = gradience("compress", "adapter", "--out", "small")
    assert done.returncode == 0
    first = done.stdout.splitlines()[0]
    assert "Saved" in first
    assert "evaluation decides" in first
    assert "run your held-out evaluation" in done.stdout
    assert "predicted" in done.stdout
    assert done.stdout.count("SHA-256") == 1
    assert sorted(one.name for one in (tmp_path / "small").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "gradience_compression.json",
    ]


@pytest.mark.parametrize(("rank", "severity"), [(1, "warning"), (5, "info")])
def test_a_large_error_is_a_warning(rank: int, severity: str) -> None:
    """Given a cut that loses more than the default policy would, when reported, then the verdict warns of it."""
    done = gradience("compress", "adapter", "--out", "small", "--rank", str(rank), "--json")
    assert done.returncode == 0
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["severity"] == severity
    assert ("more than the 0.1" in verdict["text"]) == (severity == "warning")


def test_json(tmp_path: Path) -> None:
    """Given --json, when compressed, then the artifact has its schema, every module, and both errors."""
    data = json.loads(gradience("compress", "adapter", "--out", "small", "--rank", "2", "--json").stdout)
    assert data["schema"] == SCHEMA == "gradience.compress/v1"
    assert (data["written"], data["dry_run"], data["r"]) == (True, False, 2)
    assert data["rule"] == {"kind": "rank", "text": "rank 2"}
    assert [layer["rank_after"] for layer in data["layers"]] == [2, 2, 2]
    assert data["relative_error_measured"] == pytest.approx(data["relative_error_predicted"], rel=1e-3)
    assert data["original_sha256"].keys() == {"adapter_config.json", "adapter_model.safetensors"}
    proof = json.loads((tmp_path / "small" / "gradience_compression.json").read_text())
    assert proof["layers"] == data["layers"]


def test_a_dry_run_has_the_same_keys_and_writes_nothing(tmp_path: Path) -> None:
    """Given --dry-run, when run before the real one, then only what was measured differs."""
    planned = json.loads(gradience("compress", "adapter", "--out", "small", "--dry-run", "--json").stdout)
    assert [one.name for one in tmp_path.iterdir()] == ["adapter"]
    text = gradience("compress", "adapter", "--out", "small", "--dry-run").stdout
    assert text.splitlines()[0].split(maxsplit=1)[1].startswith("Would save")
    done = json.loads(gradience("compress", "adapter", "--out", "small", "--json").stdout)
    assert planned.keys() == done.keys()
    assert planned["relative_error_measured"] is None
    different = {key for key in done if planned[key] != done[key]}
    assert different == {"dry_run", "layers", "relative_error_measured", "verdict", "written", "written_sha256"}


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format(fmt: str) -> None:
    """Given each format, when written, then it names the modules."""
    done = gradience("compress", "adapter", "--out", "small", "--format", fmt, "--verbose")
    assert done.returncode == 0
    assert "layers.2.self_attn.q" in done.stdout.replace("\\", "")


def test_suggestions_of_an_audit(tmp_path: Path) -> None:
    """Given the JSON of an audit, when its suggestions are applied, then each module has the rank it was suggested."""
    audit = gradience("audit", "adapter", "--suggest-per-layer", "--rank-policies", "energy@0.90", "--json")
    Path("audit.json").write_text(audit.stdout, encoding="utf-8")
    wanted = {one["name"]: one["suggested_r"] for one in json.loads(audit.stdout)["rank_suggestions"]["layers"]}
    data = json.loads(
        gradience("compress", "adapter", "--out", "small", "--suggestions", "audit.json", "--json").stdout
    )
    assert {layer["module"]: layer["rank_after"] for layer in data["layers"]} == wanted
    assert data["written"]
    again = json.loads(gradience("audit", "small", "--layers", "--json").stdout)
    assert again["summary"]["total_lora_params"] == data["params_after"]


def test_nothing_saved_is_said_and_not_written(tmp_path: Path) -> None:
    """Given a rank that is no lower, when compressed, then the exit code is 0 and nothing is there."""
    done = gradience("compress", "adapter", "--out", "small", "--rank", "6")
    assert done.returncode == 0
    assert "Nothing would be saved" in done.stdout
    assert not Path("small").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "adapter --out small --rank 2 --policy energy@0.99",
        "adapter --out small --rank 2 --suggestions ranks.json",
        "adapter --out small --policy energy",
        "adapter --out small --dtype int8",
        "adapter --out small --format csv",
        "adapter --out small --rank 0",
        "adapter --out adapter",
        "adapter --out adapter/small",
        "adapter --out .",
        "adapter",
        "nowhere --out small",
        "adapter --out small --suggestions nowhere.json",
        "adapter --out small --adapter other",
    ],
)
def test_wrong_calls(tmp_path: Path, arguments: str) -> None:
    """Given arguments that make no sense, when run, then the exit code is 2 with a sentence, and nothing is written."""
    done = gradience("compress", *arguments.split())
    assert done.returncode == 2
    assert done.stderr
    assert not done.stdout
    assert sorted(one.name for one in tmp_path.rglob("*")) == [
        "adapter",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
