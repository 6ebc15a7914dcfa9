"""Scaling: alpha over rank as PEFT has it, and None with a reason where the config does not tell."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gradience_analysis.adapters.config import adapter_config
from gradience_analysis.adapters.keys import classify
from gradience_analysis.adapters.scaling import (
    adalora_scaling,
    declared_rank,
    lookup_names,
    lora_scaling,
    targeted_parameters,
    wrapped_name,
)
from tests.analysis.adapters.files import config

X = "model.layers.0.self_attn.q_proj"
ADALORA = {"peft_type": "ADALORA", "init_r": 12}


@pytest.mark.parametrize(
    ("changes", "r", "expected"),
    [
        ({}, 4, 2.0),
        ({"lora_alpha": 0.5}, 4, 0.125),
        ({"use_rslora": True}, 16, 2.0),
        ({"use_rslora": True}, 2, 8 / math.sqrt(2)),
        ({"lora_alpha": 0}, 4, 0.0),
        ({"lora_alpha": -8}, 4, -2.0),
        ({"alpha_pattern": {"q_proj": 1}}, 4, 0.25),
        ({"alpha_pattern": {"k_proj": 1}}, 4, 2.0),
        ({"alpha_pattern": {"q_proj": 1, r".*q_proj": 3}}, 4, 0.25),
        # The rank is that of the shapes: what the config says of it is compared elsewhere.
        ({"rank_pattern": {"q_proj": 64}}, 4, 2.0),
        ({"peft_type": None}, 4, 2.0),
    ],
)
def test_lora(changes: dict[str, Any], r: int, expected: float) -> None:
    """Given a config, when a module's scaling is resolved, then it is alpha / r, or alpha / sqrt(r) for rsLoRA."""
    found = lora_scaling(adapter_config(config(**changes)), (X,), r)
    assert (found.value, found.reason) == (expected, "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lora_alpha": None}, "the config has no lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha has a value of the wrong type (string)"),
        ({"lora_alpha": True}, "lora_alpha has a value of the wrong type (boolean)"),
        ({"lora_alpha": math.nan}, "lora_alpha has a value of the wrong type (number that is not finite)"),
        ({"alpha_pattern": {"q_proj": "16"}}, "alpha_pattern has a value of the wrong type (string)"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern has a value of the wrong type (null)"),
        ({"alpha_pattern": {"(a+)+q_proj": 16}}, "it cannot be told which entry of alpha_pattern applies"),
        ({"use_rslora": "yes"}, "use_rslora is of the wrong type (string)"),
        ({"peft_type": "VERA"}, "the config is of the method VERA, not LORA"),
        ({"peft_type": "adalora"}, "the config is of the method ADALORA, not LORA"),
    ],
)
def test_unknown_scaling_has_a_reason(changes: dict[str, Any], reason: str) -> None:
    """Given a config that does not tell, when a scaling is resolved, then there is none: no default is put in place."""
    found = lora_scaling(adapter_config(config(**changes)), (X,), 4)
    assert (found.value, found.reason) == (None, reason)


def test_wrong_entry_concerns_its_modules_alone() -> None:
    """Given one alpha of the wrong type, when other modules are resolved, then their scaling is known."""
    found = adapter_config(config(alpha_pattern={"k_proj": "16", "v_proj": 16}))
    assert [lora_scaling(found, (name,), 4).value for name in ("q_proj", "k_proj", "v_proj")] == [2.0, None, 4.0]


def test_without_config() -> None:
    """Given no config, when scalings are resolved, then the reason says what happened to it."""
    for found in (lora_scaling(None, (X,), 4, "does not exist"), adalora_scaling(None, 4, "does not exist")):
        assert (found.value, found.alpha, found.reason) == (None, None, "adapter_config.json does not exist")


