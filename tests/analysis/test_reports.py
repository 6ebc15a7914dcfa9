"""Reports: words and blocks from runs, and the JSON artifact."""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.model import Block, Fields, Note, Notes, Report, Table
from gradience_analysis.policy import load_policy
from gradience_analysis.render import RENDERERS
from gradience_analysis.render.inert import inert, plain_ascii
from gradience_analysis.render.json import render_json
from gradience_analysis.reports.format import count, duration, number, size
from gradience_analysis.reports.monitor import monitor_report
from gradience_analysis.reports.validate import validate_report
from gradience_analysis.telemetry.assemble import load_run
from gradience_analysis.telemetry.validate import validate
from gradience_schema import Severity
from tests.analysis.records import CONFIG, end, healthy_run, record, start, train, troubled_run, write

POLICY = load_policy()


def report_of(folder: Path, records: list[Any], *, verbose: bool = False) -> Report:
    """The monitor report of a file with these records."""
    return monitor_report([load_run(write(folder / "run.jsonl", records))], POLICY, verbose=verbose)


def words(report: Report) -> str:
    """Every word of a report's blocks, section by section."""
    return "\n".join(_words(block) for section in report.sections for block in section.blocks)


def _words(block: Block) -> str:
    if isinstance(block, Fields):
        return "\n".join(f"{field.label}: {field.value}" for field in block.items)
    if isinstance(block, Table):
        return "\n".join(" | ".join(cell for cell in row if isinstance(cell, str)) for row in block.rows)
    if isinstance(block, Notes):
        return "\n".join("\n".join((note.text, *note.details)) for note in block.items)
    return block.label


def test_healthy_run_is_reported_with_its_numbers(tmp_path: Path) -> None:
    """Given a healthy run, when reported, then header, curves, gap and its source are there in words."""
    report = report_of(tmp_path, healthy_run())
    assert report.verdict.severity is Severity.INFO
    assert "Ran to its end" in report.verdict.text
    text = words(report)
    for expected in (
        "tiny-llama · dataset templated-qa · profile generation",
        "r 8 · alpha 16 (scaling 2) · on q_proj, v_proj",
        "adamw_torch · lr 0.0002 · weight decay 0.01 · batch 4 x 2 accumulation · 40 steps · float32 · seed 7",
        "ok · step 40 of 40 · 42.0s · 1 segment",
        "tokens/s (median)",
        "512 MiB peak · 800 MiB process",
        "val ppl / train ppl, last and best evaluation (step 40)",
        "split train evaluated (same step)",
        "no issues",
    ):
        assert expected in text
    assert "not recorded" not in text


def test_troubled_run_leads_with_the_worst(tmp_path: Path) -> None:
    """Given an error, NaN, a gap and an alert, when reported, then the verdict is the worst and all are listed."""
    report = report_of(tmp_path, troubled_run())
    assert report.verdict.severity is Severity.ERROR
    assert "ran out of the device's memory" in report.verdict.text
    assert "3 more findings" in report.verdict.text
    text = words(report)
    assert "GUARD_ROLLBACK at step 40: rolled back to step 20" in text
    assert "first logged at step 30" in text
    assert "at the best:" in text


def test_what_was_not_logged_is_said(tmp_path: Path) -> None:
    """Given an almost empty run, when reported, then every missing thing is named, and nothing is 0."""
    text = words(report_of(tmp_path, [record("train_step", 1, loss=1.0)]))
    assert "Config: not recorded: there is no run_start" in text
    assert "Gap: not measured: no held-out evaluation" in text
    assert "Memory: not measured: log metrics of kind memory" in text
    assert "no run_end (running or crashed)" in text


def test_adapter_is_described_in_full(tmp_path: Path) -> None:
    """Given rsLoRA, DoRA, patterns, parameters and many modules, when reported, then each is said."""
    lora = {
        "r": 16, "alpha": 32, "use_rslora": True, "use_dora": True, "scaling": 8.0, "rank_pattern": {"q": 4},
        "target_modules": [f"layer{n}" for n in range(12)], "dropout": 0.05,
        "trainable_params": 442_368, "total_params": 1_235_814_400,
    }  # fmt: skip
    text = words(report_of(tmp_path, [record("run_start", config={**CONFIG, "lora": lora}), end()]))
    for expected in ("r 16 (varies by pattern)", "scaling 8", "dropout 0.05", "rsLoRA · DoRA", "and 4 more"):
        assert expected in text
    assert "442,368 of 1.236B trainable (0.036%)" in text


