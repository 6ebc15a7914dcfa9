"""An audited adapter: each quantity against the dense matrix, and what is done where a quick way does not tell."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gradience_analysis.adapters.writing import encode_array, write_safetensors
from gradience_analysis.audit import RANK_POLICIES, AdapterAudit, ModuleAudit, audit_adapter, audit_adapters
from gradience_analysis.errors import GradienceError, InputError

Factors = tuple[NDArray[Any], NDArray[Any]]
PREFIX = "base_model.model.model.layers"
MODULES = ("self_attn.q_proj", "mlp.up_proj")


def write(folder: Path, factors: dict[str, Factors], dtype: str = "F32", **config: Any) -> Path:
    """An adapter folder with these factors, by module name; an r of the first, alpha twice that."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = len(next(iter(factors.values()))[0])
    settings_ = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings_))
    tensors = {
        f"base_model.model.{name}.lora_{letter}.weight": encode_array(factor, dtype)
        for name, pair in factors.items()
        for letter, factor in zip("AB", pair, strict=True)
    }
    write_safetensors(folder / "adapter_model.safetensors", tensors, replace=True)
    return folder


def random_factors(rng: np.random.Generator, r: int, out: int = 20, width: int = 12) -> Factors:
    """Factors of a random update."""
    return rng.standard_normal((r, width)), rng.standard_normal((out, r))


def with_spectrum(rng: np.random.Generator, sigma: list[float], out: int = 24, width: int = 16) -> Factors:
    """Factors whose product has these singular values, spread over both, in a basis of their own."""
    r = len(sigma)
    left, right = (np.linalg.qr(rng.standard_normal((size, r)))[0] for size in (out, width))
    root = np.sqrt(np.asarray(sigma))
    turn = np.linalg.qr(rng.standard_normal((r, r)))[0]
    return turn @ (root[:, None] * right.T), (left * root) @ turn.T


def one(folder: Path, factors: Factors, dtype: str = "F32", **config: Any) -> ModuleAudit:
    """The row of an adapter with one module."""
    (row,) = audit_adapter(write(folder, {"model.layers.0.self_attn.q_proj": factors}, dtype, **config)).rows
    return row


def dense(factors: Factors, scaling: float, dtype: str = "F32") -> NDArray[np.float64]:
    """Singular values of the whole product, from the values as they stand in the file."""
    kept = [np.asarray(factor, dtype="<f4" if dtype == "F32" else "<f8").astype(np.float64) for factor in factors]
    return np.linalg.svd(scaling * kept[1] @ kept[0], compute_uv=False)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 10), st.sampled_from(["F32", "F64"]), st.sampled_from([0.25, 1.0, 7.0]))
