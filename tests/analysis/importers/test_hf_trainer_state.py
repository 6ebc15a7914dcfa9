"""trainer_state.json: the numbers of real states against `json.load`, and the quirks that are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.importers.rows.document import read_document
from gradience_schema import Severity
from tests.analysis.importers.foreign import FOLDER, codes, importer, of, read, series, state

STATES = sorted(FOLDER.rglob("trainer_state.json"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """`log_history` by the standard library."""
    return json.loads(path.read_text(encoding="utf-8"))["log_history"]


def same(left: Any, right: Any) -> bool:
    """Equality in which NaN equals NaN, and types count."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.parent.name)
@pytest.mark.parametrize(("theirs", "ours"), [("grad_norm", "grad_norm"), ("learning_rate", "lr"), ("epoch", "epoch")])
def test_training_rows_keep_their_numbers(path: Path, theirs: str, ours: str) -> None:
    """Given a real state, when its training rows are read, then each number is that of the file, to the last bit."""
    expected = [(row["step"], row[theirs]) for row in rows_of(path) if "loss" in row]
    found = series(read(path)[0], ours)
    assert len(found) == len(expected) >= 5
    assert all(left[0] == right[0] and same(left[1], right[1]) for left, right in zip(found, expected, strict=True))


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.parent.name)
def test_every_value_of_every_row_is_kept(path: Path) -> None:
    """Given a real state, when it is read, then each value of each row stands in an event made of that row."""
    events, _ = read(path)
    for number, row in enumerate(rows_of(path), 1):
        mine = [event for event in events if event.line == number and event.event != "run_start"]
        kept: list[Any] = [event.step for event in mine]
        for event in mine:
            kept += [*event.payload.values(), *event.payload.get("metrics", {}).values()]
        for name, value in row.items():
            assert any(same(value, item) for item in kept), f"row {number}: {name} is lost"


def test_evaluations_are_those_of_the_file() -> None:
    """Given a state with eval_ and test_ rows, when it is read, then they are splits val and test, without prefixes."""
    path = FOLDER / "transformers" / "trained" / "trainer_state.json"
    rows = rows_of(path)
    events, _ = read(path)
    found = [(e.step, e.payload["split"], e.payload["metrics"]["loss"]) for e in of(events, "eval")]
    assert found == [
        *((row["step"], "val", row["eval_loss"]) for row in rows if "eval_loss" in row),
        *((row["step"], "test", row["test_loss"]) for row in rows if "test_loss" in row),
    ]
    assert all("runtime" in event.payload["metrics"] and "epoch" in event.payload for event in of(events, "eval"))


def test_several_eval_sets_are_splits_of_their_names() -> None:
    """Given the state of a trainer with two named sets, when it is read, then each is a split, underscores and all."""
    path = FOLDER / "transformers" / "several_eval_sets" / "trainer_state.json"
    events, _ = read(path)
    found = {(e.step, e.payload["split"], e.payload["metrics"]["loss"]) for e in of(events, "eval")}
    expected = {(r["step"], "easy", r["eval_easy_loss"]) for r in rows_of(path) if "eval_easy_loss" in r}
    expected |= {
        (r["step"], "hard_shifted", r["eval_hard_shifted_loss"]) for r in rows_of(path) if "eval_hard_shifted_loss" in r
    }
    assert found == expected
    assert len(expected) == 4


@pytest.mark.parametrize(
    ("row", "splits"),
    [
        ({"eval_loss": 1.0, "eval_aux_loss": 0.1}, {"val": {"loss": 1.0, "aux_loss": 0.1}}),
        ({"eval_a_loss": 1.0, "eval_b_loss": 2.0}, {"a": {"loss": 1.0}, "b": {"loss": 2.0}}),
        ({"eval_a_loss": 1.0, "eval_a_f1": 0.5}, {"val": {"a_loss": 1.0, "a_f1": 0.5}}),
        (
            {"eval_a_loss": 1.0, "eval_a_runtime": 2.0, "eval_a_samples_per_second": 3.0},
            {"a": {"loss": 1.0, "runtime": 2.0, "samples_per_second": 3.0}},
        ),
    ],
    ids=["one set", "two sets by their losses", "one name is a metric", "one set by its time"],
)
def test_sets_are_told_from_metrics_by_evidence(row: dict[str, Any], splits: dict[str, Any], tmp_path: Path) -> None:
    """Given evaluation rows with and without run times, when they are read, then only evidence makes a name a split."""
    events, _ = read(state(tmp_path / "s.json", [{**row, "step": 1}]))
    assert {event.payload["split"]: event.payload["metrics"] for event in of(events, "eval")} == splits


