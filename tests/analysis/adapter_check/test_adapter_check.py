"""The check of adapter files: what is found in each kind of damage, and what sound adapters are never accused of."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.adapter_check import check_adapter
from gradience_analysis.diagnostics.base import Diagnosis
from gradience_analysis.errors import InputError
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_schema import Severity
from tests.analysis.adapters.files import PREFIX, adapter, base, floats, linear, safetensors
from tests.analysis.reference import FOLDER
from tests.rules import cases_adapter

POLICY = load_policy()
REFERENCE = FOLDER.parent / "reference_adapter"
A, B = (f"{PREFIX}.0.self_attn.q_proj.lora_{letter}.weight" for letter in "AB")


def examined(folder: Path, **more: Any) -> Diagnosis:
    """What is measured and found about an adapter."""
    return check_adapter(folder, POLICY, **more)


def codes(folder: Path, **more: Any) -> dict[str, Severity]:
    """Findings by code."""
    return {finding.code: finding.severity for finding in examined(folder, **more).findings}


def only(folder: Path, **more: Any) -> Finding:
    """The one finding."""
    (finding,) = examined(folder, **more).findings
    return finding


def test_sound_adapter_has_no_finding(tmp_path: Path) -> None:
    """Given a sound adapter on its base, when examined, then nothing is found, and what is not measured says why."""
    found = examined(adapter(tmp_path / "a"), base=base(tmp_path / "b"))
    assert found.findings == ()
    assert found.measurement("adapter_coverage").value == 1
    assert found.measurement("adapter_rank_mismatches").details["ranks"] == {"4": 2}
    assert all((item.value is None) == bool(item.reason) for item in found.measurements)
    json.dumps([item.to_dict() for item in found.measurements])


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference adapter is not there")
def test_adapter_of_the_earlier_tool_is_sound() -> None:
    """Given a real adapter for GPT-2, when examined, then nothing is found and all of it was read."""
    found = examined(REFERENCE)
    assert found.findings == ()
    assert found.measurement("adapter_coverage").value == 1


def torch_net() -> Any:
    """A model with every kind of layer that LoRA has a layout for."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Experts(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.randn(4, 8, 6))
            self.down = nn.Parameter(torch.randn(4, 6, 8))

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.emb, self.q, self.v = nn.Embedding(50, 32), nn.Linear(32, 32), nn.Linear(32, 16)
            self.conv, self.grouped = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3, groups=2)
            self.mha, self.head, self.experts = nn.MultiheadAttention(32, 4), nn.Linear(16, 2), Experts()

    return Net()


LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear, a saved head": ("LoraConfig", {"r": 4, "target_modules": ["q", "v"], "modules_to_save": ["head"]}),
    "rank patterns": ("LoraConfig", {"r": 4, "target_modules": ["q", "v"], "rank_pattern": {"q": 2, "^v": 8}}),
    "DoRA": ("LoraConfig", {"r": 4, "target_modules": ["q", "v"], "use_dora": True}),
    "rsLoRA": ("LoraConfig", {"r": 4, "target_modules": ["q", "v"], "use_rslora": True}),
    "biases of the base": ("LoraConfig", {"r": 4, "target_modules": ["q"], "bias": "all"}),
    "biases of the adapter": ("LoraConfig", {"r": 4, "target_modules": ["q"], "lora_bias": True}),
    "embedding": ("LoraConfig", {"r": 4, "target_modules": ["emb", "q"]}),
    "convolutions": ("LoraConfig", {"r": 4, "target_modules": ["conv", "grouped"]}),
    "attention": ("LoraConfig", {"r": 4, "target_modules": ["mha"]}),
    "experts": ("LoraConfig", {"r": 4, "target_modules": ["q"], "target_parameters": ["experts.up", "experts.down"]}),
    "trainable tokens": ("LoraConfig", {"r": 4, "target_modules": ["q"], "trainable_token_indices": {"emb": [1, 2]}}),
    "AdaLoRA": ("AdaLoraConfig", {"init_r": 6, "target_r": 4, "target_modules": ["q", "v"], "total_step": 100}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoHa": ("LoHaConfig", {"r": 4, "target_modules": ["q"]}),
    "LoKr": ("LoKrConfig", {"r": 4, "target_modules": ["q"]}),
    "VeRA": ("VeraConfig", {"r": 4, "target_modules": ["q"]}),
    "IA3": ("IA3Config", {"target_modules": ["q", "v"], "feedforward_modules": ["v"]}),
}


