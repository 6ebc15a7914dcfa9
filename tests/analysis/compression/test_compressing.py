"""Compressing adapters from their files alone: figures, what is written, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gradience_analysis.adapters import SafetensorsFile
from gradience_analysis.compression import (
    PROOF_NAME,
    WEIGHTS_NAME,
    compress_adapter,
    fixed_rule,
    given_rule,
    policy_rule,
    read_suggestions,
)
from gradience_analysis.compression.layers import DORA
from gradience_analysis.errors import GradienceError, InputError
from tests.analysis.adapters.files import Tensor, adapter, safetensors
from tests.cli.command import environment

Array = NDArray[np.float64]
REFERENCE = Path(__file__).parents[4] / "shared" / "data" / "reference_adapter"
Q = "base_model.model.model.layers.{}.self_attn.q_proj"


def numbers(values: Array, dtype: str = "F32") -> Tensor:
    """A tensor of these values, whose bytes come from numpy's own formats."""
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    return (dtype, values.shape, values.astype(kinds[dtype]).tobytes())


def factors(
    seed: int, layers: int = 3, r: int = 6, m: int = 20, n: int = 30, decay: float = 0.6, size: float = 1.0
) -> dict[str, Array]:
    """Both factors of one module in each layer."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for layer in range(layers):
        found[f"{Q.format(layer)}.lora_A.weight"] = rng.standard_normal((r, n)) * size
        found[f"{Q.format(layer)}.lora_B.weight"] = rng.standard_normal((m, r)) * decay ** np.arange(r)
    return found


def folder(path: Path, values: Mapping[str, Array] | None = None, dtype: str = "F32", **config: Any) -> Path:
    """An adapter of r = 6, alpha = 12."""
    arrays = factors(0) if values is None else values
    return adapter(
        path, {name: numbers(one, dtype) for name, one in arrays.items()}, **{"r": 6, "lora_alpha": 12, **config}
    )


def tree(path: Path) -> dict[str, tuple[int, str]]:
    """Every file below a folder: its size and its hash."""
    return {
        str(one.relative_to(path)): (one.stat().st_mtime_ns, hashlib.sha256(one.read_bytes()).hexdigest())
        for one in sorted(path.rglob("*"))
        if one.is_file()
    }


def products(path: Path, scaling: float, layers: int = 3) -> list[Array]:
    """delta_w of each layer, dense, from the file."""
    with SafetensorsFile(path / WEIGHTS_NAME) as file:
        return [
            scaling * file.array(f"{Q.format(n)}.lora_B.weight") @ file.array(f"{Q.format(n)}.lora_A.weight")
            for n in range(layers)
        ]


def test_predicted_and_measured_errors_are_those_of_the_dense_products(tmp_path: Path) -> None:
    """Given an adapter, when cut, then each error and the total are what dense arithmetic on both files gives."""
    source = folder(tmp_path / "a")
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    old, new = products(source, 2.0), products(tmp_path / "b", 1.0)
    for layer, was, now in zip(done.layers, old, new, strict=True):
        sigma = np.linalg.svd(was, compute_uv=False)
        assert layer.frobenius == pytest.approx(np.linalg.norm(was), rel=1e-9)
        assert layer.predicted == pytest.approx(math.sqrt(float((sigma[2:] ** 2).sum())), rel=1e-9)
        assert layer.measured == pytest.approx(np.linalg.norm(was - now), rel=1e-9)
        assert layer.relative_measured == pytest.approx(layer.relative_predicted, rel=1e-3)
    error = math.sqrt(sum(float(np.linalg.norm(a - b)) ** 2 for a, b in zip(old, new, strict=True)))
    size = math.sqrt(sum(float(np.linalg.norm(a)) ** 2 for a in old))
    assert done.total_measured == pytest.approx(error / size, rel=1e-9)
    assert done.total_predicted == pytest.approx(error / size, rel=1e-3)
    assert (done.params_before, done.params_after) == (3 * 6 * 50, 3 * 2 * 50)
    assert (done.bytes_before, done.bytes_after) == (3 * 6 * 50 * 4, 3 * 2 * 50 * 4)


@given(seed=st.integers(0, 2**32 - 1), decay=st.floats(0.2, 1.0), size=st.sampled_from([1e-4, 1.0, 1e3]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_error_falls_with_the_rank_and_is_predicted(
    tmp_path_factory: pytest.TempPathFactory, seed: int, decay: float, size: float
) -> None:
    """Given any adapter in float32, when cut to each rank, then errors fall, and are predicted to three digits."""
    here = tmp_path_factory.mktemp("any")
    source = folder(here / "a", factors(seed, layers=1, decay=decay, size=size))
    before = math.inf
    for rank in range(1, 6):
        done = compress_adapter(source, here / f"b{rank}", rule=fixed_rule(rank))
        (layer,) = done.layers
        assert layer.relative_measured is not None
        assert layer.relative_measured == pytest.approx(layer.relative_predicted, rel=1e-3, abs=1e-6)
        assert layer.relative_measured < before
        before = layer.relative_measured


@pytest.mark.parametrize("policy", ["energy@0.90", "energy@0.99", "energy@0.999", "energy@1", "stable_rank_ceil"])
def test_ranks_of_a_policy(tmp_path: Path, policy: str) -> None:
    """Given a policy, when applied, then its ranks are those of a dense SVD."""
    source = folder(tmp_path / "a", factors(4, decay=0.5))
    done = compress_adapter(source, tmp_path / "b", rule=policy_rule(policy), dry_run=True)
    for layer, delta in zip(done.layers, products(source, 2.0), strict=True):
        energy = np.linalg.svd(delta, compute_uv=False)[:6] ** 2
        if policy == "stable_rank_ceil":
            wanted = math.ceil(float(energy.sum() / energy[0]))
        else:
            share = float(policy.removeprefix("energy@"))
            wanted = next(k for k in range(1, 7) if energy[:k].sum() >= share * energy.sum() * (1 - 1e-12))
        assert layer.rank_after == wanted


def test_what_is_written(tmp_path: Path) -> None:
    """Given an adapter with other files beside it, when compressed, then three files are written, one a proof."""
    source = folder(tmp_path / "a", base_model_name_or_path="owner/ü", lora_dropout=0.05, made_up={"kept": [1, None]})
    (source / "tokenizer.json").write_text("{}")
    before = tree(source)
    done = compress_adapter(
        source, tmp_path / "new" / "b", rule=given_rule({"model.layers.1.self_attn.q_proj": 2}, "x")
    )
    out = tmp_path / "new" / "b"
    assert tree(source) == before
    assert sorted(one.name for one in out.iterdir()) == ["adapter_config.json", WEIGHTS_NAME, PROOF_NAME]
    assert [one.name for one in out.parent.iterdir()] == ["b"]
    assert done.not_copied == ("tokenizer.json",)
    config = json.loads((out / "adapter_config.json").read_text())
    original = json.loads((source / "adapter_config.json").read_text())
    changed = {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"}
    assert {key: config[key] for key in config.keys() - changed} == {
        key: original[key] for key in original.keys() - changed
    }
    assert config["rank_pattern"] == config["alpha_pattern"] == {r"^model\.layers\.1\.self_attn\.q_proj": 2}
    proof = json.loads((out / PROOF_NAME).read_text())
    assert proof["schema"] == "gradience.compression/v1"
    assert proof["original_sha256"] == {
        name: digest for name, (_, digest) in before.items() if name != "tokenizer.json"
    }
    written = {name: digest for name, (_, digest) in tree(out).items() if name != PROOF_NAME}
    assert proof["written_sha256"] == written
    assert [layer["rank_after"] for layer in proof["layers"]] == [6, 2, 6]
    assert [layer["relative_error_measured"] == 0 for layer in proof["layers"]] == [True, False, True]
    assert str(tmp_path) not in (out / PROOF_NAME).read_text()


def test_a_dry_run_writes_nothing_and_says_the_same(tmp_path: Path) -> None:
    """Given --dry-run, when compressed, then the tree is untouched, and the plan is that of the run after it."""
    source = folder(tmp_path / "a")
    before = tree(tmp_path)
    planned = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2), dry_run=True)
    assert tree(tmp_path) == before
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    assert planned.total_measured is None
    assert (planned.params_after, planned.bytes_after, planned.r) == (done.params_after, done.bytes_after, done.r)
    assert [(one.module, one.rank_after, one.predicted) for one in planned.layers] == [
        (one.module, one.rank_after, one.predicted) for one in done.layers
    ]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference adapter is not part of the repository")
def test_a_real_adapter(tmp_path: Path) -> None:
    """Given an adapter of a real fine-tune, when cut to half its rank, then errors are as predicted in every module."""
    done = compress_adapter(REFERENCE, tmp_path / "b", rule=fixed_rule(4))
    assert done.params_after * 2 == done.params_before
    for layer in done.layers:
        assert layer.relative_measured == pytest.approx(layer.relative_predicted, rel=1e-3)


def test_nothing_to_save_writes_nothing(tmp_path: Path) -> None:
    """Given a rank that is no lower, when compressed, then it says so and writes nothing."""
    done = compress_adapter(folder(tmp_path / "a"), tmp_path / "b", rule=fixed_rule(6))
    assert not done.saves
    assert not done.written
    assert not (tmp_path / "b").exists()


def test_a_narrower_format_alone_is_a_saving(tmp_path: Path) -> None:
    """Given ranks that stay, when written in half the width, then that is measured and written, too."""
    source = folder(tmp_path / "a")
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(6), dtype="bfloat16")
    assert done.bytes_after * 2 == done.bytes_before
    for layer, was, now in zip(done.layers, products(source, 2.0), products(tmp_path / "b", 1.0), strict=True):
        assert layer.measured == pytest.approx(np.linalg.norm(was - now), rel=1e-6)
        assert 1e-4 < (layer.relative_measured or 0) < 1e-2


def test_a_cut_that_loses_less_than_rounding_says_so(tmp_path: Path) -> None:
    """Given factors of a lower rank than their size, when written in half precision, then the remark names rounding."""
    arrays = factors(0)
    for name in (name for name in arrays if "lora_B" in name):
        arrays[name][:, 2:] = 0
    source = folder(tmp_path / "a", arrays)
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2), dtype="float16")
    assert any("In 3 modules rounding" in remark for remark in done.remarks)
    assert not compress_adapter(source, tmp_path / "c", rule=fixed_rule(2)).remarks


def test_shards_become_one_file(tmp_path: Path) -> None:
    """Given an adapter in two files with an index, when compressed, then one file holds all of it."""
    source = folder(tmp_path / "a")
    arrays = factors(0)
    (source / WEIGHTS_NAME).unlink()
    names = sorted(arrays)
    files = {f"adapter_model-0000{n}-of-00002.safetensors": names[n - 1 :: 2] for n in (1, 2)}
    for file, held in files.items():
        (source / file).write_bytes(safetensors({name: numbers(arrays[name]) for name in held}))
    index = {"weight_map": {name: file for file, held in files.items() for name in held}}
    (source / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    whole = compress_adapter(folder(tmp_path / "c"), tmp_path / "d", rule=fixed_rule(2))
    assert len(done.sha256) == 3
    assert (tmp_path / "b" / WEIGHTS_NAME).read_bytes() == (tmp_path / "d" / WEIGHTS_NAME).read_bytes()
    assert done.total_measured == pytest.approx(whole.total_measured, rel=1e-12)


def test_dora_modules_stay_as_they_are(tmp_path: Path) -> None:
    """Given one module with a magnitude vector among others, when compressed, then it is copied, and said why."""
    arrays = factors(0)
    arrays[f"{Q.format(1)}.lora_magnitude_vector"] = np.arange(20.0)
    source = folder(tmp_path / "a", arrays, lora_alpha=9)
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    assert [layer.kept_because for layer in done.layers] == ["", DORA, ""]
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert config["alpha_pattern"] == {r"^model\.layers\.1\.self_attn\.q_proj": 9}
    with SafetensorsFile(source / WEIGHTS_NAME) as old, SafetensorsFile(tmp_path / "b" / WEIGHTS_NAME) as new:
        for name in (name for name in arrays if ".1." in name):
            assert np.array_equal(old.array(name), new.array(name))
    assert any("DoRA" in remark for remark in done.remarks)


def test_keys_with_the_adapters_name_in_them(tmp_path: Path) -> None:
    """Given keys as they stand in a state dict, when compressed, then they are written as save_pretrained does."""
    named = {name.replace(".weight", ".default.weight"): one for name, one in factors(0).items()}
    compress_adapter(folder(tmp_path / "a", named), tmp_path / "b", rule=fixed_rule(2))
    compress_adapter(folder(tmp_path / "c"), tmp_path / "d", rule=fixed_rule(2))
    assert (tmp_path / "b" / WEIGHTS_NAME).read_bytes() == (tmp_path / "d" / WEIGHTS_NAME).read_bytes()


def test_hostile_names_are_matched_as_they_are(tmp_path: Path) -> None:
    """Given a module called by a regular expression's signs, when compressed, then its pattern matches it alone."""
    names = ["a.*", "a.xx", "b(c|d)+$", "e\\f", "[g", "h\x1b[31m"]
    rng = np.random.default_rng(0)
    arrays = {
        f"base_model.model.{name}.lora_{side}.weight": rng.standard_normal(shape)
        for name in names
        for side, shape in (("A", (6, 9)), ("B", (8, 6)))
    }
    ranks = {name: 1 + number for number, name in enumerate(names[:5])}
    done = compress_adapter(folder(tmp_path / "a", arrays), tmp_path / "b", rule=given_rule(ranks, "here"))
    assert {layer.module: layer.rank_after for layer in done.layers} == {**ranks, names[5]: 6}
    assert all(layer.measured is not None for layer in done.layers)


