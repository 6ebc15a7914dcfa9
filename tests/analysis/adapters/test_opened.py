"""Opening an adapter: which files are read, what is refused, and the factors that come out of them."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.adapters import HeaderError, Layout, OpenedAdapter, adapter_folders, open_adapter
from gradience_analysis.errors import InputError
from tests.analysis.adapters.files import PREFIX, Tensor, adapter, assemble, config, floats, linear, safetensors
from tests.analysis.reference import FOLDER

MAIN = "adapter_model.safetensors"
FIRST = "model.layers.0.self_attn.q_proj"
REFERENCE = FOLDER.parent / "reference_adapter"


def numbers(dtype: str, values: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of these values, in a format that numpy has, or BF16 without rounding."""
    if dtype == "BF16":
        bits = values.astype("<f4").view("<u4")
        assert not (bits & 0xFFFF).any()
        return ("BF16", values.shape, (bits >> 16).astype("<u2").tobytes())
    return (dtype, values.shape, values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes())


def names(opened: OpenedAdapter) -> list[str]:
    """Names of the modules that were found."""
    return [module.name for module in opened.inventory.modules]


def shards(folder: Path, *, lost: tuple[int, ...] = (), indexed: bool = True) -> Path:
    """An adapter in two shards, of one layer each, without those that are lost."""
    adapter(folder)
    (folder / MAIN).unlink()
    tensors = linear()
    index: dict[str, str] = {}
    for number in range(2):
        file = f"adapter_model-{number + 1:05}-of-00002.safetensors"
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{PREFIX}.{number}.")}
        index |= dict.fromkeys(own, file)
        if number not in lost:
            (folder / file).write_bytes(safetensors(own))
    if indexed:
        (folder / f"{MAIN}.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_plain_adapter(tmp_path: Path) -> None:
    """Given a folder of save_pretrained, when opened, then inventory, config and files are there."""
    folder = adapter(tmp_path / "mine")
    with open_adapter(folder) as opened:
        assert (opened.folder, opened.name, opened.files) == (folder, "mine", (folder / MAIN,))
        assert opened.config is not None
        assert (opened.config.r, opened.config_fault, opened.oddities) == (4, "", ())
        assert names(opened) == [FIRST, FIRST.replace("0", "1")]
        assert (opened.inventory.left_out, opened.inventory.lora_keys) == ((), 4)
        a, b = opened.factors(opened.inventory.modules[0])
        assert (a.shape, b.shape, a.dtype, b.dtype) == ((4, 8), (8, 4), np.float32, np.float32)


def test_arrays_outlive_the_adapter(tmp_path: Path) -> None:
    """Given factors that were read, when the adapter is closed, then they keep their values."""
    with open_adapter(adapter(tmp_path)) as opened:
        a, b = opened.factors(opened.inventory.modules[0])
    assert (a == 0.5).all()
    assert (b == 0.5).all()


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference adapter is not here")
def test_reference_adapter() -> None:
    """Given an adapter out of a real training, when opened, then all its 12 modules are covered."""
    with open_adapter(REFERENCE) as opened:
        assert len(opened.inventory.modules) == 12
        assert opened.inventory.audited_keys == opened.inventory.lora_keys == 24
        assert {module.scaling for module in opened.inventory.modules} == {2.0}


@pytest.mark.parametrize(
    ("a", "b", "precision", "expected"),
    [
        ("BF16", "BF16", "float32", np.float32),
        ("F16", "F32", "float32", np.float32),
        ("F32", "F64", "float32", np.float64),
        ("F64", "F64", "float32", np.float64),
        ("BF16", "F16", "float64", np.float64),
    ],
)
def test_precision(tmp_path: Path, a: str, b: str, precision: Any, expected: type) -> None:
    """Given factors in any format, when read, then they are exact, both in one precision."""
    lora_a = (np.arange(-16, 16).reshape(4, 8) / 8).astype(np.float64)
    lora_b = lora_a.T + (1e-12 if b == "F64" else 0)
    x = f"{PREFIX}.0.self_attn.q_proj"
    tensors = {f"{x}.lora_A.weight": numbers(a, lora_a), f"{x}.lora_B.weight": numbers(b, lora_b)}
    with open_adapter(adapter(tmp_path, tensors)) as opened:
        found_a, found_b = opened.factors(opened.inventory.modules[0], precision)
    assert found_a.dtype == found_b.dtype == expected
    np.testing.assert_array_equal(found_a, lora_a)
    np.testing.assert_array_equal(found_b, lora_b)


def test_experts(tmp_path: Path) -> None:
    """Given factors of experts, when each one's are read, then rows and columns are those of ParamWrapper."""
    experts, r = 3, 2
    rng = np.random.default_rng(0)
    lora_a = rng.integers(-8, 8, (experts * r, 5)).astype(float)
    lora_b = rng.integers(-8, 8, (4, r * experts)).astype(float)
    tensors = {f"{PREFIX}.0.experts.lora_A.weight": numbers("F32", lora_a)}
    tensors[f"{PREFIX}.0.experts.lora_B.weight"] = numbers("BF16", lora_b)
    with open_adapter(adapter(tmp_path, tensors, r=r, target_parameters=["experts.down_proj"])) as opened:
        assert len(opened.inventory.modules) == experts
        # In another order than that of the file, so that no state of one is left to the next.
        for number in (2, 0, 1, 0):
            module = opened.inventory.modules[number]
            a, b = opened.factors(module)
            expected = sum(np.outer(lora_b[:, k * experts + number], lora_a[number * r + k]) for k in range(r))
            np.testing.assert_array_equal(b @ a, expected)
            assert module.expert == number


def test_diagonal_of_adalora_is_folded_in(tmp_path: Path) -> None:
    """Given AdaLoRA, when its factors are read, then the rows of lora_A are multiplied by lora_E."""
    lora_a, e = np.arange(6.0).reshape(3, 2), np.array([[2.0], [0.0], [-1.0]])
    tensors = {"x.lora_A": numbers("F32", lora_a), "x.lora_B": floats((4, 3)), "x.lora_E": numbers("F32", e)}
    with open_adapter(adapter(tmp_path, tensors, peft_type="ADALORA", init_r=3)) as opened:
        (module,) = opened.inventory.modules
        a, _ = opened.factors(module)
    assert (module.layout, module.r) == (Layout.ADALORA, 3)
    np.testing.assert_array_equal(a, lora_a * e)


def test_groups_of_a_convolution(tmp_path: Path) -> None:
    """Given a grouped convolution, when its factors are read, then a group's outputs see the ranks of that group."""
    lora_a = np.arange(4.0 * 6).reshape(4, 2, 3)
    lora_b = np.arange(1.0, 13).reshape(6, 2, 1)
    tensors = {"c.lora_A.weight": numbers("F32", lora_a), "c.lora_B.weight": numbers("F32", lora_b)}
    with open_adapter(adapter(tmp_path, tensors)) as opened:
        (module,) = opened.inventory.modules
        a, b = opened.factors(module)
    halves = [
        lora_b[group * 3 : group * 3 + 3, :, 0] @ lora_a[group * 2 : group * 2 + 2].reshape(2, 6) for group in (0, 1)
    ]
    assert (module.groups, module.layout) == (2, Layout.GROUPED_CONV)
    np.testing.assert_array_equal(b @ a, np.vstack(halves))


def test_shards(tmp_path: Path) -> None:
    """Given an adapter in shards, when opened, then the modules of all of them are found."""
    with open_adapter(shards(tmp_path)) as opened:
        assert (len(opened.files), len(opened.inventory.modules), opened.inventory.left_out) == (2, 2, ())
        for module in opened.inventory.modules:
            a, _ = opened.factors(module)
            assert a.shape == (4, 8)


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "no_index"])
def test_missing_shard_is_left_out(tmp_path: Path, indexed: bool) -> None:
    """Given a shard that is missing, when opened, then what it holds is left out, and counted where an index tells."""
    with open_adapter(shards(tmp_path, lost=(1,), indexed=indexed)) as opened:
        assert names(opened) == [FIRST]
        (left,) = opened.inventory.left_out
        assert (left.reason, len(left.keys)) == ("missing_file", 2 if indexed else 0)
        assert "00002-of-00002" in left.sentence
        assert opened.inventory.lora_keys == (4 if indexed else 2)


