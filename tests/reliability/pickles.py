"""Pickles put together opcode by opcode, the ground on which they may leave a mark, and the files that carry them."""

from __future__ import annotations

import io
import pickle
import shlex
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROTO2 = b"\x80\x02"
PROTO4 = b"\x80\x04"
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""How torch's stream of before 1.6 starts."""
CONTAINERS: Mapping[str, str] = {
    "zip": "adapter_model.bin",
    "stream": "adapter_model.pt",
    "pickle": "adapter_model.pkl",
    "tar": "adapter_model.pth",
    "misnamed": "adapter_model.safetensors",
    "checkpoint": "adapter_model.ckpt",
}
"""Containers and the names that their files go by."""


@dataclass(frozen=True)
class Ground:
    """The folder in which a gadget may leave its mark; nothing beyond it is touched, nothing leaves the machine.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def mark(self) -> str:
        """What comes into being."""
        return str(self.folder / "touched")

    @property
    def victim(self) -> str:
        """What disappears."""
        return str(self.folder / "victim" / "file")

    @property
    def script(self) -> str:
        """A Python file that makes the mark."""
        return str(self.folder / "script.py")

    @property
    def inner(self) -> str:
        """A pickle that makes the mark."""
        return str(self.folder / "inner.pkl")

    @property
    def command(self) -> str:
        """A shell command that makes the mark."""
        return f"touch {shlex.quote(self.mark)}"

    @property
    def shell(self) -> list[str]:
        """The same as a list of words."""
        return ["/bin/sh", "-c", self.command]

    @property
    def code(self) -> str:
        """A statement that makes the mark."""
        return f"open({self.mark!r}, 'w').close()"

    @property
    def nested(self) -> bytes:
        """The bytes of a pickle that makes the mark."""
        return payload(call("os:system", value(self.command)))

    def lay(self) -> None:
        """Make the folder as it is before a gadget, with modules as the folder of an adapter may bring them along."""
        Path(self.victim).parent.mkdir(parents=True, exist_ok=True)
        Path(self.victim).write_text("victim")
        for name in ("script", "touching_module", "hubconf", "sitecustomize"):
            (self.folder / f"{name}.py").write_text(f"{self.code}\nx = 1\n")
        Path(self.inner).write_bytes(self.nested)
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
        array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + self.nested
        (self.folder / "inner.npy").write_bytes(array)

    def fired(self) -> bool:
        """Whether a gadget left its mark."""
        marks = any(path.name.startswith("touched") for path in self.folder.iterdir())
        return marks or not Path(self.victim).exists()


def name_of(place: str) -> bytes:
    """What a module has under a name: `module:name`."""
    return f"c{place.replace(':', chr(10))}\n".encode()


def value(item: object) -> bytes:
    """A constant."""
    return pickle.dumps(item, protocol=3)[2:-1]


def call(function: str | bytes, *arguments: bytes) -> bytes:
    """What a function returns."""
    found = name_of(function) if isinstance(function, str) else function
    return found + b"(" + b"".join(arguments) + b"tR"


def attribute(item: bytes, name: str) -> bytes:
    """An attribute of something."""
    return call("builtins:getattr", item, value(name))


def module(name: str) -> bytes:
    """A module itself."""
    return call("builtins:__import__", value(name))


def listed(*items: bytes) -> bytes:
    """A list."""
    return b"](" + b"".join(items) + b"e"


def partial(function: str, **keywords: object) -> bytes:
    """A function with keywords, by NEWOBJ_EX."""
    return name_of("functools:partial") + name_of(function) + b"\x85" + value(keywords) + b"\x92"


def payload(expression: bytes, protocol: bytes = PROTO2) -> bytes:
    """A whole pickle."""
    return protocol + expression + b"."


def contained(container: str, pickled: bytes) -> bytes:
    """The file of a container whose pickle is this one."""
    match container:
        case "zip":
            return zipped({"archive/data.pkl": pickled, "archive/byteorder": b"little", "archive/version": b"3\n"})
        case "checkpoint":
            members = {"model/version": b"3\n", "model/data.pkl": pickled, "model/.data/serialization_id": b"0" * 40}
            return zipped(members, zipfile.ZIP_DEFLATED)
        case "stream":
            system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
            return MAGIC + pickle.dumps(1001, 2) + pickle.dumps(system, 2) + pickled + pickle.dumps([], 2)
        case "tar":
            return tarred({"sys_info": pickle.dumps({}, 2), "storages": pickled, "tensors": pickled, "pickle": pickled})
        case _:
            return pickled


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, compress_type=method)
    return stream.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """A tar archive, as torch wrote it before 0.1.10."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
