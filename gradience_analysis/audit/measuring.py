"""Audits an adapter: its files are read, measured and judged; nothing in them is run or followed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradience_analysis.adapter_check import ADAPTER_CHECKS, read_adapter
from gradience_analysis.adapters.factors import LoraModule, count_keys
from gradience_analysis.adapters.opened import OpenedAdapter, open_adapter
from gradience_analysis.adapters.shards import SUFFIX
from gradience_analysis.audit.coverage import Coverage
from gradience_analysis.audit.judging import judge_audit
from gradience_analysis.audit.module import ModuleAudit
from gradience_analysis.audit.naming import layer_index, module_type
from gradience_analysis.audit.pickled import converted_weights
from gradience_analysis.audit.ranks import Factors, ranks_by_policy
from gradience_analysis.audit.remarks import remarks_of
from gradience_analysis.audit.result import DEFAULT_TOLERANCE, AdapterAudit, BaseRequest
from gradience_analysis.audit.spectra import ModuleSpectrum, Spectra, adapter_spectra
from gradience_analysis.diagnostics.base import diagnose
from gradience_analysis.linalg import energy_tail
from gradience_analysis.policy import Policy, load_policy
from gradience_analysis.sources.opening import is_folder

if TYPE_CHECKING:
    from gradience_analysis.audit.dominance import Dominance


def audit_adapter(
    path: str | Path,
    base: str | Path | None = None,
    *,
    adapter: str | None = None,
    config: Path | None = None,
    weights: Path | None = None,
    norms_cache: Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    policy: Policy | None = None,
    allow_pickle: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> AdapterAudit:
    """Audit the adapter in a folder: spectra, ranks and norms of every module, and what they suggest.

    Args:
        path: The adapter's folder, as save_pretrained writes it; or the file of its weights in there.
        base: Folder or file of the base model's safetensors, for the update dominance ratio. Nothing is downloaded.
        adapter: Which adapter, where the folder holds several.
        config: File to take in place of the folder's adapter_config.json.
        weights: File to take in place of the folder's weights.
        norms_cache: File in which the norms of the base are kept from one audit to the next.
        tolerance: Relative tolerance of the base's spectral norms.
        policy: Thresholds to judge by; the shipped ones by default.
        allow_pickle: Whether weights that are a pickle are converted, by torch's restricted loader in a process of its
            own with limits; they are refused otherwise.
        progress: Called with (base tensors measured, base tensors in all).

    Raises:
        InputError: A file is missing, cannot be read or cannot be believed, or the folder holds several adapters.
    """
    request = None if base is None else BaseRequest(Path(base), norms_cache, tolerance, progress)
    policy = policy or load_policy()
    folder = Path(path)
    if weights is None and folder.suffix == SUFFIX and not is_folder(folder):
        folder, weights = folder.parent, folder
    with (
        converted_weights(folder, weights, adapter, allowed=allow_pickle) as converted,
        open_adapter(folder, config=config, weights=weights, adapter=adapter, converted=converted) as opened,
    ):
        found = adapter_spectra(opened)
        held = _dominance(opened, found, request)
        audit = _laid_out(Path(path), opened, found, held)
        facts = read_adapter(
            opened.folder,
            base=request.path if request is not None and is_folder(request.path) else None,
            config=config,
            weights=weights,
            converted=converted,
            known=found.values,
        )
        files = diagnose(facts, ADAPTER_CHECKS, policy)
    judged = judge_audit(audit, policy)
    return replace(
        audit,
        measurements=(*files.measurements, *judged.measurements),
        findings=(*files.findings, *judged.findings),
    )


def _dominance(opened: OpenedAdapter, found: Spectra, request: BaseRequest | None) -> Dominance | None:
    if request is None:
        return None
    # Reading a base takes more code than the adapter does, and most audits are made without.
    from gradience_analysis.audit.dominance import dominance

    return dominance(opened, found.modules, request)


def _laid_out(path: Path, opened: OpenedAdapter, found: Spectra, held: Dominance | None) -> AdapterAudit:
    rows = tuple(module_audit(one, held) for one in found.modules)
    inventory = opened.inventory
    config = opened.config
    return AdapterAudit(
        path=path,
        name=opened.name,
        rows=rows,
        coverage=Coverage(
            audited=count_keys(one.module for one in found.modules),
            lora_keys=inventory.lora_keys,
            left_out=(*inventory.left_out, *found.left_out),
            whole_tensors=inventory.whole_tensors,
        ),
        r=config.r if config else None,
        config=_config_words(opened),
        base=None if held is None else held.used,
        remarks=remarks_of(opened, rows, held),
    )


def _config_words(opened: OpenedAdapter) -> Mapping[str, Any]:
    """What a reader of the report wants to know of the config; null where it does not say."""
    config = opened.config
    if config is None:
        return {}
    return {
        "peft_type": config.peft_type,
        "base_model": config.base_model,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "init_lora_weights": config.init_lora_weights,
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
        "target_modules": list(config.target_modules),
        "target_parameters": list(config.target_parameters),
    }


def module_audit(found: ModuleSpectrum, held: Dominance | None = None) -> ModuleAudit:
    """One module's row.

    A negative scaling turns the update round and leaves its norms; singular values are never negative.
    """
    module, scaling = found.module, found.module.scaling
    known = scaling is not None
    sigma = found.sigma * abs(scaling) if scaling is not None else found.sigma
    of = Factors(sigma, module.r, module.shape, found.norm_a, found.norm_b, 1.0 if scaling is None else abs(scaling))
    return ModuleAudit(
        name=module.name,
        adapter=module.adapter,
        layout=module.layout,
        module_type=module_type(module.name),
        layer=layer_index(module.name),
        r=module.r,
        alpha=module.alpha,
        scaling=scaling,
        shape=module.shape,
        params=module.params,
        sigma=sigma,
        spectral_norm=float(sigma[0]) if known else math.nan,
        frobenius_norm=float(energy_tail(sigma)[0]) if known else math.nan,
        stable_rank=of.stable_rank,
        utilization=of.stable_rank / module.r,
        effective_rank=of.effective_rank,
        energy_ranks=of.energy_ranks,
        ranks=ranks_by_policy(of),
        dora=module.magnitude is not None,
        **_against(module, held),
    )


def _against(module: LoraModule, held: Dominance | None) -> dict[str, Any]:
    if held is None:
        return {}
    whole = held.whole.get(module.name)
    return {
        "base": held.norms.get(module.name),
        "base_reason": held.reasons.get(module.name, ""),
        "true_spectral_norm": None if whole is None else whole.spectral,
        "true_frobenius_norm": None if whole is None else whole.frobenius,
    }
