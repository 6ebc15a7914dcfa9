"""Matching: a module finds the matrix that it changes, or a reason; a matrix of another shape is never used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradience_analysis.adapters.factors import Layout
from gradience_analysis.base_weights import open_base
from tests.analysis.adapters.files import Tensor, floats
from tests.analysis.base_weights import packing
from tests.analysis.base_weights.building import expert, model, module, random, stored, whole

if TYPE_CHECKING:
    from pathlib import Path

Q = "model.layers.0.self_attn.q_proj"
EXPERTS = "model.layers.0.mlp.experts"
HEAD_REASON = "The base has no weight for 'lm_head'."


def test_shape_either_way_round(tmp_path: Path) -> None:
    """Given a weight as stored and as Conv1D stores it, when held against a module, then both fit, and no other."""
    base = open_base(model(tmp_path, {f"{Q}.weight": floats((4, 6))}))
    assert base.match(module(Q, (4, 6))).weight is not None
    assert base.match(module(Q, (6, 4))).weight is not None
    match = base.match(module(Q, (6, 6)))
    assert match.weight is None
    assert match.reason == f"The base's '{Q}.weight' is 4 x 6, and the adapter changes a weight of 6 x 6."


@pytest.mark.parametrize(
    ("tensor", "shape", "layout"),
    [
        pytest.param(("weight", (8, 4, 3, 3)), (8, 36), Layout.CONV, id="conv2d"),
        pytest.param(("weight", (8, 2, 5)), (8, 10), Layout.GROUPED_CONV, id="conv1d"),
        pytest.param(("weight", (100, 8)), (100, 8), Layout.EMBEDDING, id="embedding"),
        pytest.param(("in_proj_weight", (24, 8)), (24, 8), Layout.LINEAR, id="attention"),
    ],
)
def test_other_layers(tmp_path: Path, tensor: tuple[str, tuple[int, ...]], shape: tuple[int, int], layout: Any) -> None:
    """Given a convolution, an embedding or joined projections, when matched, then the tensor is found, flattened."""
    ending, sizes = tensor
    values = random(*sizes)
    base = open_base(model(tmp_path, {f"encoder.layers.0.part.{ending}": stored(values)}))
    wanted = module("layers.0.part", shape, layout=layout)
    match = base.match(wanted)
    assert match.weight is not None
    assert (match.weight.tensor, match.weight.shape) == (f"encoder.layers.0.part.{ending}", shape)
    np.testing.assert_array_equal(whole(base.rows(wanted)), values.reshape(shape))


def test_two_towers_are_ambiguous(tmp_path: Path) -> None:
    """Given a layer in two towers, when a name fits both, then none is taken and both are named."""
    towers = {f"{tower}.layers.0.q.weight": floats((4, 4)) for tower in ("text", "vision")}
    base = open_base(model(tmp_path, towers))
    assert base.find("model.layers.0.q") is None
    assert base.match("model.layers.0.q").reason == (
        "The base has 2 weights that may be meant by 'model.layers.0.q': 'text.layers.0.q', 'vision.layers.0.q'."
    )
    with pytest.raises(KeyError, match="may be meant by"):
        base.rows("model.layers.0.q")


def test_vector_is_no_matrix(tmp_path: Path) -> None:
    """Given a norm layer's weight, when looked up, then it is no matrix that an adapter changes."""
    base = open_base(model(tmp_path, {"model.layers.0.norm.weight": floats((4,))}))
    assert base.match("model.layers.0.norm").reason == "The base has no weight for 'model.layers.0.norm'."


EMBED = "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("tensors", "config", "tensor", "reason"),
    [
        pytest.param([EMBED], {"tie_word_embeddings": True}, EMBED, "", id="tied"),
        pytest.param([EMBED], {"text_config": {"tie_word_embeddings": True}}, EMBED, "", id="tied-in-the-text-model"),
        pytest.param([EMBED, "lm_head.weight"], {"tie_word_embeddings": True}, "lm_head.weight", "", id="its-own"),
        pytest.param([EMBED], {}, None, HEAD_REASON, id="not-said"),
        pytest.param([EMBED], {"tie_word_embeddings": False}, None, HEAD_REASON, id="not-tied"),
        pytest.param([EMBED], {"tie_word_embeddings": "yes"}, None, HEAD_REASON, id="wrong-type"),
        pytest.param([EMBED, "vision.wte.weight"], {"tie_word_embeddings": True}, None, HEAD_REASON, id="two"),
        pytest.param([f"{Q}.weight"], {"tie_word_embeddings": True}, None, HEAD_REASON, id="no-embedding"),
    ],
)
def test_tied_output_layer(
    tmp_path: Path, tensors: list[str], config: dict[str, Any], tensor: str | None, reason: str
) -> None:
    """Given an output layer, when the base has none, then the embedding stands in where the config ties them."""
    base = open_base(model(tmp_path, {name: floats((12, 4)) for name in tensors}, **config))
    match = base.match(module("lm_head", (12, 4)))
    assert (match.weight.tensor if match.weight else None, match.reason) == (tensor, reason)
    assert match.remark == (
        f"'lm_head' has no weight of its own and is tied to '{EMBED}', whose norms it has." if tensor == EMBED else ""
    )


