"""The inventory: every tensor of an adapter becomes part of a module or is left out with the reason, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.adapters import Inventory, Layout, TensorPlace, classify
from gradience_analysis.adapters.config import adapter_config
from gradience_analysis.adapters.factors import HeldTensor, take_inventory
from tests.analysis.adapters.files import config

X = "base_model.model.layers.0.q_proj"
Shapes = Mapping[str, tuple[int, ...] | tuple[str, tuple[int, ...]]]


def held(tensors: Shapes, file: str = "adapter_model.safetensors") -> list[HeldTensor]:
    """Tensors by name, of these shapes; F32, or (number format, shape)."""
    found: list[HeldTensor] = []
    for name, what in tensors.items():
        dtype, shape = what if what and isinstance(what[0], str) else ("F32", what)
        found.append(HeldTensor(classify(name), TensorPlace(file, name, str(dtype), tuple(shape))))  # type: ignore[arg-type]
    return found


def inventory(tensors: Shapes, **changes: Any) -> Inventory:
    """What is found in an adapter of these tensors."""
    return take_inventory(held(tensors), adapter_config(config(**changes)))


def pair(a: tuple[int, ...], b: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Both factors of one module."""
    return {f"{X}.lora_A.weight": a, f"{X}.lora_B.weight": b}


@pytest.mark.parametrize(
    ("tensors", "layout", "r", "shape", "params"),
    [
        (pair((4, 8), (10, 4)), Layout.LINEAR, 4, (10, 8), 72),
        (pair((64, 8), (10, 64)), Layout.LINEAR, 64, (10, 8), 64 * 18),
        (pair((4, 8, 3), (10, 4, 1)), Layout.CONV, 4, (10, 24), 136),
        (pair((4, 8, 3, 2), (10, 4, 1, 1)), Layout.CONV, 4, (10, 48), 232),
        (pair((4, 8, 3, 2, 1), (10, 4, 1, 1, 1)), Layout.CONV, 4, (10, 48), 232),
        (pair((4, 8, 3, 2), (10, 2, 1, 1)), Layout.GROUPED_CONV, 4, (10, 48), 212),
        ({f"{X}.lora_embedding_A": (4, 50), f"{X}.lora_embedding_B": (6, 4)}, Layout.EMBEDDING, 4, (50, 6), 224),
    ],
    ids=["linear", "wide", "conv1", "conv2", "conv3", "grouped", "embedding"],
)
def test_layouts(tensors: Shapes, layout: Layout, r: int, shape: tuple[int, int], params: int) -> None:
    """Given factors of a layout, when listed, then rank, shape and size of the matrix are known from the shapes."""
    found = inventory(tensors)
    (module,) = found.modules
    assert (module.layout, module.r, module.shape, module.params) == (layout, r, shape, params)
    assert (module.name, module.alpha, module.scaling, module.declared_r) == ("layers.0.q_proj", 8.0, 8 / r, 4)
    assert (found.left_out, found.lora_keys, found.audited_keys) == ((), 2, 2)