def test_broken_shard_is_left_out(tmp_path: Path) -> None:
    """Given a shard that is cut short, when opened, then the other is read, and the lost keys are counted."""
    broken = shards(tmp_path) / "adapter_model-00002-of-00002.safetensors"
    broken.write_bytes(broken.read_bytes()[:-8])
    with open_adapter(tmp_path) as opened:
        assert names(opened) == [FIRST]
        (left,) = opened.inventory.left_out
        assert (left.reason, len(left.keys), opened.inventory.lora_keys) == ("unreadable_file", 2, 4)
        assert broken.name in left.sentence


def test_tensor_that_its_shard_lacks(tmp_path: Path) -> None:
    """Given an index that promises more than its shard holds, when opened, then the promised key is left out."""
    path = shards(tmp_path) / f"{MAIN}.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][f"{PREFIX}.9.self_attn.q_proj.lora_A.weight"] = "adapter_model-00001-of-00002.safetensors"
    path.write_text(json.dumps(index))
    with open_adapter(tmp_path) as opened:
        assert [(one.reason, len(one.keys)) for one in opened.inventory.left_out] == [("missing_file", 1)]
        assert (opened.inventory.audited_keys, opened.inventory.lora_keys) == (4, 5)


def test_only_file_is_broken(tmp_path: Path) -> None:
    """Given weights whose header cannot be believed, when opened, then that is refused with its reason."""
    (adapter(tmp_path) / MAIN).write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(HeaderError) as caught:
        open_adapter(tmp_path)
    assert caught.value.code == "over_cap"


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.pt"])
def test_pickled_weights_are_refused(tmp_path: Path, name: str) -> None:
    """Given weights as a pickle, when opened, then they are refused by name, with the ways to convert them."""
    adapter(tmp_path)
    (tmp_path / MAIN).unlink()
    (tmp_path / name).write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(InputError) as caught:
        open_adapter(tmp_path)
    assert str(tmp_path / name) in caught.value.message
    assert "run any code" in caught.value.message
    assert caught.value.remedy is not None
    assert "safe_serialization" in caught.value.remedy
    assert "--allow-pickle" in caught.value.remedy


