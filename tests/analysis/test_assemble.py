"""Files to runs: segments, resumes, ranks, several runs in one place."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.errors import InputError, NoTelemetryError
from gradience_analysis.model import Run
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import RunStatus, TaskProfile
from tests.analysis.records import CONFIG, end, evaluation, healthy_run, record, start, train, write
from tests.analysis.reference import FOLDER, FOREIGN, V1, needs_reference_runs


def steps(run: Run) -> list[int | None]:
    """Steps of the train_step records in the analysis view."""
    return [event.step for event in run.of("train_step")]


def raw_steps(run: Run) -> list[list[int | None]]:
    """The same in the raw view, by segment."""
    return [[event.step for event in segment.events if event.event == "train_step"] for segment in run.segments]


def resumed(folder: Path) -> Path:
    """A run of three segments: crashed at 6, resumed at 4, crashed at 8, resumed at 8."""
    write(
        folder / "run.jsonl",
        [
            start(ts=0.0),
            *train(range(1, 5)),
            evaluation(4, "val", ts=4.0, loss=0.9),
            *train([5, 6], ts=5.0),
            evaluation(6, "val", ts=6.0, loss=1.0),
        ],
    )
    write(
        folder / "run.1.jsonl",
        [start(ts=100.0, segment=1, parent_segment=0, resume_step=4), *train(range(5, 9), ts=101.0, loss=1.9)],
    )
    write(
        folder / "run.2.jsonl",
        [start(ts=200.0, segment=2, parent_segment=1, resume_step=8), *train(range(9, 11), ts=201.0), end(ts=210.0)],
    )
    return folder


@pytest.mark.parametrize("name", ["", "run.jsonl", "run.1.jsonl", "run.2.jsonl"])
def test_any_segment_or_the_folder_gives_the_whole_run(tmp_path: Path, name: str) -> None:
    """Given a resumed run, when loaded by folder or by any segment, then it is whole, and later segments win."""
    run = load_run(resumed(tmp_path) / name)
    assert raw_steps(run) == [[1, 2, 3, 4, 5, 6], [5, 6, 7, 8], [9, 10]]
    assert steps(run) == list(range(1, 11))
    assert run.series("loss")[4] == (5, pytest.approx(1.9 - 0.05))
    assert [segment.resume_step for segment in run.segments] == [None, 4, 8]
    assert [point.step for point in run.evaluations["val"]] == [4]
    assert run.status is RunStatus.OK
    assert run.duration_s == pytest.approx(6.0 + 4.0 + 10.0)
    assert run.issues == ()


def test_segment_numbers_in_meta_decide_over_file_names(tmp_path: Path) -> None:
    """Given segments whose files were renamed, when loaded, then `meta.segment` gives their order."""
    resumed(tmp_path)
    (tmp_path / "run.2.jsonl").rename(tmp_path / "run.0.jsonl")
    assert raw_steps(load_run(tmp_path))[-1] == [9, 10]


def test_file_names_decide_where_meta_is_silent(tmp_path: Path) -> None:
    """Given segments without a number in meta, when loaded, then the number in the file name orders them (2 < 10)."""
    for index, first in ((10, 30), (2, 20), (0, 10)):
        name = f"run.{index}.jsonl" if index else "run.jsonl"
        write(tmp_path / name, [start(ts=float(index)), *train([first], ts=index + 1.0)])
    assert raw_steps(load_run(tmp_path / "run.2.jsonl")) == [[10], [20], [30]]


def test_alerts_of_a_superseded_stretch_are_kept(tmp_path: Path) -> None:
    """Given an alert in steps that were trained again, when loaded, then the alert still stands."""
    alert = record("alert", 6, ts=7.0, severity="error", code="BOOM", message="m")
    write(tmp_path / "run.jsonl", [start(), *train(range(1, 7)), alert])
    write(tmp_path / "run.1.jsonl", [start(ts=50.0, resume_step=3), *train(range(4, 9), ts=51.0)])
    run = load_run(tmp_path)
    assert [event.payload["code"] for event in run.alerts] == ["BOOM"]
    assert steps(run) == list(range(1, 9))


def test_file_whose_step_jumps_back_is_split(tmp_path: Path) -> None:
    """Given a foreign file that a resumed run was appended to, when loaded, then it has two segments."""
    path = write(tmp_path / "log.jsonl", [start(), *train(range(1, 7)), *train(range(4, 9), ts=50.0), end()])
    run = load_run(path)
    assert raw_steps(run) == [[1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8]]
    assert steps(run) == list(range(1, 9))
    assert run.config is not None
    assert [issue.code for issue in run.issues] == ["step_backwards"]


def test_other_ranks_are_kept_apart(tmp_path: Path) -> None:
    """Given rank files beside the run, when loaded, then rank 0 is the run and the others stand beside it."""
    write(tmp_path / "run.jsonl", [start(), *train([1, 2]), end()])
    write(tmp_path / "run.rank3.jsonl", [start(), *train([1, 2])])
    write(tmp_path / "run.rank1.1.jsonl", [start(), *train([2])])
    run = load_run(tmp_path)
    assert steps(run) == [1, 2]
    assert [(segment.rank, Path(segment.path).name) for segment in run.other_ranks] == [
        (1, "run.rank1.1.jsonl"),
        (3, "run.rank3.jsonl"),
    ]


def test_a_rank_alone_is_a_run_with_a_warning(tmp_path: Path) -> None:
    """Given only the file of rank 2, when loaded, then it is read, and said not to be rank 0."""
    run = load_run(write(tmp_path / "run.rank2.jsonl", [start(), *train([1])]))
    assert [issue.code for issue in run.issues] == ["no_rank_0"]
    assert run.segments[0].rank == 2


def test_folder_with_several_runs_gives_the_newest(tmp_path: Path) -> None:
    """Given three runs in a folder, when loaded, then the newest is the run, and an info issue lists the others."""
    for place, name in enumerate(["b", "a", "c"]):
        write(
            tmp_path / f"{name}.jsonl",
            [start(ts=100.0 * place, run_id=name), *train([place], ts=100.0 * place, run_id=name)],
        )
    run = load_run(tmp_path)
    assert run.run_id == "c"
    assert [issue.code for issue in run.issues] == ["other_runs"]
    assert "a, b" in run.issues[0].message
    assert load_run(tmp_path / "a.jsonl").run_id == "a"


def test_file_that_two_runs_wrote_gives_the_newest(tmp_path: Path) -> None:
    """Given interleaved records of two runs, when loaded, then each record goes to its own run."""
    mixed = [
        start(run_id="a"),
        start(ts=5.0, run_id="b"),
        *train([1], ts=6.0, run_id="a"),
        *train([2], ts=7.0, run_id="b"),
    ]
    run = load_run(write(tmp_path / "run.jsonl", mixed))
    assert run.run_id == "b"
    assert steps(run) == [2]
    assert {issue.code for issue in run.issues} >= {"several_run_ids", "other_runs"}


def test_data_files_beside_the_run_are_passed_over(tmp_path: Path) -> None:
    """Given training data as .jsonl in the same folder, when loaded, then only telemetry is read."""
    (tmp_path / "train_data.jsonl").write_text('{"question": "q", "answer": "a"}\n' * 3)
    write(tmp_path / "run.jsonl", healthy_run())
    run = load_run(tmp_path)
    assert run.issues == ()
    assert run.run_id == "run-1"


def test_folders_without_telemetry_say_so(tmp_path: Path) -> None:
    """Given a folder with none, with data only, with a run one level below, when loaded, then the error helps."""
    with pytest.raises(NoTelemetryError, match=r"holds no \.jsonl"):
        load_run(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"q": 1}\n')
    with pytest.raises(NoTelemetryError, match="none with a telemetry/v1 record"):
        load_run(tmp_path)
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "run.jsonl", [start()])
    with pytest.raises(NoTelemetryError, match=r"out/run\.jsonl"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load_run(tmp_path / "absent")


def test_folder_with_foreign_logs_is_read_through_their_importer(tmp_path: Path) -> None:
    """Given a folder with nothing but logs of another tool, when loaded, then the newest is read, the other named."""
    for name, losses, changed in (("trainer_state.json", (2.0, 1.5), 2e9), ("old_trainer_state.json", (3.0,), 1e9)):
        path = tmp_path / name
        rows = [{"loss": loss, "step": step + 1} for step, loss in enumerate(losses)]
        path.write_text(json.dumps({"global_step": len(rows), "max_steps": 9, "log_history": rows}))
        os.utime(path, (changed, changed))
    run = load_run(tmp_path)
    assert [event.payload["loss"] for event in run.of("train_step")] == [2.0, 1.5]
    assert run.duration_s is None
    assert {"foreign_layout", "other_runs"} <= {issue.code for issue in run.issues}
    assert "old_trainer_state.json" in next(issue.message for issue in run.issues if issue.code == "other_runs")


def test_file_without_an_event_names_the_first_fault(tmp_path: Path) -> None:
    """Given a file of bad lines, when loaded, then the error says what is wrong with the first."""
    with pytest.raises(NoTelemetryError, match=r"line 1: is not JSON"):
        load_run(write(tmp_path / "run.jsonl", [b"oops", b"oops"]))


@pytest.mark.parametrize(
    ("records", "status", "text"),
    [
        ([end()], RunStatus.OK, "ok"),
        ([end("aborted", reason="early stopping")], RunStatus.ABORTED, "aborted"),
        ([end("error")], RunStatus.ERROR, "error"),
        ([], None, "no run_end (running or crashed)"),
    ],
)
def test_status_is_that_of_the_end(tmp_path: Path, records: list[Any], status: RunStatus | None, text: str) -> None:
    """Given each way to end, when loaded, then the status is that, and its absence is said in words."""
    run = load_run(write(tmp_path / "run.jsonl", [start(), *train([1]), *records]))
    assert run.status is status
    assert run.status_text == text


def test_status_is_that_of_the_last_segment(tmp_path: Path) -> None:
    """Given an error in the first segment and a resumed one that still runs, when loaded, then there is no end."""
    write(tmp_path / "run.jsonl", [start(), *train([1]), end("error", ts=5.0)])
    write(tmp_path / "run.1.jsonl", [start(ts=50.0), *train([2], ts=51.0)])
    assert load_run(tmp_path).status is None


def test_duration_ends_with_training(tmp_path: Path) -> None:
    """Given an audit appended an hour after run_end, when loaded, then that hour does not count."""
    audit = record("metrics", 3, ts=3700.0, kind="lora_audit", metrics={"n_layers": 0})
    run = load_run(write(tmp_path / "run.jsonl", [start(), *train([1]), end(ts=60.0), audit]))
    assert run.duration_s == 60.0
    assert list(run.metrics) == ["lora_audit"]


def test_configuration_is_typed_and_raw(tmp_path: Path) -> None:
    """Given a configuration, when loaded, then it is typed, and the raw form is what was written."""
    run = load_run(write(tmp_path / "run.jsonl", [start(framework="huggingface")]))
    assert run.config is not None
    assert run.config.lora.r == 8
    assert run.config.task_profile is TaskProfile.GENERATION
    assert run.raw_config == CONFIG
    assert run.meta == {"framework": "huggingface"}


def test_summary_row_without_loss_is_no_logged_step(tmp_path: Path) -> None:
    """Given the other emitter's final row with only an epoch, when loaded, then it is no logged step."""
    rows = [start(), *train([1, 2]), record("train_step", 2, ts=9.0, epoch=1.0)]
    run = load_run(write(tmp_path / "run.jsonl", rows))
    assert len(run.logged_steps) == 2


