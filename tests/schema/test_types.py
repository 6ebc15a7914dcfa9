"""The dataclasses of the contract: lossless, typed like the schema, and patient with what others wrote."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gradience_schema import (
    ConfigSnapshot,
    LoraSnapshot,
    OptimizerSnapshot,
    Recommendation,
    RunStatus,
    Severity,
    TaskProfile,
    TrainingSnapshot,
    registry,
    schema_files,
)

FILES = schema_files()
CONFIG = FILES["config.schema.json"]
PARTS = {"optimizer": OptimizerSnapshot, "lora": LoraSnapshot, "training": TrainingSnapshot}

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
integers = st.none() | st.integers(-(2**53), 2**53)
texts = st.none() | st.text(max_size=8)
flags = st.none() | st.booleans()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
real = st.floats(allow_nan=False, allow_infinity=False)
extras = st.dictionaries(
    st.text(max_size=6) | st.sampled_from(["r", "lr", "seed", "notes", "extras"]), json_values, max_size=3
)
optimizers = st.builds(
    OptimizerSnapshot,
    name=texts,
    lr=numbers,
    weight_decay=numbers,
    betas=st.none() | st.tuples(real, real),
    eps=numbers,
    extras=extras,
)
loras = st.builds(
    LoraSnapshot,
    r=integers,
    alpha=numbers,
    alpha_over_r=numbers,
    target_modules=st.lists(st.text(max_size=6), max_size=3).map(tuple),
    dropout=numbers,
    bias=texts,
    extras=extras,
    use_rslora=flags,
    use_dora=flags,
    rank_pattern=st.none() | st.dictionaries(st.text(max_size=6), st.integers(1, 64), max_size=2),
    alpha_pattern=st.none() | st.dictionaries(st.text(max_size=6), real, max_size=2),
    peft_type=texts,
    scaling=numbers,
    trainable_params=integers,
    total_params=integers,
)
trainings = st.builds(
    TrainingSnapshot,
    seed=integers,
    batch_size=integers,
    gradient_accumulation=integers,
    max_steps=integers,
    epochs=numbers,
    dtype=texts,
    extras=extras,
    world_size=integers,
    max_length=integers,
    lr_scheduler=texts,
    warmup_steps=numbers,
    max_grad_norm=numbers,
    num_train_examples=integers,
    logging_nan_inf_filter=flags,
)
configs = st.builds(
    ConfigSnapshot,
    model_name=texts,
    dataset_name=texts,
    task_profile=st.sampled_from(TaskProfile),
    optimizer=optimizers,
    lora=loras,
    training=trainings,
    notes=texts,
    extras=extras,
)
recommendations = st.builds(
    Recommendation,
    severity=st.none() | st.sampled_from(Severity),
    action=texts,
    message=texts,
    rationale=texts,
    confidence=numbers,
    scope=texts,
    evidence=extras,
    extras=extras,
)


def through_json(value: object) -> Any:
    """What a reader of the file gets."""
    return json.loads(json.dumps(value, allow_nan=False))


@settings(deadline=None)
@given(config=configs)
def test_config_survives_the_file(config: ConfigSnapshot) -> None:
    """Given any configuration, when written as JSON and read back, then it is equal, and equal parts hash alike."""
    back = ConfigSnapshot.from_dict(through_json(config.to_dict()))
    assert back == config
    assert hash(back) == hash(config)


@settings(deadline=None)
@given(advice=recommendations)
def test_recommendation_survives_the_file(advice: Recommendation) -> None:
    """Given any recommendation, when written as JSON and read back, then it is equal."""
    back = Recommendation.from_dict(through_json(advice.to_dict()))
    assert back == advice
    assert hash(back) == hash(advice)


@settings(deadline=None)
@given(config=configs)
def test_written_config_is_valid(config: ConfigSnapshot) -> None:
    """Given any configuration, when written, then the config schema accepts it."""
    assert list(Draft202012Validator(CONFIG, registry=registry()).iter_errors(config.to_dict())) == []


@settings(deadline=None)
@given(advice=recommendations)
def test_written_recommendation_is_valid(advice: Recommendation) -> None:
    """Given any recommendation, when written, then the schema of a recommendation accepts it."""
    entry = FILES["events/recommendation.schema.json"]["$defs"]["recommendation"]
    assert list(Draft202012Validator(entry).iter_errors(advice.to_dict())) == []


keys = st.sampled_from([*CONFIG["properties"], *CONFIG["$defs"]["lora"]["properties"], "betas", "seed", "novel"])
objects = st.dictionaries(keys, json_values | st.dictionaries(keys, json_values, max_size=3), max_size=5)


@settings(deadline=None)
@given(data=objects)
def test_any_object_is_read_and_nothing_is_lost(data: dict[str, Any]) -> None:
    """Given any JSON object, when read as a config, then it becomes a valid one that still holds every value."""
    config = ConfigSnapshot.from_dict(data)
    written = config.to_dict()
    assert Draft202012Validator(CONFIG, registry=registry()).is_valid(written)
    assert ConfigSnapshot.from_dict(written) == config
    assert leaves(data) <= leaves(written)


def leaves(value: object) -> set[str]:
    """Every scalar but null in a JSON value, numbers by their value (16.0 is 16)."""
    if isinstance(value, dict):
        return set().union(*map(leaves, value.values()))
    if isinstance(value, list):
        return set().union(*map(leaves, value))
    if value is None:
        return set()
    return {f"{type(value).__name__} {value}" if isinstance(value, bool | str) else f"number {value + 0.0!r}"}  # type: ignore[operator]


@pytest.mark.parametrize("part", PARTS)
def test_part_has_the_fields_of_the_schema(part: str) -> None:
    """Given a part of the config, when its fields are compared with the schema's properties, then they are the same."""
    assert [field.name for field in dataclasses.fields(PARTS[part])] == list(CONFIG["$defs"][part]["properties"])


