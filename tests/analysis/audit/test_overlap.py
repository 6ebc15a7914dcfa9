"""Two adapters: overlap, direction, size and label of every module both adapt, against dense oracles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.adapters.tensors import Precision, SafetensorsFile
from gradience_analysis.audit.overlap import compare_adapters, label_of, subspace_deviation
from gradience_analysis.audit.overlap_result import LABELS, ModuleOverlap
from gradience_analysis.errors import InputError
from gradience_analysis.linalg import Overlap
from gradience_analysis.policy import load_policy
from tests.analysis.audit.pairs import DOWN, Array, Q, random_factors, saved
from tests.analysis.reference import FOLDER

REFERENCE = FOLDER.parent / "reference_adapter"
LIMITS = load_policy().under("adapter_overlap")


def compared(tmp_path: Path, a: dict[str, tuple[Array, Array]], b: dict[str, tuple[Array, Array]]) -> Any:
    """The comparison of two adapters with these factors."""
    return compare_adapters(saved(tmp_path / "a", a), saved(tmp_path / "b", b))


def only(rows: tuple[ModuleOverlap, ...]) -> ModuleOverlap:
    """The one row there is."""
    (row,) = rows
    return row


def test_an_adapter_is_redundant_with_itself(tmp_path: Path) -> None:
    """Given an adapter and itself, when compared, then subspaces, direction and size are the same."""
    factors = random_factors(0)
    found = compared(tmp_path, factors, factors)
    assert [row.name for row in found.rows] == [Q, DOWN]
    for row in found.rows:
        assert row.left == pytest.approx(1, abs=1e-12)
        assert row.right == pytest.approx(1, abs=1e-12)
        assert row.direction == pytest.approx(1, abs=1e-12)
        assert row.magnitude_ratio == pytest.approx(1, abs=1e-12)
        assert max(row.left, row.right, row.direction) <= 1
        assert row.label == "redundant"
    assert found.labels == dict.fromkeys(LABELS, 0) | {"redundant": 2}


def test_a_negated_adapter_conflicts(tmp_path: Path) -> None:
    """Given an adapter and its negative, when compared, then they span the same and point against each other."""
    factors = random_factors(0, Q)
    row = only(compared(tmp_path, factors, {Q: (factors[Q][0], -factors[Q][1])}).rows)
    assert row.left == pytest.approx(1)
    assert row.direction == pytest.approx(-1)
    assert row.magnitude_ratio == pytest.approx(1)
    assert row.label == "conflicting"


def test_independent_adapters_overlap_by_chance(tmp_path: Path) -> None:
    """Given independent random adapters, when compared, then figures are near their baselines and labels orthogonal."""
    names = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(24)]
    found = compared(tmp_path, random_factors(1, *names), random_factors(2, *names))
    for side, dimension in (("left", 96), ("right", 64)):
        for row in found.rows:
            assert getattr(row, f"{side}_baseline") == pytest.approx(max(row.rank_a, row.rank_b) / dimension)
        total = np.mean([getattr(row, side) - getattr(row, f"{side}_baseline") for row in found.rows])
        assert abs(total) < 0.02
    directions = [row.direction / row.direction_baseline for row in found.rows]
    assert 0.6 < float(np.std(directions)) < 1.5
    assert found.labels["orthogonal"] == len(names)


def test_a_much_larger_adapter_is_imbalanced(tmp_path: Path) -> None:
    """Given an adapter and twenty times itself, when compared, then the ratio says so, either way round."""
    factors = random_factors(0, Q)
    larger = {Q: (factors[Q][0], 20 * factors[Q][1])}
    row = only(compared(tmp_path / "one", factors, larger).rows)
    assert row.magnitude_ratio == pytest.approx(1 / 20)
    assert row.label == "imbalanced"
    assert only(compared(tmp_path / "two", larger, factors).rows).magnitude_ratio == pytest.approx(20)


def test_scalings_of_the_configs_count(tmp_path: Path) -> None:
    """Given the same factors with alpha 2r and with rsLoRA, when compared, then the ratio is that of the scalings."""
    factors = random_factors(0, Q)
    a = saved(tmp_path / "a", factors, lora_alpha=8)
    b = saved(tmp_path / "b", factors, lora_alpha=4, use_rslora=True)
    row = only(compare_adapters(a, b).rows)
    assert row.magnitude_ratio == pytest.approx(1.0)  # 8/4 and 4/sqrt(4)
    negative = saved(tmp_path / "c", factors, lora_alpha=-8)
    row = only(compare_adapters(a, negative).rows)
    assert row.direction == pytest.approx(-1)
    assert row.magnitude_ratio == pytest.approx(1)


def test_without_a_scaling_the_sizes_are_not_compared(tmp_path: Path) -> None:
    """Given a config without alpha, when compared, then the ratio is missing, with a remark, and the rest stands."""
    factors = random_factors(0, Q)
    a, b = saved(tmp_path / "a", factors), saved(tmp_path / "b", factors, lora_alpha=None)
    found = compare_adapters(a, b)
    row = only(found.rows)
    assert row.magnitude_ratio is None
    assert row.label == "redundant"
    assert found.summary["magnitude_ratio_median"] is None
    assert any("scaling" in remark for remark in found.remarks)


@given(seed=st.integers(0, 2**32 - 1), r1=st.integers(1, 5), r2=st.integers(1, 5), shared=st.floats(0, 1))
def test_figures_are_those_of_the_dense_updates(
    tmp_path_factory: pytest.TempPathFactory, seed: int, r1: int, r2: int, shared: float
) -> None:
    """Given two random updates with a part in common, when compared, then a dense SVD gives the same figures."""
    rng = np.random.default_rng(seed)
    m, n = 24, 17
    a1, b1 = rng.standard_normal((r1, n)), rng.standard_normal((m, r1))
    a2, b2 = rng.standard_normal((r2, n)), rng.standard_normal((m, r2))
    a2[0], b2[:, 0] = shared * a1[0] + a2[0], shared * b1[:, 0] + b2[:, 0]
    folder = tmp_path_factory.mktemp("pair")
    row = only(compared(folder, {Q: (a1, b1)}, {Q: (a2, b2)}).rows)
    one, other = b1 @ a1, b2 @ a2
    (u1, s1, v1), (u2, s2, v2) = np.linalg.svd(one), np.linalg.svd(other)
    i, j = (int(np.argmax(np.cumsum(s**2) >= 0.9 * np.sum(s**2))) + 1 for s in (s1, s2))
    assert (row.rank_a, row.rank_b) == (i, j)
    assert row.left == pytest.approx(np.sum((u1[:, :i].T @ u2[:, :j]) ** 2) / min(i, j), abs=1e-9)
    assert row.right == pytest.approx(np.sum((v1[:i] @ v2[:j].T) ** 2) / min(i, j), abs=1e-9)
    norms = np.linalg.norm(one), np.linalg.norm(other)
    assert row.direction == pytest.approx(float(np.sum(one * other) / (norms[0] * norms[1])), abs=1e-9)
    assert row.magnitude_ratio == pytest.approx(norms[0] / norms[1], rel=1e-9)
    assert (row.shape, row.r_a, row.r_b) == ((m, n), r1, r2)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_the_update_counts_not_its_factors(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Given factors that are permuted, rescaled and mixed, when compared, then the same update has the same figures."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("mixed")
    first, second = random_factors(seed, Q), random_factors(seed + 1, Q)
    a, b = second[Q]
    mix = rng.standard_normal((len(a), len(a))) + 3 * np.eye(len(a))
    order = rng.permutation(len(a))
    plain = only(compared(folder / "plain", first, second).rows)
    mixed = only(compared(folder / "mixed", first, {Q: ((mix @ a)[order], (b @ np.linalg.inv(mix))[:, order])}).rows)
    for name in ("left", "right", "direction", "magnitude_ratio"):
        assert getattr(mixed, name) == pytest.approx(getattr(plain, name), abs=1e-7)
    assert (mixed.rank_a, mixed.rank_b, mixed.label) == (plain.rank_a, plain.rank_b, plain.label)


def test_exchanging_the_two_turns_only_the_ratio(tmp_path: Path) -> None:
    """Given two adapters, when compared the other way round, then the ratio is inverted and nothing else changes."""
    first, second = random_factors(0, Q, r=3), random_factors(1, Q, r=6)
    one = only(compared(tmp_path / "one", first, second).rows)
    other = only(compared(tmp_path / "two", second, first).rows)
    assert (one.r_a, one.r_b, one.rank_a, one.rank_b) == (other.r_b, other.r_a, other.rank_b, other.rank_a)
    for name in ("left", "right", "direction", "left_baseline", "right_baseline"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))
    assert one.magnitude_ratio == pytest.approx(1 / (other.magnitude_ratio or 0))


def test_common_outputs_from_other_inputs_are_partial(tmp_path: Path) -> None:
    """Given one lora_B with two lora_A, when compared, then the outputs agree, the inputs do not, and it is partial."""
    first, second = random_factors(0, Q), random_factors(1, Q)
    row = only(compared(tmp_path, first, {Q: (second[Q][0], first[Q][1])}).rows)
    assert row.left > 0.6
    assert row.right < 0.3
    assert row.label == "partial"


def test_a_common_start_of_lora_a_is_no_interference(tmp_path: Path) -> None:
    """Given one lora_A with two lora_B, as of one seed, when compared, then the inputs agree and it is orthogonal."""
    first, second = random_factors(0, Q), random_factors(1, Q)
    row = only(compared(tmp_path, first, {Q: (first[Q][0], second[Q][1])}).rows)
    assert row.right > 0.6
    assert row.label == "orthogonal"


def test_directions_without_weight_do_not_dilute(tmp_path: Path) -> None:
    """Given two updates that share their strong directions, when each has noise of higher rank, then left says so."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((96, 2))
    factors = [
        {
            Q: (
                rng.standard_normal((16, 64)),
                np.concatenate([shared, 0.01 * rng.standard_normal((96, 14))], axis=1),
            )
        }
        for _ in range(2)
    ]
    row = only(compared(tmp_path, factors[0], factors[1]).rows)
    assert (row.rank_a, row.rank_b) == (2, 2)
    assert row.left > 0.99
    assert row.label == "partial"


