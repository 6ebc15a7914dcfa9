"""What a compression did, or would do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = "gradience.compression/v1"


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One layer before and after.

    Attributes:
        module: The module as the base model names it.
        layout: How its factors are stored.
        rank_before, rank_after: Its rank.
        params_before, params_after: Elements of its factors.
        frobenius: ‖delta_w‖_F of the original.
        predicted: Frobenius error of the cut, from the singular values that it drops.
        measured: Frobenius error of what was written, read back; None when nothing was.
        kept_because: Why it was copied as it is; empty where it was cut.
        dora: Whether the factors are only a part of its update, so that it is left out of the totals.
    """

    module: str
    layout: str
    rank_before: int
    rank_after: int
    params_before: int
    params_after: int
    frobenius: float
    predicted: float
    measured: float | None
    kept_because: str = ""
    dora: bool = False

    @property
    def relative_predicted(self) -> float:
        """`predicted` over ‖delta_w‖_F; 0 for delta_w = 0, of which nothing can be lost."""
        return _share(self.predicted, self.frobenius)

    @property
    def relative_measured(self) -> float | None:
        """`measured` over ‖delta_w‖_F; None when nothing was written."""
        return None if self.measured is None else _share(self.measured, self.frobenius)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present."""
        return {
            "module": self.module,
            "layout": self.layout,
            "rank_before": self.rank_before,
            "rank_after": self.rank_after,
            "params_before": self.params_before,
            "params_after": self.params_after,
            "frobenius_norm": self.frobenius,
            "relative_error_predicted": self.relative_predicted,
            "relative_error_measured": self.relative_measured,
            "kept_because": self.kept_because or None,
        }


@dataclass(frozen=True, slots=True)
class Compression:
    """A compression, done or planned.

    Attributes:
        source: Folder of the original adapter.
        out: Folder of the compressed one.
        rule: How the ranks were chosen: kind (`policy`, `rank`, `suggestions`) and words.
        dtype: Number format of the factors: `same` or one of torch's names.
        layers: Every layer, in the order of the file.
        written: Whether the folder was written.
        dry_run: Whether only the plan was wanted.
        bytes_before, bytes_after: Bytes of all tensors.
        whole_tensors: Tensors that were copied.
        sha256: Name of each file of the original that was read → its SHA-256.
        sha256_written: The same of the files that were written; empty when none were.
        not_copied: Other files of the original's folder.
        r: `r` of the new config.
        remarks: What the reader should know, a sentence each.
    """

    source: Path
    out: Path
    rule: tuple[str, str]
    dtype: str
    layers: tuple[LayerResult, ...]
    written: bool
    dry_run: bool
    bytes_before: int
    bytes_after: int
    whole_tensors: tuple[str, ...]
    sha256: Mapping[str, str]
    sha256_written: Mapping[str, str]
    not_copied: tuple[str, ...]
    r: int
    remarks: tuple[str, ...] = ()

    @property
    def params_before(self) -> int:
        """Elements of all factors of the original."""
        return sum(layer.params_before for layer in self.layers)

    @property
    def params_after(self) -> int:
        """Elements of all factors of the compressed adapter."""
        return sum(layer.params_after for layer in self.layers)

    @property
    def saves(self) -> bool:
        """Whether the compressed adapter is smaller at all."""
        return self.params_after < self.params_before or self.bytes_after < self.bytes_before

    @property
    def cut(self) -> tuple[LayerResult, ...]:
        """The layers whose rank is lower than before."""
        return tuple(layer for layer in self.layers if not layer.kept_because)

    @property
    def total_predicted(self) -> float:
        """sqrt(Σ predicted²) / sqrt(Σ ‖delta_w‖_F²) over all layers without DoRA."""
        return self._total([layer.predicted for layer in self.layers if not layer.dora])

    @property
    def total_measured(self) -> float | None:
        """The same of what was written; None when nothing was."""
        found = [layer.measured for layer in self.layers if not layer.dora and layer.measured is not None]
        return self._total(found) if self.written else None

    def _total(self, errors: list[float]) -> float:
        return _share(math.hypot(*errors), math.hypot(*(one.frobenius for one in self.layers if not one.dora)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every key is always present. It says nothing of where the folders lie."""
        return {
            "schema": SCHEMA,
            "rule": {"kind": self.rule[0], "text": self.rule[1]},
            "dtype": self.dtype,
            "r": self.r,
            "params_before": self.params_before,
            "params_after": self.params_after,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "relative_error_predicted": self.total_predicted,
            "relative_error_measured": self.total_measured,
            "original_sha256": dict(self.sha256),
            "written_sha256": dict(self.sha256_written),
            "whole_tensors": list(self.whole_tensors),
            "not_copied": list(self.not_copied),
            "remarks": list(self.remarks),
            "layers": [layer.to_dict() for layer in self.layers],
        }


def _share(error: float, size: float) -> float:
    return error / size if size > 0 else 0.0