def test_config_and_recommendation_have_the_fields_of_the_schema() -> None:
    """Given both, when fields and properties are compared, then only a recommendation's extras differ."""
    assert [field.name for field in dataclasses.fields(ConfigSnapshot)] == list(CONFIG["properties"])
    entry = FILES["events/recommendation.schema.json"]["$defs"]["recommendation"]
    assert [field.name for field in dataclasses.fields(Recommendation)] == [*entry["properties"], "extras"]


def test_enums_are_those_of_the_schema() -> None:
    """Given the three enums, when compared with the schema's, then the values are the same, in the same order."""

    def enum_of(name: str, *keys: str) -> list[str]:
        schema: Any = FILES[name]
        for key in keys:
            schema = schema[key]
        return [value for value in schema["enum"] if value is not None]

    payload = ("$defs", "payload", "properties")
    assert enum_of("events/alert.schema.json", *payload, "severity") == list(Severity)
    assert enum_of("events/run_end.schema.json", *payload, "status") == list(RunStatus)
    assert enum_of("config.schema.json", "properties", "task_profile") == list(TaskProfile)
    advice = ("$defs", "recommendation", "properties", "severity")
    assert enum_of("events/recommendation.schema.json", *advice) == list(Severity)


def test_unknown_config_is_written_in_full() -> None:
    """Given nothing known, when written, then each key of the first v1 is there as null, and no later one."""
    assert ConfigSnapshot().to_dict() == {
        "model_name": None,
        "dataset_name": None,
        "task_profile": "unknown",
        "optimizer": {"name": None, "lr": None, "weight_decay": None, "betas": None, "eps": None, "extras": {}},
        "lora": {
            "r": None,
            "alpha": None,
            "alpha_over_r": None,
            "target_modules": [],
            "dropout": None,
            "bias": None,
            "extras": {},
        },
        "training": {
            "seed": None,
            "batch_size": None,
            "gradient_accumulation": None,
            "max_steps": None,
            "epochs": None,
            "dtype": None,
            "extras": {},
        },
        "notes": None,
        "extras": {},
    }


def test_later_additions_are_written_when_known() -> None:
    """Given our additions, when written, then those that are set are there, False and 0 among them."""
    lora = LoraSnapshot(use_dora=False, rank_pattern={}, trainable_params=0).to_dict()
    assert (lora["use_dora"], lora["rank_pattern"], lora["trainable_params"]) == (False, {}, 0)
    assert "use_rslora" not in lora
    training = TrainingSnapshot(logging_nan_inf_filter=False, warmup_steps=0.03).to_dict()
    assert (training["logging_nan_inf_filter"], training["warmup_steps"]) == (False, 0.03)
    assert "world_size" not in training


