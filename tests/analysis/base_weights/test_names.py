"""Names: a layer is found by the end of its name, and never by an end that more than one has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.base_weights.names import Found, LayerNames, endings

LLAMA = tuple(f"model.layers.{n}.{part}" for n in range(2) for part in ("self_attn.q_proj", "mlp.gate_proj"))


@pytest.mark.parametrize(
    ("layers", "module", "layer"),
    [
        pytest.param(LLAMA, "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.gate_proj", id="same"),
        pytest.param(LLAMA, "layers.1.mlp.gate_proj", "model.layers.1.mlp.gate_proj", id="base-has-a-prefix"),
        pytest.param(["layers.0.q"], "model.layers.0.q", "layers.0.q", id="adapter-has-a-prefix"),
        pytest.param(["h.0.attn.c_attn"], "transformer.h.0.attn.c_attn", "h.0.attn.c_attn", id="gpt2"),
        pytest.param(["layer.0.q"], "model.layers.0.q", "layer.0.q", id="another-word-for-layers"),
        pytest.param(LLAMA, "model.layers.7.mlp.gate_proj", None, id="layer-that-is-not-there"),
        pytest.param(LLAMA, "gate_proj", None, id="name-that-says-no-layer"),
        pytest.param(["lm_head"], "lm_head", "lm_head", id="one-part"),
        pytest.param(["model.embed"], "other.embed", None, id="one-part-in-common"),
        pytest.param(["a.layers.0.q", "layers.0.q"], "layers.0.q", "layers.0.q", id="the-whole-name-wins"),
        pytest.param(
            ["language_model.model.layers.0.q", "vision_tower.model.layers.0.q"],
            "model.language_model.layers.0.q",
            "language_model.model.layers.0.q",
            id="the-same-parts-in-another-order",
        ),
    ],
)
def test_layer_is_found(layers: tuple[str, ...], module: str, layer: str | None) -> None:
    """Given the layers of a base, when a module's name is looked up, then it leads to its layer, or to none."""
    assert LayerNames(layers).find(module) == Found(layer)


def test_rivals_are_named_and_none_is_taken() -> None:
    """Given two towers with the same layers, when a name fits both, then it leads to neither, and both are told."""
    names = LayerNames(["text.layers.0.q", "vision.layers.0.q", "vision.layers.1.q"])
    assert names.find("model.layers.0.q") == Found(None, ("text.layers.0.q", "vision.layers.0.q"))
    assert names.find("model.layers.1.q") == Found("vision.layers.1.q")
    assert names.find("text.layers.0.q") == Found("text.layers.0.q")


def test_siblings() -> None:
    """Given a base with q_proj, when asked for siblings, then a missing q_proj has them and a v_proj has not."""
    names = LayerNames(LLAMA)
    assert names.has_siblings("model.layers.9.self_attn.q_proj")
    assert not names.has_siblings("model.layers.0.self_attn.v_proj")


def test_endings_stop_where_a_name_says_no_layer() -> None:
    """Given a name, when its first parts are taken off, then the number of the layer is the last that may lead."""
    assert list(endings("model.layers.3.attn.q")) == ["model.layers.3.attn.q", "layers.3.attn.q", "3.attn.q"]
    assert list(endings("lm_head")) == ["lm_head"]
    assert list(endings("a.b.c")) == ["a.b.c", "b.c"]


WORDS = st.text("abcdefgh_", min_size=1, max_size=6)


@given(st.lists(WORDS, max_size=3), st.lists(WORDS, max_size=3), st.integers(0, 40), WORDS, st.integers(2, 50))
def test_any_prefixes_meet(ours: list[str], theirs: list[str], layer: int, last: str, count: int) -> None:
    """Given any prefixes on both sides, when layers differ by their number only, then each finds its own, or none."""
    names = LayerNames(".".join([*theirs, "layers", str(n), last]) for n in range(count))
    found = names.find(".".join([*ours, "layers", str(layer), last]))
    assert found == Found(".".join([*theirs, "layers", str(layer), last]) if layer < count else None)