@pytest.mark.parametrize(
    ("tensors", "reason", "words"),
    [
        ({f"{X}.lora_A.weight": (4, 8)}, "unpaired", "has no lora_B"),
        ({f"{X}.lora_B.weight": (8, 4)}, "unpaired", "has no lora_A"),
        ({f"{X}.lora_embedding_A": (4, 8)}, "unpaired", "has no lora_embedding_B"),
        ({f"{X}.lora_magnitude_vector": (4,)}, "unpaired", "has no pair of factors"),
        ({f"{X}.lora_A": (4, 8), f"{X}.lora_B": (8, 4)}, "unpaired", "has no lora_E"),
        (pair((4, 16), (16, 5)), "mismatched", "the 4 rows of A are not the 5 columns of B"),
        # Transposing either of them would make these fit.
        (pair((16, 4), (16, 4)), "mismatched", "the 16 rows of A are not the 4 columns of B"),
        (pair((4, 16), (4, 16)), "mismatched", "the 4 rows of A are not the 16 columns of B"),
        (pair((4,), (16, 4)), "mismatched", "A has the shape (4) and B (16, 4)"),
        (pair((), ()), "mismatched", "A has the shape () and B ()"),
        (pair((4, 16), (16, 4, 1, 1)), "mismatched", "no layout of LoRA"),
        (pair((4, 16, 3, 3, 3, 3), (16, 4, 1, 1, 1, 1)), "mismatched", "no layout of LoRA"),
        (pair((4, 16, 3, 3), (16, 4, 3, 3)), "mismatched", "a kernel of size 1"),
        (pair((4, 16, 3, 3), (16, 3, 1, 1)), "mismatched", "no number of groups"),
        (pair((4, 16, 3, 3), (15, 2, 1, 1)), "mismatched", "no number of groups"),
        (pair((4, 16, 3, 3), (16, 8, 1, 1)), "mismatched", "no number of groups"),
        (pair((4, 0), (16, 4)), "mismatched", "holds no values"),
        (pair((4, 16), (0, 4)), "mismatched", "holds no values"),
        (pair((4, 16), (16, 0)), "mismatched", "holds no values"),
        (pair((4, 16, 3, 3), (16, 0, 1, 1)), "mismatched", "holds no values"),
        ({**pair((4, 16), (16, 4)), f"{X}.lora_magnitude_vector": (4,)}, "mismatched", "the magnitude vector"),
        ({f"{X}.lora_A": (4, 8), f"{X}.lora_B": (8, 4), f"{X}.lora_E": (4,)}, "mismatched", "E the shape (4)"),
        (pair((0, 16), (16, 0)), "rank_zero", "its rank is 0"),
        ({f"{X}.lora_A": (0, 8), f"{X}.lora_B": (8, 0), f"{X}.lora_E": (0, 1)}, "pruned", "delta_w is zero"),
        ({f"{X}.lora_A.weight": ("I8", (4, 8)), f"{X}.lora_B.weight": (8, 4)}, "undecoded_dtype", "stored as I8"),
        ({f"{X}.lora_A.weight": (4, 8), f"{X}.lora_B.weight": ("F4", (8, 4))}, "undecoded_dtype", "stored as F4"),
        (
            {**pair((4, 16), (16, 4)), f"{X}.lora_magnitude_vector": ("F8_E8M0", (16,))},
            "undecoded_dtype",
            "stored as F8_E8M0",
        ),
        ({f"{X}.lora_mystery.weight": (4, 8)}, "unknown_key", "in no layout of LoRA"),
        ({f"{X}.lora_A.one.two.weight": (4, 8)}, "unknown_key", "in no layout of LoRA"),
        ({f"{X}.hada_w1_a": (4, 8)}, "unsupported_method", "LoHa"),
        ({f"{X}.lokr_w1": (4, 8)}, "unsupported_method", "LoKr"),
        ({f"{X}.vera_lambda_b": (8,)}, "unsupported_method", "VeRA"),
        ({f"{X}.ia3_l": (8,)}, "unsupported_method", "IA3"),
        ({f"{X}.oft_R": (8, 8)}, "unsupported_method", "OFT"),
        ({"base_model.model.x.lora_up.weight": (8, 4)}, "unsupported_method", "kohya"),
        ({**pair((4, 16), (16, 4)), "layers.0.q_proj.lora_A.weight": (4, 16)}, "duplicate", "more than once"),
    ],
)
def test_what_cannot_be_audited_is_left_out(tensors: Shapes, reason: str, words: str) -> None:
    """Given tensors that make no product, when listed, then they are left out with the reason, none is made to fit."""
    found = inventory(tensors)
    assert found.modules == ()
    assert {one.reason for one in found.left_out} == {reason}
    assert words in found.left_out[0].sentence
    assert sorted(key for one in found.left_out for key in one.keys) == sorted(tensors)
    assert (found.lora_keys, found.audited_keys) == (len(tensors), 0)


