"""The process that unpickles: run as a file, `python -I child.py REQUEST`, by `isolation`, and imported by nothing.

It writes two lines of JSON: one when everything is loaded and limited, one about how it ended.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn, cast

OLDEST_TORCH = (2, 6)
"""Before it, `weights_only=True` could be got around (CVE-2025-32434)."""
_TEXT = 2000
_RESERVE = 8 << 20
_UNSAFE = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")
_SAID = re.compile(r"\n\n(.+?)(?:\n|\. Please|\Z)", re.DOTALL)
_NO_MEMORY = re.compile(r"can't allocate memory|DefaultCPUAllocator|bad_alloc|Cannot allocate memory")
_TAR, _TAR_AT = b"ustar", 257
_DTYPES: Mapping[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


class Answers:
    """The pipe to the process that asked; nothing else writes to it.

    Args:
        descriptor: Where it is open.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, outcome: str, **fields: object) -> None:
        """Write one line."""
        # A name out of a file may hold half a surrogate pair, which is no text.
        plain = {name: _text(value) if isinstance(value, str) else value for name, value in fields.items()}
        line = json.dumps({"outcome": outcome, **plain}).encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]

    def end(self, outcome: str, **fields: object) -> NoReturn:
        """Write the last line and end at once: nothing that was loaded gets to run on the way out."""
        self.say(outcome, **fields)
        os._exit(0)


