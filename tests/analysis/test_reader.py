"""`TelemetryReader`: the calls that users' scripts know."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradience_analysis import TelemetryReader
from gradience_analysis.errors import InputError, SchemaViolationError
from gradience_schema import ConfigSnapshot
from tests.analysis.records import end, evaluation, record, start, train, write
from tests.analysis.reference import FOLDER, needs_reference_runs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run with evaluations of three splits and an audit."""
    audit = {"n_layers": 4, "stable_rank_mean": 2.5, "utilization_mean": 0.3}
    rows = [
        start(),
        *train([1, 2, 3]),
        evaluation(3, "eval", ppl=4.0),
        evaluation(3, "train", ppl=2.0, accuracy=0.9),
        evaluation(3, "test", ppl=3.0),
        end(),
        record("metrics", 3, ts=1001.0, kind="lora_audit", metrics=audit),
    ]
    return write(tmp_path / "run.jsonl", rows)


def test_events_are_filtered_by_type(path: Path) -> None:
    """Given a file, when iterated, then all events come in order, or those of one type."""
    reader = TelemetryReader(path)
    assert [event.event for event in reader.iter_events()][:2] == ["run_start", "train_step"]
    assert [event.step for event in reader.iter_events("train_step")] == [1, 2, 3]
    assert list(reader.iter_events("absent")) == []


def test_latest_configuration_and_evaluation(path: Path) -> None:
    """Given a file, when asked, then configuration is typed and the last evaluation is found by any split name."""
    reader = TelemetryReader(str(path))
    config = reader.latest_config()
    assert isinstance(config, ConfigSnapshot)
    assert config.model_name == "tiny-llama"
    for split in ("val", "eval", "validation"):
        point = reader.latest_eval(split=split)
        assert point is not None
        assert point.metrics == {"ppl": 4.0}
    last = reader.latest_eval()
    assert last is not None
    assert last.split == "test"
    assert reader.latest_eval("absent") is None


def test_summary_has_the_signals(path: Path) -> None:
    """Given a file, when summarised, then train, test, gap and the audit are there."""
    signals = TelemetryReader(path).summarize()
    assert signals.train == {"ppl": 2.0, "accuracy": 0.9}
    assert signals.test == {"ppl": 3.0}
    assert signals.gap == 1.5
    assert (signals.stable_rank_mean, signals.utilization_mean) == (2.5, 0.3)
    assert signals.extras["status"] == "ok"


def test_summary_of_little_is_none_and_not_zero(tmp_path: Path) -> None:
    """Given a run without evaluation and with an audit of nothing, when summarised, then there are no zeros."""
    zeros = {"n_layers": 0, "stable_rank_mean": 0.0, "utilization_mean": 0.0}
    rows = [start(), end(), record("metrics", None, ts=1001.0, kind="lora_audit", metrics=zeros)]
    signals = TelemetryReader(write(tmp_path / "run.jsonl", rows)).summarize()
    values = (signals.train, signals.test, signals.gap, signals.stable_rank_mean, signals.utilization_mean)
    assert values == (None, None, None, None, None)
    assert "no held-out evaluation" in signals.extras["gap_reason"]


def test_validation_is_a_list_of_sentences(tmp_path: Path, path: Path) -> None:
    """Given a clean and a damaged file, when validated, then the list is empty, or names each place."""
    assert TelemetryReader(path).validate() == []
    bad = write(tmp_path / "bad.jsonl", [start(), b"oops", end()])
    (sentence,) = TelemetryReader(bad).validate()
    assert f"{bad}:2: error: is not JSON" in sentence


def test_strict_schema_raises_and_validate_still_lists(tmp_path: Path) -> None:
    """Given a damaged line, when read strictly, then every call raises but `validate`; otherwise it is passed over."""
    bad = write(tmp_path / "bad.jsonl", [start(), b"oops", *train([1]), b"oops"])
    assert len(list(TelemetryReader(bad).iter_events())) == 2
    strict = TelemetryReader(bad, strict_schema=True)
    for call in (lambda: list(strict.iter_events()), strict.latest_config, strict.latest_eval, strict.summarize):
        with pytest.raises(SchemaViolationError, match=r"bad\.jsonl:2"):
            call()
    assert len(strict.validate()) == 2


def test_folder_is_read_as_its_run(tmp_path: Path) -> None:
    """Given a folder of segments, when read, then events are those of the assembled run."""
    write(tmp_path / "run.jsonl", [start(), *train([1, 2, 3])])
    write(tmp_path / "run.1.jsonl", [start(ts=50.0, resume_step=2), *train([3, 4], ts=51.0), end()])
    reader = TelemetryReader(tmp_path)
    assert [event.step for event in reader.iter_events("train_step")] == [1, 2, 3, 4]
    assert reader.validate() == []


def test_missing_file_is_a_plain_error(tmp_path: Path) -> None:
    """Given no file, when anything is asked for, then the error is an InputError."""
    with pytest.raises(InputError, match="does not exist"):
        TelemetryReader(tmp_path / "none.jsonl").summarize()


@needs_reference_runs
def test_reference_fixture_gives_the_known_signals() -> None:
    """Given the other tool's own fixture, when summarised, then the gap is 3.0 / 2.0."""
    signals = TelemetryReader(FOLDER / "tests_fixtures_vnext_minimal.jsonl", strict_schema=True).summarize()
    assert signals.gap == 1.5
    assert signals.test is not None
    assert signals.test["accuracy"] == 0.4
