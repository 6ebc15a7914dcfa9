"""What names say: type, layer and projection of every weight of real architectures."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.audit.naming import MODULE_TYPES, layer_index, module_type, projection
from tests.analysis.audit.architectures import ARCHITECTURES, Name

NAMES = [pytest.param(name, id=f"{key}-{name.pattern}") for key, one in ARCHITECTURES.items() for name in one.names]
MODELS = [key for key, one in ARCHITECTURES.items() if one.model]


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_is_of_its_type_and_layer(name: Name) -> None:
    """Given a weight whose part in its model is known, when its name is read, then type and layer are those."""
    for layer in (0, 3, 127):
        real = name.at(layer)
        assert module_type(real) == name.kind
        assert layer_index(real) == (layer if "N" in name.pattern.split(".") else None)


@pytest.mark.parametrize("name", NAMES)
def test_a_projection_is_called_the_same_in_every_layer(name: Name) -> None:
    """Given a weight, when its projection is asked for in several layers, then it is what stands after the number."""
    called = {projection(name.at(layer)) for layer in (0, 3, 127)}
    before, found, after = name.pattern.partition(".N.")
    if found:
        assert called == {after}
    else:
        parts = before.split(".")
        assert called == {".".join(parts[-2:] if parts[-1] == "*" else parts[-1:])}


@pytest.mark.parametrize("name", NAMES)
def test_wrappers_and_experts_change_nothing(name: Name) -> None:
    """Given a weight, when it is wrapped, nested in another model or one expert's share, then it is the same to us."""
    real = name.at(5)
    for dressed in (f"{real}.base_layer", f"{real}[7]", f"inner.{real}", f"model.inner.{real}.base_layer"):
        assert module_type(dressed) == name.kind
        assert layer_index(dressed) == layer_index(real)
        assert projection(dressed) == projection(real)


@pytest.mark.hf
@pytest.mark.parametrize("key", MODELS)
def test_the_names_are_those_of_the_models(key: str) -> None:
    """Given a model of transformers, when its weights are listed, then the table has each of them and no other."""
    import torch
    import transformers
    from transformers.pytorch_utils import Conv1D

    one = ARCHITECTURES[key]
    with torch.device("meta"):
        model = getattr(transformers, one.model)(getattr(transformers, one.config)(**one.settings()))
    real: set[str] = set()
    for name, module in model.named_modules():
        matrices = [n for n, p in module.named_parameters(recurse=False) if p.ndim >= 2]
        if isinstance(module, torch.nn.Linear | Conv1D) or name.endswith((".gate", ".router")):
            real.add(name)
        elif name.endswith("experts"):
            real |= {f"{name}.{parameter}" for parameter in matrices}
    assert real
    seen: set[str] = set()
    for name in sorted(real):
        rows = [row for row in one.names if row.matches(name)]
        assert len(rows) == 1, name
        assert module_type(name) == rows[0].kind
        seen.add(rows[0].pattern)
    assert seen == {row.pattern for row in one.names}


@given(st.text() | st.from_regex(r"([a-z_0-9]{0,8}\.){0,6}[A-Za-z_0-9]{0,8}(\[\d+\])?", fullmatch=True))
def test_any_name_has_an_answer(name: str) -> None:
    """Given any text, when it is read as a name, then there is one of the three types and no exception."""
    assert module_type(name) in MODULE_TYPES
    layer = layer_index(name)
    assert layer is None or layer >= 0
    assert projection(name) != "" or name == ""


@given(st.lists(st.sampled_from(["layers", "self_attn", "mlp", "x", "experts"]), min_size=1, max_size=5), st.data())
def test_numbers_never_change_the_type(parts: list[str], data: st.DataObject) -> None:
    """Given a name with numbers, when they are others, then type and projection are the same."""
    shape = [part for one in parts for part in (one, "0")]
    first, second = (
        ".".join(str(data.draw(st.integers(0, 200))) if part == "0" else part for part in shape) + ".q_proj"
        for _ in range(2)
    )
    assert module_type(first) == module_type(second)
    assert projection(first) == projection(second)
    assert not re.search(r"(^|\.)\d+(\.|$)", projection(first))


def test_a_number_that_no_layer_has_is_none() -> None:
    """Given a file's own idea of a number, when a name with it is read, then no conversion fails on it."""
    assert layer_index(f"layers.{'9' * 5000}.mlp") is None
    assert layer_index("layers.\u0663.mlp") is None
    assert layer_index("layers.-1.mlp") is None


def test_a_name_without_parts_is_other() -> None:
    """Given no name, when it is read, then it is neither attention nor MLP and stands in no layer."""
    assert (module_type(""), layer_index(""), projection("")) == ("other", None, "")
