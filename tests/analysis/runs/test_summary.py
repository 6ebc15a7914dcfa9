"""The one row a run: against `load_run`, which reads events one by one, and against numbers by hand."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.diagnostics import DIAGNOSTICS, diagnose
from gradience_analysis.policy import load_policy
from gradience_analysis.runs import load_runs
from gradience_analysis.telemetry.assemble import load_run
from tests.analysis import reference
from tests.analysis.records import CONFIG, end, evaluation, record, start, train, troubled_run, write
from tests.analysis.runs.oracle import same

FIXTURES = Path(__file__).parents[3] / "fixtures"
FOLDERS = [path for name in ("runs", "sweep") for path in sorted((FIXTURES / name).iterdir()) if path.is_dir()]


def row_of(path: Path) -> dict[str, Any]:
    """The row of the one run at a path, NA as None."""
    runs = load_runs(path).runs
    assert len(runs) == 1
    return {name: None if runs[name].tolist()[0] is pd.NA else runs[name].tolist()[0] for name in runs.columns}


def hold_against_load_run(path: Path) -> None:
    """The row of a run is what `load_run` and the diagnostics say of it."""
    row, run = row_of(path), load_run(path)
    diagnosis = diagnose(run, DIAGNOSTICS, load_policy())
    severities = [str(finding.severity) for finding in diagnosis.findings]
    losses = [value for _, value in run.series("loss")]
    finite = [value for value in losses if math.isfinite(value)]
    expected = {
        "run_id": run.run_id,
        "status": "no run_end" if run.status is None else str(run.status),
        "reason": run.reason or None,
        "duration_s": run.duration_s,
        "segments": len(run.segments),
        "steps": run.last_step,
        "loss.final": losses[-1] if losses else None,
        "loss.min": min(finite) if finite else None,
        "gap": diagnosis.measurement("generalization_gap").value,
        "findings.error": severities.count("error") + severities.count("critical"),
        "findings.warning": severities.count("warning"),
        "findings.info": severities.count("info"),
    }
    assert {name: row[name] for name in expected} == expected
    for split, points in run.evaluations.items():
        for metric in {name for point in points for name in point.metrics}:
            numbers = [number for point in points if (number := point.number(metric)) is not None]
            assert same(row[f"{split}.{metric}.final"], numbers[-1])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_row_of_a_recorded_run(folder: Path) -> None:
    """Given a recorded run, when its row is made from tables, then it says what the run assembled from events says."""
    hold_against_load_run(folder)


@reference.needs_reference_runs
@pytest.mark.parametrize("name", reference.V1)
def test_the_row_of_a_reference_run(name: str) -> None:
    """Given a file of another emitter, when its row is made, then it says what the assembled run says."""
    hold_against_load_run(reference.FOLDER / name)


def test_the_configuration_of_a_recorded_run() -> None:
    """Given a recorded run, when its row is made, then each setting stands under its dotted name, as it was written."""
    folder = FIXTURES / "sweep" / "r8_lr0.003_s1"
    config = json.loads((folder / "run.jsonl").read_text().split("\n")[0])["config"]
    row = row_of(folder)
    assert row["model_name"] == config["model_name"]
    for group in ("optimizer", "lora", "training"):
        for name, value in config[group].items():
            if isinstance(value, list):
                assert json.loads(row[f"{group}.{name}"]) == value
            elif not isinstance(value, dict):
                assert same(row[f"{group}.{name}"], value), name
    assert row["lora.extras.task_type"] == config["lora"]["extras"]["task_type"]
    assert row["extras.model_class"] == config["extras"]["model_class"]


def test_best_is_the_least_or_the_most_as_the_metric_wants(tmp_path: Path) -> None:
    """Given metrics of known and unknown direction, when summed up, then only the known have a best."""
    points = [
        evaluation(10, "eval", loss=2.0, accuracy=0.5, n=64, curiosity=1.0, wer=0.4),
        evaluation(20, "eval", loss=1.0, accuracy=0.9, n=64, curiosity=3.0, wer=0.1),
        evaluation(30, "eval", loss=1.0, accuracy=0.7, n=65, curiosity=2.0, wer=0.2),
    ]
    row = row_of(write(tmp_path / "run.jsonl", [start(), *points, end()]))
    assert (row["val.loss.final"], row["val.loss.best"], row["val.loss.best_step"]) == (1.0, 1.0, 20)
    assert (row["val.accuracy.final"], row["val.accuracy.best"], row["val.accuracy.best_step"]) == (0.7, 0.9, 20)
    assert (row["val.wer.final"], row["val.wer.best"]) == (0.2, 0.1)
    assert row["val.n.final"] == 65
    assert isinstance(row["val.n.final"], int)
    assert row["val.curiosity.final"] == 2.0
    assert not {"val.curiosity.best", "val.curiosity.best_step", "val.n.best"} & row.keys()


def test_a_run_that_diverged(tmp_path: Path) -> None:
    """Given a loss that ends in NaN, when summed up, then the final value is NaN, and the best is a finite one."""
    nan = {"loss": None, "nonfinite": {"/loss": "nan"}}
    lost = record("eval", 9, split="val", metrics={"loss": None}, nonfinite={"/metrics/loss": "inf"})
    lines = [
        start(),
        record("train_step", 1, loss=2.0),
        record("train_step", 2, **nan),
        evaluation(5, "val", loss=1.5),
        lost,
    ]
    row = row_of(write(tmp_path / "run.jsonl", lines))
    assert math.isnan(row["loss.final"])
    assert row["loss.min"] == 2.0
    assert row["val.loss.final"] == math.inf
    assert (row["val.loss.best"], row["val.loss.best_step"]) == (1.5, 5)
    assert row["findings.error"] == 1


def test_what_was_not_recorded_is_absent(tmp_path: Path) -> None:
    """Given a run_start alone, when summed up, then nothing is 0 that was not counted."""
    row = row_of(write(tmp_path / "run.jsonl", [record("run_start", config={})]))
    for name in ("reason", "steps", "model_name", "lora.r", "optimizer.lr", "loss.final", "loss.min", "gap"):
        assert row[name] is None, name
    assert row["status"] == "no run_end"
    assert row["duration_s"] == 0.0
    assert row["findings.warning"] == 1


def test_times(tmp_path: Path) -> None:
    """Given times, the order of records in their place, and a time beyond reach, when summed up, then started is so."""
    config: dict[str, Any] = {"config": {}}
    write(tmp_path / "a.jsonl", [record("run_start", run_id="a", ts=1.5, **config), end(run_id="a", ts=4.0)])
    write(
        tmp_path / "b.jsonl", [record("run_start", run_id="b", meta={"ts_source": "order"}, **config), end(run_id="b")]
    )
    write(tmp_path / "c.jsonl", [record("run_start", run_id="c", ts=1e300, **config)])
    runs = load_runs(tmp_path).runs
    assert runs["started"].tolist()[0] == pd.Timestamp(datetime.fromtimestamp(1.5, UTC))
    assert runs["started"].isna().tolist() == [False, True, True]
    assert runs["duration_s"].tolist() == [2.5, pd.NA, 0.0]
    assert runs["duration_s"].dtype == "double[pyarrow]"


def test_settings_of_several_types(tmp_path: Path) -> None:
    """Given settings that are integers, numbers, text and lists by run, when summed up, then all is exact."""
    big = 2**53 + 1
    for place, more in enumerate(
        [
            {"a": 1, "b": 1, "c": "auto", "big": big},
            {"a": 2, "b": 0.5, "c": 3},
            {"list": ["x", 1], "status": "mine", "e": {}},
        ]
    ):
        run_id = f"id-{place}"
        lines = [record("run_start", run_id=run_id, config={**CONFIG, **more}), end(run_id=run_id)]
        write(tmp_path / f"{place}.jsonl", lines)
    runs = load_runs(tmp_path).runs
    assert runs["a"].tolist() == [1, 2, pd.NA]
    assert str(runs["a"].dtype) == "int64[pyarrow]"
    assert runs["b"].tolist() == [1.0, 0.5, pd.NA]
    assert runs["big"].tolist() == [big, pd.NA, pd.NA]
    assert runs["c"].tolist() == [pd.NA, 3, pd.NA]
    assert runs["c__text"].tolist() == ["auto", pd.NA, pd.NA]
    assert runs["list"].tolist() == [pd.NA, pd.NA, '["x", 1]']
    assert runs["status"].tolist() == ["ok"] * 3
    assert runs["config.status"].tolist() == [pd.NA, pd.NA, "mine"]
    assert "e" not in runs


def test_a_non_finite_setting_is_restored(tmp_path: Path) -> None:
    """Given an infinite learning rate in the configuration, when summed up, then it is infinite."""
    line = record("run_start", config={"optimizer": {"lr": None}}, nonfinite={"/config/optimizer/lr": "inf"})
    assert row_of(write(tmp_path / "run.jsonl", [line]))["optimizer.lr"] == math.inf


def test_the_newest_configuration_counts(tmp_path: Path) -> None:
    """Given a run that was resumed with another learning rate, when summed up, then the later one is shown."""
    write(tmp_path / "run.jsonl", [start(), *train([1, 2]), end("aborted", ts=10.0, reason="killed")])
    again = record("run_start", ts=100.0, config={"optimizer": {"lr": 0.5}}, meta={"segment": 1, "resume_step": 2})
    write(tmp_path / "run.1.jsonl", [again, *train([3], ts=101.0), end(ts=105.0)])
    row = row_of(tmp_path)
    assert (row["optimizer.lr"], row["segments"], row["status"], row["reason"]) == (0.5, 2, "ok", None)
    assert row["duration_s"] == 15.0
    hold_against_load_run(tmp_path)


def test_a_run_that_cannot_be_judged(tmp_path: Path) -> None:
    """Given a file with two runs, and one that is gone, when summed up, then both runs of the file have findings."""
    lines = [
        start(run_id="old"),
        *train([1], run_id="old"),
        start(run_id="new", ts=50.0),
        *train([1], run_id="new", ts=51.0),
    ]
    write(tmp_path / "both.jsonl", lines)
    gone = write(tmp_path / "gone.jsonl", [start(run_id="gone"), end(run_id="gone")])
    runs = load_runs(tmp_path)
    gone.unlink()
    counts = dict(zip(runs.runs["run_id"], runs.runs["findings.error"], strict=True))
    assert pd.isna(counts.pop("gone"))
    assert counts == {"old": 0, "new": 0}
    assert runs.runs["issues.error"].notna().all()
    assert runs.unjudged.keys() == {"gone"}
    assert "does not exist" in runs.unjudged["gone"]


def test_a_run_is_judged_wherever_the_process_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a relative path, when the folder changes before the row is made, then the run is judged all the same."""
    write(tmp_path / "run.jsonl", troubled_run())
    monkeypatch.chdir(tmp_path)
    runs = load_runs("run.jsonl")
    monkeypatch.chdir("/")
    assert runs.runs["findings.error"].tolist() == [2]
    assert runs.runs["path"].tolist() == ["run.jsonl"]