def saved(folder: Path, kind: str, options: dict[str, Any], *, trained: bool) -> Path:
    """An adapter as the installed PEFT saves it, just created or with every parameter moved."""
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    torch.manual_seed(0)
    model = peft.get_peft_model(torch_net(), getattr(peft, kind)(**options))
    with torch.no_grad():
        for parameter in model.parameters() if trained else ():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.01)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.mark.hf
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_peft_is_sound(tmp_path: Path, layout: str) -> None:
    """Given a trained adapter of each layout, when examined, then nothing is found and all of it was looked at."""
    found = examined(saved(tmp_path, *LAYOUTS[layout], trained=True))
    assert found.findings == ()
    assert found.measurement("adapter_coverage").value == 1


@pytest.mark.hf
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_untrained_adapter_of_each_layout_is_found(tmp_path: Path, layout: str) -> None:
    """Given an adapter that was only created, when examined, then it is untrained, and nothing else is found."""
    expected = Severity.WARNING if layout == "DoRA" else Severity.ERROR
    assert codes(saved(tmp_path, *LAYOUTS[layout], trained=False)) == {"untrained_factors": expected}


@pytest.mark.hf
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", OTHERS)
def test_other_method_is_named_and_not_accused(tmp_path: Path, method: str) -> None:
    """Given an adapter of another method, when examined, then it is said that nothing was checked, and no more."""
    found = only(saved(tmp_path, *OTHERS[method], trained=True))
    assert (found.code, found.severity) == ("adapter_not_covered", Severity.WARNING)
    assert method in found.message


def test_single_modules_of_zeros_are_a_warning(tmp_path: Path) -> None:
    """Given one of two modules at zero, when examined, then it is a warning that names the module."""
    found = only(adapter(tmp_path, {**linear(), B: floats((8, 4), 0.0)}))
    assert (found.severity, found.rule) == (Severity.WARNING, "M07")
    assert "layers.0.self_attn.q_proj" in found.message


def test_adapter_of_zeros_is_an_error(tmp_path: Path) -> None:
    """Given both modules at zero, when examined, then it is an error."""
    assert only(adapter(tmp_path, linear(b=0.0))).severity is Severity.ERROR


def test_pruned_module_of_adalora_is_not_accused(tmp_path: Path) -> None:
    """Given one AdaLoRA module that was pruned to nothing, when examined, then nothing is found."""
    tensors = {}
    for module, e in (("q", 0.0), ("v", 0.5)):
        tensors |= {
            f"base_model.model.{module}.lora_A": floats((4, 8)),
            f"base_model.model.{module}.lora_B": floats((8, 4)),
        }
        tensors[f"base_model.model.{module}.lora_E"] = floats((4, 1), e)
    assert codes(adapter(tmp_path, tensors, peft_type="ADALORA", r=8)) == {}


@pytest.mark.parametrize(
    ("a", "b", "fault"),
    [
        ((4, 16), (16, 5), "A has 4 rows and B 5 columns"),
        ((8, 4), (4, 8), "A has 8 rows, and the config says r = 4"),
        ((4, 8, 1), (8, 4), "A has 3 dimensions and B 2"),
        ((4,), (4,), "A has 1 dimension and B 1"),
        ((4, 8, 1, 1), (8, 3, 1, 1), "A has 4 rows and B 3 columns"),
    ],
)
def test_contradicting_shapes_are_told_and_never_turned(
    tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...], fault: str
) -> None:
    """Given factors whose shapes contradict, when examined, then the fault is told as it stands."""
    found = only(adapter(tmp_path, {**linear(), A: floats(a), B: floats(b)}))
    assert (found.rule, found.severity) == ("M06", Severity.ERROR)
    assert fault in found.message


