"""Adapters that PEFT saved: the product of our factors and scaling has the singular values of the update PEFT applies.

The oracle computes in float64 from the values that stand in the file: the layers are upcast before their delta is asked
for. Layers that PEFT cannot merge are probed by their forward pass instead.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from gradience_analysis.adapters import Layout, LoraModule, OpenedAdapter, adapter_folders, classify, open_adapter
from gradience_analysis.adapters.config import AdapterConfig
from gradience_analysis.adapters.keys import Role

pytestmark = [
    pytest.mark.hf,
    # A grouped convolution cannot be merged; the patterns are those of all kinds of layers together; AdaLoRA is given
    # the Conv1D of GPT-2 beside other layers; a bias is taken for a damaged factor.
    pytest.mark.filterwarnings(
        "ignore:LoRA adapter added to ConvNd",
        "ignore:The following .*_pattern keys",
        "ignore:fan_in_fan_out is set to",
        "ignore:Adapter 'default'. . LoRA tensor.s. have invalid shape",
    ),
]
ROOT = "base_model.model."
R, ALPHA = 4, 12


class Experts(nn.Module):
    """Parameters of a mixture of experts; some models keep them as (experts, in, out)."""

    def __init__(self, *, transposed: bool = False) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(3, 10, 6))
        self.down_proj = nn.Parameter(torch.randn(3, 6, 5))
        self.is_transposed = transposed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Not asked for."""
        return x


class Zoo(nn.Module):
    """One layer of every kind that PEFT adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"q_proj": nn.Linear(8, 10)}) for _ in range(2)])
        self.c_attn = Conv1D(24, 8)
        self.qkv = nn.Linear(8, 24, bias=False)
        self.emb = nn.Embedding(11, 8)
        self.conv1 = nn.Conv1d(8, 6, 3)
        self.conv2 = nn.Conv2d(8, 6, (3, 2))
        self.point = nn.Conv2d(8, 6, 1)
        self.conv3 = nn.Conv3d(8, 6, (2, 1, 3))
        self.grouped = nn.Conv2d(8, 6, 3, groups=2)
        self.attn = nn.MultiheadAttention(8, 2)
        self.moe = nn.ModuleList([nn.ModuleDict({"experts": Experts(transposed=turned)}) for turned in (False, True)])
        self.router = nn.Linear(8, 7, bias=False)
        self.lm_head = nn.Linear(8, 13, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Not asked for, either."""
        return self.lm_head(self.qkv(x))


@dataclass(frozen=True)
class Kind:
    """A kind of layer, what a config says to adapt it, and what its modules are called and how they are laid out."""

    targets: Mapping[str, Any]
    names: tuple[str, ...]
    layout: Layout = Layout.LINEAR
    dora: bool = True
    common: Mapping[str, Any] = field(default_factory=dict)


def modules(*names: str) -> dict[str, Any]:
    """Targets by name."""
    return {"target_modules": list(names)}


def parameters(*names: str) -> dict[str, Any]:
    """Targets that are parameters themselves."""
    return {"target_modules": [], "target_parameters": list(names)}