def test_converted_weights_take_the_place_of_a_pickle(tmp_path: Path) -> None:
    """Given what was taken out of a pickle, when opened with the folder, then its tensors have the folder's config."""
    folder = adapter(tmp_path / "mine", lora_alpha=12)
    converted = tmp_path / "converted.safetensors"
    (folder / MAIN).rename(converted)
    (folder / "adapter_model.bin").write_bytes(b"PK\x03\x04 and more")
    with open_adapter(folder, converted=converted) as opened:
        assert (opened.files, opened.name, len(opened.inventory.modules)) == ((converted,), "mine", 2)
        assert opened.inventory.modules[0].scaling == 3.0
        assert [one.shape for one in opened.factors(opened.inventory.modules[0])] == [(4, 8), (8, 4)]


def test_weights_and_config_from_elsewhere(tmp_path: Path) -> None:
    """Given other weights and another config, when opened, then they take the place of the folder's."""
    folder, other = adapter(tmp_path / "one"), adapter(tmp_path / "two", linear(layers=1, r=2))
    settings_file = tmp_path / "settings.yaml"
    settings_file.write_text("peft_type: LORA\nr: 2\nlora_alpha: 1\n")
    for weights in (other, other / MAIN):
        with open_adapter(folder, weights=weights, config=settings_file) as opened:
            assert (opened.folder, opened.files) == (folder, (other / MAIN,))
            assert [(one.r, one.scaling) for one in opened.inventory.modules] == [(2, 0.5)]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "does not exist"), ("{", "is not JSON"), ("[]", "not an object"), ('{"r": 1, "r": 2}', "twice")],
    ids=["missing", "cut", "list", "repeated"],
)
def test_config_that_cannot_be_read(tmp_path: Path, text: str | None, words: str) -> None:
    """Given a folder whose config is no use, when opened, then its factors are there and their scaling is not."""
    path = adapter(tmp_path) / "adapter_config.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with open_adapter(tmp_path) as opened:
        assert (opened.config, opened.oddities) == (None, ())
        assert words in opened.config_fault
        assert {one.scaling for one in opened.inventory.modules} == {None}
        assert all(words in one.scaling_reason for one in opened.inventory.modules)
    if text is not None:
        with pytest.raises(InputError):
            open_adapter(tmp_path, config=path)