@pytest.mark.parametrize("transposed", [False, True], ids=["out-in", "in-out"])
@pytest.mark.parametrize("certain", [True, False], ids=["parameter", "module"])
def test_experts_of_one_tensor(tmp_path: Path, transposed: bool, certain: bool) -> None:
    """Given all experts in one tensor, when one is matched, then it is that slice, by parameter or by what fits."""
    up, down = random(3, 10, 4, seed=1), random(3, 4, 5, seed=2)
    if transposed:
        up, down = up.transpose(0, 2, 1), down.transpose(0, 2, 1)
    base = open_base(model(tmp_path, {f"{EXPERTS}.gate_up_proj": stored(up), f"{EXPERTS}.down_proj": stored(down)}))
    both = (f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj")
    for number in range(3):
        for name, values, shape in ((both[0], up, (10, 4)), (both[1], down, (4, 5))):
            wanted = expert(name, number, shape, name) if certain else expert(EXPERTS, number, shape, *both)
            match = base.match(wanted)
            assert match.weight is not None
            assert (match.weight.tensor, match.weight.part) == (name, f"expert {number}")
            np.testing.assert_array_equal(whole(base.rows(wanted)), values[number])
    beyond = base.match(expert(both[0], 3, (10, 4), both[0]))
    assert beyond.reason == f"The base's '{both[0]}' has 3 experts and no number 3."
    misfit = base.match(expert(both[0], 0, (9, 4), both[0]))
    assert "and the adapter changes a weight of 9 x 4." in misfit.reason


@pytest.mark.parametrize(
    ("folder", "gate", "up", "down"),
    [
        pytest.param("mlp.experts", "gate_proj", "up_proj", "down_proj", id="qwen"),
        pytest.param("block_sparse_moe.experts", "w1", "w3", "w2", id="mixtral"),
    ],
)
@pytest.mark.parametrize("certain", [True, False], ids=["parameter", "module"])
def test_experts_that_are_kept_apart(tmp_path: Path, folder: str, gate: str, up: str, down: str, certain: bool) -> None:
    """Given experts whose parts are layers, when one is matched, then its parts are put below each other."""
    at = f"model.layers.0.{folder}.1"
    parts = {gate: random(5, 4, seed=1), up: random(5, 4, seed=2), down: random(4, 5, seed=3)}
    base = open_base(model(tmp_path, {f"{at}.{name}.weight": stored(values) for name, values in parts.items()}))
    both = (f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj")
    joined = expert(both[0], 1, (10, 4), both[0]) if certain else expert(EXPERTS, 1, (10, 4), *both)
    np.testing.assert_array_equal(whole(base.rows(joined)), np.concatenate([parts[gate], parts[up]]))
    single = expert(both[1], 1, (4, 5), both[1]) if certain else expert(EXPERTS, 1, (4, 5), *both)
    np.testing.assert_array_equal(whole(base.rows(single)), parts[down])
    absent = base.match(expert(both[1], 0, (4, 5), both[1]))
    assert absent.reason == f"The base has no weight for '{both[1]}[0]'."


def test_expert_parts_may_be_packed(tmp_path: Path) -> None:
    """Given the parts of an expert as NF4, when matched, then they are dequantised and put below each other."""
    at = "model.layers.0.mlp.experts.0"
    gate, first = packing.four_bit(f"{at}.gate_proj", random(4, 64, seed=1))
    up, second = packing.four_bit(f"{at}.up_proj", random(4, 64, seed=2))
    base = open_base(model(tmp_path, {**gate, **up}))
    name = f"{EXPERTS}.gate_up_proj"
    wanted = expert(name, 0, (8, 64), name)
    np.testing.assert_array_equal(whole(base.rows(wanted)), np.concatenate([first, second]))
    match = base.match(wanted)
    assert match.weight is not None
    assert match.weight.quantization == "bnb-nf4"


def test_parts_that_do_not_fit_are_a_reason(tmp_path: Path) -> None:
    """Given an expert whose parts have different widths, when matched, then there is none, with the reason."""
    at = "model.layers.0.mlp.experts.0"
    tensors: dict[str, Tensor] = {f"{at}.gate_proj.weight": floats((5, 4)), f"{at}.up_proj.weight": floats((5, 3))}
    name = f"{EXPERTS}.gate_up_proj"
    match = open_base(model(tmp_path, tensors)).match(expert(name, 0, (10, 4), name))
    assert match.reason == f"The base's '{at}.gate_proj.weight' and what belongs beside it do not fit together."


def test_parameter_of_two_dimensions(tmp_path: Path) -> None:
    """Given a parameter that is targeted itself and is no layer's weight, when matched, then it is that tensor."""
    base = open_base(model(tmp_path, {"model.layers.0.mlp.router_weights": floats((6, 4))}))
    assert base.find("model.layers.0.mlp.router_weights") == "model.layers.0.mlp.router_weights"
