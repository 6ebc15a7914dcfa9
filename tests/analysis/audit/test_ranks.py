"""Suggested ranks: what each rule finds, how it is rounded, and that PEFT gives each module the rank that was meant."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.audit import RANK_POLICIES, audit_adapter
from gradience_analysis.audit.ranks import DEFAULT_POLICY, SAFE_POLICY, Factors, known_policy, ranks_by_policy
from gradience_analysis.audit.suggestion import RankSuggestion, global_rank, pattern_of, suggest, targets_of
from gradience_analysis.errors import GradienceError
from gradience_analysis.linalg import ALLOWED_RANKS
from tests.analysis.audit.rows import audit, row

SIGMA = st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=24).map(lambda found: np.array(sorted(found, reverse=True)))


def factors(sigma: Any, **changes: Any) -> Factors:
    """What a rule may see of a module with these singular values."""
    usual = {"r": len(sigma), "shape": (64, 48), "norm_a": 1.0, "norm_b": 1.0, "scaling": 1.0}
    return Factors(np.asarray(sigma, dtype=np.float64), **(usual | changes))


def suggestion(by_module: dict[str, int]) -> RankSuggestion:
    """A suggestion of these ranks."""
    return RankSuggestion(
        policy=DEFAULT_POLICY,
        global_median=1,
        global_90=1,
        by_module=by_module,
        current=dict.fromkeys(by_module, 64),
        params_saved=0,
        params=0,
    )


@given(SIGMA)
def test_each_rule_is_its_definition(sigma: Any) -> None:
    """Given a spectrum, when each rule is asked, then its rank is that of its formula, in whole numbers from 1 to r."""
    found = ranks_by_policy(factors(sigma))
    assert list(found) == list(RANK_POLICIES)
    energy = np.cumsum(sigma**2) / np.sum(sigma**2)
    for share in (0.90, 0.95, 0.99):
        assert found[f"energy@{share:.2f}"] == int(np.argmax(energy >= share - 1e-12)) + 1
    p = sigma / sigma.sum()
    for name, value in (
        ("stable_rank_ceil", np.sum(sigma**2) / sigma[0] ** 2),
        ("effective_rank", np.exp(-np.sum(p * np.log(p)))),
    ):
        assert found[name] in {min(math.ceil(value - 1e-9), len(sigma)), min(math.ceil(value + 1e-8), len(sigma))}
    assert found["energy@0.90"] <= found["energy@0.95"] <= found["energy@0.99"]
    assert all(1 <= rank <= len(sigma) for rank in found.values())


@given(SIGMA, st.floats(1e-6, 1e6))
def test_no_rule_sees_the_scale(sigma: Any, factor: float) -> None:
    """Given a multiple of an adapter, when ranks are asked for, then they are the same."""
    one = ranks_by_policy(factors(sigma, norm_b=float(np.linalg.norm(sigma))))
    other = ranks_by_policy(factors(factor * sigma, norm_b=float(np.linalg.norm(sigma)), scaling=factor))
    for name in one:
        # A value that stands on a limit may fall to either side by rounding.
        assert abs(one[name] - other[name]) <= (1 if name in {"largest_gap", "null"} else 0)


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        ([1.0] * 8, {"energy@0.90": 8, "stable_rank_ceil": 8, "effective_rank": 8, "largest_gap": 8}),
        ([1.0, 0.0, 0.0, 0.0], {"energy@0.99": 1, "stable_rank_ceil": 1, "effective_rank": 1, "largest_gap": 1}),
        ([4.0, 4.0, 0.1, 0.09], {"energy@0.99": 2, "stable_rank_ceil": 3, "largest_gap": 2}),
        ([0.0, 0.0, 0.0], dict.fromkeys(RANK_POLICIES, 1)),
        ([31.0, 30.0, 6.0, 5.0], {"stable_rank_ceil": 2}),  # 2, and 2.0000000000000004 in floating point
        ([1.0] * 5 + [0.0] * 3, {"effective_rank": 5}),
    ],
    ids=["flat", "one value", "two and noise", "zero", "a whole stable rank", "a whole effective rank"],
)
def test_known_spectra_have_known_ranks(sigma: list[float], expected: dict[str, int]) -> None:
    """Given spectra with a plain answer, when ranks are asked for, then it comes; for zero updates it is 1, never 0."""
    found = ranks_by_policy(factors(sigma, norm_b=float(np.linalg.norm(sigma))))
    assert {name: found[name] for name in expected} == expected


def test_a_random_adapter_has_nothing_above_its_null() -> None:
    """Given factors that are random, when the null rule is asked, then 1 comes; planted values stand out."""
    rng = np.random.default_rng(0)
    r, m, n = 16, 300, 200
    a, b = rng.standard_normal((r, n)), rng.standard_normal((m, r))
    held = {"r": r, "shape": (m, n), "norm_a": float(np.linalg.norm(a)), "norm_b": float(np.linalg.norm(b))}
    sigma = np.linalg.svd(b @ a, compute_uv=False)[:r]
    assert ranks_by_policy(factors(sigma, **held))["null"] == 1
    b[:, :3] *= 8
    held["norm_b"] = float(np.linalg.norm(b))
    sigma = np.linalg.svd(b @ a, compute_uv=False)[:r]
    assert ranks_by_policy(factors(sigma, **held))["null"] == 3


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=30))
def test_suggestions_are_allowed_never_above_the_own_rank(pairs: list[tuple[int, int]]) -> None:
    """Given found and current ranks, when suggested, then each is the next allowed rank or the module's own."""
    from dataclasses import replace

    rows = [
        replace(row(f"layers.{place}.q_proj", [1.0]), r=max(pair), params=7 * max(pair), ranks={"x": min(pair)})
        for place, pair in enumerate(pairs)
    ]
    found = suggest(rows, "x")
    offered = [*ALLOWED_RANKS, *range(320, 1000, 64)]
    for one in rows:
        least = next(rank for rank in offered if rank >= one.ranks["x"])
        assert found.by_module[one.name] == min(least, one.r)
    assert found.params_saved == sum(7 * (one.r - found.by_module[one.name]) for one in rows)
    assert found.params == sum(one.params for one in rows)
    for name, share in (("global_median", 50), ("global_90", 90)):
        wanted = np.percentile([one.ranks["x"] for one in rows], share)
        assert getattr(found, name) == min(
            next(rank for rank in offered if rank >= wanted - 1e-9), max(one.r for one in rows)
        )