KINDS: Mapping[str, Kind] = {
    "linear": Kind(modules("q_proj"), ("layers.0.q_proj", "layers.1.q_proj")),
    "conv1d_of_gpt2": Kind(modules("c_attn"), ("c_attn",), common={"fan_in_fan_out": True}),
    "fused_qkv": Kind(modules("qkv"), ("qkv",)),
    "lm_head": Kind(modules("lm_head"), ("lm_head",)),
    "embedding": Kind(modules("emb"), ("emb",), Layout.EMBEDDING),
    "conv1": Kind(modules("conv1"), ("conv1",), Layout.CONV),
    "conv2": Kind(modules("conv2"), ("conv2",), Layout.CONV),
    "conv2_pointwise": Kind(modules("point"), ("point",), Layout.CONV),
    "conv3": Kind(modules("conv3"), ("conv3",), Layout.CONV),
    "conv2_grouped": Kind(modules("grouped"), ("grouped",), Layout.GROUPED_CONV, dora=False),
    "attention": Kind(modules("attn"), ("attn.out_proj", "attn"), dora=False),
    "experts": Kind(
        parameters("experts.down_proj"),
        tuple(f"moe.{layer}.experts.down_proj[{number}]" for layer in range(2) for number in range(3)),
        Layout.EXPERTS,
        dora=False,
    ),
    "parameter": Kind(parameters("router.weight"), ("router",), dora=False),
}
VARIANTS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {
        # The first key that matches holds, for the rank and for the alpha by itself. Keys are in the order in which
        # save_pretrained sorts them; one of them is there not to match.
        "rank_pattern": {
            "attn": 6,
            "ayers.0.q_proj": 3,
            "c_attn|qkv": 2,
            "conv.": 6,
            "emb": 1,
            "experts.down_proj": 2,
            "grouped": 2,
            "layers.0.q_proj": 5,
            "router.weight": 3,
        },
        "alpha_pattern": {
            "attn": 5.5,
            "down_proj": 9,
            "layers.0.q_.*": 99,
            "lm_head": 1,
            "out_proj": 77,
            "q_proj": 7,
            "router": 50,
        },
    },
    "patterns_rslora": {"use_rslora": True, "rank_pattern": {"^layers.1.q_proj": 6, "down_proj": 2}},
    "dora": {"use_dora": True},
}
CASES = [
    pytest.param(kind, variant, id=f"{name}-{variant}")
    for name, kind in KINDS.items()
    for variant in VARIANTS
    if kind.dora or variant != "dora"
]