def test_repeated_half_is_left_out_with_the_other() -> None:
    """Given one factor in two files and its counterpart nowhere, when listed, then every copy is left out."""
    name = f"{X}.lora_A.weight"
    tensors = [*held({name: (4, 8)}, "one"), *held({name: (4, 8)}, "two")]
    found = take_inventory(tensors, adapter_config(config()))
    assert sorted(one.reason for one in found.left_out) == ["duplicate", "unpaired"]
    assert (sum(len(one.keys) for one in found.left_out), found.lora_keys) == (2, 2)


def test_sound_module_beside_a_broken_one() -> None:
    """Given one sound module and one without a counterpart, when listed, then the sound one is there."""
    found = inventory({**pair((4, 8), (8, 4)), f"{X}2.lora_A.weight": (4, 8), "base_model.model.head.weight": (2, 2)})
    assert [module.name for module in found.modules] == ["layers.0.q_proj"]
    assert [one.module for one in found.left_out] == ["layers.0.q_proj2"]
    assert (found.lora_keys, found.audited_keys) == (3, 2)
    assert found.whole_tensors == ("base_model.model.head.weight",)


def test_nothing_but_whole_tensors() -> None:
    """Given only whole tensors, when listed, then there is nothing of an adapter, which is not the same as health."""
    found = inventory({"model.embed_tokens.weight": (50, 8), "classifier.bias": (2,)})
    assert (found.modules, found.left_out, found.lora_keys, len(found.whole_tensors)) == ((), (), 0, 2)


EXPERTS = {"target_parameters": ["mlp.experts.down_proj"]}
E = "base_model.model.layers.0.mlp.experts"


def test_experts_share_their_tensors() -> None:
    """Given factors of 3 experts, when listed, then there are 3 matrices of the config's rank in the same tensors."""
    found = inventory({f"{E}.lora_A.weight": (12, 8), f"{E}.lora_B.weight": (6, 12)}, **EXPERTS)
    assert [module.name for module in found.modules] == [f"layers.0.mlp.experts.down_proj[{n}]" for n in range(3)]
    assert {(one.layout, one.r, one.scaling, one.shape, one.params) for one in found.modules} == {
        (Layout.EXPERTS, 4, 2.0, (6, 8), 4 * 14)
    }
    assert (found.lora_keys, found.audited_keys) == (2, 2)


@pytest.mark.parametrize(
    ("rows", "changes", "reason"),
    [
        (10, EXPERTS, "mismatched"),
        (12, {**EXPERTS, "r": None}, "unknown_rank"),
        (12, {**EXPERTS, "r": 0}, "unknown_rank"),
        (12, {**EXPERTS, "rank_pattern": {"(d+)+own_proj": 2}}, "unknown_rank"),
    ],
)
def test_experts_that_cannot_be_told_apart(rows: int, changes: dict[str, Any], reason: str) -> None:
    """Given a config without a rank that explains the rows, when listed, then no number of experts is made up."""
    found = inventory({f"{E}.lora_A.weight": (rows, 8), f"{E}.lora_B.weight": (6, rows)}, **changes)
    assert (found.modules, [one.reason for one in found.left_out]) == ((), [reason])


def test_two_dimensional_parameter_is_a_linear_module() -> None:
    """Given a targeted parameter of two dimensions, when listed, then it is one matrix that goes by its module."""
    tensors = {"router.lora_A.weight": (4, 8), "router.lora_B.weight": (6, 4)}
    (module,) = inventory(tensors, target_parameters=["router.weight"]).modules
    assert (module.name, module.layout, module.expert, module.scaling) == ("router", Layout.LINEAR, None, 2.0)
    (module,) = inventory(tensors, target_parameters=["router.kernel"]).modules
    assert (module.name, module.layout) == ("router.kernel", Layout.LINEAR)