@pytest.mark.parametrize("data", [None, {}, {"lora": None, "extras": None, "task_profile": None}])
def test_missing_and_null_are_unknown(data: dict[str, Any] | None) -> None:
    """Given no config, an empty one, or nulls, when read, then everything is unknown and nothing is invented."""
    assert ConfigSnapshot.from_dict(data) == ConfigSnapshot()


def test_unknown_keys_go_to_extras_of_their_part() -> None:
    """Given keys beside the known ones and in extras, when read, then both stand in extras, none overwritten."""
    lora = LoraSnapshot.from_dict({"r": 8, "init": "pissa", "peft": 1, "extras": {"peft": 2, "fan_in": False}})
    assert lora == LoraSnapshot(r=8, extras={"peft": 2, "fan_in": False, "init": "pissa", "peft_": 1})


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("lora", "r", "16"),
        ("lora", "r", True),
        ("lora", "r", 1.5),
        ("lora", "target_modules", "all-linear"),
        ("lora", "target_modules", ["q", 1]),
        ("lora", "rank_pattern", {"q": "4"}),
        ("lora", "use_dora", 1),
        ("optimizer", "betas", [0.9]),
        ("optimizer", "betas", [0.9, "0.99"]),
        ("optimizer", "lr", "5e-5"),
        ("optimizer", "extras", ["fused"]),
        ("training", "dtype", 16),
    ],
)
def test_value_of_another_type_is_kept_aside(part: str, key: str, value: object) -> None:
    """Given a value that does not fit its slot, when read, then the field is unknown and extras hold it as it was."""
    read = PARTS[part].from_dict({key: value})
    assert read == PARTS[part](extras={key: value})


def test_unlisted_names_are_kept_aside() -> None:
    """Given a profile, a severity or a part of the wrong kind, when read, then extras hold it."""
    config = ConfigSnapshot.from_dict({"task_profile": "summarization", "lora": [8]})
    assert config == ConfigSnapshot(extras={"task_profile": "summarization", "lora": [8]})
    advice = Recommendation.from_dict({"severity": "hint", "action": "lower_lr"})
    assert advice == Recommendation(action="lower_lr", extras={"severity": "hint"})


def test_whole_float_is_an_integer() -> None:
    """Given 16.0 where an integer belongs, when read, then it is 16, as JSON Schema has it."""
    assert LoraSnapshot.from_dict({"r": 16.0}).r == 16
    assert isinstance(LoraSnapshot.from_dict({"r": 16.0}).r, int)
    assert isinstance(LoraSnapshot.from_dict({"alpha": 16.0}).alpha, float)


def test_constructor_takes_plain_names_and_lists() -> None:
    """Given strings for enums and lists for tuples, when built, then the fields hold the contract's types."""
    assert ConfigSnapshot(task_profile="generation").task_profile is TaskProfile.GENERATION  # type: ignore[arg-type]
    assert Recommendation(severity="error").severity is Severity.ERROR  # type: ignore[arg-type]
    assert LoraSnapshot(target_modules=["q", "v"]).target_modules == ("q", "v")  # type: ignore[arg-type]
    assert LoraSnapshot(target_modules="all-linear").target_modules == ("all-linear",)  # type: ignore[arg-type]
    assert OptimizerSnapshot(betas=[0.9, 0.99]).betas == (0.9, 0.99)  # type: ignore[arg-type]


def test_constructor_refuses_names_that_do_not_exist() -> None:
    """Given a profile or severity that is not listed, when built, then a ValueError names it."""
    with pytest.raises(ValueError, match="'chat' is not a valid TaskProfile"):
        ConfigSnapshot(task_profile="chat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'fatal' is not a valid Severity"):
        Recommendation(severity="fatal")  # type: ignore[arg-type]


def test_values_are_frozen_and_independent() -> None:
    """Given two snapshots, when one's written form is changed, then neither snapshot is; fields cannot be set."""
    config = ConfigSnapshot(extras={"a": 1})
    config.to_dict()["extras"]["b"] = 2
    ConfigSnapshot().to_dict()["lora"]["extras"]["c"] = 3
    assert config == ConfigSnapshot(extras={"a": 1})
    assert ConfigSnapshot().lora.extras == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.notes = "changed"  # type: ignore[misc]


def test_severities_and_statuses_are_plain_strings() -> None:
    """Given an enum member, when compared or encoded, then it is its string."""
    assert Severity.WARNING == "warning"
    assert json.dumps([RunStatus.OK, TaskProfile.UNKNOWN]) == '["ok", "unknown"]'