def test_a_hidden_nan_is_restored_and_reported() -> None:
    """Given a run that diverged behind the filter, when it is read, then those losses are NaN, and reported."""
    path = FOLDER / "transformers" / "hidden_nan" / "trainer_state.json"
    rows = rows_of(path)
    hidden = [row["step"] for row in rows if row.get("loss") == 0.0]
    assert len(hidden) == 4, "the fixture shows the sign"
    events, issues = read(path)
    losses = dict(series(events, "loss"))
    assert [step for step, loss in losses.items() if math.isnan(loss)] == hidden
    assert series(events, "logged_loss") == [(step, 0.0) for step in hidden]
    assert [loss for loss in losses.values() if not math.isnan(loss)] == [
        row["loss"] for row in rows if row.get("loss", 0.0) != 0.0
    ]
    told = [issue for issue in issues if issue.code == "hidden_nonfinite_loss"]
    assert [issue.severity for issue in told] == [Severity.WARNING] * 4
    assert told[0].pointer == f"/log_history/{rows.index(next(r for r in rows if r.get('loss') == 0.0))}/loss"
    assert "logging_nan_inf_filter=False" in told[0].message


@pytest.mark.parametrize(
    ("loss", "norm"), [(0.0, 1.0), (1e-9, math.nan), (0.0, None)], ids=["finite norm", "loss not 0", "no norm"]
)
def test_only_the_whole_sign_counts(loss: float, norm: float | None, tmp_path: Path) -> None:
    """Given a row that shows half of the sign, when it is read, then its loss stays and nothing is reported."""
    events, issues = read(state(tmp_path / "s.json", [{"loss": loss, "grad_norm": norm, "step": 1}]))
    assert series(events, "loss") == [(1, loss)]
    assert not codes(issues)


def test_an_open_nan_is_read_without_a_word() -> None:
    """Given a state with NaN tokens, when it is read, then the losses are NaN, marked, and no fault of the file."""
    path = FOLDER / "transformers" / "open_nan" / "trainer_state.json"
    events, issues = read(path)
    assert not codes(issues)
    expected = [row["step"] for row in rows_of(path) if "loss" in row and math.isnan(row["loss"])]
    found = [event.step for event in of(events, "train_step") if "/loss" in event.nonfinite]
    assert found == expected
    assert len(expected) == 4


@pytest.mark.parametrize(
    ("folder", "end"),
    [
        ("transformers/trained", {"status": "ok", "global_step": 20}),
        (
            "transformers/stopped_early",
            {"status": "aborted", "reason": "stopped early at step 14 of 20", "global_step": 14},
        ),
        ("transformers/checkpoint", None),
        ("trl/sft_resumed", {"status": "ok", "global_step": 20}),
    ],
)
def test_the_end_is_what_the_file_says(folder: str, end: dict[str, Any] | None) -> None:
    """Given states of ended and of running trainings, when they are read, then only the ended ones have a run_end."""
    ends = of(read(FOLDER / folder / "trainer_state.json")[0], "run_end")
    assert [dict(event.payload) for event in ends] == ([] if end is None else [end])


def test_a_resumed_state_reads_as_one_line_of_steps() -> None:
    """Given the state of a run that was resumed from a checkpoint, when it is read, then every step is there once."""
    events, issues = read(FOLDER / "trl" / "sft_resumed" / "trainer_state.json")
    assert [step for step, _ in series(events, "loss")] == list(range(2, 21, 2))
    assert not codes(issues)