def broken(path: Path, case: str) -> Path:
    """An adapter that cannot be compressed."""
    arrays = factors(0)
    first = f"{Q.format(0)}.lora_A.weight"
    changes: dict[str, Any] = {}
    match case:
        case "nan":
            arrays[first][2, 3] = math.nan
        case "infinite":
            arrays[first][0, 0] = math.inf
        case "no lora_B":
            del arrays[first.replace("lora_A", "lora_B")]
        case "other rank in the config":
            changes["r"] = 8
        case "no alpha":
            changes["lora_alpha"] = None
        case "another method":
            changes["peft_type"] = "LOHA"
        case "olora":
            changes["init_lora_weights"] = "olora"
        case "kasa":
            changes["kasa_config"] = {"beta": 1}
        case "tied":
            changes["ensure_weight_tying"] = True
        case "unknown key":
            arrays[f"{Q.format(0)}.lora_C.weight"] = np.ones((2, 2))
        case _:
            pass
    source = folder(path, arrays, **changes)
    weights = source / WEIGHTS_NAME
    match case:
        case "cut off":
            weights.write_bytes(weights.read_bytes()[:-10])
        case "no weights":
            weights.unlink()
        case "no config":
            (source / "adapter_config.json").unlink()
        case "config of NaN":
            (source / "adapter_config.json").write_text('{"r": NaN}')
        case "header of nothing":
            weights.write_bytes(struct.pack("<Q", 1 << 40))
        case "no factors":
            weights.write_bytes(safetensors({"base_model.model.score.weight": numbers(np.ones((2, 2)))}))
        case _:
            pass
    return source


