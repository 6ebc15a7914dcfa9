"""Compressed adapters, loaded by PEFT itself: the loaded update is the best approximation of its rank."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file

from gradience_analysis.compression import compress_adapter, fixed_rule, given_rule, policy_rule
from gradience_analysis.errors import GradienceError, InputError
from tests.analysis.compression.tiny_adapters import (
    KINDS,
    best,
    deltas,
    kind_of,
    loaded,
    model,
    quiet,
    relative,
    written,
)

pytestmark = pytest.mark.hf
Q = {"target_modules": ["q_proj"]}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT asks nobody for anything."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def config_of(folder: Path) -> dict[str, Any]:
    """The config in a folder."""
    return json.loads((folder / "adapter_config.json").read_text())


def check_best(source: Path, out: Path, ranks: dict[str, int] | int, layers: int, tolerance: float = 1e-5) -> None:
    """Every loaded update is the best approximation of its rank, by a dense SVD of the original's in float64."""
    old, new = deltas(loaded(source, layers=layers)), deltas(loaded(out, layers=layers))
    assert old
    assert old.keys() == new.keys()
    for name in old:
        rank = ranks if isinstance(ranks, int) else ranks[name]
        wanted = best(old[name], rank // 4 if kind_of(name) == "grouped" else rank, kind_of(name))
        assert relative(new[name], wanted) < tolerance, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rslora", [False, True], ids=["plain", "rslora"])
def test_every_kind_of_layer(tmp_path: Path, kind: str, rslora: bool) -> None:
    """Given each kind of layer, when cut to rank 4, then PEFT loads the best approximation of that rank."""
    source = written(tmp_path / "a", layers=2, r=8, lora_alpha=12, use_rslora=rslora, **KINDS[kind])
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(4))
    check_best(source, tmp_path / "b", 4, layers=2)
    config = config_of(tmp_path / "b")
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 4, False)
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert done.params_after * 2 == done.params_before


@pytest.mark.parametrize("rslora", [False, True], ids=["plain", "rslora"])
def test_patterns_of_the_original(tmp_path: Path, rslora: bool) -> None:
    """Given ranks and alphas by pattern, when cut by energy, then scaling and rank of each module are accounted for."""
    patterns = {
        "rank_pattern": {r"layers\.1\.q_proj": 4, "layers.2.q_proj": 12},
        "alpha_pattern": {"layers.0.q_proj": 3},
    }
    source = written(tmp_path / "a", layers=3, r=8, lora_alpha=16, use_rslora=rslora, **Q, **patterns)
    done = compress_adapter(source, tmp_path / "b", rule=policy_rule("energy@0.9"))
    ranks = {layer.module: layer.rank_after for layer in done.layers}
    assert len(set(ranks.values())) >= 1
    assert all(layer.rank_after < layer.rank_before for layer in done.layers)
    check_best(source, tmp_path / "b", ranks, layers=3)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1.5e-2)], ids=["float16", "bfloat16"]
)
def test_narrow_number_formats(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    """Given half precision, when cut, then the format stays and the error is one rounding of both factors."""
    source = written(tmp_path / "a", dtype=dtype, layers=2, r=8, lora_alpha=16, **Q)
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(3))
    check_best(source, tmp_path / "b", 3, layers=2, tolerance=tolerance)
    assert {tensor.dtype for tensor in load_file(tmp_path / "b" / "adapter_model.safetensors").values()} == {dtype}
    for layer in done.layers:
        assert layer.measured == pytest.approx(layer.predicted, rel=tolerance)
    wide = compress_adapter(source, tmp_path / "c", rule=fixed_rule(3), dtype="float32")
    check_best(source, tmp_path / "c", 3, layers=2, tolerance=1e-5)
    assert wide.bytes_after == 2 * done.bytes_after


def test_a_pattern_for_each_of_many_modules_and_no_other(tmp_path: Path) -> None:
    """Given 70 layers whose names begin alike, when each gets its own rank, then PEFT gives each that rank."""
    layers = 70
    source = written(tmp_path / "a", layers=layers, r=8, lora_alpha=4, **Q)
    ranks = {f"layers.{n}.q_proj": 1 + n % 7 for n in range(layers)}
    compress_adapter(source, tmp_path / "b", rule=given_rule(ranks, "here"))
    assert len(config_of(tmp_path / "b")["rank_pattern"]) >= 59
    peft = loaded(tmp_path / "b", layers=layers)
    found = {
        name: layer.r["default"] for name, layer in peft.base_model.model.named_modules() if hasattr(layer, "lora_A")
    }
    assert found == ranks
    check_best(source, tmp_path / "b", ranks, layers=layers)


