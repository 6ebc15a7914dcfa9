"""The checks of the settings: each value that is refused, by its code, and the one beside it that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_schema import Severity
from tests.analysis.config_check.configs import LEFT_OUT, codes, findings, flat

NAN, INF = float("nan"), float("inf")
WRONG: list[tuple[str, Any, str]] = [
    *(("lora_r", value, "rank_invalid") for value in (0, -4, 1025, 100_000, "16", True, 16.0, 2.5, NAN, [8], {})),
    *(("rank_pattern", value, "rank_invalid") for value in ({"q_proj": 0}, {"q_proj": "8"}, [8], {"v": 8, "q": True})),
    *(("lora_alpha", value, "alpha_invalid") for value in (0, -1, "32", True, NAN, INF, [32])),
    *(("learning_rate", value, "lr_invalid") for value in (0, -1e-4, "2e-4", True, NAN, INF, [1e-4], 10)),
    *(("per_device_train_batch_size", value, "batch_invalid") for value in (0, -1, 129, 4.0, "4", True, NAN)),
    *(("gradient_accumulation_steps", value, "batch_invalid") for value in (0, 129, 1.5, "1")),
    *(("max_seq_length", value, "max_length_invalid") for value in (0, 127, 32_769, 2048.0, "2048", -1)),
    *(("lora_dropout", value, "dropout_invalid") for value in (1, 1.5, -0.1, "0.1", True, NAN)),
    *(("target_modules", value, "targets_missing") for value in ([], "", 7, ["q_proj", 1], [""], {"a": 1})),
    *(
        (key, None, "null_number")
        for key in ("lora_r", "lora_alpha", "learning_rate", "lora_dropout", "per_device_train_batch_size")
    ),
]
FINE: list[tuple[str, Any]] = [
    *(("lora_r", value) for value in (8, 64, 128)),
    *(("rank_pattern", value) for value in ({}, None, {"q_proj": 1024})),
    *(("lora_alpha", value) for value in (4, 128, 16.5)),
    *(("learning_rate", value) for value in (1e-6, 1e-2)),
    *(("per_device_train_batch_size", value) for value in (1, 128)),
    *(("max_seq_length", value) for value in (128, 32_768)),
    *(("lora_dropout", value) for value in (0, 0.999)),
    *(("target_modules", value) for value in ("all-linear", ".*_proj", ["q"])),
    ("my_own_setting", {"a": [1, None]}),
]


@pytest.mark.parametrize(("key", "value", "code"), WRONG)
def test_a_wrong_value_is_an_error(tmp_path: Path, key: str, value: Any, code: str) -> None:
    """Given a value that cannot be used, when checked, then one error names it, and says what to try."""
    (finding,) = findings(tmp_path, flat(**{key: value}))
    assert (finding.code, finding.severity) == (code, Severity.ERROR)
    (change,) = finding.changes
    assert change.setting.startswith(key)
    assert change.suggested
    assert change.why
    assert key in finding.message
    assert "config.json" in finding.message


@pytest.mark.parametrize(("key", "value"), FINE)
def test_a_value_at_the_limit_is_fine(tmp_path: Path, key: str, value: Any) -> None:
    """Given a value at the edge of what is usual, when checked, then nothing stands against the configuration."""
    alpha = {"lora_alpha": 2 * value} if key == "lora_r" else {}
    assert codes(tmp_path, flat(**alpha, **{key: value})) == ["config_ok"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"lora_alpha": 129}, "alpha_invalid"),
        ({"lora_alpha": 3.9}, "alpha_invalid"),
        ({"learning_rate": 0.011}, "lr_invalid"),
        ({"learning_rate": 0.9e-6}, "lr_invalid"),
        ({"target_modules": LEFT_OUT}, "targets_missing"),
        ({"target_modules": None}, "targets_missing"),
        ({"seed": LEFT_OUT}, "seed_unset"),
        ({"seed": None}, "seed_unset"),
        ({"warmup_steps": 500}, "schedule_incomplete"),
        ({"eval_steps": 501}, "schedule_incomplete"),
        ({"save_steps": 501}, "schedule_incomplete"),
        ({"eval_strategy": "no", "eval_steps": None}, "schedule_incomplete"),
        ({"eval_strategy": False, "eval_steps": None}, "schedule_incomplete"),
        ({"lerning_rate": 1e-4}, "unknown_key"),
        ({"task_profile": "hard"}, "task_profile_unknown"),
    ],
)
def test_an_unusual_value_is_a_warning(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    """Given a value that works and is far from usual, when checked, then one warning names it."""
    mine = [one for one in findings(tmp_path, flat(**changes)) if one.severity is not Severity.INFO]
    assert [(one.code, one.severity) for one in mine] == [(code, Severity.WARNING)]
    assert mine[0].changes


def test_a_rank_in_quotes_is_suggested_without(tmp_path: Path) -> None:
    """Given a rank that only its quotes make wrong, when checked, then the same number is what to try."""
    (finding,) = findings(tmp_path, flat(lora_r="16"))
    assert (finding.changes[0].current, finding.changes[0].suggested) == ('"16"', "16")


def test_rslora_has_no_usual_ratio(tmp_path: Path) -> None:
    """Given rsLoRA, when alpha / r is far from usual, then nothing is said, as the factor is another one."""
    assert codes(tmp_path, flat(lora_r=256, lora_alpha=32, use_rslora=True)) == ["config_ok"]


def test_nothing_is_said_twice_of_a_rank_beyond_its_range(tmp_path: Path) -> None:
    """Given a rank that is refused, when alpha / r is unusual because of it, then the rank alone is named."""
    assert codes(tmp_path, flat(lora_r=100_000)) == ["rank_invalid"]


def test_a_length_by_epochs_and_examples(tmp_path: Path) -> None:
    """Given epochs and a number of examples, when the warm-up is as long as the steps that makes, then it is named.

    The steps are ceil(100 / (4 * 4)) * 3 = 21.
    """
    epochs = flat(max_steps=-1, num_train_epochs=3, train_samples=100, eval_strategy="epoch", save_strategy="epoch")
    assert codes(tmp_path, epochs | {"warmup_steps": 20}) == ["config_ok"]
    (finding,) = findings(tmp_path, epochs | {"warmup_steps": 21})
    assert finding.evidence["total_steps"] == 21


def test_examples_are_counted_in_the_data(tmp_path: Path) -> None:
    """Given training data, when the steps follow from them, then intervals are held against that number."""
    data = tmp_path / "train.jsonl"
    data.write_text("".join(f'{{"text": "example number {n}"}}\n' for n in range(48)), encoding="utf-8")
    entries = flat(max_steps=LEFT_OUT, num_train_epochs=2, warmup_steps=LEFT_OUT, eval_steps=7, save_steps=6)
    found = [one for one in findings(tmp_path, entries, data=data) if one.code == "schedule_incomplete"]
    assert [one.evidence for one in found] == [{"setting": "eval_steps", "value": 7, "total_steps": 6}]


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": -1, "num_train_epochs": 0},
        {"max_steps": 0},
        {"max_steps": None},
        {"max_steps": LEFT_OUT, "num_train_epochs": -1},
        {"max_steps": LEFT_OUT},
    ],
)
def test_a_training_has_a_length(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Given neither steps nor epochs above 0, when checked, then that is the one error."""
    found = findings(tmp_path, flat(**changes))
    assert [(one.code, one.severity) for one in found] == [("no_training_length", Severity.ERROR)]