def test_frames_hold_exact_numbers_and_restored_nan(tmp_path: Path) -> None:
    """Given losses, a NaN mark, a list of rates and a text metric, when asked for frames, then all are there."""
    rows = [
        start(),
        record("train_step", 1, ts=1.5, loss=0.1 + 0.2, lr=[1e-4, 2e-4], tokens=12),
        record("train_step", 2, ts=2.5, loss=None, lr=[1e-4, 2e-4], tokens=24, nonfinite={"/loss": "nan"}),
        evaluation(2, "eval", loss=0.7, note="fine"),
    ]
    run = load_run(write(tmp_path / "run.jsonl", rows))
    frame = run.steps
    assert list(frame.columns) == [
        "run_id",
        "segment",
        "step",
        "ts",
        "loss",
        "lr",
        "grad_norm",
        "epoch",
        "lr_1",
        "tokens",
    ]
    assert frame["loss"][0] == 0.1 + 0.2
    assert math.isnan(frame["loss"][1])
    assert frame["lr_1"].tolist() == [2e-4, 2e-4]
    assert frame["tokens"].dtype.kind == "i"
    assert frame["grad_norm"].isna().all()
    values = {(row.split, row.metric): row.value for row in run.evals.itertuples()}
    assert values == {("val", "loss"): 0.7, ("val", "note"): "fine"}


