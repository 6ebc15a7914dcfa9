"""Checkpoints: which files are taken for the base's weights, and which folders are refused with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradience_analysis.adapters import HeaderError
from gradience_analysis.base_weights import open_base
from gradience_analysis.errors import InputError
from tests.analysis.adapters.files import Tensor, adapter, floats, safetensors
from tests.analysis.base_weights.building import model, sharded

Q, K = "model.layers.0.q", "model.layers.0.k"
PLAIN: dict[str, Tensor] = {f"{Q}.weight": floats((4, 4))}
OTHER: dict[str, Tensor] = {f"{K}.weight": floats((4, 4))}


def repository(folder: Path, *snapshots: str, main: str | None = None) -> Path:
    """A model in the layout of the download cache, its files as links into blobs."""
    found = folder / "models--owner--tiny"
    (found / "blobs").mkdir(parents=True)
    for name in snapshots:
        blob = found / "blobs" / f"blob-{name}"
        blob.write_bytes(safetensors({f"only.in.{name}.weight": floats((2, 2))}))
        (found / "snapshots" / name).mkdir(parents=True)
        (found / "snapshots" / name / "model.safetensors").symlink_to(Path("../../blobs") / blob.name)
    if main is not None:
        (found / "refs").mkdir()
        (found / "refs" / "main").write_text(main)
    return found


def names(path: Path) -> list[str]:
    """The files that are taken."""
    return [file.name for file in open_base(path).files]


def test_single_file_by_folder_and_by_path(tmp_path: Path) -> None:
    """Given one file, when folder or file is given, then it is taken, and an adapter beside it is not."""
    folder = model(tmp_path / "base", PLAIN)
    adapter(folder)
    assert names(folder) == names(folder / "model.safetensors") == ["model.safetensors"]
    assert open_base(folder).find(Q) == f"{Q}.weight"


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model", "gptq_model-4bit-128g"])
@pytest.mark.parametrize("index", [True, False], ids=["index", "numbers"])
@pytest.mark.parametrize("width", [5, 6])
def test_shards(tmp_path: Path, stem: str, index: bool, width: int) -> None:
    """Given shards, with an index or by their numbers, when opened, then all of them are taken in order."""
    folder = sharded(tmp_path, [PLAIN, OTHER], stem, index=index, width=width)
    base = open_base(folder)
    assert [file.name for file in base.files] == sorted(path.name for path in folder.glob("*.safetensors"))
    assert (base.find(Q), base.find(K)) == (f"{Q}.weight", f"{K}.weight")
    if index:
        assert names(folder / f"{stem}.safetensors.index.json") == names(folder)


@pytest.mark.parametrize("index", [True, False], ids=["index", "numbers"])
def test_missing_shards_are_named(tmp_path: Path, index: bool) -> None:
    """Given a shard that is missing, when opened, then the error names it and how many there are."""
    folder = sharded(tmp_path, [PLAIN, OTHER, {}], index=index)
    (folder / "model-00002-of-00003.safetensors").unlink()
    if index:
        (folder / "model-00003-of-00003.safetensors").unlink()  # of no tensor, so that the index does not name it
    with pytest.raises(InputError, match=r"lacks 1 of [23] shards: 'model-00002-of-00003.safetensors'\."):
        open_base(folder)


@pytest.mark.parametrize(
    ("beside", "taken"),
    [
        pytest.param(["model.fp16"], "model", id="a-variant"),
        pytest.param(["consolidated"], "model", id="the-original"),
        pytest.param(["diffusion_pytorch_model", "other"], "model", id="diffusers"),
        pytest.param(["model-00001-of-00002"], "model", id="shards-of-the-same-name"),
    ],
)
def test_file_called_model_comes_first(tmp_path: Path, beside: list[str], taken: str) -> None:
    """Given several sets of weights, when one is called model, then that one is taken."""
    for stem in [taken, *beside]:
        (tmp_path / f"{stem}.safetensors").write_bytes(safetensors(PLAIN))
    assert names(tmp_path) == [f"{taken}.safetensors"]


def test_snapshot_of_main_is_taken(tmp_path: Path) -> None:
    """Given a repository in the cache, when its folder is given, then refs/main chooses the snapshot."""
    found = repository(tmp_path, "aaa", "bbb", main="bbb\n")
    assert open_base(found).find("only.in.bbb") == "only.in.bbb.weight"
    assert open_base(found / "snapshots").find("only.in.bbb") == "only.in.bbb.weight"
    assert open_base(found / "snapshots" / "aaa").find("only.in.aaa") == "only.in.aaa.weight"


def test_only_snapshot_is_taken_without_refs(tmp_path: Path) -> None:
    """Given one snapshot and no refs, when opened, then it is that one."""
    assert open_base(repository(tmp_path, "aaa")).find("only.in.aaa") is not None


def test_folder_called_snapshots_in_a_model_is_nothing(tmp_path: Path) -> None:
    """Given a model with a folder called snapshots in it, when opened, then the model's own weights are taken."""
    folder = model(tmp_path, PLAIN)
    model(tmp_path / "snapshots" / "aaa", OTHER)
    assert open_base(folder).find(Q) == f"{Q}.weight"