def test_every_quantity_equals_that_of_the_dense_matrix(
    tmp_path_factory: pytest.TempPathFactory, seed: int, r: int, dtype: str, scaling: float
) -> None:
    """Given random factors, when audited, then norms, ranks and shares are those of scaling * lora_B @ lora_A."""
    factors = random_factors(np.random.default_rng(seed), r)
    row = one(tmp_path_factory.mktemp("a"), factors, dtype, lora_alpha=scaling * r)
    sigma = dense(factors, scaling, dtype)[:r]
    shares = sigma / sigma.sum()
    energy = np.cumsum(sigma**2) / (sigma**2).sum()
    assert row.sigma == pytest.approx(sigma, rel=1e-6, abs=1e-9 * sigma[0])
    assert row.spectral_norm == pytest.approx(sigma[0], rel=1e-9)
    assert row.frobenius_norm == pytest.approx(math.sqrt((sigma**2).sum()), rel=1e-9)
    assert row.stable_rank == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=1e-9)
    assert row.utilization == pytest.approx(row.stable_rank / r)
    assert row.effective_rank == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    for share, rank in row.energy_ranks.items():
        assert energy[rank - 1] >= share - 1e-12
        assert rank == 1 or energy[rank - 2] < share + 1e-12


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
def test_small_singular_values_survive(tmp_path: Path, condition: float) -> None:
    """Given a spectrum that falls to a part in 10^10, when audited, then each value is right, the small ones too."""
    sigma = list(np.geomspace(1.0, 1 / condition, 8))
    row = one(tmp_path, with_spectrum(np.random.default_rng(1), sigma), "F64", lora_alpha=8)
    assert row.sigma == pytest.approx(sigma, rel=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_invariances(tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float) -> None:
    """Given an update scaled, turned or with its ranks in another order, when audited, then its ranks stay."""
    rng = np.random.default_rng(seed)
    lora_a, lora_b = with_spectrum(rng, [3.0, 2.0, 1.0, 0.5])
    order = rng.permutation(4)
    turn = np.linalg.qr(rng.standard_normal((len(lora_b), len(lora_b))))[0]
    folder = tmp_path_factory.mktemp("a")
    plain = one(folder / "plain", (lora_a, lora_b), "F64")
    scaled = one(folder / "scaled", (lora_a, lora_b * scale), "F64")
    turned = one(folder / "turned", (lora_a, turn @ lora_b), "F64")
    ordered = one(folder / "ordered", (lora_a[order], lora_b[:, order]), "F64")
    for other in (scaled, turned, ordered):
        assert other.stable_rank == pytest.approx(plain.stable_rank)
        assert other.effective_rank == pytest.approx(plain.effective_rank)
        assert other.energy_ranks == plain.energy_ranks
        assert other.ranks == plain.ranks
    assert scaled.spectral_norm == pytest.approx(plain.spectral_norm * scale)
    assert turned.frobenius_norm == pytest.approx(plain.frobenius_norm)


def test_values_beyond_a_double_squared_are_measured(tmp_path: Path) -> None:
    """Given finite factors whose squares overflow, when audited, then they are measured and not called infinite."""
    lora_a, lora_b = with_spectrum(np.random.default_rng(0), [4.0, 2.0, 1.0])
    row = one(tmp_path, (lora_a * 1e160, lora_b), "F64", lora_alpha=3)
    assert row.sigma == pytest.approx([4e160, 2e160, 1e160], rel=1e-6)
    assert row.stable_rank == pytest.approx(21 / 16)


def test_a_negative_alpha_turns_the_update_round_and_leaves_its_norms(tmp_path: Path) -> None:
    """Given a negative alpha, when audited, then singular values are those of the positive one."""
    factors = with_spectrum(np.random.default_rng(0), [4.0, 2.0])
    plus, minus = (one(tmp_path / str(alpha), factors, lora_alpha=alpha) for alpha in (4, -4))
    assert minus.sigma == pytest.approx(plus.sigma)
    assert minus.scaling == -2.0


def test_patterns_give_each_module_its_own_scaling(tmp_path: Path) -> None:
    """Given ranks and alphas by pattern, when audited, then each module has its own, as PEFT looks them up apart."""
    rng = np.random.default_rng(0)
    names = [f"model.layers.{layer}.self_attn.{name}" for layer in (1, 11) for name in ("q_proj", "v_proj")]
    ranks = dict(zip(names, (4, 8, 4, 8), strict=True))
    folder = write(
        tmp_path,
        {name: random_factors(rng, rank) for name, rank in ranks.items()},
        rank_pattern={"v_proj": 8},
        alpha_pattern={"layers.1.self_attn.q_proj": 32},
        lora_alpha=16,
        use_rslora=False,
    )
    rows = {row.name: row for row in audit_adapter(folder).rows}
    assert {name: (row.r, row.scaling) for name, row in rows.items()} == {
        names[0]: (4, 8.0),
        names[1]: (8, 2.0),
        names[2]: (4, 4.0),
        names[3]: (8, 2.0),
    }


def planted(folder: Path, r: int = 64, true: int = 4) -> AdapterAudit:
    """An adapter of four modules that uses 4 of 64 ranks."""
    rng = np.random.default_rng(5)
    sigma = [8.0, 6.0, 5.0, 4.0][:true] + [1e-4] * (r - true)
    names = [f"model.layers.{layer}.{module}" for layer in range(2) for module in MODULES]
    return audit_adapter(write(folder, {name: with_spectrum(rng, sigma, 90, 80) for name in names}))


def test_waste_is_found_and_said(tmp_path: Path) -> None:
    """Given an adapter that uses 4 of 64 ranks, when audited, then that is a finding with the rank to try."""
    audit = planted(tmp_path)
    (finding,) = [one for one in audit.findings if one.code == "oversized_rank"]
    assert finding.evidence["suggested"] == 4
    assert finding.changes[0].suggested == "4"
    assert audit.summary["suggested_r_global_90"] == 4


def test_suggestions_are_allowed_ranks_and_save_what_they_say(tmp_path: Path) -> None:
    """Given a planted rank of 4 in 64, when asked for ranks, then 4 everywhere, which saves 60/64."""
    audit = planted(tmp_path)
    found = audit.suggest_ranks("energy@0.99")
    assert set(found.by_module.values()) == {4}
    assert (found.default_r, found.rank_pattern) == (4, {})
    assert found.params_saved == found.params * 60 // 64
    with pytest.raises(GradienceError, match=r"no rank policy.*Policies: energy@0\.90, "):
        audit.suggest_ranks("energy@0.85")


def test_every_policy_gives_a_rank_between_1_and_r(tmp_path: Path) -> None:
    """Given an adapter with a module of zeros, when each policy is asked, then no rank is 0 and none above r."""
    rng = np.random.default_rng(0)
    lora_a, lora_b = random_factors(rng, 6)
    folder = write(tmp_path, {"h.0.attn.c_attn": (lora_a, lora_b), "h.1.attn.c_attn": (lora_a, lora_b * 0)})
    audit = audit_adapter(folder)
    for policy in RANK_POLICIES:
        assert all(1 <= row.ranks[policy] <= 6 for row in audit.rows)
        assert all(1 <= rank <= 6 for rank in audit.suggest_ranks(policy).by_module.values())
    zero = audit.rows[1]
    assert math.isnan(zero.stable_rank)
    assert zero.energy_ranks == {0.90: 0, 0.95: 0, 0.99: 0}
    assert audit.summary["stable_rank_mean"] == pytest.approx(audit.rows[0].stable_rank)


def base_of(folder: Path, weights: dict[str, NDArray[Any]]) -> Path:
    """A base model with these weights."""
    folder.mkdir(parents=True)
    tensors = {f"{name}.weight": encode_array(weight, "F32") for name, weight in weights.items()}
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_dominance_is_the_ratio_of_norms(tmp_path: Path) -> None:
    """Given a base, when audited against it, then UDR, its Frobenius form and SDI are those of the dense matrices."""
    rng = np.random.default_rng(3)
    names = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(3)]
    factors = {name: random_factors(rng, 4) for name in names}
    weights = {name: rng.standard_normal((20, 12)) for name in names}
    audit = audit_adapter(write(tmp_path / "a", factors), base_of(tmp_path / "base", weights), tolerance=1e-6)
    for row in audit.rows:
        update = 2.0 * np.asarray(factors[row.name][1], "<f4").astype(float) @ np.asarray(factors[row.name][0], "<f4")
        base = np.asarray(weights[row.name], "<f4").astype(float)
        wanted = np.linalg.norm(update, 2) / np.linalg.norm(base, 2)
        assert row.udr == pytest.approx(wanted, rel=1e-5)
        assert row.udr_f == pytest.approx(np.linalg.norm(update) / np.linalg.norm(base), rel=1e-6)
        assert row.sdi == pytest.approx(math.log10(wanted), abs=1e-5)
    assert audit.summary["n_layers_with_udr"] == 3
    assert audit.summary["udr_max"] == pytest.approx(max(row.udr or 0 for row in audit.rows))


