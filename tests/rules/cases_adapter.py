"""Cases of the rules about adapter files: real files in a folder, through the real check."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from gradience_analysis.adapter_check import check_adapter
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from tests.analysis.adapters.files import PREFIX, Tensor, adapter, assemble, base, floats, layout, linear
from tests.rules.case import Case

WEIGHTS = "adapter_model.safetensors"
A, B = (f"{PREFIX}.0.self_attn.q_proj.lora_{letter}.weight" for letter in "AB")


def found(folder: Path, base_folder: Path | None = None, recorded: Mapping[str, str] | None = None) -> list[Finding]:
    """Every finding about an adapter."""
    return list(check_adapter(folder, load_policy(), base=base_folder, recorded=recorded).findings)


def of(tensors: Mapping[str, Tensor], **config: object) -> Callable[[Path], Collection[Finding]]:
    """A fixture of an adapter with these tensors over the usual ones, and these fields in its config."""
    return lambda folder: found(adapter(folder / "adapter", {**linear(), **tensors}, **config))


def without(name: str) -> Callable[[Path], Collection[Finding]]:
    """A fixture of an adapter that lacks one tensor."""
    return lambda folder: found(adapter(folder / "adapter", {k: v for k, v in linear().items() if k != name}))


def on_base(**changes: object) -> Callable[[Path], Collection[Finding]]:
    """A fixture of an adapter held against a base model."""
    return lambda folder: found(adapter(folder / "adapter"), base(folder / "base", **changes))  # type: ignore[arg-type]


def overlapping(folder: Path) -> Collection[Finding]:
    """Two tensors that share their bytes."""
    entries, data = layout(linear())
    entries[B]["data_offsets"] = entries[A]["data_offsets"]
    path = adapter(folder / "adapter") / WEIGHTS
    path.write_bytes(assemble(json.dumps(entries).encode(), data))
    return found(path.parent)


def padded(folder: Path) -> Collection[Finding]:
    """A header that ends in spaces, as the library aligns it, and has a tensor without elements."""
    entries, data = layout({**linear(), "base_model.model.extra": floats((0, 3))})
    path = adapter(folder / "adapter") / WEIGHTS
    path.write_bytes(assemble(json.dumps(entries).encode() + b"     ", data))
    return found(path.parent)


def pickled(folder: Path) -> Collection[Finding]:
    """Weights as torch.save writes them, and no others."""
    path = adapter(folder / "adapter") / WEIGHTS
    path.unlink()
    (path.parent / "adapter_model.bin").write_bytes(b"PK\x03\x04" + bytes(60))
    return found(path.parent)


def trainer_state(folder: Path) -> Collection[Finding]:
    """Sound weights, beside what a trainer keeps as pickles."""
    path = adapter(folder / "adapter")
    for name in ("optimizer.pt", "training_args.bin", "rng_state.pth"):
        (path / name).write_bytes(b"PK\x03\x04" + bytes(60))
    return found(path)


def digest(file: Path) -> str:
    """The SHA-256 of a file as some registries write it."""
    return f"SHA256:{hashlib.sha256(file.read_bytes()).hexdigest().upper()}"


def recorded(change: bytes) -> Callable[[Path], Collection[Finding]]:
    """A fixture of an adapter whose weights are on record, with something appended to its README."""

    def fixture(folder: Path) -> Collection[Finding]:
        path = adapter(folder / "adapter")
        (path / "README.md").write_bytes(b"about it")
        record = {
            file.name: f"SHA256:{hashlib.sha256(file.read_bytes()).hexdigest().upper()}" for file in path.iterdir()
        }
        (path / "README.md").write_bytes(b"about it" + change)
        return found(path, recorded=record)

    return fixture


def twice(folder: Path) -> Collection[Finding]:
    """The same weights as safetensors and as a pickle."""
    path = adapter(folder / "adapter")
    (path / "adapter_model.bin").write_bytes(b"PK\x03\x04" + bytes(60))
    return found(path)


def shards(*numbers: int) -> Callable[[Path], Collection[Finding]]:
    """A fixture of an adapter in two shards, of which these are there."""

    def fixture(folder: Path) -> Collection[Finding]:
        path = adapter(folder / "adapter")
        (path / WEIGHTS).unlink()
        weight_map = {}
        for number, (name, tensor) in enumerate(linear(layers=1).items(), 1):
            shard = f"adapter_model-{number:05}-of-00002.safetensors"
            weight_map[name] = shard
            entries, data = layout({name: tensor})
            if number in numbers:
                (path / shard).write_bytes(assemble(json.dumps(entries).encode(), data))
        (path / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return found(path)

    return fixture


CASES: dict[str, Case] = {
    "M03": Case(trips=on_base(width=16), passes=on_base(name="another-owner/Tiny", prefix="")),
    "M04": Case(
        trips=of({B: floats((8, 4), [*[0.5] * 31, math.nan])}),
        passes=of({B: floats((8, 4), [*[0.5] * 31, -3.4e38])}),
    ),
    "M05": Case(trips=without(B), passes=of({"base_model.model.score.weight": floats((2, 8))})),
    "M06": Case(trips=of({}, r=8), passes=of({}, r=8, rank_pattern={r"layers\.\d.self_attn.q_proj": 4})),
    "M07": Case(trips=of({B: floats((8, 4), 0.0)}), passes=of({B: floats((8, 4), [*[0.0] * 31, 1e-30])})),
    "M08": Case(trips=overlapping, passes=padded),
    "M10": Case(trips=pickled, passes=trainer_state),
    "Q09": Case(trips=recorded(b"."), passes=recorded(b"")),
    "Q10": Case(trips=shards(1), passes=shards(1, 2)),
}