def nothing(folder: Path) -> Path:
    """A path that is not there."""
    return folder / "absent"


def hub_name(folder: Path) -> Path:
    """A name on the hub."""
    return Path("owner-nobody/tiny-3b")


def pickled(folder: Path) -> Path:
    """Weights as a pickle alone, with code beside them."""
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    return folder


def a_pickle(folder: Path) -> Path:
    """The pickle itself."""
    return pickled(folder) / "pytorch_model.bin"


def only_an_adapter(folder: Path) -> Path:
    """An adapter's folder."""
    return adapter(folder / "a")


def adapter_file(folder: Path) -> Path:
    """An adapter's file."""
    return adapter(folder / "a") / "adapter_model.safetensors"


def empty(folder: Path) -> Path:
    """A folder without anything."""
    return folder


def two_sets(folder: Path) -> Path:
    """Two files of which none is the usual one."""
    for stem in ("first", "second"):
        (folder / f"{stem}.safetensors").write_bytes(safetensors(PLAIN))
    return folder


def pipeline(folder: Path) -> Path:
    """A diffusion pipeline, its weights in folders."""
    for part in ("unet", "vae"):
        model(folder / part, PLAIN)
    return folder


def several_snapshots(folder: Path) -> Path:
    """Two snapshots and nothing that chooses."""
    return repository(folder, "aaa", "bbb")


def lost_snapshot(folder: Path) -> Path:
    """A reference to a snapshot that is not there."""
    return repository(folder, "aaa", main="ccc")


def leading_out(folder: Path) -> Path:
    """A reference that leads to another place."""
    model(folder / "secret", PLAIN)
    return repository(folder, "aaa", main="../../secret")


def whole_cache(folder: Path) -> Path:
    """The cache of many models."""
    repository(folder, "aaa")
    return folder


def index_leading_out(folder: Path) -> Path:
    """An index that names a file elsewhere."""
    model(folder / "secret", PLAIN)
    base = folder / "base"
    base.mkdir()
    text = json.dumps({"weight_map": {"x": "../secret/model.safetensors"}})
    (base / "model.safetensors.index.json").write_text(text)
    return base


def torn_index(folder: Path) -> Path:
    """An index that ends in its middle."""
    sharded(folder, [PLAIN, OTHER])
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "mo')
    return folder


def index_without_a_map(folder: Path) -> Path:
    """An index that names nothing."""
    sharded(folder, [PLAIN, OTHER])
    (folder / "model.safetensors.index.json").write_text("{}")
    return folder


def fifo(folder: Path) -> Path:
    """A path that nobody writes to."""
    os.mkfifo(folder / "x")
    return folder / "x"


