"""Pickled weights: converted bit by bit where they are weights, and one plain sentence where they are not."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import time
import venv
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradience_analysis.adapters import SafetensorsFile, read_header
from gradience_analysis.errors import InputError
from gradience_analysis.unpickling import convert_pickled, isolation
from gradience_analysis.unpickling.isolation import Outcome
from gradience_analysis.unpickling.wording import failure
from tests.reliability.unpickling_client import UnpicklingServer

pytestmark = pytest.mark.hf
MIB = 1 << 20


def save(path: Path, weights: object, **options: Any) -> Path:
    """A file as torch writes it."""
    torch.save(weights, path, **options)
    return path


def refusal(path: Path, **limits: Any) -> str:
    """Why a file is not converted; nothing may be left of the attempt."""
    out = path.parent / "out" / "x.safetensors"
    out.parent.mkdir(exist_ok=True)
    with pytest.raises(InputError) as caught:
        convert_pickled(path, out, **limits)
    assert list(out.parent.iterdir()) == []
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.fixture(scope="module")
def server() -> Iterator[UnpicklingServer]:
    """Does what the process of a conversion does, without importing torch each time."""
    with UnpicklingServer() as started:
        yield started


def answer(server: UnpicklingServer, path: Path) -> str:
    """Why a file is not converted, as a process answers it that the server forks."""
    fields = server.ask("product", path, path.parent / "made" / "weights.safetensors")
    outcome = Outcome(fields.pop("outcome"), fields)
    assert outcome.name not in {"done", "crashed", "timed_out"}
    text = str(failure(path, outcome, memory_bytes=256 * MIB, seconds=1))
    assert list((path.parent / "made").iterdir()) == []
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_weights_of_every_format_arrive_bit_by_bit(tmp_path: Path) -> None:
    """Given tensors of all formats and layouts, when converted, then the library reads each as torch saved it."""
    from safetensors.torch import load_file

    torch.manual_seed(0)
    values = torch.randn(6, 8)
    common = torch.randn(40)
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
    dtypes += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint64, torch.bool]
    weights = OrderedDict((str(dtype), (values * 50).to(dtype)) for dtype in dtypes)
    weights |= {
        "turned": values.t(),
        "strided": values[::2, 1::3],
        "shared.a": common[:24].view(4, 6),
        "shared.b": common[8:],
        "repeated": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(values.clone()),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "bad": torch.tensor([float("nan"), float("inf")]),
        "näme \U0001f600": torch.ones(1),
    }
    weights._metadata = {"": {"version": 1}}  # type: ignore[attr-defined] # as a state_dict has it
    path = save(tmp_path / "adapter_model.bin", weights)
    found = convert_pickled(path, tmp_path / "x.safetensors")
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        one, other = (item.detach().contiguous().reshape(-1).view(torch.uint8) for item in (loaded[name], tensor))
        assert torch.equal(one, other), name
    assert (found.source, found.path, found.tensors) == (path, tmp_path / "x.safetensors", len(weights))
    assert found.size == sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    assert found.torch_version == torch.__version__
    assert read_header(found.path).metadata == {"format": "pt"}
    assert sorted(item.name for item in tmp_path.iterdir()) == ["adapter_model.bin", "x.safetensors"]


def test_older_stream_and_any_name_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given torch's format of before 1.6, misnamed and by a relative path, when converted, then it is the same."""
    weights = {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.ones(2, dtype=torch.bfloat16)}
    save(tmp_path / "old.safetensors", weights, _use_new_zipfile_serialization=False)
    monkeypatch.chdir(tmp_path)
    convert_pickled(Path("old.safetensors"), Path("x.safetensors"))
    with SafetensorsFile(tmp_path / "x.safetensors") as file:
        np.testing.assert_array_equal(file.array("a"), [[0, 3], [1, 4], [2, 5]])
        np.testing.assert_array_equal(file.array("b"), [1, 1])


