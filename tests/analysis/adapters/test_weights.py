"""Weight files: which of a folder's files are the adapter's weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gradience_analysis.adapters.weights import find_weights
from gradience_analysis.errors import InputError
from tests.analysis.adapters.files import linear, safetensors

ZIP = b"PK\x03\x04" + b"\0" * 30


def fill(folder: Path, *names: str, data: bytes = b"") -> Path:
    """Files of these names; those of safetensors are sound."""
    for name in names:
        (folder / name).write_bytes(data or (safetensors(linear()) if name.endswith(".safetensors") else ZIP))
    return folder


def test_adapter_among_other_files(tmp_path: Path) -> None:
    """Given a training checkpoint, when searched, then only the adapter's own file counts, and no trainer state."""
    state = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin", "scaler.pt")
    found = find_weights(fill(tmp_path, "adapter_model.safetensors", "model.safetensors", *state, "README.md"))
    assert (found.safetensors, found.pickled, found.rivals) == (("adapter_model.safetensors",), (), ())


def test_shards_are_found_and_the_missing_one_named(tmp_path: Path) -> None:
    """Given two of three shards without an index, when searched, then the third is missing."""
    names = [f"adapter_model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    found = find_weights(fill(tmp_path, names[0], names[2]))
    assert (found.safetensors, found.missing_shards) == ((names[0], names[2]), (names[1],))


def test_index_names_the_shards(tmp_path: Path) -> None:
    """Given an index, when searched, then its shards are those to read, and one that is not there is missing."""
    fill(tmp_path, "adapter_model-00001-of-00002.safetensors")
    weight_map = {"a": "adapter_model-00001-of-00002.safetensors", "b": "adapter_model-00002-of-00002.safetensors"}
    (tmp_path / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = find_weights(tmp_path)
    assert (found.index, found.missing_shards) == (weight_map, ("adapter_model-00002-of-00002.safetensors",))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 7])
def test_index_leads_nowhere_else(tmp_path: Path, name: object) -> None:
    """Given an index that names a file elsewhere, when searched, then it is faulty, and nothing is looked up."""
    (tmp_path / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    found = find_weights(tmp_path)
    assert "no safetensors file of this folder" in found.index_fault
    assert found.missing_shards == ()


@pytest.mark.parametrize(
    ("head", "kind"),
    [(ZIP, "zip archive"), (b"\x80\x02}q", "pickle"), (b"\0" * 257 + b"ustar", "tar archive")],
)
@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "weights.ckpt", "x.pth"])
def test_pickle_is_known_by_its_first_bytes(tmp_path: Path, name: str, head: bytes, kind: str) -> None:
    """Given weights of a pickle's name and first bytes, when searched, then they are told with their kind."""
    (found,) = find_weights(fill(tmp_path, name, data=head)).pickled
    assert (found.name, found.kind) == (name, kind)


def test_binary_that_is_no_pickle_is_not_accused(tmp_path: Path) -> None:
    """Given a .bin of another program, when searched, then it is no pickle."""
    assert find_weights(fill(tmp_path, "ggml-adapter-model.bin", data=b"ggla\1\0\0\0")).pickled == ()


def test_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """Given a FIFO in the place of weights, when searched, then it is told as not read, at once."""
    os.mkfifo(tmp_path / "adapter_model.bin")
    assert find_weights(tmp_path).pickled[0].kind == "not read"


def test_several_sets_are_rivals(tmp_path: Path) -> None:
    """Given two sets of weights of other names, when searched, then neither is chosen and both are named."""
    found = find_weights(fill(tmp_path, "one.safetensors", "two.safetensors"))
    assert (found.safetensors, found.rivals) == ((), ("one", "two"))


def test_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Given no such folder, when searched, then the error names it."""
    with pytest.raises(InputError, match="absent"):
        find_weights(tmp_path / "absent")


def test_weights_of_an_old_pickle_are_seen_by_their_name(tmp_path: Path) -> None:
    """Given adapter_model.bin in a protocol without a mark of its own, when looked for, then it is no missing file."""
    (found,) = find_weights(fill(tmp_path, "adapter_model.bin", data=b"(dp0\nVx\np1\nF1\ns.")).pickled
    assert found.kind == "unknown format"