@pytest.mark.parametrize(
    ("zero", "ratio", "words"),
    [
        ((True, False), 0.0, "the first adapter is zero"),
        ((False, True), math.inf, "the second adapter is zero"),
        ((True, True), math.nan, "of the first and of the second adapter is zero"),
    ],
)
def test_a_zero_update_is_unclear(tmp_path: Path, zero: tuple[bool, bool], ratio: float, words: str) -> None:
    """Given an update that is zero, when compared, then nothing is made up for it, and the row says why."""
    pair = [random_factors(seed, Q) for seed in (0, 1)]
    factors = [
        {Q: (one[Q][0], np.zeros_like(one[Q][1]))} if empty else one for one, empty in zip(pair, zero, strict=True)
    ]
    found = compared(tmp_path, factors[0], factors[1])
    row = only(found.rows)
    assert row.label == "unclear"
    assert words in row.reason
    assert math.isnan(row.left)
    assert math.isnan(row.direction)
    assert row.magnitude_ratio == pytest.approx(ratio, nan_ok=True)
    assert found.summary["left_median"] is None
    json.dumps(found.to_dict(layers=True), allow_nan=False)


def test_values_that_are_not_finite_are_unclear(tmp_path: Path) -> None:
    """Given a NaN in a factor, when compared, then that module has no figures and the others have theirs."""
    first, second = random_factors(0), random_factors(0)
    second[DOWN][1][3, 1] = np.nan
    found = compared(tmp_path, first, second)
    by_name = {row.name: row for row in found.rows}
    assert by_name[Q].label == "redundant"
    assert by_name[DOWN].label == "unclear"
    assert "second adapter holds values that are not finite" in by_name[DOWN].reason
    assert by_name[DOWN].to_dict()["left"] is None