def test_rank_of_an_unreadable_pattern_is_not_judged(tmp_path: Path) -> None:
    """Given a pattern that must not be tried, when examined, then no module is accused of its rank."""
    found = examined(adapter(tmp_path, r=9, rank_pattern={"(a+)+$": 2}))
    assert found.findings == ()
    assert found.measurement("adapter_rank_mismatches").details["without_rank_in_config"] == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.0),
        ({"prefix": ""}, 0.0),
        ({"prefix": "language_model.model."}, 0.0),
        ({"layers": 12}, 0.0),
        ({"width": 16}, 0.95),
        ({"layers": 1}, 0.85),
        ({"name": "other/larger"}, 0.6),
        ({"name": "copy/tiny"}, 0.0),
        ({"name": "/models/downloaded"}, 0.0),
        ({"name": ""}, 0.0),
    ],
)
def test_base_is_held_against_the_adapter(tmp_path: Path, changes: dict[str, Any], expected: float) -> None:
    """Given bases that fit or do not, when the adapter is held against each, then only those that do not are told."""
    found = examined(adapter(tmp_path / "a"), base=base(tmp_path / "b", **changes)).findings
    assert [(one.rule, one.confidence) for one in found] == ([("M03", expected)] if expected else [])


def test_base_of_another_architecture_is_told(tmp_path: Path) -> None:
    """Given a base without any of the modules, when held against the adapter, then it is told; a tied head is not."""
    folder = base(tmp_path / "b")
    (folder / "model.safetensors").write_bytes(safetensors({"h.0.attn.c_attn.weight": floats((8, 24))}))
    assert only(adapter(tmp_path / "a"), base=folder).rule == "M03"
    head = {
        f"base_model.model.lm_head.lora_{letter}.weight": floats((4, 8) if letter == "A" else (8, 4)) for letter in "AB"
    }
    assert codes(adapter(tmp_path / "head", head), base=folder) == {}


def test_quantized_base_is_not_held_against_shapes(tmp_path: Path) -> None:
    """Given a base in 4 bits, when held against the adapter, then its packed dimensions are no mismatch."""
    folder = base(tmp_path / "b")
    name = "model.layers.0.self_attn.q_proj.weight"
    packed = {name: ("U8", (32, 1), bytes(32)), f"{name}.absmax": floats((1,))}
    (folder / "model.safetensors").write_bytes(safetensors(packed))
    found = examined(adapter(tmp_path / "a"), base=folder)
    assert found.findings == ()
    assert "quantized" in found.measurement("adapter_base_misfits").reason


def test_base_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    """Given no such base, when held against the adapter, then that is the reason why nothing is measured."""
    found = examined(adapter(tmp_path / "a"), base=tmp_path / "absent")
    assert found.findings == ()
    assert "no safetensors" in found.measurement("adapter_base_misfits").reason


def test_config_that_is_missing_or_wrong_is_told(tmp_path: Path) -> None:
    """Given no config, a broken one, and one with a rank in a string, when examined, then each is told."""
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    assert codes(folder) == {"adapter_config_unreadable": Severity.ERROR}
    (folder / "adapter_config.json").write_text('{"r": 4, "r": 8}')
    assert "'r' twice" in only(folder).message
    assert codes(adapter(tmp_path / "b", r="4")) == {"adapter_config_wrong_type": Severity.WARNING}


def test_folder_without_weights_is_told(tmp_path: Path) -> None:
    """Given an empty folder and a file, when examined, then the one lacks weights and the other is no folder."""
    assert codes(tmp_path)["adapter_weights_missing"] is Severity.WARNING
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError):
        examined(tmp_path / "file")


def test_model_in_place_of_an_adapter_is_told(tmp_path: Path) -> None:
    """Given weights without a single factor, when examined, then it is said that nothing was checked."""
    assert codes(adapter(tmp_path, {"model.norm.weight": floats((8,))})) == {"adapter_not_covered": Severity.WARNING}