def test_issues_are_those_of_the_files_of_a_run(tmp_path: Path) -> None:
    """Given bad lines in one of two segments and none in another run, when counted, then each run has its own."""
    write(tmp_path / "run.jsonl", [start(), "oops", "oops", *train([1])])
    write(tmp_path / "run.1.jsonl", [start(ts=9.0, segment=1, resume_step=1), "oops", end(ts=10.0)])
    write(tmp_path / "other.jsonl", [start(run_id="other"), end(run_id="other")])
    runs = load_runs(tmp_path).runs.set_index("run_id")
    assert runs.loc["run-1", "issues.error"] == 3
    assert runs.loc["other", "issues.error"] == 0


VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(
    st.lists(
        st.tuples(st.sampled_from(["val", "test"]), st.sampled_from(["loss", "accuracy", "odd"]), VALUES), min_size=1
    )
)
def test_final_and_best_by_hand(tmp_path_factory: pytest.TempPathFactory, points: list[tuple[str, str, float]]) -> None:
    """Given any evaluations, when summed up, then final is the last and best the first of the best finite values."""
    lines = [start()]
    for step, (split, metric, value) in enumerate(points):
        # Bare NaN and Infinity, as the early emitter writes them, are restored likewise.
        lines.append(evaluation(step, split, **{metric: value}))
    row = row_of(write(tmp_path_factory.mktemp("best") / "run.jsonl", lines))
    for split, metric in {(split, metric) for split, metric, _ in points}:
        mine = [(step, value) for step, (s, m, value) in enumerate(points) if (s, m) == (split, metric)]
        assert same(row[f"{split}.{metric}.final"], mine[-1][1])
        finite = [(value if metric == "loss" else -value, step) for step, value in mine if math.isfinite(value)]
        if metric == "odd" or not finite:
            assert row.get(f"{split}.{metric}.best") is None
        else:
            rank, step = min(finite)
            assert row[f"{split}.{metric}.best"] == (rank if metric == "loss" else -rank)
            assert row[f"{split}.{metric}.best_step"] == step