class Converter:
    """Loads what is needed, then converts one file; the two apart, as only the second meets what is not trusted.

    Args:
        answers: Where to say how it went.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._reserve = [bytearray(_RESERVE)]
        self._torch: Any = None
        self._ready = False

    def prepare(self, scratch: Path) -> None:
        """Import torch and use once all that converting uses, so that nothing is imported or opened for it later."""
        sys.excepthook = self._failed
        warnings.simplefilter("ignore")
        try:
            self._torch = importlib.import_module("torch")
        except ModuleNotFoundError as error:
            self._answers.end("no_torch", name=str(error.name))
        found = tuple(int(part) for part in re.findall(r"\d+", str(self._torch.__version__))[:2])
        if found < OLDEST_TORCH:
            self._answers.end("old_torch", version=str(self._torch.__version__))
        self._torch.set_num_threads(1)
        self._rehearse(scratch)

    def convert(self, source: str, out: Path, memory_bytes: int, let_write: Callable[[], None]) -> NoReturn:
        """Read the file, write its tensors, and end the process.

        Args:
            source: The pickled file.
            out: The safetensors file to make.
            memory_bytes: Bytes that the tensors may take.
            let_write: Called between reading and writing.
        """
        from gradience_analysis.adapters.opening import open_plain
        from gradience_analysis.adapters.writing import write_safetensors
        from gradience_analysis.errors import InputError

        self._ready = True
        try:
            with open_plain(Path(source)) as file:
                tensors = self._tensors(self._loaded(file), memory_bytes)
            let_write()
            write_safetensors(out, tensors, {"format": "pt"})
        except InputError as error:
            self._answers.end("input_error", text=error.message.partition(": ")[2][:_TEXT])
        size = sum(len(tensor.data) for tensor in tensors.values())
        self._answers.end("done", tensors=len(tensors), size=size, torch=str(self._torch.__version__))

    def _loaded(self, file: IO[bytes]) -> object:
        import pickle

        if file.read(_TAR_AT + len(_TAR)).endswith(_TAR):
            self._answers.end("tar")
        file.seek(0)
        try:
            return self._torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            text = str(error)
            if unsafe := _UNSAFE.search(text):
                self._answers.end("refused", name=unsafe[1][:_TEXT])
            said = _SAID.search(text)
            self._answers.end("refused", name="", text=(said[1] if said else text)[:_TEXT])

    def _tensors(self, loaded: object, most: int) -> dict[str, Any]:
        """The tensors by name, checked; methods are taken from the types, as a file can put others on an object."""
        if type(loaded) not in {dict, OrderedDict}:
            self._answers.end("not_tensors", what=f"a {type(loaded).__name__}")
        found: dict[str, Any] = {}
        for key, value in dict[object, object].items(cast("dict[object, object]", loaded)):
            if type(key) is not str:
                self._answers.end("not_tensors", what=f"a key that is a {type(key).__name__}")
            if type(value) not in {self._torch.Tensor, self._torch.nn.Parameter}:
                self._answers.end("not_tensors", what=f"a {type(value).__name__} under", name=key[:_TEXT])
            found[key] = self._torch.Tensor.detach(value)
            if fault := self._fault(key, found[key]):
                self._answers.end("unsupported", what=fault, name=key[:_TEXT])
        size = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
        if size > most:
            self._answers.end("too_large", size=size)
        return {name: self._plain(tensor) for name, tensor in found.items()}

    def _fault(self, name: str, tensor: Any) -> str:
        """Why a tensor cannot be written; empty when it can."""
        if name == "__metadata__" or _text(name) != name:
            return "has a name that safetensors does not take"
        if tensor.layout is not self._torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            kind = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
            return f"is {kind if tensor.device.type == 'cpu' else tensor.device.type}, not a plain tensor"
        dtype = str(tensor.dtype).removeprefix("torch.")
        return "" if dtype in _DTYPES else f"is of dtype {dtype}, which is not converted"

    def _plain(self, tensor: Any) -> Any:
        from gradience_analysis.adapters.writing import NewTensor

        dtype = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
        flat = tensor.resolve_neg().contiguous().reshape(-1).view(self._torch.uint8).numpy()
        return NewTensor(dtype, tuple(tensor.shape), flat.data)

    def _rehearse(self, scratch: Path) -> None:
        from gradience_analysis.adapters.writing import write_safetensors

        torch = self._torch
        tensors: dict[str, Any] = {}
        common: dict[str, Any] = OrderedDict(plain=torch.ones((2, 3)).t(), parameter=torch.nn.Parameter(torch.ones(2)))
        every = {name: torch.zeros(2, dtype=getattr(torch, name)) for name in _DTYPES if hasattr(torch, name)}
        for zipped, given in ((False, common), (True, common), (True, every)):
            stream = io.BytesIO()
            torch.save(given, stream, _use_new_zipfile_serialization=zipped)
            stream.seek(0)
            tensors = self._tensors(self._loaded(stream), 1 << 20)
        write_safetensors(scratch, tensors, {"format": "pt"})
        scratch.unlink()

    def _failed(self, kind: type[BaseException], error: BaseException, _: object) -> NoReturn:
        """What no one expected: torch raises all kinds of errors over a damaged file."""
        self._reserve.clear()
        text = str(error)
        if issubclass(kind, MemoryError) or _NO_MEMORY.search(text):
            self._answers.end("no_memory")
        self._answers.end("unreadable" if self._ready else "unprepared", kind=kind.__name__, text=text[:_TEXT])


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def serve(answers: Answers, request: Mapping[str, Any]) -> NoReturn:
    """Convert the file of a request in this process, say how that went, and end."""
    from gradience_analysis.unpickling.guard import Guard
    from gradience_analysis.unpickling.landlock import confine_writing
    from gradience_analysis.unpickling.limits import confine

    out, memory_bytes = Path(request["out"]), int(request["memory_bytes"])
    converter = Converter(answers)
    converter.prepare(out)
    confine_writing(out.parent)
    confine(memory_bytes, float(request["seconds"]))
    answers.say("ready")
    guard = Guard(
        request["source"], str(out.parent), lambda event, detail: answers.end("tripped", event=event, detail=detail)
    )
    guard.install()
    converter.convert(request["source"], out, memory_bytes, guard.let_write)


def main(request: Mapping[str, Any]) -> NoReturn:
    """Keep stdout for the answers, find the packages, and serve the one request."""
    answers = Answers(os.dup(1))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # This package first among what is installed, so that both processes run one version of it; never before the
    # standard library.
    packages = [place for place, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))]
    if request["package"] not in sys.path:
        sys.path.insert(packages[0] if packages else len(sys.path), request["package"])
    sys.path += [path for path in request["paths"] if path not in sys.path]
    serve(answers, request)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