def adapted(kind: Kind, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """A zoo with an adapter on one kind of layer, whose factors are random throughout."""
    usual = {"r": R, "lora_alpha": ALPHA, "init_lora_weights": False, **kind.targets, **kind.common}
    torch.manual_seed(0)
    model = get_peft_model(Zoo().to(dtype), LoraConfig(**usual, **settings), autocast_adapter_dtype=False)
    if "init_lora_weights" not in settings:
        stir(model)
    return model


def stir(model: nn.Module) -> None:
    """Give every parameter of the adapter random values."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.3)


def save(model: Any, folder: Path) -> Path:
    """Saved as any program does it."""
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def layer_of(model: Any, module: LoraModule) -> Any:
    """The layer of PEFT that the factors stand in."""
    path = module.a.name.removesuffix(".weight").rpartition(".")[0]
    return model.get_submodule(path)


def update(layer: Any, module: LoraModule, adapter: str = "default") -> np.ndarray[Any, Any]:
    """delta_w as PEFT applies it, as a matrix, in float64 from the stored values."""
    layer.to(torch.float64)
    with torch.no_grad():
        if module.layout is Layout.GROUPED_CONV:
            probes = torch.eye(module.shape[1], dtype=torch.float64)
            probes = probes.reshape(-1, *layer.lora_A[adapter].weight.shape[1:])
            return (layer(probes) - layer.base_layer(probes)).reshape(module.shape[1], -1).T.numpy()
        delta = layer.get_delta_weight(adapter)
    if module.expert is not None:
        return delta[module.expert].numpy()
    return delta.reshape(delta.shape[0], -1).numpy()


def product(opened: OpenedAdapter, module: LoraModule) -> np.ndarray[Any, Any]:
    """Our factors, multiplied out and scaled."""
    a, b = opened.factors(module)
    assert module.scaling is not None
    assert a.shape[0] == b.shape[1] == module.r
    assert (b.shape[0], a.shape[1]) == (module.shape[::-1] if module.layout is Layout.EMBEDDING else module.shape)
    return module.scaling * (b.astype(np.float64) @ a.astype(np.float64))


def agree(layer: Any, opened: OpenedAdapter, module: LoraModule, adapter: str = "default") -> None:
    """Both updates have the same singular values, to 1e-6 of the largest."""
    theirs = np.linalg.svd(update(layer, module, adapter), compute_uv=False)
    ours = np.linalg.svd(product(opened, module), compute_uv=False)
    assert theirs.size == ours.size
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * theirs[0])


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_update_is_the_one_peft_applies(tmp_path: Path, kind: Kind, variant: str) -> None:
    """Given an adapter on a kind of layer, when opened, then modules, layout, scaling and spectra are PEFT's."""
    model = adapted(kind, **VARIANTS[variant])
    with open_adapter(save(model, tmp_path)) as opened:
        found = opened.inventory
        assert sorted(module.name for module in found.modules) == sorted(kind.names)
        assert found.left_out == ()
        assert found.audited_keys == found.lora_keys > 0
        for module in found.modules:
            layer = layer_of(model, module)
            assert module.layout is kind.layout
            assert (module.scaling, module.alpha) == (layer.scaling["default"], layer.lora_alpha["default"])
            assert (module.r, module.declared_r) == (layer.r["default"], layer.r["default"])
            assert (module.magnitude is not None) == (variant == "dora")
            agree(layer, opened, module)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=["fp16", "bf16", "fp64"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_update_in_other_number_formats(tmp_path: Path, kind: Kind, dtype: torch.dtype) -> None:
    """Given weights in another number format, when opened, then the update is that of the values that are stored."""
    model = adapted(kind, dtype)
    with open_adapter(save(model, tmp_path)) as opened:
        assert {module.name for module in opened.inventory.modules} == set(kind.names)
        for module in opened.inventory.modules:
            a, b = opened.factors(module)
            assert a.dtype == b.dtype == (np.float64 if dtype is torch.float64 else np.float32)
            agree(layer_of(model, module), opened, module)


@pytest.mark.parametrize("how", [True, False, "gaussian", "pissa", "pissa_niter_2", "olora", "orthogonal"], ids=str)
@pytest.mark.parametrize("name", ["linear", "fused_qkv"])
def test_initialisations(tmp_path: Path, name: str, how: bool | str) -> None:
    """Given an adapter that was saved untrained, when opened, then the file's own product is found, zero or not."""
    kind = Kind(KINDS[name].targets, KINDS[name].names)
    torch.manual_seed(0)
    settings = {"r": R, "lora_alpha": ALPHA, "init_lora_weights": how}
    model = get_peft_model(Zoo(), LoraConfig(**kind.targets, **settings))
    with open_adapter(save(model, tmp_path)) as opened:
        assert opened.config is not None
        assert opened.config.init_lora_weights == how
        assert len(opened.inventory.modules) == len(kind.names)
        for module in opened.inventory.modules:
            assert bool(product(opened, module).any()) == (how not in {True, "gaussian"})
            agree(layer_of(model, module), opened, module)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_update_in_eight_bits(tmp_path: Path, dtype: str) -> None:
    """Given factors in an 8-bit format, when opened, then the update is that of torch from the same bytes."""
    save(adapted(KINDS["linear"]), tmp_path)
    torch.manual_seed(0)
    a, b = (torch.randn(shape).to(getattr(torch, dtype)) for shape in ((R, 8), (10, R)))
    x = f"{ROOT}layers.0.q_proj"
    save_file({f"{x}.lora_A.weight": a, f"{x}.lora_B.weight": b}, tmp_path / "adapter_model.safetensors")
    with open_adapter(tmp_path) as opened:
        (module,) = opened.inventory.modules
        theirs = ALPHA / R * (b.double() @ a.double())
        np.testing.assert_array_equal(product(opened, module), theirs.numpy())


def test_parameters_of_one_module_cannot_be_told_apart(tmp_path: Path) -> None:
    """Given two targeted parameters of one module, when opened, then both are right and neither is given a name."""
    kind = Kind(parameters("experts.gate_up_proj", "experts.down_proj"), ())
    model = adapted(kind)
    with open_adapter(save(model, tmp_path)) as opened:
        found = {module.name: module for module in opened.inventory.modules}
        # PEFT wraps in the order in which the model defines its parameters: the last one is outermost.
        outer, inner = found["moe.0.experts[1]"], found["moe.0.experts.base_layer[1]"]
        assert len(found) == 12
        assert outer.parameters == inner.parameters == ("moe.0.experts.down_proj", "moe.0.experts.gate_up_proj")
        assert (outer.shape, inner.shape) == ((6, 5), (10, 6))
        for module in found.values():
            agree(layer_of(model, module), opened, module)


def test_rank_that_may_be_of_either_parameter(tmp_path: Path) -> None:
    """Given a rank pattern for one of two parameters of a module, when opened, then their experts are left out."""
    kind = Kind(parameters("experts.gate_up_proj", "experts.down_proj"), ())
    model = adapted(kind, rank_pattern={"gate_up_proj": 3})
    with open_adapter(save(model, tmp_path)) as opened:
        assert opened.inventory.modules == ()
        assert {one.reason for one in opened.inventory.left_out} == {"unknown_rank"}
        assert sum(len(one.keys) for one in opened.inventory.left_out) == opened.inventory.lora_keys == 8


def test_alpha_that_may_be_of_either_parameter(tmp_path: Path) -> None:
    """Given an alpha pattern for one of two parameters of a module, when opened, then no scaling is given to either."""
    kind = Kind(parameters("experts.gate_up_proj", "experts.down_proj"), ())
    model = adapted(kind, alpha_pattern={"gate_up_proj": 3})
    with open_adapter(save(model, tmp_path)) as opened:
        assert len(opened.inventory.modules) == 12
        assert {(one.scaling, one.scaling_reason) for one in opened.inventory.modules} == {
            (None, "it cannot be told which entry of alpha_pattern applies")
        }


def test_every_kind_at_once(tmp_path: Path) -> None:
    """Given an adapter on many kinds of layers, with modules saved whole, when opened, then nothing is missed."""
    names = ["q_proj", "qkv", "emb", "conv1", "conv2", "conv3", "grouped", "attn"]
    targets = {**modules(*names), "target_parameters": ["experts.down_proj"]}
    model = adapted(Kind(targets, ()), modules_to_save=["lm_head"])
    with open_adapter(save(model, tmp_path)) as opened:
        found = opened.inventory
        assert {module.layout for module in found.modules} == set(Layout) - {Layout.ADALORA}
        assert len(found.modules) == 10 + 6
        assert (found.left_out, found.audited_keys, found.lora_keys) == ((), 24, 24)
        assert found.whole_tensors == (f"{ROOT}lm_head.weight",)
        for module in found.modules:
            agree(layer_of(model, module), opened, module)


def test_bias_of_lora_b(tmp_path: Path) -> None:
    """Given lora_bias, when opened, then the bias belongs to its module and is no part of delta_w."""
    model = adapted(KINDS["linear"], lora_bias=True)
    with open_adapter(save(model, tmp_path)) as opened:
        assert [module.bias for module in opened.inventory.modules] == [True, True]
        assert (opened.inventory.audited_keys, opened.inventory.lora_keys) == (6, 6)
        for module in opened.inventory.modules:
            agree(layer_of(model, module), opened, module)


@pytest.mark.parametrize("name", ["linear", "embedding", "conv1", "conv2", "conv3"])
def test_magnitude_is_read(tmp_path: Path, name: str) -> None:
    """Given a DoRA adapter, when its magnitude is asked for, then it is the vector of PEFT, one value an output."""
    model = adapted(KINDS[name], use_dora=True)
    with open_adapter(save(model, tmp_path)) as opened:
        for module in opened.inventory.modules:
            found = opened.magnitude(module)
            theirs = layer_of(model, module).lora_magnitude_vector["default"].weight.detach().double().numpy()
            assert found is not None
            np.testing.assert_array_equal(found, theirs.reshape(-1))
            assert found.size == module.b.shape[0]


@pytest.mark.parametrize("alpha", [8, 0], ids=["alpha_8", "alpha_0"])
@pytest.mark.parametrize("pruned", [False, True], ids=["whole", "pruned"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_adalora(tmp_path: Path, alpha: int, pruned: bool, dtype: torch.dtype) -> None:
    """Given AdaLoRA, with ranks pruned away or not, when opened, then the update is that of PEFT after loading it."""
    names = ["qkv", "c_attn", "lm_head", "conv2"]
    config = AdaLoraConfig(
        init_r=R, target_r=2, total_step=10, lora_alpha=alpha, target_modules=names, init_lora_weights=False
    )
    torch.manual_seed(0)
    model = get_peft_model(Zoo().to(dtype), config, autocast_adapter_dtype=False)
    if pruned:
        masks = {"qkv": [True, False, True, False], "c_attn": [False] * 3 + [True], "lm_head": [False] * R}
        config.rank_pattern = {f"{name}.lora_E": masks.get(name, [True] * R) for name in names}
    save(model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about layers of rank 0 that are initialised
        loaded = PeftModel.from_pretrained(Zoo().to(dtype), tmp_path, autocast_adapter_dtype=False)
    with open_adapter(tmp_path) as opened:
        found = {module.name: module for module in opened.inventory.modules}
        ranks = {"qkv": 2, "c_attn": 1, "conv2": R} if pruned else dict.fromkeys(names, R)
        assert {name: module.r for name, module in found.items()} == ranks
        reasons = [(one.module, one.reason) for one in opened.inventory.left_out]
        assert reasons == ([("lm_head", "pruned")] if pruned else [])
        for name, module in found.items():
            assert module.layout is Layout.ADALORA
            agree(loaded.get_submodule(f"{ROOT}{name}"), opened, module)


def test_patterns_after_loading(tmp_path: Path) -> None:
    """Given an adapter with patterns, when PEFT loads it from the file, then its updates are those that we find."""
    kind = Kind(modules("q_proj", "qkv", "attn"), ())
    save(adapted(kind, **VARIANTS["patterns"]), tmp_path)
    loaded = PeftModel.from_pretrained(Zoo(), tmp_path)
    with open_adapter(tmp_path) as opened:
        assert len({module.scaling for module in opened.inventory.modules}) == 4
        for module in opened.inventory.modules:
            agree(layer_of(loaded, module), opened, module)


def test_patterns_that_saving_has_reordered(tmp_path: Path) -> None:
    """Given two alphas that match a module, when saved, then the one that PEFT loads is found, and the doubt is told.

    save_pretrained sorts the keys, so that another entry may come first than in training.
    """
    model = adapted(KINDS["linear"], alpha_pattern={"q_proj": 7, r"layers\.0\.q_proj": 99})
    loaded = PeftModel.from_pretrained(Zoo(), save(model, tmp_path))
    with open_adapter(tmp_path) as opened:
        first, second = opened.inventory.modules
        assert layer_of(model, first).scaling["default"] == 7 / R
        assert first.scaling == layer_of(loaded, first).scaling["default"] == 99 / R
        assert second.scaling == 7 / R
        (oddity,) = opened.oddities
        assert "alpha_pattern" in oddity
        assert "layers.0.q_proj" in oddity


def test_several_adapters_in_one_folder(tmp_path: Path) -> None:
    """Given a model with two adapters, when saved, then each is opened by itself, with its own scaling."""
    model = adapted(KINDS["linear"])
    model.add_adapter("second", LoraConfig(r=2, lora_alpha=5, target_modules=["qkv"], init_lora_weights=False))
    save(model, tmp_path)
    assert adapter_folders(tmp_path) == (tmp_path, tmp_path / "second")
    with open_adapter(tmp_path, adapter="second") as opened:
        (module,) = opened.inventory.modules
        assert (opened.name, module.name, module.scaling) == ("second", "qkv", 2.5)
        agree(layer_of(model, module), opened, module, "second")
    with open_adapter(tmp_path) as opened:
        assert [module.name for module in opened.inventory.modules] == list(KINDS["linear"].names)
        for module in opened.inventory.modules:
            agree(layer_of(model, module), opened, module)


def test_state_dict_with_adapter_names(tmp_path: Path) -> None:
    """Given the state dict of a model with two adapters, when one is asked for, then only its factors are taken."""
    model = adapted(KINDS["linear"])
    model.add_adapter("second", LoraConfig(r=2, lora_alpha=5, target_modules=["q_proj"], init_lora_weights=False))
    save(model, tmp_path)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if "lora_" in name}
    save_file(state, tmp_path / "adapter_model.safetensors")
    with open_adapter(tmp_path) as opened:
        assert {(module.adapter, module.r) for module in opened.inventory.modules} == {("default", R), ("second", 2)}
    with open_adapter(tmp_path, adapter="default") as opened:
        assert (opened.name, opened.inventory.lora_keys, len(opened.inventory.modules)) == ("default", 4, 2)
        for module in opened.inventory.modules:
            a, b = opened.factors(module)
            layer = model.get_submodule(f"{ROOT}{module.name}")
            np.testing.assert_array_equal(a, layer.lora_A["default"].weight.detach().numpy())
            np.testing.assert_array_equal(b, layer.lora_B["default"].weight.detach().numpy())


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("QALoRA", {"use_qalora": True, "qalora_group_size": 2}),
        ("BD-LoRA", {"use_bdlora": {"target_modules_bd_b": ["qkv"], "nblocks": 2}}),
        ("KaSA", {"kasa_config": {"beta": 1e-4}}),
    ],
)
def test_variants_with_another_product(tmp_path: Path, field: str, settings: dict[str, Any]) -> None:
    """Given a variant of LoRA whose update is not lora_B @ lora_A, when opened, then every factor is left out."""
    folder = save(adapted(KINDS["fused_qkv"]), tmp_path)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    LoraConfig.from_pretrained(folder)
    with open_adapter(folder) as opened:
        assert opened.inventory.modules == ()
        (left,) = opened.inventory.left_out
        assert (left.module, left.reason, len(left.keys)) == ("qkv", "unsupported_method", 2)
        assert field in left.sentence


METHODS = {
    str(kind): prefix
    for kind, prefix in PEFT_TYPE_TO_PREFIX_MAPPING.items()
    # Prompts are saved as `prompt_embeddings`, whatever the method; rows of tokens are tensors of the base.
    if kind not in {"LORA", "ADALORA", "CARTRIDGE", "CPT", "P_TUNING", "PREFIX_TUNING", "TRAINABLE_TOKENS"}
    and "PROMPT" not in str(kind)
}


@pytest.mark.parametrize("prefix", METHODS.values(), ids=METHODS)
def test_other_methods_of_peft_are_known(prefix: str) -> None:
    """Given a parameter of another method of PEFT, when its name is taken apart, then it is no whole tensor."""
    assert classify(f"{ROOT}layers.0.q_proj.{prefix}x").role is Role.OTHER_METHOD


@pytest.mark.parametrize(
    "keys",
    [
        ["q_proj"],
        ["proj", "q_proj"],
        [r"layers\.1.*"],
        ["^q_proj", "^layers.0.q_proj"],
        ["(q|k)_proj"],
        ["q_proj$", "."],
    ],
    ids="_then_".join,
)
@pytest.mark.parametrize("name", ["layers.0.q_proj", "q_proj", "layers.1.up_q_proj", "x"])
def test_patterns_match_as_in_peft(keys: list[str], name: str) -> None:
    """Given patterns, when a module's rank is looked up, then the entry that PEFT finds is taken."""
    ranks = {key: 10 + place for place, key in enumerate(keys)}
    config = AdapterConfig("", r=1, rank_pattern=ranks)
    assert config.rank_of(name) == ranks.get(get_pattern_key(ranks.keys(), name), 1)