def test_the_other_of_the_two_lengths_may_be_null(tmp_path: Path) -> None:
    """Given epochs, when max_steps is null beside them, then nothing is said."""
    assert codes(tmp_path, flat(max_steps=None, num_train_epochs=3)) == ["config_ok"]


def test_an_evaluation_by_hand_counts(tmp_path: Path) -> None:
    """Given no strategy of evaluation but do_eval, when checked, then nothing is said."""
    assert codes(tmp_path, flat(eval_strategy="no", do_eval=True)) == ["config_ok"]


def test_full_fine_tuning_needs_no_adapter(tmp_path: Path) -> None:
    """Given no setting of an adapter, when checked, then nothing is said about one."""
    without = dict.fromkeys(("lora_r", "lora_alpha", "lora_dropout", "target_modules"), LEFT_OUT)
    assert codes(tmp_path, flat(**without)) == ["config_ok"]


def test_parameters_as_targets(tmp_path: Path) -> None:
    """Given target parameters in place of modules, when checked, then nothing is said."""
    assert codes(tmp_path, flat(target_modules=[], target_parameters=["experts.w1"])) == ["config_ok"]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lerning_rate", "learning_rate"),
        ("lora_aplha", "lora_alpha"),
        ("alhpa", "alpha"),
        ("sead", "seed"),
        ("LR", "lr"),
        ("max-step", "max_steps"),
        ("wieght_decay", "weight_decay"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, key: str, meant: str) -> None:
    """Given a key within two edits of a known one, when checked, then the known one is suggested."""
    (finding,) = [one for one in findings(tmp_path, flat(**{key: 1})) if one.code == "unknown_key"]
    assert finding.evidence == {"key": key, "source": str(tmp_path / "config.json"), "meant": meant}


@pytest.mark.parametrize("key", ["bits", "id", "x", "name", "workers", "loss", "my_run", "z" * 200])
def test_a_key_of_ones_own_is_no_slip(tmp_path: Path, key: str) -> None:
    """Given a key like no known one, when checked, then nothing is said of it."""
    assert codes(tmp_path, flat(**{key: 1})) == ["config_ok"]


def test_the_model_has_so_many_positions(tmp_path: Path) -> None:
    """Given a base model's config.json, when sequences are longer than its positions, then that is an error."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 1024}', encoding="utf-8")
    found = findings(tmp_path, flat(), model=str(model))
    (finding,) = [one for one in found if one.code == "max_length_invalid"]
    assert finding.evidence["model_positions"] == 1024
    assert "max_length_invalid" not in codes(tmp_path, flat(max_seq_length=1024), model=str(model))