def test_enum_repr_of_the_other_emitter_is_shown_plain(tmp_path: Path) -> None:
    """Given `OptimizerNames.ADAMW_TORCH_FUSED`, when reported, then it is adamw_torch_fused."""
    config = {**CONFIG, "optimizer": {"name": "OptimizerNames.ADAMW_TORCH_FUSED"}}
    assert "adamw_torch_fused ·" in words(report_of(tmp_path, [record("run_start", config=config), end()]))


def test_audit_of_nothing_shows_no_zeros(tmp_path: Path) -> None:
    """Given an audit of no layers, when reported, then that is said once, as a finding, in place of its zeros."""
    metrics = {"n_layers": 0, "stable_rank_mean": 0.0, "issues": ["No adapter weight file found."]}
    rows = [start(), end(), record("metrics", 3, ts=1001.0, kind="lora_audit", metrics=metrics)]
    report = report_of(tmp_path, rows)
    assert "[audit_empty]" in words(report)
    assert "Adapter" not in [section.title for section in report.sections]


def test_audit_is_shown_by_module_type(tmp_path: Path) -> None:
    """Given an audit, when reported, then its ranks, suggestions and dominance are named, with a row for each type."""
    by_type = {
        "attn": {"n_layers": 4, "params": 4096, "stable_rank_mean": 2.5, "utilization_mean": 0.31},
        "mlp": {"n_layers": 2, "params": 2048, "stable_rank_mean": 1.5, "utilization_mean": 0.19},
        "other": {"n_layers": 0, "params": 0},
    }
    metrics = {
        "n_layers": 6, "total_lora_params": 6144, "stable_rank_mean": 2.2, "utilization_mean": 0.27, "by_type": by_type,
        "suggested_r_global_median": 4, "suggested_r_global_90": 6, "udr_median": 0.02, "udr_max": "odd",
    }  # fmt: skip
    report = report_of(tmp_path, [start(), end(), record("metrics", 3, ts=1001.0, kind="lora_audit", metrics=metrics)])
    text = words(report)
    assert "Audit: 6 modules, 6,144 parameters at step 3" in text
    assert "Suggested r: 4 (median) · 6 (90th percentile)" in text
    assert "UDR: median 0.02" in text
    (adapter,) = [section for section in report.sections if section.title == "Adapter"]
    (table,) = [block for block in adapter.blocks if isinstance(block, Table)]
    assert [row[0] for row in table.rows] == ["attn", "mlp"]
    assert table.rows[1][1:] == ("2", "2,048", "1.5", "0.19", "not logged")


def test_verbose_adds_evidence_and_what_was_not_measured(tmp_path: Path) -> None:
    """Given the same run, when reported verbosely, then evidence, confidence and reasons are added."""
    plain, verbose = (words(report_of(tmp_path, troubled_run(), verbose=flag)) for flag in (False, True))
    assert "confidence" not in plain
    assert "evidence: " in verbose
    assert "confidence 1: the values stand in the records" in verbose
    assert "where: step 30 (" in verbose
    assert "Not measured: " in verbose


def test_several_runs_get_an_overview(tmp_path: Path) -> None:
    """Given two runs, when reported, then there is an overview, a verdict over both, and each in turn."""
    paths = [write(tmp_path / "a.jsonl", healthy_run()), write(tmp_path / "b.jsonl", troubled_run())]
    report = monitor_report([load_run(path) for path in paths], POLICY)
    assert report.sections[0].title == "Overview"
    assert report.verdict == Note(Severity.ERROR, "1 of 2 runs with findings.")
    assert [run["path"] for run in report.data["runs"]] == [str(path) for path in paths]


def test_json_artifact_has_its_keys_and_equals_the_text(tmp_path: Path) -> None:
    """Given a run, when rendered as JSON, then the stable keys are there and hold the numbers of the report."""
    report = report_of(tmp_path, troubled_run())
    data = json.loads(render_json(report), parse_constant=pytest.fail)
    assert data["schema"] == "gradience.monitor/v1"
    (run,) = data["runs"]
    assert set(run) == {
        "path", "run_id", "verdict", "status", "reason", "duration_s", "last_step", "segments", "config", "meta",
        "training", "evaluation", "generalization_gap", "measurements", "findings", "alerts", "issues", "issue_counts",
    }  # fmt: skip
    assert run["status"] == "error"
    assert run["training"]["curves"]["loss"]["first"] == {"step": 5, "value": 1.8}
    assert run["evaluation"]["val"]["ppl"]["count"] == 4
    assert run["generalization_gap"]["details"]["kind"] == "ppl_ratio"
    assert run["alerts"][0]["context"] == {"trigger": "nan_loss"}


