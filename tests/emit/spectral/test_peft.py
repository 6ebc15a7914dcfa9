"""Every way that PEFT adapts a module, against PEFT's own dense update."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch import nn

from gradience_emit.spectral import SpectralProbe
from gradience_emit.spectral.reading import SpectralReading
from tests.emit.hf import tiny
from tests.emit.spectral.layers import dense


class Small(nn.Module):
    """A model with one of each kind of layer that LoRA goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.conv = nn.Conv2d(3, 8, 3)
        self.point = nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.linear = nn.Linear(6, 10)
        self.head = nn.Linear(10, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Not needed for what is measured."""
        return self.head(self.linear(self.embed(ids)))


def adapted(*targets: str, base: nn.Module | None = None, seed: int = 0, **options: Any) -> Any:
    """A PEFT model whose factors are all random, as those of a trained adapter are."""
    torch.manual_seed(seed)
    defaults: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": list(targets)}
    model = get_peft_model(base or Small(), LoraConfig(**defaults | options))
    randomize(model, seed)
    return model


def randomize(model: Any, seed: int = 0) -> None:
    """Random numbers in all factors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def compare(model: Any, adapter: str = "default") -> SpectralReading:
    """Hold every module's numbers against PEFT's own `get_delta_weight`; return the reading."""
    reading = SpectralProbe(model).measure()
    assert reading.adapters
    modules = dict(model.named_modules())
    for item in reading.adapters:
        with torch.no_grad():
            delta = modules[item.name.partition(":")[0]].get_delta_weight(item.name.partition(":")[2] or adapter)
        wanted = dense(delta.double().flatten(1).numpy())
        for name in ("sigma_max", "sigma_min", "kappa", "stable_rank", "frobenius"):
            assert getattr(item, name) == pytest.approx(wanted[name], rel=2e-5), (item.name, name)
    return reading


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        (("linear", "head"), {}),
        (("linear", "head"), {"rank_pattern": {"head": 2}, "alpha_pattern": {"head": 3}}),
        (("linear",), {"use_rslora": True, "lora_alpha": 5}),
        (("conv", "point"), {}),
        (("embed",), {}),
        (("linear", "conv", "embed"), {"r": 3}),
    ],
    ids=["plain", "patterns", "rslora", "convolutions", "embedding", "mixed"],
)
def test_numbers_are_those_of_pefts_own_update(targets: tuple[str, ...], options: dict[str, Any]) -> None:
    """Given an adapter of each kind, when measured, then each module's numbers are those of PEFT's dense update."""
    reading = compare(adapted(*targets, **options))
    assert len(reading.adapters) == len(targets)
    assert (reading.matrices, reading.skipped, reading.nonfinite) == ((), 0, 0)
    assert not any(item.dora for item in reading.adapters)
    ranks = options.get("rank_pattern", {})
    for item in reading.adapters:
        assert item.rank == ranks.get(item.name.rpartition(".")[2], options.get("r", 4))


def test_dora_is_noted_and_its_magnitude_is_no_matrix() -> None:
    """Given DoRA on linear and convolution layers, when measured, then the update is B A, and it is noted."""
    model = adapted("linear", "conv", use_dora=True)
    reading = SpectralProbe(model).measure()
    assert [item.dora for item in reading.adapters] == [True, True]
    assert (reading.matrices, reading.skipped) == ((), 0)
    layer = model.base_model.model.linear
    a, b = (getattr(layer, name)["default"].weight.detach().double() for name in ("lora_A", "lora_B"))
    wanted = np.linalg.svd(2.0 * (b @ a).numpy(), compute_uv=False)
    (found,) = [item for item in reading.adapters if item.name.endswith("linear")]
    assert found.sigma_max == pytest.approx(wanted[0], rel=1e-6)