def test_one_adapter_below_is_taken_and_of_several_none(tmp_path: Path) -> None:
    """Given a folder of adapters, when examined, then one alone stands for it, and several are listed in an error."""
    adapter(tmp_path / "one", linear(b=0.0))
    assert only(tmp_path).rule == "M07"
    adapter(tmp_path / "two")
    with pytest.raises(InputError, match="one, two"):
        examined(tmp_path)


def test_unknown_format_lowers_the_coverage(tmp_path: Path) -> None:
    """Given a factor in a format that is not decoded, when examined, then an info says so and nothing is accused."""
    found = only(adapter(tmp_path, {**linear(), B: ("F8_E8M0", (8, 4), bytes(32))}))
    assert (found.code, found.severity) == ("adapter_not_covered", Severity.INFO)
    assert "number format" in found.message


def test_nonfinite_values_of_every_tensor_are_counted(tmp_path: Path) -> None:
    """Given NaN in a saved head and infinity in a factor, when examined, then both are in one finding."""
    tensors = {**linear(), "base_model.model.score.weight": floats((2,), [math.nan, 1]), A: floats((4, 8), math.inf)}
    found = only(adapter(tmp_path, tensors))
    assert (found.rule, found.evidence["tensor_count"]) == ("M04", 2)
    assert found.message.startswith("33 values")


@pytest.mark.parametrize("name", ["../adapter/adapter_config.json", "/etc/hostname", "absent.safetensors"])
def test_record_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """Given a record of a file elsewhere or nowhere, when examined, then it is a mismatch, and no file is opened."""
    found = only(adapter(tmp_path / "adapter"), recorded={name: "0" * 64})
    assert (found.rule, found.evidence["files"][0]["found"]) == ("Q09", None)


def test_hostile_names_stay_inert(tmp_path: Path) -> None:
    """Given escape sequences in tensor names, when examined, then no message has a control character."""
    name = "base_model.model.\x1b[31m\u202e\n<b>.lora_A.weight"
    for finding in examined(adapter(tmp_path, {name: floats((4, 8))})).findings:
        assert finding.message.isprintable()
        assert "\u202e" not in finding.message


def test_damaged_files_never_raise(tmp_path: Path) -> None:
    """Given weights cut off at every length and bytes flipped, when examined, then there is always a diagnosis."""
    folder = adapter(tmp_path)
    whole = (folder / "adapter_model.safetensors").read_bytes()
    for place in range(0, len(whole), 37):
        (folder / "adapter_model.safetensors").write_bytes(whole[:place])
        assert codes(folder)["safetensors_header_invalid"] is Severity.ERROR
    for place in range(0, 600, 7):
        flipped = whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :]
        (folder / "adapter_model.safetensors").write_bytes(flipped)
        examined(folder)


def test_index_that_lies_is_told(tmp_path: Path) -> None:
    """Given an index that names a tensor in a shard that lacks it, when examined, then the weights are unclear."""
    folder = adapter(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys([*linear(), "more"], "adapter_model-00001-of-00001.safetensors")
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = only(folder)
    assert (found.rule, found.evidence["tensors_absent"]) == ("Q10", ["more"])


def test_pickle_beside_safetensors_is_unclear_and_no_more(tmp_path: Path) -> None:
    """Given both kinds of weights, when examined, then a warning says so; the pickle is not the weights."""
    found = cases_adapter.twice(tmp_path)
    assert [(one.rule, one.severity) for one in found] == [("Q10", Severity.WARNING)]


@pytest.mark.parametrize("payload", [b"\x80\x04cposix\nsystem\n.", b"PK\x03\x04" + bytes(30)])
def test_pickle_named_safetensors_is_refused(tmp_path: Path, payload: bytes) -> None:
    """Given a pickle under the name of safetensors, when examined, then its header is refused."""
    folder = adapter(tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(payload + struct.pack("<Q", 0))
    assert codes(folder)["safetensors_header_invalid"] is Severity.ERROR


def test_missing_shard_is_told_once(tmp_path: Path) -> None:
    """Given one of two shards, when examined, then the shard is missing, and the factors in it are not accused."""
    found = cases_adapter.shards(1)(tmp_path)
    assert [one.rule for one in found] == ["Q10"]