def gguf(folder: Path) -> Path:
    """Another program's format."""
    (folder / "model.gguf").write_bytes(b"GGUF")
    return folder


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nothing, r"absent: does not exist\. Give the folder"),
        (hub_name, r"owner-nobody/tiny-3b: is no local path, and nothing is downloaded\. Give the folder"),
        (pickled, r"only as pickles, which run code when they are loaded\. Convert them .* save_pretrained"),
        (a_pickle, r"is no safetensors file, .* Convert them"),
        (only_an_adapter, r"holds an adapter and no base model\."),
        (adapter_file, r"is the file of an adapter\."),
        (empty, r"holds no safetensors files\."),
        (two_sets, r"several sets of weights, .*: 'first', 'second'\. Give the path of one file"),
        (pipeline, r"in folders of its own: 'unet', 'vae'\. Give one of these"),
        (several_snapshots, r"holds 2 snapshots and no refs/main that names one: 'aaa', 'bbb'\."),
        (lost_snapshot, r"has no snapshot 'ccc', which refs/main names\."),
        (leading_out, r"has no snapshot '\.\./\.\./secret', which refs/main names\."),
        (whole_cache, r"is a download cache of several models\."),
        (index_leading_out, r"names '\.\./secret/model\.safetensors', which is no safetensors file of this folder\."),
        (torn_index, r"index\.json: is not JSON"),
        (index_without_a_map, r"has no weight_map\."),
        (fifo, r"is neither a file nor a folder\."),
        (gguf, r"GGUF, which is not read\."),
    ],
)
def test_refusal_says_what_to_give(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    """Given a path that holds no base model that is read, when opened, then one sentence says why and what to do."""
    with pytest.raises(InputError, match=says):
        open_base(make(tmp_path))


def test_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    """Given shards that share a tensor, when opened, then the error names it and both files."""
    folder = sharded(tmp_path, [PLAIN, PLAIN])
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match=r"'model.layers.0.q.weight' in two files: model-00001-of-00002.safetensors"):
        open_base(folder)


def test_header_is_checked(tmp_path: Path) -> None:
    """Given a file whose header promises more than it holds, when opened, then it is refused as an adapter's is."""
    folder = model(tmp_path, PLAIN)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(HeaderError, match=r"names 64 bytes of tensors, but has only 63"):
        open_base(folder)


WATCHED = """
import sys
from pathlib import Path
from gradience_analysis.base_weights import base_norms, open_base
import gradience_analysis.base_weights.quantized.detection
from tests.analysis.base_weights.building import module
seen = []
def watch(event, args):
    if event in {"exec", "compile", "import", "pickle.find_class", "os.system"}:
        seen.append((event, str(args)[:80]))
    elif event.startswith(("socket.", "subprocess.", "os.exec", "os.posix_spawn")):
        seen.append((event, str(args)[:80]))
    elif event == "open" and isinstance(args[2], int) and args[2] & 3:
        seen.append((event, str(args)))
path = Path(sys.argv[1])
base_norms(open_base(path), [module("layers.0.q", (4, 4))])
sys.addaudithook(watch)
found = base_norms(open_base(path), [module("layers.0.q", (4, 4))])
print(len(found.by_module), seen)
"""


def test_nothing_runs_and_nothing_is_written(tmp_path: Path) -> None:
    """Given a base that asks for its own code (R16), when its norms are taken, then no code, write or socket occurs."""
    folder = model(tmp_path / "base", PLAIN, auto_map={"AutoModel": "modeling_evil.Evil"}, trust_remote_code=True)
    for name in ("modeling_evil.py", "__init__.py", "sitecustomize.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch x'\ntR.")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "PYTHONPATH": ".:schema:cli"},
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "1 []", done.stdout + done.stderr
    assert not (tmp_path / "touched").exists()


def test_matching_names_needs_no_numpy() -> None:
    """Given the parts that other checks use, when imported, then numpy is not, so that they start as quickly."""
    room = "gradience_analysis.base_weights"
    code = f"import sys, {room}.checkpoint, {room}.names; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "PYTHONPATH": ".:schema:cli"},
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "False"