def test_an_update_beyond_every_number_is_unclear(tmp_path: Path) -> None:
    """Given finite factors whose product is not, when compared, then that module says so and the others stand."""
    first, second = random_factors(0), random_factors(0)
    second[DOWN] = (second[DOWN][0] * 1e200, second[DOWN][1] * 1e200)
    by_name = {row.name: row for row in compared(tmp_path, first, second).rows}
    assert by_name[Q].label == "redundant"
    assert (by_name[DOWN].label, by_name[DOWN].rank_a) == ("unclear", 0)
    assert "larger than floating-point numbers" in by_name[DOWN].reason


def test_every_factor_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two adapters, when compared, then each module's factors are decoded once."""
    read: list[tuple[str, str]] = []
    plain = SafetensorsFile.array

    def counted(file: SafetensorsFile, name: str, precision: Precision = "float64") -> Any:
        read.append((file.path.parent.name, name))
        return plain(file, name, precision)

    monkeypatch.setattr(SafetensorsFile, "array", counted)
    assert len(compared(tmp_path, random_factors(0), random_factors(1)).rows) == 2
    assert len(read) == len(set(read)) == 8


def test_modules_that_only_one_adapts_or_that_differ_are_named(tmp_path: Path) -> None:
    """Given adapters of other modules and shapes, when compared, then each module is in exactly one place."""
    first = random_factors(0, Q, "lm_head") | random_factors(0, DOWN, m=32)
    second = random_factors(1, Q, DOWN, "model.layers.9.mlp.down_proj")
    found = compared(tmp_path, first, second)
    assert [row.name for row in found.rows] == [Q]
    assert found.only_a == ("lm_head",)
    assert found.only_b == ("model.layers.9.mlp.down_proj",)
    (mismatch,) = found.mismatched
    assert (mismatch.name, mismatch.shape_a, mismatch.shape_b) == (DOWN, (32, 64), (96, 64))


