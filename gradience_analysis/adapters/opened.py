"""An adapter, opened for audit: its inventory from headers and config, its factors on demand, one module at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gradience_analysis.adapters.config import CONFIG_NAMES, AdapterConfig, config_in, read_adapter_config
from gradience_analysis.adapters.factors import (
    HeldTensor,
    Inventory,
    LeftOut,
    LoraModule,
    TensorPlace,
    take_inventory,
)
from gradience_analysis.adapters.keys import Role, classify
from gradience_analysis.adapters.shards import is_plain_name
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.adapters.tensors import Precision, SafetensorsFile
from gradience_analysis.adapters.weights import WeightFiles, find_weights
from gradience_analysis.errors import InputError
from gradience_analysis.sources.opening import is_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Factors = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]

_NAMED = 10
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_NAMED_ROLES = frozenset(Role) - {Role.OTHER_METHOD, Role.UNKNOWN_LORA, Role.WHOLE}
_PICKLE = "is pickled, and loading a pickle can run any code that its author put in."
_PICKLE_REMEDY = (
    "Load it in PEFT where you trust its source, and save it with save_pretrained(..., safe_serialization=True); "
    "or use --allow-pickle, which reads its tensors in a separate process."
)


class OpenedAdapter:
    """An adapter whose files are open; use it as a context manager. The files must not change meanwhile.

    Attributes:
        folder: Folder of the adapter.
        config: Its config; None when there is none that can be read.
        config_fault: Why there is none, in words that follow its name; empty when there is one.
        inventory: Its modules, and what of it is left out.
        files: The files that its tensors were read from.
        weights: What the folder holds of weights, missing shards and further sets included.
        name: The adapter's name, as far as its keys or its folder tell it.
    """

    def __init__(
        self,
        folder: Path,
        weights: WeightFiles,
        config: AdapterConfig | None,
        config_fault: str = "",
        adapter: str | None = None,
    ) -> None:
        self.folder = folder
        self.weights = weights
        self.config = config
        self.config_fault = config_fault
        self.files = tuple(weights.folder / name for name in weights.safetensors)
        self._open: dict[str, SafetensorsFile] = {}
        self._last: tuple[TensorPlace, TensorPlace, str, Any] | None = None
        try:
            faults = self._open_files()
            held = self._tensors()
            self.name, own = _of_adapter(held, adapter, folder)
            found = take_inventory(own, config, config_fault)
        except BaseException:
            self.close()
            raise
        lost = [*_absent(weights, self._open), *faults]
        self.inventory = Inventory(
            found.modules,
            (*found.left_out, *lost),
            found.lora_keys + sum(len(one.keys) for one in lost),
            found.whole_tensors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; arrays that were decoded stay valid."""
        self._last = None
        for file in self._open.values():
            file.close()
        self._open.clear()

    @cached_property
    def oddities(self) -> tuple[str, ...]:
        """What in the config makes no sense, or leaves its meaning in doubt, a sentence each; most often nothing.

        See `AdapterConfig.oddities` and `AdapterConfig.alpha_is_contested`.
        """
        if self.config is None:
            return ()
        contested = [
            one.name for one in self.inventory.modules if one.lookup and self.config.alpha_is_contested(one.lookup)
        ]
        if not contested:
            return self.config.oddities
        more = f" and {len(contested) - 1:,} more" if len(contested) > 1 else ""
        sentence = (
            f"Entries of alpha_pattern with different values match {shown(contested[0])}{more}: the first one holds, "
            f"but saving sorts them, so that another may have held in training."
        )
        return (*self.config.oddities, sentence)

    def factors(self, module: LoraModule, precision: Precision = "float32") -> Factors:
        """The factors of a module, decoded: lora_A (r, n) and lora_B (m, r), not scaled.

        delta_w = scaling · lora_B @ lora_A, of an embedding its transpose. Convolutions come flattened, one expert as
        its own share, and AdaLoRA's diagonal is multiplied into lora_A. Of a grouped convolution, whose output
        channels see the ranks of their own group alone, lora_B comes block-diagonal, so that the product is the whole
        delta_w there, too.

        Args:
            module: A module of the inventory.
            precision: float32 holds every format but F64 exactly; where a factor is F64, both are float64 anyway.
        """
        import numpy as np

        parts = [one for one in (module.a, module.b, module.e) if one is not None]
        if any(one.dtype == "F64" for one in parts):
            precision = "float64"
        if module.expert is not None:
            return self._expert(module, module.expert, precision)
        a, b = self._array(module.a, precision), self._array(module.b, precision)
        a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
        if module.e is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                a = a * self._array(module.e, precision)
        return a, _block_diagonal(b, module.groups) if module.groups > 1 else b

    def magnitude(self, module: LoraModule) -> NDArray[np.floating[Any]] | None:
        """The magnitude vector of a DoRA module, flat, in float64; None for any other."""
        return None if module.magnitude is None else self._array(module.magnitude, "float64").reshape(-1)

    def _array(self, place: TensorPlace, precision: Precision) -> NDArray[np.floating[Any]]:
        return self._open[place.file].array(place.name, precision)

    def _expert(self, module: LoraModule, expert: int, precision: Precision) -> Factors:
        """The share of one expert. The whole tensors are kept until another module's are asked for."""
        import numpy as np

        if self._last is None or self._last[:3] != (module.a, module.b, precision):
            self._last = None
            a, b = self._array(module.a, precision), self._array(module.b, precision)
            by_expert = a.reshape(module.experts, module.r, -1)
            # Column k·E + e of B belongs to rank k of expert e.
            columns = np.ascontiguousarray(b.reshape(b.shape[0], module.r, module.experts).transpose(2, 0, 1))
            self._last = (module.a, module.b, precision, (by_expert, columns))
        by_expert, columns = self._last[3]
        return by_expert[expert], columns[expert]

    def _open_files(self) -> list[LeftOut]:
        """Open every file of weights; one that cannot be believed is left out, unless no other is left."""
        faults: list[LeftOut] = []
        first: InputError | None = None
        for path in self.files:
            try:
                self._open[path.name] = SafetensorsFile(path)
            except InputError as error:
                first = first or error
                keys = tuple(name for name, file in (self.weights.index or {}).items() if file == path.name)
                lora = tuple(name for name in keys if classify(name).role is not Role.WHOLE)
                what = error.message.removeprefix(f"{path}: ")
                faults.append(LeftOut("", lora, "unreadable_file", f"{shown(path.name)} {what}"))
        if first is not None and not self._open:
            raise first
        return faults

    def _tensors(self) -> list[HeldTensor]:
        return [
            HeldTensor(classify(entry.name), TensorPlace(name, entry.name, entry.dtype, entry.shape))
            for name, file in self._open.items()
            for entry in file.header.tensors.values()
        ]


