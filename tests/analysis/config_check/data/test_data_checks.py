"""What the checks of the data say, beside the cases of their rules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.config_check.base_model.facts import ModelFacts, TokenizerFacts
from gradience_analysis.config_check.data.gather import Caps, gather_data
from gradience_analysis.config_check.machine.gather import gather_machine
from gradience_analysis.config_check.machine.paths import path_facts
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding
from gradience_cli.scanning import find_private
from gradience_schema import Severity
from tests.analysis.config_check import built

_TOKENIZER = TokenizerFacts(eos="</s>", eos_id=2, pad="</s>", pad_id=2)


def _following(
    rule: str, path: Path, rows: list[Any], model: ModelFacts | None = None, **training: Any
) -> list[Finding]:
    data = gather_data(built.jsonl(path / "train.jsonl", rows), model=model, find=find_private)
    return built.following(built.on_data(data, model, **training), rule)


def test_without_data_nothing_is_said_and_everything_has_a_reason() -> None:
    """Given no data, model or machine, when all is checked, then there is no finding and each number says why."""
    diagnosis = built.diagnosis(Preflight())
    mine = [item for item in diagnosis.measurements if item.value is None]
    assert not [one for one in diagnosis.findings if one.rule[:1] in {"D", "G", "P", "Q"}]
    assert all(item.reason for item in mine)
    assert len({item.name for item in diagnosis.measurements}) == len(diagnosis.measurements)


@pytest.mark.parametrize("layout", ["plain", "chat", "alpaca", "tokens", "classes"])
def test_sound_data_are_left_alone(tmp_path: Path, layout: str) -> None:
    """Given 200 sound examples of a common layout, when checked, then nothing is said."""
    words = [f"question {number} on topic {number * 7}" for number in range(200)]
    rows: dict[str, list[Any]] = {
        "plain": [{"text": word} for word in words],
        "chat": [
            {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": "yes"}]} for word in words
        ],
        "alpaca": [{"instruction": word, "input": "", "output": "yes"} for word in words],
        "tokens": [{"input_ids": [1, n + 3, 2], "labels": [-100, n + 3, 2]} for n, _ in enumerate(words)],
        "classes": [{"text": word, "label": number % 2} for number, word in enumerate(words)],
    }
    data = gather_data(built.jsonl(tmp_path / "train.jsonl", rows[layout]), find=find_private)
    assert built.findings(built.on_data(data, max_length=512)) == ()


def test_an_example_without_a_label_to_learn_is_an_error(tmp_path: Path) -> None:
    """Given two examples whose labels are all -100, when checked, then they are counted and the first is named."""
    rows = [{"input_ids": [1, n], "labels": [-100, n]} for n in range(20)]
    rows[4]["labels"] = rows[9]["labels"] = [-100, -100]
    (finding,) = _following("D07", tmp_path, rows)
    assert finding.severity is Severity.ERROR
    assert finding.evidence["ignored"] == 2
    assert [place.line for place in finding.places] == [5, 10]
    assert not _following("D07", tmp_path, rows[:4])


def test_an_estimated_length_is_a_remark_only(tmp_path: Path) -> None:
    """Given long texts and no tokenizer, when checked, then the finding is info, and says that it is an estimate."""
    (finding,) = _following("D06", tmp_path, [{"text": f"{n} " + "x" * 1000} for n in range(20)], max_length=128)
    assert finding.severity is Severity.INFO
    assert finding.message.startswith("An estimated 20 of 20")
    assert not _following("D06", tmp_path, [{"text": f"{n:03d}" + "x" * 637} for n in range(20)], max_length=128)
    assert not _following("D06", tmp_path, [{"text": f"{n} " + "x" * 9999} for n in range(20)])


def test_unknown_columns_are_named_with_less_certainty(tmp_path: Path) -> None:
    """Given columns of no known layout, when checked, then they are named, and the finding is not sure."""
    (finding,) = _following("D03", tmp_path, [{"frage": f"{n}", "antwort": "x"} for n in range(20)])
    assert "frage, antwort" in finding.message
    assert finding.confidence <= 0.5


def test_each_file_with_a_fault_is_named(tmp_path: Path) -> None:
    """Given faults in both files, when checked, then there is a finding for each."""
    (tmp_path / "a.jsonl").write_text("{}\n[1]\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("[\n{}\n", encoding="utf-8")
    data = gather_data(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    found = built.following(built.on_data(data), "D02")
    assert [finding.places[0].line for finding in found] == [2, 1]
    assert "one JSON object a line" in found[0].advice


def test_an_overlap_of_a_part_is_a_lower_bound(tmp_path: Path) -> None:
    """Given a file that was not read to its end, when splits overlap, then the count is said to be at least that."""
    path = built.jsonl(tmp_path / "train.jsonl", built.texts(100))
    data = gather_data(path, built.jsonl(tmp_path / "eval.jsonl", built.texts(12)), caps=Caps(lines=40))
    (finding,) = built.following(built.on_data(data), "D04")
    assert finding.message.startswith("At least 12 of 12")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mail jane.doe@example.org", "EMAIL"),
        ("key AKIAIOSFODNN7EXAMPLE", "API_KEY"),
        ("call +1 415 555 0134 now", "PHONE"),
        ("postgres://user:hunter22@db.example.org/x", "URL_WITH_TOKEN"),
    ],
)
def test_kinds_of_private_data_are_told_without_showing_them(tmp_path: Path, text: str, kind: str) -> None:
    """Given an example with private data, when checked, then its kind and line are named, and never itself."""
    (finding,) = _following("D09", tmp_path, [*built.texts(15), {"text": text}])
    assert finding.evidence["kinds"] == {kind: 1}
    assert [place.line for place in finding.places] == [16]
    assert text.rsplit(maxsplit=1)[-1] not in repr(finding.to_dict())


def test_what_was_redacted_already_is_left_alone() -> None:
    """Given a text with labels in place of private data, when searched, then nothing is found in it."""
    assert find_private("write to [EMAIL], with [API_KEY]") == frozenset()
    assert find_private("write to [EMAIL] or jane.doe@example.org") == {"EMAIL"}


def test_texts_without_an_end_are_a_weak_hint(tmp_path: Path) -> None:
    """Given texts most of which do not end, when the end token is known, then that is said; not if it is appended."""
    model = ModelFacts("m", tokenizer=_TOKENIZER)
    rows = [{"text": f"a text {n}" + ("</s>" if n < 9 else "")} for n in range(20)]
    (finding,) = _following("D10", tmp_path, rows, model)
    assert (finding.evidence["without"], finding.evidence["texts"]) == (11, 20)
    assert finding.confidence < 0.5
    assert not _following("D10", tmp_path, rows[:18], model)
    appending = ModelFacts("m", tokenizer=TokenizerFacts(eos="</s>", appends_eos=True))
    assert not _following("D10", tmp_path, rows, appending)


def test_padding_that_is_learned_is_a_warning(tmp_path: Path) -> None:
    """Given padding equal to the end token with its own labels, when checked, then it is said; masked it is not."""
    rows = [{"input_ids": [5, n + 3, 2, 2, 2], "labels": [5, n + 3, 2, 2, 2]} for n in range(12)]
    model = ModelFacts("m", tokenizer=_TOKENIZER)
    (finding,) = _following("V10", tmp_path, rows, model)
    assert finding.severity is Severity.WARNING
    assert finding.evidence["unmasked"] == 12
    masked = [row | {"labels": [*row["labels"][:3], -100, -100]} for row in rows]
    assert not _following("V10", tmp_path, masked, model)
    other = ModelFacts("m", tokenizer=TokenizerFacts(eos="</s>", eos_id=1, pad="<pad>", pad_id=2))
    assert not _following("V10", tmp_path, rows, other)


def test_a_fifo_is_said_once_and_never_read(tmp_path: Path) -> None:
    """Given a FIFO as training data, when checked, then the path is the only finding, and nothing waits for it."""
    os.mkfifo(tmp_path / "train.jsonl")
    machine = gather_machine(look=False, paths=[path_facts("--data", tmp_path / "train.jsonl")])
    subject = built.with_machine(built.on_data(gather_data(tmp_path / "train.jsonl")), machine)
    assert [finding.rule for finding in built.findings(subject)] == ["Q01"]