def test_nothing_in_common_has_no_rows(tmp_path: Path) -> None:
    """Given adapters of other modules, when compared, then there are no rows, and totals are null and not 0."""
    found = compared(tmp_path, random_factors(0, Q), random_factors(0, DOWN))
    assert found.rows == ()
    assert found.summary["n_layers"] == 0
    assert found.summary["left_median"] is None
    assert sum(found.labels.values()) == 0


def test_ranks_that_fill_the_space_say_nothing(tmp_path: Path) -> None:
    """Given ranks as large as the outputs, when compared, then an overlap of 1 is no evidence and the label unclear."""
    rng = np.random.default_rng(0)
    pair = [{Q: (rng.standard_normal((8, 400)), np.eye(4, 8) + rng.standard_normal((4, 8)))} for _ in range(2)]
    orthogonal = [
        {Q: (np.linalg.qr(one[Q][0].T)[0].T[:4], np.eye(4) + 0.01 * rng.standard_normal((4, 4)))} for one in pair
    ]
    row = only(compared(tmp_path, orthogonal[0], orthogonal[1]).rows)
    assert row.left_baseline == 1
    assert row.left == pytest.approx(1)
    assert row.label == "unclear"
    assert "fill the whole output space" in row.reason


def test_coverage_and_base_models_of_both_are_told(tmp_path: Path) -> None:
    """Given an unpaired factor and other base models, when compared, then the sides and the remarks say so."""
    from safetensors.numpy import load_file, save_file

    a = saved(tmp_path / "a", random_factors(0, Q), base_model_name_or_path="owner/one")
    b = saved(tmp_path / "b", random_factors(1, Q), base_model_name_or_path="owner/two")
    tensors = load_file(b / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.lora_A.weight"] = np.ones((4, 8))
    save_file(tensors, b / "adapter_model.safetensors")
    found = compare_adapters(a, b)
    assert (found.a.modules, found.a.lora_keys, found.a.left_out) == (1, 2, ())
    assert (found.b.modules, found.b.lora_keys) == (1, 3)
    assert [one.reason for one in found.b.left_out] == ["unpaired"]
    assert any("owner/one" in remark and "owner/two" in remark for remark in found.remarks)


def test_dora_and_a_start_from_the_base_are_remarked(tmp_path: Path) -> None:
    """Given PiSSA and DoRA, when compared, then remarks say what the figures leave out."""
    from safetensors.numpy import load_file, save_file

    a = saved(tmp_path / "a", random_factors(0, Q), init_lora_weights="pissa")
    b = saved(tmp_path / "b", random_factors(1, Q), use_dora=True)
    tensors = load_file(b / "adapter_model.safetensors")
    tensors[f"base_model.model.{Q}.lora_magnitude_vector"] = np.ones(96)
    save_file(tensors, b / "adapter_model.safetensors")
    remarks = " ".join(compare_adapters(a, b).remarks)
    assert "DoRA" in remarks
    assert "pissa" in remarks


def test_several_adapters_in_one_file_want_a_name(tmp_path: Path) -> None:
    """Given keys of two adapters, when compared without a name, then it is refused; with one, that one is taken."""
    factors, other = random_factors(0, Q), random_factors(1, Q)
    plain = saved(tmp_path / "plain", factors)
    both = tmp_path / "both"
    saved(both, {})
    from safetensors.numpy import save_file

    tensors = {
        f"base_model.model.{Q}.lora_{kind}.{name}.weight": one[Q][place]
        for name, one in (("default", factors), ("second", other))
        for place, kind in enumerate("AB")
    }
    save_file(tensors, both / "adapter_model.safetensors")
    with pytest.raises(InputError, match="several adapters"):
        compare_adapters(plain, both)
    assert only(compare_adapters(plain, both, adapter_b="default").rows).label == "redundant"
    assert only(compare_adapters(plain, both, adapter_b="second").rows).label == "orthogonal"


def test_a_folder_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    """Given a folder without weights, when compared, then the error names it."""
    plain = saved(tmp_path / "plain", random_factors(0, Q))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        compare_adapters(plain, tmp_path / "empty")


@pytest.mark.hf
def test_a_pickle_is_compared_only_when_asked_for(tmp_path: Path) -> None:
    """Given pickled weights, when compared, then they are refused, and converted where that is allowed."""
    import torch

    factors = random_factors(0, Q)
    plain, pickled = saved(tmp_path / "plain", factors), saved(tmp_path / "pickled", factors)
    (pickled / "adapter_model.safetensors").unlink()
    tensors = {
        f"base_model.model.{Q}.lora_{kind}.weight": torch.tensor(one)
        for kind, one in zip("AB", factors[Q], strict=True)
    }
    torch.save(tensors, pickled / "adapter_model.bin")
    with pytest.raises(InputError, match="pickle"):
        compare_adapters(plain, pickled)
    row = only(compare_adapters(plain, pickled, allow_pickle=True).rows)
    assert (row.label, row.magnitude_ratio) == ("redundant", pytest.approx(1))


def test_an_embedding_writes_where_lora_b_is(tmp_path: Path) -> None:
    """Given embedding factors that share lora_B, when compared, then outputs are the embedding's columns."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    shared = rng.standard_normal((16, 2))
    folders = []
    for side in "ab":
        folder = saved(tmp_path / side, {}, r=2, lora_alpha=2, target_modules=["embed_tokens"])
        tensors = {
            "base_model.model.model.embed_tokens.lora_embedding_A": rng.standard_normal((2, 50)),
            "base_model.model.model.embed_tokens.lora_embedding_B": shared,
        }
        save_file(tensors, folder / "adapter_model.safetensors")
        folders.append(folder)
    row = only(compare_adapters(*folders).rows)
    assert row.shape == (16, 50)
    assert row.left == pytest.approx(1) or row.rank_a == 1
    assert row.left_baseline == max(row.rank_a, row.rank_b) / 16


@pytest.mark.parametrize(("i", "j", "dimension"), [(1, 1, 8), (2, 5, 12), (4, 4, 9), (3, 7, 7)])
def test_the_spread_of_random_subspaces_is_as_computed(i: int, j: int, dimension: int) -> None:
    """Given many random subspaces, when their overlap is taken, then mean and deviation are the ones used as chance."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        u = np.linalg.qr(rng.standard_normal((dimension, i)))[0]
        v = np.linalg.qr(rng.standard_normal((dimension, j)))[0]
        found.append(np.sum((u.T @ v) ** 2) / min(i, j))
    assert np.mean(found) == pytest.approx(max(i, j) / dimension, rel=0.05)
    assert np.std(found) == pytest.approx(subspace_deviation(i, j, dimension), rel=0.05, abs=1e-9)


def test_in_one_dimension_nothing_varies() -> None:
    """Given a space of one dimension, when the spread is asked for, then it is 0 and no division fails."""
    assert subspace_deviation(1, 1, 1) == 0


def figures(**changes: float) -> Overlap:
    """An overlap of two updates of rank 4 in 1000 dimensions, by chance but for the changes."""
    usual = {
        "left": 0.004,
        "right": 0.004,
        "left_baseline": 0.004,
        "right_baseline": 0.004,
        "direction": 0.0,
        "direction_baseline": 0.001,
        "magnitude_ratio": 1.0,
    }
    return Overlap(**(usual | changes), rank_a=4, rank_b=4)


@pytest.mark.parametrize(
    ("changes", "ratio", "label"),
    [
        ({}, 1.0, "orthogonal"),
        ({}, None, "orthogonal"),
        ({"left": 0.10}, 1.0, "orthogonal"),
        ({"left": 0.11}, 1.0, "partial"),
        ({"left": 0.9, "direction": 0.49}, 1.0, "partial"),
        ({"left": 0.9, "direction": 0.5}, 1.0, "redundant"),
        ({"left": 0.9, "direction": -0.19}, 1.0, "partial"),
        ({"left": 0.9, "direction": -0.2}, 1.0, "conflicting"),
        ({"left": 0.9, "direction": -0.9}, 10.0, "imbalanced"),
        ({"left": 0.9, "direction": -0.9}, 0.1, "imbalanced"),
        ({"left": 0.9, "direction": -0.9}, 9.9, "conflicting"),
        ({"left": 0.9, "direction": -0.9}, 0.0, "imbalanced"),
        ({"left": 0.9, "direction": -0.9}, math.inf, "imbalanced"),
        ({"left": 0.9, "direction": 0.6, "direction_baseline": 0.2}, 1.0, "partial"),
        ({"left": 0.9, "direction": -0.6, "direction_baseline": 0.2}, 1.0, "partial"),
    ],
)
def test_the_limits_of_the_labels(changes: dict[str, float], ratio: float | None, label: str) -> None:
    """Given figures on either side of a limit, when labelled, then the label changes there and not before."""
    assert label_of(figures(**changes), ratio, 1000, LIMITS)[0] == label


def test_small_matrices_overlap_more_by_chance() -> None:
    """Given an excess above the limit, when it is within what small random matrices reach, then it is orthogonal."""
    found = figures(left=0.32, left_baseline=4 / 24)
    assert (found.left - found.left_baseline) / (1 - found.left_baseline) > LIMITS["adapter_overlap.orthogonal"].value
    assert label_of(found, 1.0, 24, LIMITS)[0] == "orthogonal"
    assert label_of(found, 1.0, 2400, LIMITS)[0] == "partial"


def test_a_policy_moves_the_labels(tmp_path: Path) -> None:
    """Given a policy with another limit, when adapters are compared by it, then the label follows it."""
    factors = random_factors(0, Q)
    a, b = saved(tmp_path / "a", factors), saved(tmp_path / "b", {Q: (factors[Q][0], 3 * factors[Q][1])})
    assert only(compare_adapters(a, b).rows).label == "redundant"
    strict = load_policy().with_limits({"adapter_overlap.imbalanced": 2})
    assert only(compare_adapters(a, b, policy=strict).rows).label == "imbalanced"


def test_limits_that_make_no_sense_do_not_break_it(tmp_path: Path) -> None:
    """Given shares of 0 and of more than 1 in a policy, when adapters are compared, then figures come all the same."""
    factors = random_factors(0, Q)
    a, b = saved(tmp_path / "a", factors), saved(tmp_path / "b", factors)
    none = load_policy().with_limits({"adapter_overlap.energy": 0, "adapter_overlap.imbalanced": 0})
    assert only(compare_adapters(a, b, policy=none).rows).rank_a == 1
    everything = load_policy().with_limits({"adapter_overlap.energy": 7})
    assert only(compare_adapters(a, b, policy=everything).rows).rank_a == 4


def test_every_limit_is_in_the_policy_as_a_proposal() -> None:
    """Given the shipped policy, when the limits of labels are looked up, then each is there and not calibrated."""
    names = {"energy", "imbalanced", "redundant", "conflicting", "orthogonal", "chance"}
    assert set(LIMITS) == {f"adapter_overlap.{name}" for name in names}
    assert not any(one.calibrated for one in LIMITS.values())


def test_progress_counts_the_modules(tmp_path: Path) -> None:
    """Given a callback, when adapters are compared, then it hears of every module."""
    heard: list[tuple[int, int]] = []
    a = saved(tmp_path / "a", random_factors(0))
    compare_adapters(a, a, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 2), (2, 2)]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference adapter is not here")
def test_a_real_adapter_is_itself() -> None:
    """Given a real adapter, when compared with itself, then all of it is redundant and nothing is left out."""
    found = compare_adapters(REFERENCE, REFERENCE)
    assert found.labels["redundant"] == len(found.rows) == found.a.modules > 0
    assert found.only_a == found.only_b == ()
