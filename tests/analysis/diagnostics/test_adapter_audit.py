"""Adapter rank and dominance: what a logged audit says, and what it does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.diagnostics import adapter_dominance, adapter_rank, diagnose
from gradience_analysis.diagnostics.base import Diagnosis
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_schema import Severity
from tests.analysis.records import CONFIG, end, record, write
from tests.analysis.reference import FOLDER, needs_reference_runs

POLICY = load_policy()
# A sound adapter of rank 16: no quantity is beyond a limit.
SOUND: dict[str, Any] = {
    "total_lora_params": 1_000_000,
    "n_layers": 24,
    "stable_rank_mean": 4.0,
    "effective_rank_mean": 11.0,
    "utilization_mean": 0.25,
    "energy_rank_90_p50": 8.0,
    "energy_rank_90_p90": 11.0,
    "suggested_r_global_median": 8,
    "suggested_r_global_90": 12,
    "by_type": {
        "attn": {"params": 500_000, "utilization_mean": 0.25},
        "mlp": {"params": 500_000, "utilization_mean": 0.2},
    },
    "udr_median": 0.05,
    "udr_max": 0.2,
    "udr_p90": 0.1,
    "fraction_udr_gt_0_3": 0.0,
    "n_layers_with_udr": 24,
}


def diagnosed(folder: Path, *audits: Any, r: Any = 16, **lora: Any) -> Diagnosis:
    """What both diagnostics say about a run with these audits."""
    first = record("run_start", config={**CONFIG, "lora": {"r": r, "alpha": 32, "target_modules": ["q_proj"], **lora}})
    rows = [record("metrics", 40, kind="lora_audit", metrics=audit) for audit in audits]
    run = load_run(write(folder / "run.jsonl", [first, *rows, end()]))
    return diagnose(run, (adapter_rank, adapter_dominance), POLICY)


def only(folder: Path, r: int = 16, **changes: Any) -> Finding:
    """The one finding about an audit that is sound but for these quantities."""
    (found,) = diagnosed(folder, SOUND | changes, r=r).findings
    return found


def test_sound_audit_gives_no_finding(tmp_path: Path) -> None:
    """Given an audit without a quantity beyond a limit, when diagnosed, then all is measured and nothing found."""
    found = diagnosed(tmp_path, SOUND)
    assert found.findings == ()
    assert [item.value for item in found.measurements] == [24, 0.25, 12.0, 0.8, 0.2]


def test_without_an_audit_nothing_is_measured(tmp_path: Path) -> None:
    """Given no audit, when diagnosed, then every reason says how to get one."""
    found = diagnosed(tmp_path)
    assert found.findings == ()
    assert all("udit" in item.reason and item.value is None for item in found.measurements)


@needs_reference_runs
def test_empty_audit_of_the_earlier_tool(tmp_path: Path) -> None:
    """Given the audit of a folder without an adapter, when diagnosed, then it is an info with the audit's remarks."""
    run = load_run(FOLDER / "outputs_run.jsonl")
    (found,) = diagnose(run, (adapter_rank, adapter_dominance), POLICY).findings
    assert (found.code, found.severity) == ("audit_empty", Severity.INFO)
    assert found.evidence["issues"]


def test_last_audit_counts(tmp_path: Path) -> None:
    """Given an empty audit and then a sound one, when diagnosed, then nothing is found."""
    assert diagnosed(tmp_path, {"n_layers": 0}, SOUND).findings == ()


@pytest.mark.parametrize(("suggested", "expected"), [(8, []), (4, ["oversized_rank"]), (1, ["oversized_rank"])])
def test_rank_of_four_times_the_suggestion_is_an_info(tmp_path: Path, suggested: int, expected: list[str]) -> None:
    """Given suggestions for r = 16, when diagnosed, then those at a quarter or less are an info, however small."""
    found = diagnosed(tmp_path, SOUND | {"suggested_r_global_90": suggested}).findings
    assert [one.code for one in found] == expected
    assert all(one.severity is Severity.INFO for one in found)


def test_small_rank_is_never_too_large(tmp_path: Path) -> None:
    """Given a suggestion of 1 for r = 4, when diagnosed, then there is too little to save to speak of it."""
    assert diagnosed(tmp_path, SOUND | {"suggested_r_global_90": 1, "energy_rank_90_p90": 1.0}, r=4).findings == ()


def test_saved_parameters_are_told_with_the_change(tmp_path: Path) -> None:
    """Given a suggestion of 4 for r = 16, when diagnosed, then three quarters of the parameters would be saved."""
    found = only(tmp_path, suggested_r_global_90=4)
    assert found.evidence["saved_params"] == 750_000
    assert "75% of its parameters, 750,000" in found.message
    (change,) = found.changes
    assert (change.setting, change.current, change.suggested) == ("lora.r", "16", "4")
    assert "held-out" in found.caveat
    assert found.evidence["suggestions"]["suggested_r_global_median"] == 8


@pytest.mark.parametrize(
    ("suggested", "params", "expected"),
    [(8, 20_000_000, "warning"), (12, 20_000_000, "info"), (8, 11_000_000, "info"), (8, None, "info")],
)
def test_large_waste_is_a_warning(tmp_path: Path, suggested: int, params: int | None, expected: str) -> None:
    """Given r = 64, when seven eighths and ten million parameters would be saved, then it is a warning."""
    found = only(tmp_path, 64, suggested_r_global_90=suggested, total_lora_params=params)
    assert (found.code, str(found.severity)) == ("oversized_rank", expected)