def test_step_going_back_starts_a_segment(tmp_path: Path) -> None:
    """Given rows in which step jumps back, when they are read, then the second stretch is segment 1 of the same run."""
    rows = [{"loss": float(step), "step": step} for step in (2, 4, 6, 4, 6, 8)]
    events, issues = read(state(tmp_path / "s.json", rows))
    places = [place for place, event in enumerate(events) if event.event == "run_start"]
    assert [event.step for event in events[places[1] :]] == [None, 4, 6, 8]
    assert events[places[1]].payload["meta"]["segment"] == 1
    assert events[places[1]].payload["meta"]["parent_segment"] == 0
    assert codes(issues) == ["new_segment"]
    assert issues[-1].pointer == "/log_history/3"


def test_training_after_its_end_starts_a_segment(tmp_path: Path) -> None:
    """Given a summary with training after it, when it is read, then run_end closes the first of two segments."""
    rows = [{"loss": 1.0, "step": 5}, {"train_loss": 1.0, "step": 5}, {"loss": 0.5, "step": 10}]
    events, _ = read(state(tmp_path / "s.json", rows, max_steps=10))
    assert [event.event for event in events] == [
        *("run_start", "train_step", "metrics", "run_end"),
        *("run_start", "train_step"),
    ]


def test_train_runtime_alone_is_no_summary(tmp_path: Path) -> None:
    """Given an ordinary row with train_runtime, when it is read, then it is a training step and nothing has ended."""
    events, _ = read(state(tmp_path / "s.json", [{"loss": 1.5, "train_runtime": 3.0, "step": 2}]))
    assert [event.event for event in events] == ["run_start", "train_step"]
    assert events[1].payload == {"loss": 1.5, "train_runtime": 3.0}


def test_numbers_in_strings_are_read_and_reported(tmp_path: Path) -> None:
    """Given a row with strings for numbers, when it is read, then the numbers count, and the row is reported."""
    row = {"loss": "1.25", "grad_norm": "nan", "learning_rate": "5e-05", "tag": "0012", "share": "22.3%", "step": "7"}
    events, issues = read(state(tmp_path / "s.json", [row]))
    (step,) = of(events, "train_step")
    assert step.step == 7
    assert math.isnan(step.payload["grad_norm"])
    assert {k: v for k, v in step.payload.items() if k != "grad_norm"} == {
        "loss": 1.25,
        "lr": 5e-05,
        "tag": "0012",
        "share": "22.3%",
    }
    (told,) = (issue for issue in issues if issue.code == "string_number")
    assert told.severity is Severity.WARNING
    assert "loss, grad_norm, learning_rate, step" in told.message


def test_what_is_no_number_is_set_aside_and_reported(tmp_path: Path) -> None:
    """Given a loss that is no number, and keys of the envelope, when read, then nothing is lost or overridden."""
    row = {"loss": "tensor(1.5)", "epoch": True, "ts": 3, "run_id": "x", "seq": 1, "x_ts": 2, "step": 1}
    events, issues = read(state(tmp_path / "s.json", [row]))
    (step,) = of(events, "train_step")
    assert step.payload == {
        "x_loss": "tensor(1.5)",
        "x_epoch": True,
        "x_x_ts": 3,
        "x_run_id": "x",
        "x_seq": 1,
        "x_ts": 2,
        "renamed": {"/x_loss": "loss", "/x_epoch": "epoch", "/x_x_ts": "ts", "/x_run_id": "run_id", "/x_seq": "seq"},
    }
    assert codes(issues) == ["unfit_value", "unfit_value"]


@pytest.mark.parametrize("step", [-1, 1.5, "x", True, [], None, 2**70, math.nan])
def test_a_step_that_is_none_costs_nothing_else(step: Any, tmp_path: Path) -> None:
    """Given a row whose step is no step, when it is read, then its loss is kept at step null, and that is reported."""
    events, issues = read(state(tmp_path / "s.json", [{"loss": 1.0, "step": step}]))
    assert series(events, "loss") == [(None, 1.0)]
    assert codes(issues) == ["no_step"]