def test_without_modules_one_is_suggested() -> None:
    """Given no module, when ranks are suggested, then they are 1 and the pattern is empty."""
    found = audit([]).suggest_ranks()
    assert (found.global_median, found.global_90, found.default_r, found.rank_pattern) == (1, 1, 1, {})
    assert global_rank([], 50, 8) == 1


def test_the_commonest_rank_is_the_default() -> None:
    """Given ranks of which two are as common, when the default is taken, then it is the larger, and others differ."""
    found = suggestion({"a": 4, "b": 8, "c": 8, "d": 4, "e": 2})
    assert found.default_r == 8
    assert found.rank_pattern == {"^a": 4, "^d": 4, "^e": 2}
    assert found.to_dict()["rank_pattern"] == found.rank_pattern


def test_an_unknown_policy_is_an_error_that_lists_them() -> None:
    """Given a slip, when a policy is asked for, then the nearest is named, and all of them; known ones pass."""
    with pytest.raises(GradienceError, match=r"(?s)'energy@0\.91'.*energy@0\.90.*null"):
        known_policy("energy@0.91")
    assert [known_policy(name) for name in RANK_POLICIES] == list(RANK_POLICIES)
    assert {DEFAULT_POLICY, SAFE_POLICY} <= RANK_POLICIES.keys()


@given(st.from_regex(r"[a-z0-9_.+*()\[\]$^|?\\-]{1,30}", fullmatch=True), st.text("abc.0", max_size=12))
def test_a_pattern_matches_its_module_alone(name: str, other: str) -> None:
    """Given any name, when matched in PEFT's way, then its pattern matches it, and no longer or other name."""
    wanted = re.compile(rf"(.*\.)?({pattern_of(name)})$")
    assert wanted.match(name)
    for wrong in (f"x.{name}", f"{name}x", f"{name}.x", other):
        assert bool(wanted.match(wrong)) == (wrong == name)


def test_experts_share_the_rank_of_the_one_that_needs_most() -> None:
    """Given experts with ranks of their own, when targets are made, then each parameter has the largest."""
    found = targets_of({"l.0.experts.up[0]": 2, "l.0.experts.up[1]": 8, "l.0.experts.down[0]": 4, "l.0.q": 16})
    assert found == {r"^l\.0\.experts\.up": 8, r"^l\.0\.experts\.down": 4, r"^l\.0\.q": 16}


def test_parameters_that_cannot_be_told_apart_share_a_pattern() -> None:
    """Given two parameters that PEFT nested, when targets are made, then both have the larger rank."""
    found = targets_of(
        {"l.0.experts.base_layer[0]": 2, "l.0.experts.base_layer[1]": 4, "l.0.experts[0]": 8, "l.0.q": 1}
    )
    assert found == {r"^l\.0\.experts\.[^.]+": 8, r"^l\.0\.q": 1}


def model_of(names: list[str], width: int = 12) -> Any:
    """A torch model with linear layers of these names."""
    import torch

    root = torch.nn.Module()
    for name in names:
        *path, last = name.split(".")
        place = root
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, torch.nn.Module())
            place = getattr(place, part)
        place.add_module(last, torch.nn.Linear(width, width, bias=False))
    return root