@pytest.mark.parametrize(
    "case",
    [
        *("nan", "infinite", "no lora_B", "other rank in the config", "no alpha", "another method", "olora", "kasa"),
        *("tied", "unknown key", "cut off", "no weights", "no config", "config of NaN", "header of nothing"),
        "no factors",
    ],
)
def test_what_cannot_be_compressed_is_refused_with_a_sentence(tmp_path: Path, case: str) -> None:
    """Given an adapter that is broken or no sum of products, when compressed, then it is refused and nothing left."""
    source = broken(tmp_path / "a", case)
    before = tree(tmp_path)
    with pytest.raises(InputError) as refusal:
        compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    assert refusal.value.message.endswith(".")
    assert tree(tmp_path) == before
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("place", ["a", "a/below", "full", "file", "link", "loop", "file/below", "a/../a", "\0"])
def test_places_that_are_taken(tmp_path: Path, place: str) -> None:
    """Given a place that is the original, in it, or holds something, when compressed, then nothing there is touched."""
    source = folder(tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = tree(tmp_path)
    with pytest.raises(InputError):
        compress_adapter(source, tmp_path / place, rule=fixed_rule(2))
    assert tree(tmp_path) == before


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    """Given an empty folder as the place, when compressed, then it is filled."""
    (tmp_path / "b").mkdir()
    assert compress_adapter(folder(tmp_path / "a"), tmp_path / "b", rule=fixed_rule(2)).written
    assert len(list((tmp_path / "b").iterdir())) == 3


@pytest.mark.parametrize("at", range(4))
def test_a_full_disk_leaves_nothing(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a disk that fails at any point, when compressed, then there is no new folder, and no rest of one."""
    source = folder(tmp_path / "a")
    calls = 0
    real = os.fsync

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > at and not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(InputError, match="No space left"):
        compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_killed_process_leaves_no_folder_of_that_name(tmp_path: Path) -> None:
    """Given a process that is killed before the proof is done, when looked at, then the place is still free."""
    source = folder(tmp_path / "a")
    program = (
        "import os\n"
        "from gradience_analysis.compression import compressing, compress_adapter, fixed_rule\n"
        "compressing.measure = lambda *given: os._exit(9)\n"
        f"compress_adapter({str(source)!r}, {str(tmp_path / 'b')!r}, rule=fixed_rule(2))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, env=environment(), timeout=60)
    assert done.returncode == 9
    assert not (tmp_path / "b").exists()
    assert compress_adapter(source, tmp_path / "b", rule=fixed_rule(2)).written


def test_the_proof_finds_what_was_written_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a writer that spoils one value, when read back, then that is found and nothing published."""
    from gradience_analysis.compression import compressing

    real = compressing.write_safetensors

    def spoiling(path: Path, tensors: Any, metadata: Any) -> None:
        real(path, tensors, metadata)
        data = bytearray(path.read_bytes())
        data[-2] ^= 0x40
        path.write_bytes(data)

    monkeypatch.setattr(compressing, "write_safetensors", spoiling)
    with pytest.raises(InputError, match="read back"):
        compress_adapter(folder(tmp_path / "a"), tmp_path / "b", rule=fixed_rule(2))
    assert not (tmp_path / "b").exists()


def test_values_beyond_the_number_format(tmp_path: Path) -> None:
    """Given factors whose product is beyond half precision, when written in it, then it is refused."""
    source = folder(tmp_path / "a", factors(0, size=1e12))
    with pytest.raises(InputError, match="beyond the range of F16"):
        compress_adapter(source, tmp_path / "b", rule=fixed_rule(2), dtype="float16")
    assert compress_adapter(source, tmp_path / "b", rule=fixed_rule(2)).written


def test_double_precision_of_any_size(tmp_path: Path) -> None:
    """Given float64 values whose squares are beyond a double, when cut, then errors are predicted and measured."""
    source = folder(tmp_path / "a", factors(0, size=1e200), "F64")
    done = compress_adapter(source, tmp_path / "b", rule=fixed_rule(2))
    assert done.total_measured == pytest.approx(done.total_predicted, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 3, "b": 1}', {"a": 3, "b": 1}),
        ('{"schema": "x", "rank_suggestions": {"layers": [{"name": "a", "suggested_r": 4}]}}', {"a": 4}),
        *((text, None) for text in ('{"a": 0}', '{"a": 1.5}', '{"a": true}', '{"a": "4"}', "{}", "[]", "", "nonsense")),
        *((text, None) for text in ('{"schema": "x"}', '{"schema": "x", "rank_suggestions": null}')),
        *((text, None) for text in ('{"rank_suggestions": {"layers": [1]}}', '{"rank_suggestions": {"layers": []}}')),
        ('{"rank_suggestions": {"layers": [{"name": "a"}]}}', None),
    ],
)
def test_suggestions_from_a_file(tmp_path: Path, text: str, found: dict[str, int] | None) -> None:
    """Given a file of ranks, when read, then an audit's and a plain one are taken, and anything else is refused."""
    (tmp_path / "ranks.json").write_text(text)
    if found is None:
        with pytest.raises(InputError):
            read_suggestions(tmp_path / "ranks.json")
    else:
        assert read_suggestions(tmp_path / "ranks.json") == found


@pytest.mark.parametrize(
    "call",
    [
        lambda: policy_rule("energy@0"),
        lambda: policy_rule("energy@1.5"),
        lambda: policy_rule("energi@0.99"),
        lambda: fixed_rule(0),
    ],
    ids=["share of zero", "share above one", "misspelled", "rank zero"],
)
def test_rules_without_sense(call: Any) -> None:
    """Given a rule that makes no sense, when made, then it is refused."""
    with pytest.raises(GradienceError):
        call()


@pytest.mark.parametrize("names", [["model.layers.7.self_attn.q_proj"], ["model.layers.0.self_attn.q_prj"]])
def test_a_rank_for_a_module_that_is_not_there(tmp_path: Path, names: Sequence[str]) -> None:
    """Given ranks for another adapter, when applied, then the module that is missing is named."""
    with pytest.raises(GradienceError, match="no module"):
        compress_adapter(folder(tmp_path / "a"), tmp_path / "b", rule=given_rule(dict.fromkeys(names, 2), "here"))