def test_lossless_at_the_numerical_rank(tmp_path: Path) -> None:
    """Given factors of rank 8 whose product has rank 3, when all energy is to stay, then 3 is enough."""
    source = written(tmp_path / "a", layers=2, r=8, lora_alpha=16, target_modules=["q_proj", "conv"])
    weights = load_file(source / "adapter_model.safetensors")
    for name, tensor in weights.items():
        if "lora_B" in name:
            tensor[:, 3:] = 0
    from safetensors.torch import save_file

    save_file(weights, source / "adapter_model.safetensors")
    done = compress_adapter(source, tmp_path / "b", rule=policy_rule("energy@1.0"))
    assert {layer.rank_after for layer in done.layers} == {3}
    assert done.total_measured is not None
    assert done.total_measured < 1e-6
    images, rows = torch.randn(2, 3, 8, 8), torch.randn(5, 24)
    before, after = (loaded(folder, layers=2).base_model.model.layers[1] for folder in (source, tmp_path / "b"))
    assert torch.allclose(before.q_proj(rows), after.q_proj(rows), atol=1e-5)
    assert torch.allclose(before.conv(images), after.conv(images), atol=1e-5)


def test_a_grouped_convolution_computes_what_the_best_blocks_compute(tmp_path: Path) -> None:
    """Given a convolution of four groups, when cut, then its output is that of each block cut by itself."""
    source = written(tmp_path / "a", layers=1, r=8, lora_alpha=8, **KINDS["grouped conv"])
    compress_adapter(source, tmp_path / "b", rule=fixed_rule(4))
    images = torch.randn(2, 8, 6, 6)
    delta = deltas(loaded(source, layers=1))["layers.0.grouped"]
    kernel = torch.from_numpy(best(delta, 1, "grouped").reshape(12, 8, 3, 3))
    base = model(1).layers[0].grouped
    wanted = base(images).double() + torch.nn.functional.conv2d(images.double(), kernel)
    found = loaded(tmp_path / "b", layers=1).base_model.model.layers[0].grouped(images)
    assert torch.allclose(found.double(), wanted, atol=1e-5)


@pytest.mark.parametrize(("alpha", "rslora"), [(16, False), (12, False), (8, True)], ids=["2", "1.5", "2.83"])
def test_what_keeps_its_rank_keeps_its_update_to_the_bit(tmp_path: Path, alpha: int, rslora: bool) -> None:
    """Given one module to cut of three, when loaded, then the updates of the others are what they were."""
    source = written(tmp_path / "a", layers=3, r=8, lora_alpha=alpha, use_rslora=rslora, **Q)
    done = compress_adapter(source, tmp_path / "b", rule=given_rule({"layers.1.q_proj": 2}, "here"))
    old, new = deltas(loaded(source, layers=3)), deltas(loaded(tmp_path / "b", layers=3))
    for name in ("layers.0.q_proj", "layers.2.q_proj"):
        assert np.allclose(old[name], new[name], rtol=1e-14, atol=0)
    assert relative(new["layers.1.q_proj"], best(old["layers.1.q_proj"], 2, "")) < 1e-5
    assert [layer.measured == 0 for layer in done.layers] == [True, False, True]
    config = config_of(tmp_path / "b")
    assert config["r"] == config["lora_alpha"] == 8
    scaling = alpha / (math.sqrt(8) if rslora else 8)
    kept = [value for key, value in config["alpha_pattern"].items() if "1" not in key]
    # A power of two goes into lora_B unrounded; anything else stays in the config.
    assert kept == ([] if scaling == 2 else [pytest.approx(scaling * 8)] * 2)


def test_a_bias_is_scaled_too(tmp_path: Path) -> None:
    """Given lora_bias, when cut, then the bias that PEFT adds is the same."""
    source = written(tmp_path / "a", layers=1, r=8, lora_alpha=12, lora_bias=True, **Q)
    compress_adapter(source, tmp_path / "b", rule=fixed_rule(3))
    zeros = torch.zeros(1, 24)
    before, after = (loaded(one, layers=1).base_model.model.layers[0].q_proj(zeros) for one in (source, tmp_path / "b"))
    assert torch.allclose(before, after, atol=1e-6)
    check_best(source, tmp_path / "b", 3, layers=1)


def test_whole_tensors_are_copied_bit_for_bit(tmp_path: Path) -> None:
    """Given modules_to_save, when cut, then PEFT loads the same weights for them."""
    source = written(tmp_path / "a", layers=1, r=8, lora_alpha=16, modules_to_save=["score"], **Q)
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    assert len(done.whole_tensors) == 2
    old, new = (load_file(one / "adapter_model.safetensors") for one in (source, tmp_path / "b"))
    for name in done.whole_tensors:
        assert torch.equal(old[name], new[name])
    score = loaded(tmp_path / "b", layers=1).base_model.model.score.modules_to_save["default"]
    assert torch.equal(score.weight, old["base_model.model.score.weight"])


