"""Tensor names: each is told apart by its layout, and what is no factor is never taken for one."""

from __future__ import annotations

import pytest

from gradience_analysis.adapters.keys import Role, classify

X = "model.layers.0.self_attn.q_proj"
P = f"base_model.model.{X}"


@pytest.mark.parametrize(
    ("name", "role", "module", "adapter"),
    [
        (f"{P}.lora_A.weight", Role.A, X, ""),
        (f"{P}.lora_B.weight", Role.B, X, ""),
        (f"{P}.lora_A.default.weight", Role.A, X, "default"),
        (f"{P}.lora_B.second.weight", Role.B, X, "second"),
        (f"{X}.lora_A.weight", Role.A, X, ""),
        (f"{P}.lora_B.bias", Role.BIAS, X, ""),
        (f"{P}.lora_B.default.bias", Role.BIAS, X, "default"),
        (f"{P}.lora_A", Role.ADALORA_A, X, ""),
        (f"{P}.lora_B", Role.ADALORA_B, X, ""),
        (f"{P}.lora_E", Role.ADALORA_E, X, ""),
        (f"{P}.lora_E.default", Role.ADALORA_E, X, "default"),
        ("base_model.model.emb.lora_embedding_A", Role.EMBEDDING_A, "emb", ""),
        ("base_model.model.emb.lora_embedding_B.default", Role.EMBEDDING_B, "emb", "default"),
        (f"{P}.lora_magnitude_vector", Role.MAGNITUDE, X, ""),
        (f"{P}.lora_magnitude_vector.default.weight", Role.MAGNITUDE, X, "default"),
        (f"{P}.lora_magnitude_vector.weight", Role.MAGNITUDE, X, ""),
        (f"{P}.lora_A.one.two.weight", Role.UNKNOWN_LORA, X, ""),
        (f"{P}.lora_A.default.other", Role.UNKNOWN_LORA, X, ""),
        (f"{P}.lora_mystery", Role.UNKNOWN_LORA, X, ""),
        ("base_model.model.score.weight", Role.WHOLE, "score.weight", ""),
        ("lora_A.weight", Role.UNKNOWN_LORA, "", ""),
        ("", Role.WHOLE, "", ""),
    ],
)
def test_name_is_taken_apart(name: str, role: Role, module: str, adapter: str) -> None:
    """Given a tensor's name, when taken apart, then role, module and adapter name are those PEFT meant."""
    found = classify(name)
    assert (found.role, found.module, found.adapter) == (role, module, adapter)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (f"{P}.hada_w1_a", "LoHa"),
        (f"{P}.lokr_w2", "LoKr"),
        (f"{P}.vera_lambda_b", "VeRA"),
        ("base_model.vera_A", "VeRA"),
        (f"{P}.ia3_l", "IA3"),
        (f"{P}.oft_R", "OFT"),
        (f"{X}.lora_a", "MLX LoRA"),
        ("lora_unet_down_blocks_0_attn.lora_down.weight", "kohya LoRA"),
        ("lora_unet_down_blocks_0_attn.alpha", "kohya LoRA"),
        ("prompt_embeddings", "prompt tuning"),
    ],
)
def test_other_method_is_named(name: str, method: str) -> None:
    """Given a tensor of another method or program, when taken apart, then it is named, and is no factor."""
    found = classify(name)
    assert (found.role, found.method) == (Role.OTHER_METHOD, method)


def test_wrapped_layer_goes_by_its_own_name() -> None:
    """Given a factor inside a wrapped module, when its rank is to be looked up, then the wrapper's name counts."""
    found = classify("base_model.model.mha.base_layer.out_proj.lora_A.weight")
    assert (found.module, found.plain_module) == ("mha.base_layer.out_proj", "mha")
