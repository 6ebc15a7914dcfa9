"""The cache: hits where the content is the same, misses where it is not, and is never believed when it is not sound."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradience_analysis.base_weights import BaseNorms, base_norms, open_base
from gradience_analysis.base_weights.cache import SCHEMA
from tests.analysis.adapters.files import Tensor, floats
from tests.analysis.base_weights.building import expert, model, module, random, stored

if TYPE_CHECKING:
    from pathlib import Path

Q, K = "layers.0.q", "layers.0.k"
SHAPE = (200, 120)


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """Two layers."""
    return {f"{Q}.weight": stored(random(*SHAPE, seed=seed)), f"{K}.weight": stored(random(*SHAPE, seed=seed + 1))}


def measured(folder: Path, cache: Path, tolerance: float = 1e-4) -> BaseNorms:
    """The norms of both."""
    return base_norms(open_base(folder), [module(Q, SHAPE), module(K, SHAPE)], cache=cache, tolerance=tolerance)


def hits(found: BaseNorms) -> list[str]:
    """The modules whose norms come from the cache."""
    return sorted(name for name, norm in found.by_module.items() if norm.cached)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model."""
    return model(tmp_path / "base", tensors())


@pytest.fixture
def cache(base: Path, tmp_path: Path) -> Path:
    """The cache of its norms."""
    path = tmp_path / "norms.json"
    assert hits(measured(base, path)) == []
    return path


def test_second_time_is_the_same_from_the_cache(base: Path, cache: Path) -> None:
    """Given a cache that was filled, when measured again, then all norms come from it, to the last bit."""
    fresh, kept = base_norms(open_base(base), [module(Q, SHAPE)]), measured(base, cache)
    assert hits(kept) == [K, Q]
    assert kept.remarks == ()
    for field in ("spectral", "frobenius", "residual", "steps", "tensor", "file", "shape", "quantization"):
        assert getattr(kept.by_module[Q], field) == getattr(fresh.by_module[Q], field)
    written = json.loads(cache.read_text())
    assert (written["schema"], len(written["entries"])) == (SCHEMA, 2)


def test_moved_and_renamed_folder_hits(base: Path, cache: Path, tmp_path: Path) -> None:
    """Given a base that is moved, and files that are linked, when measured, then the norms come from the cache."""
    moved = base.rename(tmp_path / "another name")
    assert hits(measured(moved, cache)) == [K, Q]
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "model.safetensors").symlink_to(moved / "model.safetensors")
    assert hits(measured(linked, cache)) == [K, Q]
    shutil.copytree(moved, tmp_path / "copy")
    assert hits(measured(tmp_path / "copy", cache)) == [K, Q]


@pytest.mark.parametrize("place", [0, 77, 200 * 120 - 1])
def test_one_changed_value_misses(base: Path, cache: Path, place: int) -> None:
    """Given one value changed in place with the time put back, when measured, then that tensor misses, no other."""
    path = base / "model.safetensors"
    times = path.stat()
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start + 4 * place] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert hits(measured(base, cache)) == [K]


def test_written_anew_misses(base: Path, cache: Path) -> None:
    """Given a large tensor of which a value that is not looked at changes, when written anew, then it misses."""
    values = random(1000, 400)
    sizes = (1000, 400)

    def large() -> BaseNorms:
        return base_norms(open_base(base), [module(Q, sizes)], cache=cache)

    path = model(base, {f"{Q}.weight": stored(values)}) / "model.safetensors"
    assert not hits(large())
    assert hits(large()) == [Q]
    values[321, 17] += 1e-3
    before = path.stat().st_mtime_ns
    model(base, {f"{Q}.weight": stored(values)})
    os.utime(path, ns=(before + 1, before + 1))
    assert not hits(large())