def test_without_a_base_nothing_is_said_about_dominance(tmp_path: Path) -> None:
    """Given no base, when audited, then no key of it is in the totals, rather than a zero."""
    audit = audit_adapter(write(tmp_path, {"h.0.attn.c_attn": random_factors(np.random.default_rng(0), 4)}))
    assert not [key for key in audit.summary if key.startswith(("udr", "sdi", "fraction_udr"))]
    assert audit.rows[0].udr is None


def test_frames_have_a_row_a_module_and_a_row_an_adapter(tmp_path: Path) -> None:
    """Given adapters, when framed, then the values are those of the rows and of the totals."""
    rng = np.random.default_rng(0)
    folders = [
        write(tmp_path / name, {f"h.{layer}.attn.c_attn": random_factors(rng, r) for layer in range(2)})
        for name, r in (("small", 2), ("large", 6))
    ]
    audit = audit_adapter(folders[1])
    frame = audit.modules
    assert list(frame["name"]) == ["h.0.attn.c_attn", "h.1.attn.c_attn"]
    assert list(frame["stable_rank"]) == [row.stable_rank for row in audit.rows]
    assert list(frame["rank_energy@0.99"]) == [row.ranks["energy@0.99"] for row in audit.rows]
    table = audit_adapters(folders)
    assert list(table["name"]) == ["small", "large"]
    assert list(table["r"]) == [2, 6]
    assert table["attn_n_layers"].tolist() == [2, 2]
    assert table["total_lora_params"][1] == audit.summary["total_lora_params"]