def open_adapter(
    folder: Path,
    *,
    config: Path | None = None,
    weights: Path | None = None,
    adapter: str | None = None,
    converted: Path | None = None,
) -> OpenedAdapter:
    """Open the adapter in a folder. Headers and config are read, and nothing in them is run or followed.

    A folder that holds no adapter itself, but one folder that does, stands for that one.

    Args:
        folder: The adapter's folder, as save_pretrained writes it.
        config: A config to take in place of the folder's, JSON or YAML; unlike that one, it must be readable.
        weights: A safetensors file, or a folder of them, to take in place of the folder's weights.
        adapter: Name of the adapter that is meant, where the folder or its keys hold several.
        converted: The same as `weights`, for what was taken out of the folder's pickled weights.

    Raises:
        InputError: There is no such folder, no such adapter, or more than one that may be meant; it has no weights, or
            only pickled ones; a file cannot be read, or (HeaderError) is no sound safetensors file, and no other is.
    """
    folder, adapter, files = _locate(folder, adapter)
    elsewhere = converted or weights
    if elsewhere is not None:
        files = _given(elsewhere)
    _refuse_none(files)
    taken, fault = _config(folder, config)
    return OpenedAdapter(folder, files, taken, fault, adapter)


def adapter_folders(folder: Path) -> tuple[Path, ...]:
    """The folders of the adapters that save_pretrained wrote into a folder: itself, and one for each further name.

    Checkpoints of a trainer beside an adapter (`checkpoint-500`) are earlier states of it, not further adapters.

    Raises:
        InputError: The folder cannot be listed.
    """
    files = find_weights(folder)
    below = _below(folder)
    if _is_adapter(folder, files):
        return (folder, *(one for one in below if not _CHECKPOINT.fullmatch(one.name)))
    return tuple(below)