def test_other_values_of_the_same_name_miss(base: Path, cache: Path) -> None:
    """Given another model under the same name and with the same times, when measured, then nothing is taken over."""
    times = (base / "model.safetensors").stat()
    model(base, tensors(seed=7))
    os.utime(base / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    found = measured(base, cache)
    assert hits(found) == []
    assert found.by_module[Q].spectral == pytest.approx(np.linalg.norm(random(*SHAPE, seed=7), 2), rel=1e-4)


def test_tolerance_counts(base: Path, cache: Path) -> None:
    """Given norms of one tolerance, when others are asked for, then they serve for a coarser one and no finer one."""
    assert hits(measured(base, cache, 1e-3)) == [K, Q]
    finer = measured(base, cache, 1e-6)
    assert hits(finer) == []
    assert finer.by_module[Q].tolerance == 1e-6
    again = measured(base, cache, 1e-4)
    assert hits(again) == [K, Q]
    assert again.by_module[Q].tolerance == 1e-6


def test_experts_are_told_apart(tmp_path: Path) -> None:
    """Given experts that share a tensor, when kept, then each has an entry of its own."""
    name, cache = "layers.0.experts.down_proj", tmp_path / "norms.json"
    values = random(2, 6, 5) * np.array([1, 3], dtype=np.float32).reshape(2, 1, 1)
    folder = model(tmp_path / "base", {name: stored(values)})
    experts = [expert(name, number, (6, 5), name) for number in range(2)]
    first = base_norms(open_base(folder), experts, cache=cache)
    second = base_norms(open_base(folder), experts, cache=cache)
    assert hits(second) == [f"{name}[0]", f"{name}[1]"]
    assert [n.spectral for n in second.by_module.values()] == [n.spectral for n in first.by_module.values()]


def test_entries_of_other_models_stay(base: Path, cache: Path, tmp_path: Path) -> None:
    """Given a cache with one model's norms, when another's are added, then both are kept."""
    other = model(tmp_path / "other", tensors(seed=5))
    assert hits(measured(other, cache)) == []
    assert hits(measured(other, cache)) == hits(measured(base, cache)) == [K, Q]


def edited(cache: Path, **changes: Any) -> None:
    """Change a field of every entry."""
    found = json.loads(cache.read_text())
    for entry in found["entries"].values():
        entry.update(changes)
    cache.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "changes",
    [
        {"spectral": 1.0},
        {"spectral": -1},
        {"spectral": "3"},
        {"frobenius": None},
        {"tolerance": 1e-9},
        {"steps": 2.5},
        {"tensor": 3},
        {"check": "0" * 16},
    ],
    ids=str,
)
def test_changed_entry_is_not_believed(base: Path, cache: Path, changes: dict[str, Any]) -> None:
    """Given an entry with a number that was changed, when measured, then it is computed anew, said, and put right."""
    edited(cache, **changes)
    found = measured(base, cache)
    assert hits(found) == []
    assert found.by_module[Q].spectral == pytest.approx(np.linalg.norm(random(*SHAPE), 2), rel=1e-4)
    assert found.remarks == (
        f"The cache of base norms {cache} has 2 entries that do not check out; that is computed anew.",
    )
    assert hits(measured(base, cache)) == [K, Q]


@pytest.mark.parametrize("keep", [40, 200, -3])
def test_torn_cache_is_written_anew(base: Path, cache: Path, keep: int) -> None:
    """Given a cache of ours that ends in its middle, when measured, then it is passed over, said, and written anew."""
    cache.write_bytes(cache.read_bytes()[:keep])
    found = measured(base, cache)
    assert hits(found) == []
    assert "is not JSON" in found.remarks[0]
    assert hits(measured(base, cache)) == [K, Q]


@pytest.mark.parametrize(
    "content",
    [b"\x80\x04garbage", b"{}", b"[1]", b'{"schema": "another/v1", "entries": {}}', b'{"learning_rate": 1e-4}'],
    ids=["bytes", "object", "array", "another-schema", "a-config"],
)
def test_file_that_is_not_ours_is_left_alone(base: Path, tmp_path: Path, content: bytes) -> None:
    """Given a path to a file of another kind, when measured, then the norms come, a remark says so, and it stays."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    found = measured(base, path)
    assert len(found.by_module) == 2
    assert found.remarks[0].startswith(f"The cache of base norms {path} ")
    assert found.remarks[0].endswith("; it was not used, and is left as it is.")
    assert path.read_bytes() == content


def test_empty_file_and_older_version_are_filled(base: Path, tmp_path: Path) -> None:
    """Given an empty file, or a cache of an unknown version of ours, when measured, then it is filled."""
    for number, content in enumerate((b"", b'{"schema": "gradience.base-norms/v0", "entries": {}}')):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        assert hits(measured(base, path)) == []
        assert hits(measured(base, path)) == [K, Q]


def test_cache_that_cannot_be_written_or_read_costs_a_remark(base: Path, tmp_path: Path) -> None:
    """Given a folder that is not there, and a folder for a file, when measured, then the norms come with a remark."""
    found = measured(base, tmp_path / "absent" / "norms.json")
    assert (len(found.by_module), len(found.remarks)) == (2, 1)
    assert "could not be written: No such file or directory." in found.remarks[0]
    found = measured(base, tmp_path)
    assert (len(found.by_module), len(found.remarks)) == (2, 1)
    assert "was not used" in found.remarks[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_nothing_is_left_beside_it(cache: Path) -> None:
    """Given a cache that was written, when its folder is listed, then no temporary file is left in it."""
    assert sorted(path.name for path in cache.parent.iterdir()) == ["base", "norms.json"]


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_survived(tmp_path: Path, junk: bytes, place: int) -> None:
    """Given a cache with any bytes written over any place, when measured, then the norms are the right ones."""
    folder, path = tmp_path / "base", tmp_path / "norms.json"
    if not folder.exists():
        model(folder, {f"{Q}.weight": floats((3, 3), 2.0)})
    path.unlink(missing_ok=True)
    base_norms(open_base(folder), [module(Q, (3, 3))], cache=path)
    data = path.read_bytes()
    path.write_bytes(data[:place] + junk + data[place + len(junk) :])
    found = base_norms(open_base(folder), [module(Q, (3, 3))], cache=path)
    assert found.by_module[Q].spectral == pytest.approx(6.0, rel=1e-6)