@pytest.mark.parametrize(
    ("changes", "r", "expected"),
    [
        ({}, 12, 8 / (12 + 1e-5)),
        # Ranks that were pruned away do not change what PEFT divides by.
        ({}, 3, 8 / (12 + 1e-5)),
        ({"lora_alpha": 0}, 3, 3 / (12 + 1e-5)),
        ({"lora_alpha": -1}, 12, 12 / (12 + 1e-5)),
        # Neither patterns nor rsLoRA mean anything to it.
        (
            {"use_rslora": True, "alpha_pattern": {"q_proj": 99}, "rank_pattern": {"x.lora_E": [True]}},
            3,
            8 / (12 + 1e-5),
        ),
    ],
)
def test_adalora(changes: dict[str, Any], r: int, expected: float) -> None:
    """Given a config of AdaLoRA, when resolved, then alpha is divided by the rank that it started from."""
    found = adalora_scaling(adapter_config(config(**ADALORA, **changes)), r)
    assert (found.value, found.reason) == (expected, "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({**ADALORA, "init_r": None}, "the config has no init_r, by which AdaLoRA divides"),
        ({**ADALORA, "lora_alpha": None}, "the config has no lora_alpha"),
        ({}, "the config is of the method LORA, but the factors are of ADALORA"),
    ],
)
def test_unknown_scaling_of_adalora(changes: dict[str, Any], reason: str) -> None:
    """Given a config that lacks what AdaLoRA scales by, when resolved, then there is none, with the reason."""
    assert adalora_scaling(adapter_config(config(**changes)), 4).reason == reason


@pytest.mark.parametrize(
    ("name", "targets", "expected"),
    [
        ("m.experts", ["experts.w1"], ("m.experts.w1",)),
        ("m.experts.base_layer", ["experts.w1"], ("m.experts.w1",)),
        ("m.experts.base_layer", ["m.experts.w2", "experts.w1"], ("m.experts.w1", "m.experts.w2")),
        ("experts", ["experts.w1"], ("experts.w1",)),
        ("m.xexperts", ["experts.w1"], ()),
        ("m.experts.gate", ["experts.w1"], ()),
        ("m.experts", [], ()),
        ("m.experts", ["w1"], ("m.experts.w1",)),
    ],
)
def test_targeted_parameters(name: str, targets: list[str], expected: tuple[str, ...]) -> None:
    """Given targeted parameters, when a module's own are asked for, then they are found by whole names."""
    found = adapter_config(config(target_parameters=targets))
    assert targeted_parameters(found, classify(f"base_model.model.{name}.lora_A.weight")) == expected


@pytest.mark.parametrize(
    ("name", "targets", "expected"),
    [
        ("attn.base_layer.out_proj", [], ("attn",)),
        ("attn.base_layer.out_proj", ["attn.in_proj_weight"], ("attn.out_proj",)),
        ("experts.base_layer.gate", ["experts.w1"], ("experts.gate",)),
        ("experts", ["experts.w1"], ("experts.w1",)),
        ("experts", ["w1"], ("experts.w1", "experts")),
    ],
)
def test_lookup_names(name: str, targets: list[str], expected: tuple[str, ...]) -> None:
    """Given a wrapped module, when asked what PEFT looked it up by, then it is the name at the time it was made."""
    found = adapter_config(config(target_parameters=targets))
    assert lookup_names(found, classify(f"{name}.lora_A.weight")) == expected


def test_declared_rank_must_be_certain() -> None:
    """Given two parameters of one module, when its rank is asked for, then it is told only where both have the same."""
    key = classify("experts.lora_A.weight")
    targets = ["experts.w1", "experts.w2"]
    assert declared_rank(adapter_config(config(target_parameters=targets)), key) == 4
    assert declared_rank(adapter_config(config(target_parameters=targets, rank_pattern={"w1": 2})), key) is None
    assert declared_rank(None, key) is None


def test_wrapped_name() -> None:
    """Given a key with wrappers in it, when the base's name is asked for, then they are gone."""
    assert wrapped_name(classify("base_model.model.a.base_layer.base_layer.b.lora_A.weight")) == "a.b"