def test_a_notebook_shows_the_totals_and_no_markup_of_the_name(tmp_path: Path) -> None:
    """Given an adapter in a folder whose name is markup, when shown in a notebook, then it is escaped."""
    folder = write(tmp_path / "<b>x", {"h.0.attn.c_attn": random_factors(np.random.default_rng(0), 4)})
    page = audit_adapter(folder)._repr_html_()
    assert "&lt;b&gt;x" in page
    assert "<b>" not in page
    assert "stable_rank_mean" in page


def test_several_adapters_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    """Given a folder of two adapters, when one is named, then it is audited; when none is, then they are listed."""
    rng = np.random.default_rng(0)
    for name, r in (("left", 2), ("right", 6)):
        write(tmp_path / name, {"h.0.attn.c_attn": random_factors(rng, r)})
    assert audit_adapter(tmp_path, adapter="right").rows[0].r == 6
    with pytest.raises(InputError, match=r"left.*right"):
        audit_adapter(tmp_path)


def test_the_file_of_the_weights_stands_for_its_folder(tmp_path: Path) -> None:
    """Given the path of adapter_model.safetensors, when audited, then it is that adapter, with its config."""
    folder = write(tmp_path / "a", {"h.0.attn.c_attn": random_factors(np.random.default_rng(0), 4)})
    audit = audit_adapter(folder / "adapter_model.safetensors")
    assert audit.summary == audit_adapter(folder).summary
    assert audit.rows[0].scaling == 2.0


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere", "does not exist"), ("a/adapter_config.json", "is a file where a folder is needed")]
)
def test_a_wrong_path_is_told_in_words(tmp_path: Path, name: str, words: str) -> None:
    """Given a path that is no adapter's folder, when audited, then one sentence says what it is instead."""
    write(tmp_path / "a", {"h.0.attn.c_attn": random_factors(np.random.default_rng(0), 4)})
    with pytest.raises(InputError, match=words):
        audit_adapter(tmp_path / name)


def test_a_share_may_be_written_shorter(tmp_path: Path) -> None:
    """Given energy@0.9, when ranks are asked for, then they are those of energy@0.90."""
    audit = planted(tmp_path)
    assert audit.suggest_ranks("energy@0.9") == audit.suggest_ranks("energy@0.90")
    assert audit.suggest_ranks("energy@.95").policy == "energy@0.95"