def test_rank_is_said_once(tmp_path: Path) -> None:
    """Given low utilization and an oversized rank, when diagnosed, then the second alone is told."""
    assert only(tmp_path, suggested_r_global_90=2, utilization_mean=0.07).code == "oversized_rank"


def test_low_utilization_alone_is_an_info(tmp_path: Path) -> None:
    """Given low utilization where no lower rank is suggested, when diagnosed, then it is an info of its own."""
    found = only(tmp_path, utilization_mean=0.14)
    assert (found.code, found.severity) == ("low_utilization", Severity.INFO)
    assert diagnosed(tmp_path, SOUND | {"utilization_mean": 0.15}).findings == ()


def test_suggestion_follows_from_the_energy_where_none_is_logged(tmp_path: Path) -> None:
    """Given an energy rank of 2.4 and no suggestion, when diagnosed, then the next usual rank is suggested."""
    audit = {key: value for key, value in SOUND.items() if not key.startswith("suggested")} | {
        "energy_rank_90_p90": 2.4
    }
    (found,) = diagnosed(tmp_path, audit).findings
    assert found.evidence["suggested"] == 4


@pytest.mark.parametrize(("mlp", "share", "expected"), [(0.12, 0.5, 1), (0.13, 0.5, 0), (0.05, 0.2, 0)])
def test_low_use_of_mlp_modules(tmp_path: Path, mlp: float, share: float, expected: int) -> None:
    """Given MLP modules beside attention at 0.25, when used less than half as much and large, then it is an info."""
    parts = {
        "attn": {"params": 1_000_000 * (1 - share), "utilization_mean": 0.25},
        "mlp": {"params": 1_000_000 * share, "utilization_mean": mlp},
    }
    found = diagnosed(tmp_path, SOUND | {"by_type": parts}).findings
    assert [one.code for one in found] == ["low_use_mlp_targets"] * expected


@pytest.mark.parametrize(
    ("r", "utilization", "energy", "expected"),
    [
        (8, 0.7, 8.0, ["rank_saturated"]),
        (8, 0.7, 6.0, []),
        (8, 0.5, 8.0, []),
        (2, 0.7, 2.0, []),
        (2, 0.8, 2.0, ["rank_saturated"]),
        (1, 1.0, 1.0, ["rank_saturated"]),
    ],
)
def test_filled_rank_is_an_info(tmp_path: Path, r: int, utilization: float, energy: float, expected: list[str]) -> None:
    """Given energy in all of r, when the stable rank is high between 1 and r, then it is an info; r = 1 always is."""
    audit = SOUND | {"utilization_mean": utilization, "energy_rank_90_p90": energy, "suggested_r_global_90": r}
    assert [one.code for one in diagnosed(tmp_path, audit, r=r).findings] == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"udr_max": 1.2}, "1.2 times its base weight"),
        ({"udr_max": 0.3}, "6 times the median"),
        ({"fraction_udr_gt_0_3": 0.3}, "30% of the modules"),
    ],
)
def test_large_updates_are_an_info_by_a_weak_proxy(tmp_path: Path, changes: dict[str, float], words: str) -> None:
    """Given a ratio beyond a limit, when diagnosed, then it is an info that calls the measure weak."""
    found = only(tmp_path, **changes)
    assert (found.code, found.severity) == ("udr_outliers", Severity.INFO)
    assert words in found.message
    assert "weak proxy" in found.caveat


def test_small_outlier_is_none(tmp_path: Path) -> None:
    """Given a largest ratio of 0.09 over a median of 0.001, when diagnosed, then it is too small to tell."""
    assert diagnosed(tmp_path, SOUND | {"udr_max": 0.09, "udr_median": 0.001}).findings == ()


@pytest.mark.parametrize("name", ["pissa", "PiSSA_niter_4", "olora", "loftq"])
def test_initialisation_that_changes_the_base_is_not_judged(tmp_path: Path, name: str) -> None:
    """Given an initialisation that moves the base, when the ratio is above 1, then it is not judged, and why."""
    found = diagnosed(tmp_path, SOUND | {"udr_max": 3.0}, extras={"init_lora_weights": name})
    assert found.findings == ()
    assert "changes the base" in found.measurement("audit_udr_max").reason


@pytest.mark.parametrize("wrong", ["x", None, True, [1], {"a": 1}, -1, 10**400, math.nan, math.inf])
def test_wrong_types_never_raise(tmp_path: Path, wrong: Any) -> None:
    """Given a wrong type in every quantity, when diagnosed, then there is no finding of it, and no error."""
    for key in SOUND:
        found = diagnosed(tmp_path, SOUND | {key: wrong})
        assert all(one.severity is Severity.INFO for one in found.findings)
    assert diagnosed(tmp_path, dict.fromkeys(SOUND, wrong)).findings == ()
    assert diagnosed(tmp_path, SOUND, r=wrong).findings == ()
    diagnosed(tmp_path, SOUND | {"by_type": {"mlp": wrong, "attn": {"params": wrong, "utilization_mean": wrong}}})