def test_frames_of_an_empty_run_have_their_columns(tmp_path: Path) -> None:
    """Given a run that trained nothing, when asked for frames, then they are empty and complete."""
    run = load_run(write(tmp_path / "run.jsonl", [start()]))
    assert len(run.steps) == len(run.evals) == 0
    assert {"step", "loss", "ts"} <= set(run.steps.columns)


@needs_reference_runs
@pytest.mark.parametrize("name", V1)
def test_reference_numbers_equal_those_of_the_json_module(name: str) -> None:
    """Given a real file, when loaded, then every payload equals what `json.loads` gives, to the last bit."""
    run = load_run(FOLDER / name)
    expected = [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]
    envelope = ("schema", "ts", "run_id", "event", "step")
    assert [event.payload for event in run.events] == [
        {key: value for key, value in item.items() if key not in envelope} for item in expected
    ]
    assert [(event.ts, event.event, event.step) for event in run.events] == [
        (item["ts"], item["event"], item["step"]) for item in expected
    ]
    assert run.status is RunStatus.OK
    assert run.issues == ()


@needs_reference_runs
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_reference_file_is_a_run_too(name: str) -> None:
    """Given a real file in the early layout, when loaded, then its numbers are those that `json` reads in it."""
    run = load_run(FOLDER / name)
    records = [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]
    wanted = [
        item["data"]["loss"]
        for item in records
        if item["event"].endswith(("step_metrics", "training_step")) and "loss" in item["data"]
    ]
    assert [event.payload["loss"] for event in run.logged_steps] == wanted
    assert wanted