@pytest.mark.parametrize("name", ["adapter_config.yaml", "adapter_config.yml"])
def test_config_as_yaml(tmp_path: Path, name: str) -> None:
    """Given a config as YAML, when opened, then it is read; JSON beside it holds."""
    (adapter(tmp_path, lora_alpha=4) / "adapter_config.json").rename(tmp_path / "kept")
    (tmp_path / name).write_text("peft_type: LORA\nr: 4\nlora_alpha: 16\n")
    with open_adapter(tmp_path) as opened:
        assert {one.scaling for one in opened.inventory.modules} == {4.0}
    (tmp_path / "kept").rename(tmp_path / "adapter_config.json")
    with open_adapter(tmp_path) as opened:
        assert {one.scaling for one in opened.inventory.modules} == {1.0}


def test_folder_above_one_adapter(tmp_path: Path) -> None:
    """Given a folder that holds one folder with an adapter, when opened, then that one is meant."""
    inner = adapter(tmp_path / "only")
    (tmp_path / "logs").mkdir()
    with open_adapter(tmp_path) as opened:
        assert (opened.folder, opened.name) == (inner, "only")
    assert adapter_folders(tmp_path) == (inner,)


def test_folder_of_several_adapters(tmp_path: Path) -> None:
    """Given a folder of two adapters, when opened, then one must be named."""
    adapter(tmp_path / "one")
    adapter(tmp_path / "two", linear(layers=1))
    assert adapter_folders(tmp_path) == (tmp_path / "one", tmp_path / "two")
    with pytest.raises(InputError, match="holds several adapters: 'one', 'two'"):
        open_adapter(tmp_path)
    with pytest.raises(InputError, match="'one', 'two'"):
        open_adapter(tmp_path, adapter="three")
    with open_adapter(tmp_path, adapter="two") as opened:
        assert (opened.name, len(opened.inventory.modules)) == ("two", 1)


def test_adapter_with_others_below(tmp_path: Path) -> None:
    """Given an adapter with another and a checkpoint below it, when listed, then the checkpoint is no further one."""
    for folder in (tmp_path, tmp_path / "second", tmp_path / "checkpoint-500"):
        adapter(folder)
    assert adapter_folders(tmp_path) == (tmp_path, tmp_path / "second")
    with open_adapter(tmp_path) as opened:
        assert opened.folder == tmp_path
    with open_adapter(tmp_path, adapter="checkpoint-500") as opened:
        assert opened.folder == tmp_path / "checkpoint-500"


def test_checkpoints_alone(tmp_path: Path) -> None:
    """Given nothing but checkpoints, when listed, then they are the adapters there are."""
    found = tuple(adapter(tmp_path / f"checkpoint-{step}") for step in (100, 200))
    assert adapter_folders(tmp_path) == found


def test_adapter_name_in_the_keys(tmp_path: Path) -> None:
    """Given keys with an adapter's name, when another is asked for, then the names that are there are told."""
    tensors = {name.replace(".weight", ".default.weight"): tensor for name, tensor in linear().items()}
    tensors |= {"x.lora_A.second.weight": floats((4, 8)), "head.weight": floats((2,)), "x.hada_w1_a": floats((2,))}
    folder = adapter(tmp_path, tensors)
    with open_adapter(folder) as opened:
        assert (opened.name, opened.inventory.lora_keys) == (tmp_path.name, 6)
    with open_adapter(folder, adapter="default") as opened:
        # What has no adapter's name in it may belong to any, and is not passed over.
        assert [one.reason for one in opened.inventory.left_out] == ["unsupported_method"]
        assert (opened.name, opened.inventory.lora_keys) == ("default", 5)
        assert opened.inventory.whole_tensors == ("head.weight",)
        assert {module.adapter for module in opened.inventory.modules} == {"default"}
    with pytest.raises(InputError, match="holds no adapter 'other': 'default', 'second'"):
        open_adapter(folder, adapter="other")