COLLIDING = [
    "proj",
    "layers.1.proj",
    "layers.11.proj",
    "layers.1.extra_proj",
    "layers.1.inner.proj",
    "model.layers.1.proj",
    "model.layers.1.proj_2",
    "model.model.layers.1.proj",
    "xlayers.1.proj",
]


@pytest.mark.hf
@settings(max_examples=20)
@given(ranks=st.lists(st.integers(1, 9), min_size=len(COLLIDING), max_size=len(COLLIDING)))
def test_peft_gives_each_module_its_own_rank(ranks: list[int]) -> None:
    """Given names that are parts of each other, when PEFT applies the pattern, then each layer has its own rank."""
    from peft import LoraConfig, get_peft_model

    wanted = dict(zip(COLLIDING, ranks, strict=True))
    found = suggestion(wanted)
    config = LoraConfig(r=found.default_r, rank_pattern=found.rank_pattern, target_modules=COLLIDING)
    model = get_peft_model(model_of(COLLIDING), config)
    got = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight"): len(parameter)
        for name, parameter in model.named_parameters()
        if "lora_A" in name
    }
    assert got == wanted


@pytest.mark.hf
def test_the_suggestion_of_an_audit_is_what_peft_makes(tmp_path: Path) -> None:
    """Given a real adapter with planted ranks, when a new one is made as suggested, then its audit has those ranks."""
    import torch
    from peft import LoraConfig, get_peft_model

    names = COLLIDING
    planted = dict(zip(names, (1, 2, 4, 8, 2, 2, 1, 4, 8), strict=True))
    model = get_peft_model(model_of(names), LoraConfig(r=8, target_modules=names, init_lora_weights=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                plain = name.removeprefix("base_model.model.").removesuffix(".lora_B.default.weight")
                torch.nn.init.orthogonal_(parameter)
                parameter[:, planted[plain] :] = 0
            elif "lora_A" in name:
                torch.nn.init.orthogonal_(parameter)
    model.save_pretrained(str(tmp_path / "first"))
    found = audit_adapter(tmp_path / "first").suggest_ranks("energy@0.99")
    assert dict(found.by_module) == planted
    again = LoraConfig(r=found.default_r, rank_pattern=found.rank_pattern, target_modules=names)
    get_peft_model(model_of(names), again).save_pretrained(str(tmp_path / "second"))
    second = audit_adapter(tmp_path / "second")
    assert {one.name: one.r for one in second.rows} == planted
    assert second.coverage.share == 1


@pytest.mark.hf
@pytest.mark.filterwarnings("ignore:The following rank_pattern keys did not match:RuntimeWarning")  # of modules only
@pytest.mark.parametrize("several", [False, True], ids=["one parameter", "two parameters"])
def test_peft_gives_parameters_of_experts_their_rank(tmp_path: Path, several: bool) -> None:
    """Given experts that are targeted as parameters, when PEFT applies the pattern, then each layer has its rank."""
    import torch
    from peft import LoraConfig, get_peft_model

    class Experts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = torch.nn.Parameter(torch.randn(3, 10, 6))
            self.down = torch.nn.Parameter(torch.randn(3, 6, 10))

    def small() -> Any:
        root = torch.nn.Module()
        root.add_module("layers", torch.nn.ModuleList(torch.nn.ModuleDict({"experts": Experts()}) for _ in range(2)))
        return root

    targets = ["experts.up", "experts.down"] if several else ["experts.up"]
    config = LoraConfig(r=4, target_modules=[], target_parameters=targets, init_lora_weights=False)
    model = get_peft_model(small(), config)
    model.save_pretrained(str(tmp_path / "first"))
    rows = audit_adapter(tmp_path / "first").rows
    assert len(rows) == 2 * 3 * len(targets)
    wanted = suggestion({one.name: 1 + one.layer * 2 + (one.name.endswith("[1]")) for one in rows})
    ranks = {0: 2, 1: 4}
    config = LoraConfig(
        r=wanted.default_r,
        rank_pattern=wanted.rank_pattern,
        target_modules=[],
        target_parameters=targets,
        init_lora_weights=False,
    )
    again = get_peft_model(small(), config)
    got = {name: len(parameter) for name, parameter in again.named_parameters() if "lora_A" in name}
    assert len(got) == 2 * len(targets)
    for name, rows_of_a in got.items():
        (layer,) = [int(found) for found in re.findall(r"layers\.(\d)", name)]
        assert rows_of_a == 3 * ranks[layer]
    again.save_pretrained(str(tmp_path / "second"))
    second = audit_adapter(tmp_path / "second")
    assert {one.r for one in second.rows if one.layer == 0} == {2}
    assert {one.r for one in second.rows if one.layer == 1} == {4}
    assert second.coverage.share == 1