def test_adapter_of_peft_is_the_same_either_way(tmp_path: Path) -> None:
    """Given an adapter that PEFT saved both ways, when the pickle is converted, then the tensors are the same."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file

    torch.manual_seed(1)
    model = get_peft_model(
        torch.nn.Sequential(OrderedDict(q_proj=torch.nn.Linear(8, 8))), LoraConfig(target_modules=["q_proj"], r=4)
    )
    model.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    model.save_pretrained(tmp_path / "plain")
    convert_pickled(tmp_path / "pickled" / "adapter_model.bin", tmp_path / "x.safetensors")
    found, wanted = load_file(tmp_path / "x.safetensors"), load_file(tmp_path / "plain" / "adapter_model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_asking_process_imports_no_torch(tmp_path: Path) -> None:
    """Given a sound pickle, when converted by a fresh process, then that process has loaded neither torch nor it."""
    path = save(tmp_path / "a.bin", {"a": torch.ones(2)})
    code = (
        "import sys; from pathlib import Path; from gradience_analysis.unpickling import convert_pickled;"
        "sys.addaudithook(lambda event, args: sys.exit(event) if event.startswith('pickle') else None);"
        f"convert_pickled(Path({str(path)!r}), Path({str(tmp_path / 'x')!r}));"
        "sys.exit(repr({'torch', 'safetensors', 'pickle'} & {*sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr.strip() == "set()"


class Caller:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self._call = (function, args)

    def __reduce__(self) -> Any:
        return self._call


def test_code_is_refused_by_its_name(tmp_path: Path) -> None:
    """Given a pickle that calls something, when converted, then the error names it, and it was not called."""
    touched = tmp_path / "touched"
    path = save(tmp_path / "a.bin", {"a": Caller(os.system, f"touch {touched}")})
    assert refusal(path) == (
        "asks for 'posix.system', which weights do not need, and was refused; none of its code ran. "
        "Ask for a safetensors copy."
    )
    assert not touched.exists()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        pytest.param({"state_dict": {"a": torch.ones(1)}}, "it holds a dict under 'state_dict'.", id="nested"),
        pytest.param([torch.ones(1)], "it holds a list.", id="list"),
        pytest.param(torch.ones(1), "it holds a Tensor.", id="one tensor"),
        pytest.param({1: torch.ones(1)}, "it holds a key that is a int.", id="key"),
        pytest.param({"a": torch.ones(1), "epoch": 3}, "it holds a int under 'epoch'.", id="number"),
    ],
)
def test_what_is_no_state_dict_is_said(tmp_path: Path, server: UnpicklingServer, weights: object, words: str) -> None:
    """Given a pickle of something else than tensors by name, when converted, then the error says what it holds."""
    text = answer(server, save(tmp_path / "a.bin", weights))
    assert text.startswith(f"is not a dictionary of tensors by name: {words}")
    assert "torch.save(state_dict, path)" in text


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        pytest.param(lambda: {"a": torch.ones(2, 2).to_sparse()}, "holds 'a', which is sparse_coo, not a", id="sparse"),
        pytest.param(lambda: {"a": torch.ones(2, device="meta")}, "holds 'a', which is meta, not a", id="meta"),
        pytest.param(
            lambda: {"a": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)},
            "which is quantized",
            id="quantized",
        ),
        pytest.param(
            lambda: {"a": torch.ones(2, dtype=torch.complex64)}, "dtype complex64, which is not", id="complex"
        ),
        pytest.param(lambda: {"__metadata__": torch.ones(1)}, "a name that safetensors does not take", id="metadata"),
        pytest.param(lambda: {"\ud800": torch.ones(1)}, r"holds '\\ud800', which has a name", id="surrogate"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize.*")
def test_tensor_that_safetensors_cannot_hold_is_named(
    tmp_path: Path, server: UnpicklingServer, weights: Callable[[], Any], words: str
) -> None:
    """Given a tensor of a kind or name that is not written, when converted, then the error names it and says why."""
    assert words in answer(server, save(tmp_path / "a.bin", weights()))


def test_names_do_not_reach_the_terminal_raw(tmp_path: Path, server: UnpicklingServer) -> None:
    """Given escape sequences and length in a name, when refused, then the message has them escaped and cut."""
    text = answer(server, save(tmp_path / "a.bin", {"\x1b[2J\n" + "x" * 5000: 1}))
    assert r"'\x1b[2J\n" in text
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no file of torch.save, or a damaged one (EOFError: "),
        (b"nothing", "is no pickle that torch reads with weights_only=True ('Unsupported operand 110')"),
        (pickle.dumps({"a": 1}, protocol=4), "('Unsupported operand 149')"),
        (b"PK\x03\x04" + bytes(60), "is no file of torch.save, or a damaged one (RuntimeError: "),
        (bytes(257) + b"ustar" + bytes(300), "is a tar archive, as torch wrote it before 2017"),
    ],
    ids=["empty", "text", "protocol 4", "broken zip", "tar"],
)
def test_damaged_file_is_said(tmp_path: Path, server: UnpicklingServer, data: bytes, words: str) -> None:
    """Given what is no file of torch, when converted, then the error says what torch made of it."""
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    assert words in answer(server, path)


def test_cut_off_file_is_said(tmp_path: Path, server: UnpicklingServer) -> None:
    """Given weights that end too early, in either format, when converted, then they are refused."""
    for zipped in (True, False):
        path = save(tmp_path / "a.bin", {"a": torch.ones(100)}, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[:-200])
        assert "is no file of torch.save, or a damaged one" in answer(server, path)


def test_places_are_checked_first(tmp_path: Path) -> None:
    """Given a missing file, a FIFO, a taken or missing place, when converted, then each is said, and without torch."""
    path = save(tmp_path / "a.bin", {"a": torch.ones(1)})
    os.mkfifo(tmp_path / "fifo")
    started = time.process_time()
    assert refusal(tmp_path / "gone.bin") == "does not exist. Check the path."
    assert "is not a regular file" in refusal(tmp_path / "fifo")
    with pytest.raises(InputError, match=r"a\.bin: exists already"):
        convert_pickled(path, path)
    with pytest.raises(InputError, match=r"nowhere.x: cannot be written: No such file"):
        convert_pickled(path, tmp_path / "nowhere" / "x")
    assert time.process_time() - started < 1


def test_file_that_comes_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given another file at the place by the time it is done, when converted, then that file stays."""
    from gradience_analysis.unpickling import convert

    path = save(tmp_path / "a.bin", {"a": torch.ones(1)})
    out = tmp_path / "x"
    run = convert.run_isolated

    def slow(*places: Path, **limits: Any) -> Outcome:
        outcome = run(*places, **limits)
        out.write_bytes(b"mine")
        return outcome

    monkeypatch.setattr(convert, "run_isolated", slow)
    with pytest.raises(InputError, match="exists already"):
        convert_pickled(path, out)
    assert out.read_bytes() == b"mine"