def test_rank_that_the_config_does_not_give() -> None:
    """Given rows that are not the config's rank, when listed, then the shapes hold and the config's rank is told."""
    (module,) = inventory(pair((16, 8), (8, 16))).modules
    assert (module.r, module.declared_r, module.scaling) == (16, 4, 0.5)


def test_without_a_config() -> None:
    """Given no config, when listed, then the factors are there, and their scaling is not."""
    found = take_inventory(held(pair((4, 8), (8, 4))), None, "does not exist")
    (module,) = found.modules
    assert (module.r, module.alpha, module.scaling, module.declared_r) == (4, None, None, None)
    assert module.scaling_reason == "adapter_config.json does not exist"


def test_names_out_of_a_file_are_escaped() -> None:
    """Given a name with control characters, when it is left out, then its sentence drives no terminal."""
    found = inventory({"x\x1b[2J\u202e.lora_A.weight": (4, 8)})
    assert found.left_out[0].sentence.isascii()
    assert found.left_out[0].sentence.isprintable()


NAMES = st.sampled_from(
    [
        f"{X}.lora_A.weight",
        f"{X}.lora_B.weight",
        f"{X}.lora_A",
        f"{X}.lora_B",
        f"{X}.lora_E",
        f"{X}.lora_embedding_A",
        f"{X}.lora_embedding_B",
        f"{X}.lora_magnitude_vector",
        f"{X}.lora_B.bias",
        f"{X}.lora_A.one.weight",
        f"{X}.lora_B.one.weight",
        f"{E}.lora_A.weight",
        f"{E}.lora_B.weight",
        f"{E}.base_layer.lora_A.weight",
        f"{E}.base_layer.lora_B.weight",
        f"{X}.hada_w1_a",
        f"{X}.lora_other",
        "layers.0.q_proj.lora_A.weight",
        "head.weight",
    ]
)
TENSORS = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from(["F32", "BF16", "I8", "F64"]),
        st.lists(st.integers(0, 8), max_size=5),
        st.sampled_from("ab"),
    ),
    max_size=12,
)
CONFIGS = st.none() | st.fixed_dictionaries(
    {
        "r": st.sampled_from([None, 1, 2, 4, "4"]),
        "lora_alpha": st.sampled_from([None, 0, -1, 8, "8"]),
        "peft_type": st.sampled_from(["LORA", "ADALORA", "VERA", None]),
        "target_parameters": st.sampled_from([None, ["experts.w1"], ["experts.w1", "experts.w2"], ["w1"]]),
        "rank_pattern": st.sampled_from([None, {"experts.w1": 2}, {"q_proj": "x"}]),
        "use_rslora": st.sampled_from([True, False, "x"]),
        "kasa_config": st.sampled_from([None, {"beta": 1}]),
    }
)


@given(TENSORS, CONFIGS)
def test_every_key_is_accounted_for(tensors: list[tuple[str, str, list[int], str]], raw: dict[str, Any] | None) -> None:
    """Given any tensors and config, when listed, then each key is in a module, left out, or whole, and never in two."""
    items = [
        HeldTensor(classify(name), TensorPlace(file, name, dtype, tuple(shape))) for name, dtype, shape, file in tensors
    ]
    found = take_inventory(items, None if raw is None else adapter_config(raw))
    # Where modules share tensors, they are experts of one pair.
    own = {(module.a, module.b, module.keys) for module in found.modules}
    keys = [key for *_, names in own for key in names]
    left = [key for one in found.left_out for key in one.keys]
    assert sorted([*keys, *left, *found.whole_tensors]) == sorted(name for name, *_ in tensors)
    assert len(keys) + len(left) == found.lora_keys
    for module in found.modules:
        assert module.r > 0
        assert min(module.shape) > 0
        assert (module.scaling is None) == bool(module.scaling_reason)
    assert all(one.sentence.endswith(".") and one.keys for one in found.left_out)
