"""The totals of an audit: each key against numpy, and what is undefined or not measured is None."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.audit import BaseUsed, Coverage, ModuleAudit
from gradience_analysis.base_weights import BaseNorm
from gradience_analysis.linalg import ALLOWED_RANKS
from tests.analysis.audit.rows import audit, row

SPECTRA = st.lists(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8).map(lambda found: sorted(found, reverse=True)),
    min_size=1,
    max_size=12,
)
KINDS = ("self_attn.q_proj", "mlp.up_proj", "embed")
USED = BaseUsed(path=Path("base"), quantization="", tolerance=1e-4, matched=1)


def rows_of(spectra: list[list[float]], **held: Any) -> list[ModuleAudit]:
    """Modules of every type in turn."""
    return [
        row(f"model.layers.{place}.{KINDS[place % 3]}", sigma, shape=(8 + place, 16), **held)
        for place, sigma in enumerate(spectra)
    ]


def base(spectral: float, frobenius: float) -> BaseNorm:
    """Norms of a base weight."""
    return BaseNorm(
        tensor="w",
        file="model.safetensors",
        shape=(8, 16),
        spectral=spectral,
        frobenius=frobenius,
        tolerance=1e-4,
        residual=0.0,
        steps=1,
        converged=True,
        quantization="",
        cached=False,
    )


def energy_rank(sigma: list[float], share: float) -> int:
    """Fewest values that hold a share of the energy, by counting."""
    energy = np.cumsum(np.square(sigma))
    return int(np.argmax(energy >= share * energy[-1] * (1 - 1e-12))) + 1


@given(SPECTRA)
def test_totals_are_those_of_numpy(spectra: list[list[float]]) -> None:
    """Given any spectra, when summed up, then every total is the mean or the percentile that numpy computes."""
    rows = rows_of(spectra)
    found = audit(rows).summary
    stable = [float(np.sum(np.square(s)) / s[0] ** 2) for s in spectra]
    entropy = [float(np.exp(-np.sum((p := np.array(s) / np.sum(s)) * np.log(p)))) for s in spectra]
    params = [len(s) * (8 + place + 16) for place, s in enumerate(spectra)]
    ranks = [energy_rank(s, 0.9) for s in spectra]
    sigma, norms = [s[0] for s in spectra], [float(np.linalg.norm(s)) for s in spectra]
    expected = {
        "total_lora_params": sum(params),
        "n_layers": len(spectra),
        "stable_rank_mean": np.mean(stable),
        "stable_rank_median": np.median(stable),
        "stable_rank_weighted_mean": np.average(stable, weights=params),
        "effective_rank_mean": np.mean(entropy),
        "utilization_mean": np.mean([value / len(s) for value, s in zip(stable, spectra, strict=True)]),
        "energy_rank_90_p50": np.percentile(ranks, 50),
        "energy_rank_90_p90": np.percentile(ranks, 90),
        "delta_sigma_max_scaled_mean": np.mean(sigma),
        "delta_sigma_max_scaled_p50": np.percentile(sigma, 50),
        "delta_sigma_max_scaled_p90": np.percentile(sigma, 90),
        "delta_frob_norm_scaled_mean": np.mean(norms),
        "delta_frob_norm_scaled_p50": np.percentile(norms, 50),
        "delta_frob_norm_scaled_p90": np.percentile(norms, 90),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    largest = max(len(s) for s in spectra)
    for name, share in (("median", 50), ("90", 90)):
        wanted = np.percentile(ranks, share)
        assert found[f"suggested_r_global_{name}"] == min(largest, *(r for r in ALLOWED_RANKS if r >= wanted))


@given(SPECTRA)
def test_types_partition_the_modules(spectra: list[list[float]]) -> None:
    """Given modules of three types, when summed up by type, then each is that of its modules alone."""
    rows = rows_of(spectra)
    found = audit(rows).summary["by_type"]
    assert set(found) == {"attn", "mlp", "other"}
    assert sum(part["n_layers"] for part in found.values()) == len(rows)
    for place, kind in enumerate(("attn", "mlp", "other")):
        own = spectra[place::3]
        assert found[kind]["n_layers"] == len(own)
        if own:
            ranks = [energy_rank(s, 0.9) for s in own]
            stable = [float(np.sum(np.square(s)) / s[0] ** 2) for s in own]
            assert found[kind]["stable_rank_mean"] == pytest.approx(np.mean(stable))
            assert found[kind]["energy_rank_90_p90"] == pytest.approx(np.percentile(ranks, 90))
            assert found[kind]["params"] == sum(one.params for one in rows[place::3])
        else:
            assert {value for key, value in found[kind].items() if key not in {"n_layers", "params"}} == {None}


def test_without_modules_totals_are_null_and_not_zero() -> None:
    """Given no module, when summed up, then counts are 0 and everything else is None."""
    found = audit([], coverage=Coverage(audited=0, lora_keys=4)).summary
    assert (found["n_layers"], found["total_lora_params"]) == (0, 0)
    assert found["coverage"] == {"audited": 0, "lora_keys": 4, "share": 0.0}
    for name, value in found.items():
        if name not in {"n_layers", "total_lora_params", "by_type", "coverage"}:
            assert value is None, name


def test_zero_updates_are_left_out_of_what_they_do_not_have() -> None:
    """Given a module whose update is zero, when summed up, then ranks are of the others, and norms have its 0."""
    found = audit([row("model.layers.0.q_proj", [0.0, 0.0]), row("model.layers.1.q_proj", [2.0, 2.0])]).summary
    assert found["stable_rank_mean"] == found["stable_rank_weighted_mean"] == 2
    assert found["utilization_mean"] == 1
    assert found["energy_rank_90_p50"] == 1  # of 0 and 2
    assert found["delta_sigma_max_scaled_mean"] == 1
    assert found["suggested_r_global_median"] == 2  # the ranks are 1 and 2, and a rank is never 0
    nothing = audit([row("model.layers.0.q_proj", [0.0, 0.0])]).summary
    assert nothing["stable_rank_mean"] is None
    assert nothing["stable_rank_weighted_mean"] is None
    assert nothing["suggested_r_global_90"] == 1
    assert nothing["energy_concentration"] is None


def test_an_unknown_scaling_leaves_the_ranks() -> None:
    """Given a module without a scaling, when summed up, then norms are of the others and ranks of all."""
    found = audit([row("a.q_proj", [4.0], scaling=None), row("b.q_proj", [1.0, 1.0])]).summary
    assert found["delta_sigma_max_scaled_mean"] == 1
    assert found["stable_rank_mean"] == 1.5


@given(SPECTRA, st.floats(0.5, 500))
def test_ratios_to_the_base_are_those_of_numpy(spectra: list[list[float]], spectral: float) -> None:
    """Given norms of the base, when summed up, then ratios, fractions and logarithms are numpy's."""
    rows = rows_of(spectra, base=base(spectral, 2 * spectral))
    found = audit(rows, base=USED).summary
    udr = np.array([s[0] / spectral for s in spectra])
    expected = {
        "udr_median": np.median(udr),
        "udr_p90": np.percentile(udr, 90),
        "udr_max": udr.max(),
        "udr_mean": udr.mean(),
        "fraction_udr_gt_0_1": np.mean(udr > 0.1),
        "fraction_udr_gt_0_3": np.mean(udr > 0.3),
        "n_layers_with_udr": len(rows),
        "udr_f_median": np.median([np.linalg.norm(s) / (2 * spectral) for s in spectra]),
        "sdi_median": np.median(np.log10(udr)),
        "sdi_p90": np.percentile(np.log10(udr), 90),
        "sdi_mean": np.mean(np.log10(udr)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_ratio_on_a_mark_is_not_above_it() -> None:
    """Given a ratio of exactly 0.1 and one just above, when counted, then only the second is above the mark."""
    rows = [row("a.q_proj", [1.0], base=base(10.0, 10.0)), row("b.q_proj", [1.0001], base=base(10.0, 10.0))]
    found = audit(rows, base=USED).summary
    assert (found["fraction_udr_gt_0_1"], found["fraction_udr_gt_0_3"]) == (0.5, 0)


def test_a_base_without_a_match_has_no_ratio() -> None:
    """Given a base of which no weight was found, when summed up, then the keys are there and their values None."""
    found = audit([row("a.q_proj", [1.0])], base=USED).summary
    assert found["n_layers_with_udr"] == 0
    for name in ("udr_median", "udr_max", "fraction_udr_gt_0_1", "sdi_mean", "udr_f_median"):
        assert found[name] is None


def test_a_base_of_zeros_leaves_plain_json() -> None:
    """Given a ratio that is infinite, when summed up, then it counts as above the marks and nothing is infinite."""
    rows = [
        row("a.q_proj", [1.0], base=base(0.0, 0.0)),
        row("b.q_proj", [1.0], base=base(0.0, 0.0)),
        row("c.q_proj", [1.0], base=base(100.0, 100.0)),
        row("d.q_proj", [0.0], base=base(0.0, 0.0)),
    ]
    assert rows[0].udr == math.inf
    found = audit(rows, base=USED).summary
    json.dumps(found, allow_nan=False)
    assert found["n_layers_with_udr"] == 3
    assert found["fraction_udr_gt_0_3"] == pytest.approx(2 / 3)
    assert found["udr_max"] == found["udr_median"] == 0.01
    assert found["sdi_p90"] == pytest.approx(-2)


@given(SPECTRA)
def test_every_summary_is_strict_json(spectra: list[list[float]]) -> None:
    """Given any audit, when its totals are written, then they are strict JSON and come back the same."""
    found = audit([*rows_of(spectra), row("x.q_proj", [0.0]), row("y.q_proj", [1.0], scaling=None)]).summary
    assert json.loads(json.dumps(found, allow_nan=False)) == found