def test_adapter_name_is_no_path(tmp_path: Path) -> None:
    """Given a name that leads out of the folder, when opened, then nothing outside is looked at."""
    adapter(tmp_path / "secret")
    with pytest.raises(InputError, match="holds no adapter"):
        open_adapter(adapter(tmp_path / "mine"), adapter="../secret")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no weights"),
        ({"readme.md": b""}, "holds no weights"),
        ({"one.safetensors": b"", "two.safetensors": b""}, "holds several sets of weights: 'one', 'two'"),
        ({f"{MAIN}.index.json": b"{}"}, "has no weight_map"),
        ({f"{MAIN}.index.json": b'{"weight_map": {"x": "adapter_model-00001-of-00001.safetensors"}}'}, "lacks"),
    ],
    ids=["empty", "other_files", "two_sets", "index_alone", "no_shard"],
)
def test_folder_without_weights(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    """Given a folder without weights that can be chosen, when opened, then it is refused and nothing is guessed."""
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        open_adapter(tmp_path)
    assert words in caught.value.message


def test_no_such_folder(tmp_path: Path) -> None:
    """Given a path that does not exist, when opened, then it is refused."""
    for path in (tmp_path / "none", tmp_path / "none\0"):
        with pytest.raises(InputError):
            open_adapter(path)
        with pytest.raises(InputError):
            adapter_folders(path)


def test_oddities_of_the_config(tmp_path: Path) -> None:
    """Given an alpha that subtracts, when opened, then it is told, and the scaling has its sign."""
    with open_adapter(adapter(tmp_path, lora_alpha=-8)) as opened:
        assert opened.oddities == ("lora_alpha is -8: delta_w is subtracted.",)
        assert {one.scaling for one in opened.inventory.modules} == {-2.0}


def test_opening_loads_no_numpy(tmp_path: Path) -> None:
    """Given an adapter, when it is opened and listed, then neither numpy nor PyYAML has been imported."""
    adapter(tmp_path)
    script = (
        "import sys; from pathlib import Path; from gradience_analysis.adapters import open_adapter\n"
        f"with open_adapter(Path({str(tmp_path)!r})) as opened: print(len(opened.inventory.modules))\n"
        "print(sorted({'numpy', 'yaml', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["2", "[]"]


STATUS = Path("/proc/self/status")


def mapped() -> int:
    """Bytes of files that this process has mapped and in memory."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("RssFile:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says how much of a file is mapped")
def test_pages_are_given_back(tmp_path: Path) -> None:
    """Given 32 MiB in many small tensors, when all are read, then almost none of the file stays mapped."""
    entries: dict[str, Any] = {}
    size = 1 << 16
    for number in range(512):
        letter, shape = ("A", [16, 2048]) if number % 2 == 0 else ("B", [2048, 16])
        offsets = [number * size, (number + 1) * size]
        name = f"{PREFIX}.{number // 2}.q_proj.lora_{letter}.weight"
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": offsets}
    folder = adapter(tmp_path)
    (folder / MAIN).write_bytes(assemble(json.dumps(entries).encode(), bytes(512 * size)))
    with open_adapter(folder) as opened:
        before = mapped()
        for module in opened.inventory.modules:
            opened.factors(module)
        assert len(opened.inventory.modules) == 256
        assert mapped() - before < 4 << 20


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_mutated_files_are_refused_or_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Given a file with damaged bytes, when opened, then it is refused as bad input or read to the end."""
    whole = bytearray(safetensors({**linear(layers=1), "x.lora_A": floats((2, 3))}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("mutated")
    (folder / "adapter_config.json").write_text(json.dumps(config()))
    (folder / MAIN).write_bytes(whole)
    try:
        with open_adapter(folder) as opened:
            for module in opened.inventory.modules:
                a, b = opened.factors(module)
                assert a.shape[0] == b.shape[1] == module.r
            left = sum(len(one.keys) for one in opened.inventory.left_out)
            assert opened.inventory.audited_keys + left == opened.inventory.lora_keys
    except InputError:
        return