def _locate(folder: Path, adapter: str | None) -> tuple[Path, str | None, WeightFiles]:
    """The folder that is meant, the adapter that is meant inside its files, and the weights there."""
    if adapter is not None and is_plain_name(adapter) and _holds_config(folder / adapter):
        return folder / adapter, None, find_weights(folder / adapter)
    files = find_weights(folder)
    if _is_adapter(folder, files):
        return folder, adapter, files
    below = _below(folder)
    if not below:
        return folder, adapter, files
    if len(below) > 1 or adapter is not None:
        held = "holds several adapters" if len(below) > 1 else "holds another adapter"
        raise InputError(str(folder), f"{held}: {_list([one.name for one in below])}.", "Name the one that is meant.")
    (only,) = below
    return only, None, find_weights(only)


def _is_adapter(folder: Path, files: WeightFiles) -> bool:
    return not files.empty or bool(files.rivals) or _holds_config(folder)


def _holds_config(folder: Path) -> bool:
    return any((folder / name).is_file() for name in CONFIG_NAMES)


def _below(folder: Path) -> list[Path]:
    """Folders in this one that hold a config."""
    return sorted({path.parent for name in CONFIG_NAMES for path in folder.glob(f"*/{name}")})


def _given(path: Path) -> WeightFiles:
    """The weights at a path that was given for them."""
    return find_weights(path) if is_folder(path) else WeightFiles(path.parent, (path.name,))


def _refuse_none(files: WeightFiles) -> None:
    """Refuse a folder without safetensors weights that can be chosen.

    Raises:
        InputError: There are none.
    """
    if files.safetensors:
        return
    if files.missing_shards or files.index_fault:
        what = files.index_fault or f"lacks {_list(files.missing_shards)}"
        raise InputError(str(files.folder), f"{what}.", "Restore the shards from where the adapter was saved.")
    if files.rivals:
        names = _list(files.rivals)
        raise InputError(
            str(files.folder), f"holds several sets of weights: {names}.", "Give the file that is meant (weights)."
        )
    for pickled in files.pickled:
        raise InputError(str(files.folder / pickled.name), _PICKLE, _PICKLE_REMEDY)
    raise InputError(
        str(files.folder), "holds no weights of an adapter.", "Give the folder that save_pretrained wrote."
    )


def _config(folder: Path, given: Path | None) -> tuple[AdapterConfig | None, str]:
    if given is not None:
        return read_adapter_config(given), ""
    path = config_in(folder)
    try:
        return read_adapter_config(path), ""
    except InputError as error:
        return None, error.message.removeprefix(f"{path}: ").rstrip(".")


def _of_adapter(held: Sequence[HeldTensor], adapter: str | None, folder: Path) -> tuple[str, Sequence[HeldTensor]]:
    """The adapter's name, and the tensors that are its own, where the keys hold more than one."""
    names = {one.key.adapter for one in held if one.key.role in _NAMED_ROLES}
    if adapter is None or (names <= {""} and adapter == folder.name):
        (name,) = names if len(names) == 1 else ("",)
        return name or folder.name, held
    if adapter not in names:
        there = _list(sorted(names - {""})) or "none that is named"
        raise InputError(str(folder), f"holds no adapter {shown(adapter)}: {there}.", "Give a name that it holds.")
    return adapter, [one for one in held if one.key.adapter == adapter or one.key.role not in _NAMED_ROLES]


def _absent(weights: WeightFiles, there: Mapping[str, SafetensorsFile]) -> Iterator[LeftOut]:
    """Shards that are missing, and tensors that the index puts into a shard that lacks them."""
    wanted: dict[str, list[str]] = {name: [] for name in weights.missing_shards}
    for name, file in (weights.index or {}).items():
        lost = file in wanted or (file in there and name not in there[file].header.tensors)
        if lost and classify(name).role is not Role.WHOLE:
            wanted.setdefault(file, []).append(name)
    for file, names in wanted.items():
        what = "is missing" if file in weights.missing_shards else "lacks tensors that the index puts there"
        yield LeftOut("", tuple(names), "missing_file", f"{shown(file)} {what}.")


def _block_diagonal(b: NDArray[np.floating[Any]], groups: int) -> NDArray[np.floating[Any]]:
    """lora_B (out, r / groups) of a grouped convolution as (out, r): each group's rows see its own ranks alone."""
    import numpy as np

    rows, ranks = b.shape[0] // groups, b.shape[1]
    whole = np.zeros((groups, rows, groups, ranks), dtype=b.dtype)
    for group in range(groups):
        whole[group, :, group] = b[group * rows : (group + 1) * rows]
    return whole.reshape(groups * rows, groups * ranks)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(shown, names[:_NAMED])) + more