def test_rows_of_other_trainers_keep_their_keys(tmp_path: Path) -> None:
    """Given rows with GRPO's nulls and Axolotl's keys, when they are read, then every key is there, null as null."""
    row = {"loss": 0.1, "kl": None, "rewards/f/mean": 0.5, "memory/max_active (GiB)": 1.25, "ppl": math.inf, "step": 1}
    events, issues = read(state(tmp_path / "s.json", [row]))
    (step,) = of(events, "train_step")
    assert step.payload == {name: value for name, value in row.items() if name != "step"}
    assert step.nonfinite == ("/ppl",)
    assert not codes(issues)


def test_the_configuration_is_what_the_state_knows() -> None:
    """Given a real state, when it is read, then run_start names the batch, the steps and the epochs, and no model."""
    start = read(FOLDER / "transformers" / "trained" / "trainer_state.json")[0][0]
    assert start.payload["config"] == {
        "training": {
            "batch_size": 8,
            "max_steps": 20,
            "epochs": 1,
            "extras": {"logging_steps": 2, "eval_steps": 10, "save_steps": 500},
        }
    }
    assert start.payload["meta"]["trainer_state"]["num_input_tokens_seen"] == 2560


def test_rows_that_are_no_objects_cost_themselves(tmp_path: Path) -> None:
    """Given a list with other things than objects, when it is read, then each is an error and the rest is read."""
    events, issues = read(state(tmp_path / "s.json", [{"loss": 1.0, "step": 1}, 5, None, {"loss": 2.0, "step": 2}]))
    assert series(events, "loss") == [(1, 1.0), (2, 2.0)]
    assert [(issue.code, issue.pointer) for issue in issues if issue.severity is Severity.ERROR] == [
        ("not_an_object", "/log_history/1"),
        ("not_an_object", "/log_history/2"),
    ]


def test_an_empty_history_is_a_start_and_a_warning(tmp_path: Path) -> None:
    """Given a state before its first log, when it is read, then there is a run_start, and a word on what is missing."""
    events, issues = read(state(tmp_path / "s.json", []))
    assert [event.event for event in events] == ["run_start"]
    assert codes(issues) == ["no_rows"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"log_history": [', "is not JSON"),
        (b"[" * 100_000, "nests too deeply"),
        (b'{"log_history": [' + b"9" * 5000 + b"]}", "too many digits"),
        (b'{"log_history": null}', "has no list log_history"),
        (b"[1, 2]", "holds no JSON object"),
        (b"\xff\xfe{\x00", "UTF-16"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b"", "is empty"),
    ],
    ids=["cut", "deep", "digits", "null", "list", "utf16", "byte", "empty"],
)
def test_what_is_no_state_is_refused_in_a_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    """Given a file that is no trainer_state.json, when it is read as one, then one sentence names it and says why."""
    path = tmp_path / "trainer_state.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        list(importer("hf-trainer-state").read(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_document_over_the_limit_is_not_loaded(tmp_path: Path) -> None:
    """Given a limit and a file of one byte more, when it is read, then it is refused; at the limit it is read."""
    path = tmp_path / "s.json"
    path.write_bytes(b'{"log_history":[]}' + b" " * (1 << 20))
    with pytest.raises(InputError, match="more than 1 MiB"):
        read_document(path, limit=1 << 20)
    assert read_document(path, limit=(1 << 20) + 18).value == {"log_history": []}


def test_a_byte_order_mark_and_the_order_of_keys_do_not_matter(tmp_path: Path) -> None:
    """Given a state with a BOM and no key but log_history, when it is looked at, then it is recognised and read."""
    path = tmp_path / "s.json"
    path.write_bytes(b'\xef\xbb\xbf \n{"log_history" : [{"loss": 1, "step": 3}]}')
    assert series(read(path)[0], "loss") == [(3, 1)]