def bomb(path: Path, size: int) -> Path:
    """A small zip whose one storage is large once it is unpacked."""
    torch.save({"a": torch.ones(4)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, bytes(size) if name.endswith("data/0") else data)
    return path


def test_memory_is_limited(tmp_path: Path) -> None:
    """Given 256 MiB in a file of 256 KiB, when converted with 64 MiB, then it is refused for its memory."""
    path = bomb(tmp_path / "a.bin", 256 * MIB)
    assert path.stat().st_size < MIB / 2
    assert refusal(path, memory_bytes=64 * MIB) == (
        "takes more than the 67,108,864 bytes of memory that unpickling may take. Ask for a safetensors copy."
    )


def test_sizes_are_limited(tmp_path: Path) -> None:
    """Given a file, or tensors, beyond the memory, when converted, then the error gives the size."""
    large = save(tmp_path / "a.bin", {"a": torch.ones(MIB)})
    assert re.match(
        r"has 4,19\d,\d{3} bytes; a pickle of at most 4,194,304 is opened", refusal(large, memory_bytes=4 * MIB)
    )
    wide = save(tmp_path / "b.bin", {"a": torch.ones(1).expand(10**11)})
    assert "names 400,000,000,000 bytes of tensors; at most 67,108,864 are" in refusal(wide, memory_bytes=64 * MIB)


def test_time_is_limited(tmp_path: Path) -> None:
    """Given a pickle that goes on for minutes, when converted with half a second, then it is stopped by then."""
    path = tmp_path / "a.bin"
    # A short file of many steps: an empty list out of the memo, a tuple around it, and so on.
    path.write_bytes(b"\x80\x02]q\x00(" + b"h\x00\x85" * 10_000_000 + b"t.")
    started = time.monotonic()
    text = refusal(path, seconds=0.5, memory_bytes=4 << 30)
    assert text == "takes longer than the 0.5 seconds that unpickling may take. Ask for a safetensors copy."
    assert time.monotonic() - started < 30


def test_hostile_torch_beside_the_adapter_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given modules named like torch's in the adapter's folder, when converted from there, then none is imported."""
    path = save(tmp_path / "a.bin", {"a": torch.ones(1)})
    for name in ("torch", "numpy", "json", "pickle", "gradience_analysis", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "torch.py"))
    convert_pickled(path, tmp_path / "x.safetensors")
    assert not (tmp_path / "touched").exists()


def test_missing_torch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a Python without torch, when converted, then the error says how to install it."""
    venv.create(tmp_path / "bare")
    path = save(tmp_path / "a.bin", {"a": torch.ones(1)})
    monkeypatch.setattr(isolation.sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    monkeypatch.setattr(isolation, "_import_paths", lambda source: [])
    assert refusal(path) == "is pickled, and to read it torch must be installed. Run: pip install 'gradience[hf]'"


def test_old_or_broken_torch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given torch 2.5, or one that does not import, when converted, then the error says that it cannot be used."""
    venv.create(tmp_path / "bare")
    fake = tmp_path / "fake"
    fake.mkdir()
    path = save(tmp_path / "a.bin", {"a": torch.ones(1)})
    monkeypatch.setattr(isolation.sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    monkeypatch.setattr(isolation, "_import_paths", lambda source: [str(fake)])
    (fake / "torch.py").write_text("__version__ = '2.5.1+cu124'")
    assert "is not read by torch 2.5.1+cu124: before 2.6 a pickle can get around weights_only=True." in refusal(path)
    (fake / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    assert "torch cannot be used safely here ('libcudart.so.12: cannot open shared object file')" in refusal(path)