def test_modules_to_save_are_measured_beside_the_adapter_and_not_mixed_into_kappa() -> None:
    """Given a head trained in full, when measured, then it is a matrix, and the run's kappa is the adapter's."""
    model = adapted("linear", modules_to_save=["head"])
    reading = compare(model)
    assert [item.name for item in reading.matrices] == ["base_model.model.head.modules_to_save.default.weight"]
    assert reading.kappa == reading.adapters[0].kappa
    assert reading.source == "adapter"
    assert reading.residual == reading.matrices[0].residual


def test_only_active_adapters_are_measured() -> None:
    """Given two adapters of one model, when one, the other, or both are active, then those are measured, by name."""
    model = adapted("linear")
    model.add_adapter("other", LoraConfig(r=2, lora_alpha=2, target_modules=["linear", "head"]))
    randomize(model, 1)
    assert [item.rank for item in compare(model).adapters] == [4]
    model.set_adapter("other")
    assert [item.rank for item in compare(model, "other").adapters] == [2, 2]
    model.base_model.set_adapter(["default", "other"])
    both = compare(model)
    path = "base_model.model."
    assert [item.name for item in both.adapters] == [
        *(f"{path}linear:default", f"{path}linear:other"),
        f"{path}head:other",
    ]


def test_what_is_no_product_of_two_matrices_is_counted_and_left_out() -> None:
    """Given a convolution in groups, and AdaLoRA, when measured, then neither is guessed at."""
    with pytest.warns(UserWarning, match="groups"):
        model = adapted("grouped", "linear")
    reading = SpectralProbe(model).measure()
    assert [item.name.rpartition(".")[2] for item in reading.adapters] == ["linear"]
    assert reading.skipped == 1
    config = AdaLoraConfig(target_modules=["linear"], total_step=10)
    other = SpectralProbe(get_peft_model(Small(), config)).measure()
    assert (other.adapters, other.matrices, other.skipped, other.kappa) == ((), (), 1, None)


def test_an_adapter_over_a_stack_of_experts_is_counted_and_left_out() -> None:
    """Given LoRA on a tensor of three experts, whose update is no single product, when measured, then it is skipped."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 6, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = Experts()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.experts(x)

    config = LoraConfig(r=2, target_modules=[], target_parameters=["experts.weight"])
    reading = SpectralProbe(get_peft_model(Mixture(), config)).measure()
    assert (reading.adapters, reading.skipped) == ((), 1)


def test_a_fresh_adapter_has_no_kappa() -> None:
    """Given a real model as PEFT initialises it, when measured, then there is no update to measure."""
    reading = SpectralProbe(tiny.lora()).measure()
    assert len(reading.adapters) == 2
    assert (reading.kappa, reading.worst, reading.sigma_max, reading.recomputed) == (None, None, 0.0, 0)


def test_a_model_without_an_adapter_that_trains_nothing_has_no_numbers() -> None:
    """Given a frozen model, when measured, then nothing is made up."""
    reading = SpectralProbe(tiny.base().requires_grad_(requires_grad=False)).measure(weight_decay=0.1)
    assert (reading.adapters, reading.matrices, reading.source) == ((), (), None)
    assert reading.kappa is reading.sigma_max is reading.muon_ratio is reading.residual is None


def test_meta_and_sharded_tensors_are_left_out() -> None:
    """Given factors on torch's meta device, when measured, then they are skipped and nothing fails."""
    with torch.device("meta"):
        model = get_peft_model(Small(), LoraConfig(r=4, target_modules=["linear"]), low_cpu_mem_usage=True)
    reading = SpectralProbe(model).measure()
    assert (reading.adapters, reading.skipped) == ((), 1)


@pytest.mark.parametrize(
    "wrap", [nn.parallel.DataParallel, partial(torch.compile, backend="eager")], ids=["parallel", "compiled"]
)
def test_wrappers_are_looked_through(wrap: Any) -> None:
    """Given a wrapped model, when measured, then names and numbers are those without the wrapper."""
    model = adapted("linear")
    plain, wrapped = SpectralProbe(model).measure(), SpectralProbe(wrap(model)).measure()
    assert wrapped.adapters == plain.adapters
