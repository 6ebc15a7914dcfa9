"""Compresses an adapter: plan, fold, write aside, prove, and only then give the folder its name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gradience_analysis.adapters.config import CONFIG_NAME, AdapterConfig
from gradience_analysis.adapters.dtypes import BITS
from gradience_analysis.adapters.opened import OpenedAdapter, open_adapter
from gradience_analysis.adapters.opening import sha256_of
from gradience_analysis.adapters.shards import names_in
from gradience_analysis.adapters.writing import write_safetensors
from gradience_analysis.audit.suggestion import commonest_rank
from gradience_analysis.compression.folded import DTYPES, SAME, Written, fold, new_config, remakes_factors
from gradience_analysis.compression.folder import new_folder, refuse_place, write_text
from gradience_analysis.compression.layers import has_separate_experts, layers_of
from gradience_analysis.compression.originals import AdapterTensors
from gradience_analysis.compression.plan import PlannedLayer, RankRule, plan, rule_of
from gradience_analysis.compression.proof import measure
from gradience_analysis.compression.result import Compression, LayerResult
from gradience_analysis.compression.truncating import measure_layers
from gradience_analysis.errors import GradienceError, InputError
from gradience_analysis.model import plural

WEIGHTS_NAME = "adapter_model.safetensors"
PROOF_NAME = "gradience_compression.json"
_NOTICEABLE = 1e-4
"""Relative error from rounding that is worth a remark: above that of single precision, below that of half."""


def compress_adapter(
    path: str | Path,
    out: str | Path,
    *,
    rule: RankRule | str | int | Mapping[str, int] | None = None,
    dtype: str = SAME,
    adapter: str | None = None,
    dry_run: bool = False,
) -> Compression:
    """Write a smaller adapter: every delta_w cut to its best approximation of a lower rank (Eckart & Young 1936).

    The original is only read. The new folder has an adapter_config.json, an adapter_model.safetensors and the proof,
    gradience_compression.json. Where nothing would be saved, nothing is written.

    Args:
        path: The adapter's folder.
        out: The folder to write, which must not exist or be empty.
        rule: How the ranks are chosen: a policy by its name, one rank for all modules, or a rank a module;
            `energy@0.99` by default.
        dtype: Number format of the factors: `same`, or one of `DTYPES`.
        adapter: Which adapter, where the folder holds several.
        dry_run: Write nothing, and say what would be.

    Raises:
        InputError: The adapter cannot be read or is not one that can be compressed, the place is not free, or what was
            written does not hold what was planned; nothing is left there then.
        GradienceError: The rule or the number format does not fit.
    """
    if dtype not in {SAME, *DTYPES}:
        raise GradienceError(f"There is no number format {dtype!r} here.", f"Formats: {', '.join((SAME, *DTYPES))}.")
    source, place = Path(path), Path(out)
    refuse_place(source, place)
    chosen = rule_of(rule)
    with open_adapter(source, adapter=adapter) as opened, AdapterTensors(opened) as tensors:
        layers = layers_of(opened)
        if all(layer.kept_because for layer in layers):
            reason = layers[0].kept_because
            raise InputError(str(source), f"has no module that can be compressed. {reason}.", "Merge it into the base.")
        planned = plan(layers, measure_layers(str(source), tensors, layers), chosen)
        result = _result(opened, tensors, planned, chosen, source, place, dtype)
        result = replace(result, dry_run=dry_run)
        if dry_run or not result.saves:
            return result
        return _write(opened, tensors, planned, result)


def _write(
    opened: OpenedAdapter, tensors: AdapterTensors, planned: Sequence[PlannedLayer], result: Compression
) -> Compression:
    source, out = str(result.source), result.out
    written = fold(source, tensors, planned, result.dtype, opened.inventory.whole_tensors)
    config = new_config(_config(opened), planned, written.layers)
    with new_folder(out) as folder:
        write_safetensors(folder / WEIGHTS_NAME, written.tensors, tensors.metadata)
        write_text(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
        errors = measure(out, folder, tensors, planned, written)
        layers = tuple(replace(one, measured=error) for one, error in zip(result.layers, errors, strict=True))
        result = replace(
            result,
            layers=layers,
            written=True,
            r=config["r"],
            bytes_after=_bytes(written),
            remarks=(*result.remarks, *_of_rounding(layers)),
            sha256_written={name: sha256_of(folder / name) for name in (CONFIG_NAME, WEIGHTS_NAME)},
        )
        write_text(folder / PROOF_NAME, json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
    return result


def _result(  # noqa: PLR0917 - what was read, and what was asked for
    opened: OpenedAdapter,
    tensors: AdapterTensors,
    planned: Sequence[PlannedLayer],
    rule: RankRule,
    source: Path,
    out: Path,
    dtype: str,
) -> Compression:
    """The plan in figures, nothing written yet."""
    before = sum(_size(entry.dtype, entry.elements) for entry in tensors.entries.values())
    config = _config(opened)
    read = [*opened.files, Path(config.path)] if config.path else [*opened.files]
    return Compression(
        source=source,
        out=out,
        rule=(rule.kind, rule.text),
        dtype=dtype,
        layers=tuple(_row(one) for one in planned),
        written=False,
        dry_run=False,
        bytes_before=before,
        bytes_after=before - _saved(tensors, planned, dtype),
        whole_tensors=opened.inventory.whole_tensors,
        sha256={file.name: sha256_of(file) for file in read},
        sha256_written={},
        not_copied=_others(opened, {file.name for file in read}),
        r=commonest_rank(one.rank for one in planned),
        remarks=tuple(_remarks(config, planned)),
    )


def _row(one: PlannedLayer) -> LayerResult:
    layer = one.layer
    return LayerResult(
        module=layer.name,
        layout=str(layer.layout),
        rank_before=layer.r,
        rank_after=one.rank,
        params_before=layer.params,
        params_after=one.params_after,
        frobenius=one.frobenius,
        predicted=one.predicted,
        measured=None,
        kept_because=one.kept_because,
        dora=layer.first.magnitude is not None,
    )


def _saved(tensors: AdapterTensors, planned: Sequence[PlannedLayer], dtype: str) -> int:
    """Bytes by which the tensors of the layers become fewer."""
    saved = 0
    for one in planned:
        magnitude = one.layer.first.magnitude
        for name in one.layer.first.keys:
            entry = tensors.entries[name]
            elements, wanted = entry.elements, entry.dtype
            if name in {one.layer.a.name, one.layer.b.name}:
                elements = elements * one.rank // one.layer.r
            if dtype != SAME and (magnitude is None or name != magnitude.name):
                wanted = DTYPES[dtype]
            saved += _size(entry.dtype, entry.elements) - _size(wanted, elements)
    return saved


def _remarks(config: AdapterConfig, planned: Sequence[PlannedLayer]) -> list[str]:
    found: list[str] = []
    dora = sum(one.layer.first.magnitude is not None for one in planned)
    if dora:
        found.append(f"{plural(dora, 'module')} with DoRA keep their rank and are no part of the total error.")
    if len({one.rank for one in planned}) > 1:
        found.append(
            "The ranks differ by module, which PEFT reads from rank_pattern; a server that overlooks it needs one rank "
            "for all (--rank)."
        )
        if has_separate_experts([one.layer for one in planned]):
            found.append("transformers 5 fuses the experts of some models at loading, which takes one rank for all.")
    r = commonest_rank(one.rank for one in planned)
    if any(one.rank != r and one.layer.first.parameters for one in planned):
        found.append(
            "PEFT warns at loading that the patterns of parameters match no module; it applies them all the same."
        )
    if remakes_factors(config):
        found.append(
            f"init_lora_weights is true in the new config: {config.init_lora_weights} is tied to the rank, and is "
            f"overwritten by the weights anyway."
        )
    return found


def _of_rounding(layers: Sequence[LayerResult]) -> tuple[str, ...]:
    """A remark where rounding to the number format, and not the cut, makes most of the error."""
    found = [one for one in layers if not one.kept_because and (one.measured or 0.0) > 2 * one.predicted]
    if not any((one.relative_measured or 0.0) > _NOTICEABLE for one in found):
        return ()
    what = plural(len(found), "module")
    return (f"In {what} rounding to the number format errs by more than the cut does; --dtype float32 avoids it.",)


def _config(opened: OpenedAdapter) -> AdapterConfig:
    assert opened.config is not None  # noqa: S101 - layers_of refuses an adapter without one
    return opened.config


def _others(opened: OpenedAdapter, read: set[str]) -> tuple[str, ...]:
    """Names in the adapter's folder that are neither read nor written."""
    return tuple(name for name in names_in(opened.folder) if name not in read)


def _size(dtype: str, elements: int) -> int:
    return math.ceil(elements * BITS[dtype] / 8)


def _bytes(written: Written) -> int:
    return sum(_size(one.dtype, math.prod(one.shape)) for one in written.tensors.values())