def test_json_names_what_is_not_finite(tmp_path: Path) -> None:
    """Given a NaN as the last loss, when rendered as JSON, then it is null and named under `nonfinite`."""
    rows = [start(), *train([1, 2]), record("train_step", 3, ts=4.0, loss=math.nan), end()]
    data = json.loads(render_json(report_of(tmp_path, rows)), parse_constant=pytest.fail)
    pointer = "/runs/0/training/curves/loss/last/value"
    assert data["nonfinite"] == {pointer: "nan"}
    assert data["runs"][0]["training"]["curves"]["loss"]["last"] == {"step": 3, "value": None}


def test_json_survives_deep_nesting(tmp_path: Path) -> None:
    """Given extras nested 500 deep, when rendered as JSON, then the rest is there and the depth is cut with words."""
    deep: Any = 1
    for _ in range(500):
        deep = {"x": deep}
    rows = [record("run_start", config={**CONFIG, "extras": {"deep": deep}}), end()]
    text = render_json(report_of(tmp_path, rows))
    assert "nested deeper than 64 levels" in text
    assert json.loads(text)["runs"][0]["config"]["lora"]["r"] == 8


def test_validation_report_counts_and_places(tmp_path: Path) -> None:
    """Given a clean and a damaged file, when reported, then verdict, counts and places are there."""
    good = validate(write(tmp_path / "good.jsonl", healthy_run()))
    bad = validate(write(tmp_path / "bad.jsonl", [start(), b"oops", b"oops", end()]))
    assert validate_report([good]).verdict.severity is Severity.INFO
    report = validate_report([good, bad])
    assert report.verdict == Note(Severity.ERROR, "2 errors and 0 warnings in 1 of 2 files.")
    assert "line 2, byte" in words(report)
    assert report.data["schema"] == "gradience.validate/v1"
    assert [file["ok"] for file in report.data["files"]] == [True, False]
    assert report.data["files"][1]["issue_counts"] == [{"code": "invalid_json", "severity": "error", "count": 2}]


@pytest.mark.parametrize("build", [lambda: monitor_report([], POLICY), lambda: validate_report([])])
def test_report_of_nothing_is_refused(build: Any) -> None:
    """Given no run or file, when a report is asked for, then it is a ValueError."""
    with pytest.raises(ValueError, match="at least one"):
        build()


def test_every_renderer_takes_every_report(tmp_path: Path) -> None:
    """Given each format, when a report of each kind is rendered, then there is text that ends with a newline."""
    path = write(tmp_path / "run.jsonl", troubled_run())
    for report in (report_of(tmp_path, troubled_run()), validate_report([validate(path)])):
        for render in RENDERERS.values():
            assert render(report).endswith("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0), "0"),
        (number(1234567), "1,234,567"),
        (number(0.000123456), "0.0001235"),
        (number(4.91e-05), "4.91e-05"),
        (number(123456.7), "123,457"),
        (number(2.0), "2"),
        (number(math.nan), "NaN"),
        (number(-math.inf), "-inf"),
        (number(1e16), "1e+16"),
        (number(None), "not logged"),
        (count(442_368), "442,368"),
        (count(7_000_000_000), "7B"),
        (duration(2.06), "2.1s"),
        (duration(113.2), "1m 53s"),
        (duration(7500), "2h 05m"),
        (duration(200_000), "2d 07h"),
        (size(812.4), "812 MiB"),
        (size(15974.4), "15.6 GiB"),
    ],
)
def test_numbers_as_words(text: str, expected: str) -> None:
    """Given numbers of every size, when put in words, then they read as people write them."""
    assert text == expected


HOSTILE = st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Co", "L", "Nd"]), max_size=30)


@given(HOSTILE)
def test_inert_text_has_nothing_that_steers(text: str) -> None:
    """Given any text, when made inert, then no control, format, surrogate or separator character is left."""
    safe = inert(text)
    assert not [char for char in safe if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}]
    assert plain_ascii(safe).isascii()


def test_inert_leaves_plain_words_alone() -> None:
    """Given ordinary text of several scripts, when made inert, then it is unchanged."""
    for text in ("tiny-llama", "naïve 模型 модель", "[bold]x[/bold]", "100% · ok"):
        assert inert(text) == text
    assert inert("a\nb\x1b[2J\u202e\u200b") == "a\\nb\\x1b[2J\\u202e\\u200b"
    assert plain_ascii("a · b…") == "a | b..."
    assert plain_ascii("模") == "\\u6a21"