def test_an_attention_and_its_output_have_one_rank(tmp_path: Path) -> None:
    """Given suggestions for the input projection alone, when loaded, then both have the rank PEFT can give them."""
    source = written(tmp_path / "a", layers=2, r=8, lora_alpha=8, **KINDS["attention"])
    ranks = {"layers.0.attention": 2, "layers.0.attention.out_proj": 5, "layers.1.attention": 3}
    done = compress_adapter(source, tmp_path / "b", rule=given_rule(ranks, "here"))
    found = {layer.module: layer.rank_after for layer in done.layers}
    assert found["layers.0.attention"] == found["layers.0.attention.out_proj"] == 5
    assert found["layers.1.attention"] == found["layers.1.attention.out_proj"] == 8
    new = deltas(loaded(tmp_path / "b", layers=2))
    assert np.linalg.matrix_rank(new["layers.0.attention"]) == 5


def test_two_parameters_of_one_module_have_one_rank(tmp_path: Path) -> None:
    """Given experts beside linear modules, when each is given a rank, then both parameters have the larger one."""
    targets = {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    source = written(tmp_path / "a", layers=3, r=6, lora_alpha=9, **targets)
    with pytest.raises(GradienceError, match="no module"):
        compress_adapter(source, tmp_path / "b", rule=given_rule({"experts.gate_up_proj": 2}, "here"))
    ranks = {"experts": 2, "experts.base_layer": 4, **{f"layers.{n}.q_proj": 3 for n in range(3)}}
    done = compress_adapter(source, tmp_path / "b", rule=given_rule(ranks, "here"))
    found = {layer.module: layer.rank_after for layer in done.layers}
    assert found == {**ranks, "experts": 4}
    assert any("PEFT warns" in remark for remark in done.remarks)
    check_best(source, tmp_path / "b", found, layers=3)


@pytest.mark.parametrize("rank", [3, 4])
def test_an_initialisation_tied_to_the_rank(tmp_path: Path, rank: int) -> None:
    """Given orthogonal initialisation, which takes even ranks alone, when cut to any rank, then PEFT loads it."""
    source = written(tmp_path / "a", layers=1, r=8, lora_alpha=8, init_lora_weights="orthogonal", **Q)
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(rank))
    check_best(source, tmp_path / "b", rank, layers=1)
    assert any("orthogonal" in remark for remark in done.remarks)


def test_pissa_is_refused_since_its_base_depends_on_the_rank(tmp_path: Path) -> None:
    """Given PiSSA, when compressed, then it is refused: PEFT takes another part out of the base at another rank."""
    source = written(tmp_path / "a", layers=1, r=8, lora_alpha=8, init_lora_weights="pissa", **Q)
    bases = []
    for rank in (8, 4):
        with quiet():
            peft = get_peft_model(model(1), LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="pissa", **Q))  # type: ignore[arg-type]
        bases.append(peft.base_model.model.layers[0].q_proj.base_layer.weight)
    assert not torch.allclose(*bases, atol=1e-2)
    with pytest.raises(InputError, match="takes a part of the base"):
        compress_adapter(source, tmp_path / "b", rule=fixed_rule(4))
    assert not (tmp_path / "b").exists()


def test_dora_and_adalora_are_refused(tmp_path: Path) -> None:
    """Given adapters of which nothing can be cut soundly, when compressed, then a sentence says why."""
    dora = written(tmp_path / "a", layers=1, r=8, lora_alpha=8, use_dora=True, **Q)
    with pytest.raises(InputError, match="magnitude vector"):
        compress_adapter(dora, tmp_path / "b")
    with quiet():
        peft = get_peft_model(model(1), AdaLoraConfig(init_r=8, target_r=4, total_step=10, **Q))  # type: ignore[arg-type]
        peft.save_pretrained(str(tmp_path / "c"))
    with pytest.raises(InputError, match="AdaLoRA"):
        compress_adapter(tmp_path / "c", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_one_of_several_adapters(tmp_path: Path) -> None:
    """Given a folder of two adapters, when one is named, then it is the one that is compressed."""
    with quiet():
        peft = get_peft_model(model(1), LoraConfig(r=8, lora_alpha=8, **Q), adapter_name="one")  # type: ignore[arg-type]
        peft.add_adapter("two", LoraConfig(r=6, lora_alpha=12, **Q))  # type: ignore[arg-type]
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.data = torch.randn_like(parameter)
        peft.save_pretrained(str(tmp_path / "a"))
    done = compress_adapter(tmp_path / "a", tmp_path / "b", rule=fixed_rule(2), adapter="two")
    assert [(layer.rank_before, layer.rank_after) for layer in done.layers] == [(6, 2)]
    check_best(tmp_path / "a" / "two", tmp_path / "b", 2, layers=1)
    with pytest.raises(InputError):
        compress_adapter(tmp_path / "a", tmp_path / "c")
