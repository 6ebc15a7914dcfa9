"""What the files of an adapter say, gathered before anything is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gradience_analysis.adapters import AdapterConfig, TensorKey, WeightFiles


@dataclass(frozen=True, slots=True)
class FileFault:
    """A file that cannot be believed or read.

    Attributes:
        file: Its name in the folder.
        code: What is wrong, as a slug; `unreadable` when it could not be opened.
        message: The same in words that follow the file's name.
    """

    file: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TensorValues:
    """What the values of a tensor show.

    Attributes:
        elements: Number of elements.
        zero: Whether every element is zero; False for a tensor without elements.
        nonfinite: Elements that are NaN or infinite.
        first_nonfinite: Place of the first of them in the flattened tensor; None without one.
    """

    elements: int
    zero: bool
    nonfinite: int = 0
    first_nonfinite: int | None = None


@dataclass(frozen=True, slots=True)
class TensorFact:
    """One tensor of the adapter.

    Attributes:
        key: Its name, taken apart.
        file: The file it stands in.
        dtype: Its number format.
        shape: Its dimensions.
        values: What its values show; None when its format is not decoded.
    """

    key: TensorKey
    file: str
    dtype: str
    shape: tuple[int, ...]
    values: TensorValues | None


@dataclass(frozen=True, slots=True)
class DigestFact:
    """A file whose digest is on record.

    Attributes:
        file: Its name on record.
        recorded: The SHA-256 on record, in lower-case hex.
        found: The SHA-256 of the file; None when there is none.
        reason: Why there is none; empty when there is one.
    """

    file: str
    recorded: str
    found: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BaseFact:
    """The base model that the adapter is to be served with.

    Attributes:
        path: Its folder, as it was given.
        names: Names that the model goes by: of its config.json, and of the cache that it lies in.
        shapes: Dimensions of each of its floating-point tensors of two dimensions, by name.
        others: Names of its other tensors.
        reason: Why there are no shapes; empty when there are.
    """

    path: Path
    names: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    others: frozenset[str] = frozenset()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """Everything that the checks of an adapter may look at; they do no I/O.

    Attributes:
        folder: The folder that was read.
        files: Its weight files.
        config: Its adapter_config.json; None when it is missing or cannot be read.
        config_fault: Why there is none; empty when there is one.
        tensors: Every tensor of every sound file, in the order of the files.
        faults: Files of weights that are not sound.
        repeated: Tensors that stand in more than one shard.
        absent: Tensors that the index names, and that are not in the shard it names.
        digests: Files whose digest is on record; None when no record was given.
        base: The base model; None when none was given.
    """

    folder: Path
    files: WeightFiles
    config: AdapterConfig | None = None
    config_fault: str = ""
    tensors: tuple[TensorFact, ...] = ()
    faults: tuple[FileFault, ...] = ()
    repeated: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    digests: tuple[DigestFact, ...] | None = None
    base: BaseFact | None = None

    @property
    def weights_path(self) -> str:
        """The first file of weights, for the place of a finding; the folder without one."""
        return str(self.folder / self.files.safetensors[0]) if self.files.safetensors else str(self.folder)
