"""The audit and the rank suggestions under the names that scripts know: results, summaries, records, errors."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis import GradienceError, iter_issues, load_run, validate
from gradience_analysis.audit import RANK_POLICIES, audit_adapter
from gradience_analysis.audit.peft_dir import LoraAuditResult, audit_lora_peft_dir
from gradience_analysis.audit.rank_suggestion import (
    DEFAULT_ALLOWED_RANKS,
    suggest_global_ranks_from_audit,
    suggest_per_layer_ranks,
)
from tests.analysis.audit.pairs import Q, random_factors, saved

NAMES = [f"model.layers.{layer}.{name}" for layer in range(6) for name in ("self_attn.q_proj", "mlp.down_proj")]
TOTALS = """
total_lora_params n_layers stable_rank_mean stable_rank_median stable_rank_weighted_mean effective_rank_mean
utilization_mean energy_rank_90_p50 energy_rank_90_p90 by_type suggested_r_global_median suggested_r_global_90
delta_sigma_max_scaled_mean delta_sigma_max_scaled_p50 delta_sigma_max_scaled_p90
delta_frob_norm_scaled_mean delta_frob_norm_scaled_p50 delta_frob_norm_scaled_p90
"""
AGAINST_BASE = """
udr_median udr_p90 udr_max udr_mean fraction_udr_gt_0_1 fraction_udr_gt_0_3 n_layers_with_udr
sdi_median sdi_p90 sdi_mean
"""
STABLE_KEYS, OF_THE_BASE = set(TOTALS.split()), set(AGAINST_BASE.split())


def of_ranks(*ranks: int, r: int = 16, m: int = 40, n: int = 24) -> dict[str, tuple[Any, Any]]:
    """Factors of rank r whose products have exactly these ranks, each value of equal size."""
    rng = np.random.default_rng(0)
    found = {}
    for name, rank in zip(NAMES, ranks, strict=False):
        a, b = np.linalg.qr(rng.standard_normal((n, r)))[0].T, np.linalg.qr(rng.standard_normal((m, r)))[0]
        found[name] = (a, b * (np.arange(r) < rank))
    return found


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> LoraAuditResult:
    """An audit of modules with energy ranks 2, 4, 8, 15 and 15."""
    return audit_lora_peft_dir(saved(tmp_path_factory.mktemp("ranks") / "adapter", of_ranks(2, 4, 8, 16, 16)))


@pytest.fixture
def result(audited: LoraAuditResult) -> LoraAuditResult:
    """The same."""
    return audited


def test_the_result_is_that_of_the_audit(result: LoraAuditResult) -> None:
    """Given a folder, when audited under either name, then rows and totals are the same."""
    audit = audit_adapter(result.audit.path)
    assert [row.to_dict() for row in result.layers] == [row.to_dict() for row in audit.rows]
    assert result.to_summary_dict() == audit.summary
    assert result.issues == []


def test_the_summary_has_the_stable_keys(result: LoraAuditResult) -> None:
    """Given an audit, when summed up, then every stable key is there; rows come only when asked for."""
    summary = result.to_summary_dict()
    assert summary.keys() >= STABLE_KEYS
    assert not OF_THE_BASE & summary.keys()
    assert "layer_data" not in summary
    rows = result.to_summary_dict(include_layers=True)["layer_data"]["layer_rows"]
    assert [row["name"] for row in rows] == sorted(NAMES[:5])  # as the file has them
    assert "layer_data" not in result.to_summary_dict()


def test_options_reach_the_audit(tmp_path: Path) -> None:
    """Given a config and a base elsewhere, when audited with them, then scaling and ratios are those."""
    from safetensors.numpy import save_file

    factors = random_factors(0, Q)
    folder = saved(tmp_path / "adapter", factors)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 40}))
    weight = np.random.default_rng(0).standard_normal((96, 64)).astype("float32")
    save_file({f"{Q}.weight": weight}, tmp_path / "base.safetensors")
    cache = tmp_path / "norms.json"
    found = audit_lora_peft_dir(
        str(folder),
        base_norms_cache=str(cache),
        adapter_config=str(other),
        weights=str(folder / "adapter_model.safetensors"),
        base_model=str(tmp_path / "base.safetensors"),
    )
    (row,) = found.layers
    assert row.scaling == 10
    assert cache.exists()
    assert found.to_summary_dict().keys() >= OF_THE_BASE
    a, b = factors[Q]
    expected = 10 * np.linalg.norm(b @ a, 2) / np.linalg.norm(weight.astype("float64"), 2)
    assert row.udr == pytest.approx(expected, rel=2e-4)


@pytest.mark.hf
def test_a_pickle_is_read_only_when_asked_for(tmp_path: Path) -> None:
    """Given pickled weights, when audited, then they are refused, and converted where that is allowed."""
    import torch

    factors = random_factors(0, Q)
    folder = saved(tmp_path / "adapter", factors)
    expected = audit_lora_peft_dir(folder).to_summary_dict()
    (folder / "adapter_model.safetensors").unlink()
    names = (f"base_model.model.{Q}.lora_A.weight", f"base_model.model.{Q}.lora_B.weight")
    torch.save(
        {name: torch.tensor(one) for name, one in zip(names, factors[Q], strict=True)}, folder / "adapter_model.bin"
    )
    with pytest.raises(GradienceError, match="pickle"):
        audit_lora_peft_dir(folder)
    assert audit_lora_peft_dir(folder, allow_pickle=True).to_summary_dict() == expected


def test_issues_say_what_is_missing(tmp_path: Path) -> None:
    """Given an unpaired factor, no alpha and a base without the module, when audited, then each has a sentence."""
    from safetensors.numpy import load_file, save_file

    folder = saved(tmp_path / "adapter", random_factors(0, Q), lora_alpha=None)
    tensors = load_file(folder / "adapter_model.safetensors")
    extra = {"base_model.model.lm_head.lora_A.weight": np.ones((4, 8))}
    save_file(tensors | extra, folder / "adapter_model.safetensors")
    save_file({"other.weight": np.ones((4, 4), "float32")}, tmp_path / "base.safetensors")
    issues = audit_lora_peft_dir(folder, base_model=tmp_path / "base.safetensors").issues
    assert any("lm_head" in issue for issue in issues)
    assert any("scaling" in issue for issue in issues)
    assert any(issue.startswith(f"{Q}: ") for issue in issues)


def test_no_module_is_an_issue_and_no_pass(tmp_path: Path) -> None:
    """Given keys of another method, when audited, then the first issue says that nothing is known."""
    from safetensors.numpy import save_file

    folder = saved(tmp_path / "adapter", {})
    save_file({"base_model.model.lm_head.ia3_l": np.ones((4, 1), "float32")}, folder / "adapter_model.safetensors")
    found = audit_lora_peft_dir(folder)
    assert found.layers == []
    assert "No module was audited" in found.issues[0]
    assert len(found.issues) > 1
    summary = found.to_summary_dict()
    assert (summary["n_layers"], summary["suggested_r_global_90"], summary["utilization_mean"]) == (0, None, None)
    for ask in (suggest_global_ranks_from_audit, suggest_per_layer_ranks):
        with pytest.raises(GradienceError, match="covers no module"):
            ask(found)


def test_the_record_is_valid_telemetry(result: LoraAuditResult, tmp_path: Path) -> None:
    """Given the record of an audit, when appended to a run and validated, then it is v1 and the reader finds it."""
    event = result.to_metrics_event(run_id="run-1", step=7)
    start = {
        "schema": event["schema"],
        "ts": event["ts"] - 1,
        "run_id": "run-1",
        "event": "run_start",
        "step": None,
        "config": {},
        "gradience_version": "0",
    }
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in (start, event)))
    report = validate(path)
    assert report.ok, report.issues
    assert not list(iter_issues(path))
    (audit,) = load_run(path).metrics["lora_audit"]
    assert audit.step == 7
    assert audit.payload["metrics"] == result.to_summary_dict()


def test_the_record_follows_the_json_schema(result: LoraAuditResult) -> None:
    """Given the record, when held against the published schema by jsonschema itself, then it fits."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    from gradience_schema import load_schema

    schema = load_schema()
    folder = Path(__file__).parents[3] / "schema" / "gradience_schema" / "telemetry" / "v1"
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    registry: Registry[Any] = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in found])
    validator = Draft202012Validator(schema, registry=registry)
    event = result.to_metrics_event(run_id="x", step=None, ts=1.5)
    assert list(validator.iter_errors(event)) == []
    assert (event["ts"], event["step"], event["kind"]) == (1.5, None, "lora_audit")
    assert list(validator.iter_errors(event | {"step": -1}))


@pytest.mark.parametrize(
    "bad", [{"run_id": ""}, {"run_id": 3}, {"run_id": "x", "step": -1}, {"run_id": "x", "step": 1.0}]
)
def test_a_record_that_would_be_invalid_is_refused(result: LoraAuditResult, bad: dict[str, Any]) -> None:
    """Given a run id or step that the contract does not allow, when a record is asked for, then it is an error."""
    with pytest.raises(GradienceError, match=r"run_id|step"):
        result.to_metrics_event(**bad)


def test_global_ranks_are_percentiles_rounded_up(result: LoraAuditResult) -> None:
    """Given energy ranks 2, 4, 8, 15, 15, when one rank is suggested, then it is the allowed one next to it."""
    assert sorted(row.energy_ranks[0.90] for row in result.layers) == [2, 4, 8, 15, 15]
    found = suggest_global_ranks_from_audit(result)
    assert (found.median, found.p90, found.policy) == (8, 16, "energy@0.90")
    mine = suggest_global_ranks_from_audit(result, allowed_ranks=(3, 9, 20))
    assert (mine.median, mine.p90) == (9, 16)  # never above the 16 that there are
    assert mine.to_dict() == {"policy": "energy@0.90", "median": 9, "p90": 16}


def shapes(result: LoraAuditResult) -> dict[str, Any]:
    """The same audit in every form in which a script may hold it."""
    summary = result.to_summary_dict(include_layers=True)
    plain = {key: value for key, value in summary.items() if key != "layer_data"}
    return {
        "result": result,
        "audit": result.audit,
        "summary": json.loads(json.dumps(summary)),
        "json": {"schema": "gradience.audit/v1", "summary": plain, "layer_data": summary["layer_data"]},
        "record": result.to_metrics_event(run_id="x") | {"layer_data": summary["layer_data"]},
    }


@pytest.mark.parametrize("shape", ["result", "audit", "summary", "json", "record"])
def test_every_form_of_an_audit_gives_the_same(result: LoraAuditResult, shape: str) -> None:
    """Given an audit as an object, a file read back, the command's JSON or a record, when asked, then all agree."""
    one = shapes(result)[shape]
    assert suggest_global_ranks_from_audit(one) == suggest_global_ranks_from_audit(result)
    assert suggest_per_layer_ranks(one) == suggest_per_layer_ranks(result)
    found = suggest_per_layer_ranks(one)
    assert {row.name: row.suggested_r for row in found.rows} == dict(zip(NAMES, (2, 4, 8, 16, 16), strict=False))
    assert found.default_r == 16
    assert found.rank_pattern == {
        f"^{name}".replace(".", "\\."): rank for name, rank in zip(NAMES, (2, 4, 8), strict=False)
    }


@pytest.mark.parametrize("policy", RANK_POLICIES)
def test_layers_follow_the_policy(result: LoraAuditResult, policy: str) -> None:
    """Given any rule, when ranks are suggested for each module, then they are those of the audit itself."""
    found = suggest_per_layer_ranks(result, policy)
    wanted = result.audit.suggest_ranks(policy)
    assert {row.name: row.suggested_r for row in found.rows} == dict(wanted.by_module)
    assert (found.default_r, found.rank_pattern) == (wanted.default_r, wanted.rank_pattern)
    plain = found.to_dict()
    assert (plain["params"], plain["params_saved"]) == (wanted.params, wanted.params_saved)
    assert json.loads(json.dumps(plain)) == plain
    assert all(1 <= row.suggested_r <= row.current_r for row in found.rows)


@given(allowed=st.sets(st.integers(1, 300), min_size=1, max_size=8))
def test_suggested_ranks_are_allowed_ones(audited: LoraAuditResult, allowed: set[int]) -> None:
    """Given any allowed ranks, when suggested, then each is the least that suffices, or the module's own."""
    needed = dict(zip(NAMES, (2, 4, 8, 15, 15), strict=False))
    for row in suggest_per_layer_ranks(audited, allowed_ranks=sorted(allowed)).rows:
        least = min((rank for rank in allowed if rank >= needed[row.name]), default=64)
        assert row.suggested_r == min(least, row.current_r)
        assert row.params_saved == row.params - row.params * row.suggested_r // row.current_r


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("layer_data"), r"no layer_data\.layer_rows.*include_layers=True"),
        (lambda s: s.update(layer_data=None), r"no layer_data\.layer_rows"),
        (lambda s: s["layer_data"].update(layer_rows={}), r"no layer_data\.layer_rows"),
        (lambda s: s["layer_data"].update(layer_rows=[3]), "no object"),
        (lambda s: s["layer_data"]["layer_rows"][0].pop("name"), "'name'"),
        (lambda s: s["layer_data"]["layer_rows"][0].pop("r"), "'r'"),
        (lambda s: s["layer_data"]["layer_rows"][0].update(r=0), "'r'.*at least 1"),
        (lambda s: s["layer_data"]["layer_rows"][0].pop("params"), "'params'"),
        (lambda s: s["layer_data"]["layer_rows"][0].pop("ranks"), r"'ranks\.energy@0\.90'"),
        (lambda s: s["layer_data"]["layer_rows"][0]["ranks"].clear(), r"'ranks\.energy@0\.90'"),
        (lambda s: s["layer_data"]["layer_rows"][0]["ranks"].update({"energy@0.90": "4"}), "no number"),
        (lambda s: s["layer_data"]["layer_rows"][0]["ranks"].update({"energy@0.90": math.nan}), "no number"),
        (lambda s: s["layer_data"]["layer_rows"][0]["ranks"].update({"energy@0.90": True}), "no number"),
    ],
    ids=[
        *("no layers", "null layers", "rows an object", "row a number", "no name", "no r", "r 0", "no params"),
        *("no ranks", "not that rank", "rank a text", "rank NaN", "rank a boolean"),
    ],
)
def test_what_a_summary_lacks_is_named(result: LoraAuditResult, spoil: Any, words: str) -> None:
    """Given a summary with a fault, when ranks are asked for, then the error names the key and never guesses."""
    summary = copy.deepcopy(result.to_summary_dict(include_layers=True))
    spoil(summary)
    with pytest.raises(GradienceError, match=words):
        suggest_per_layer_ranks(summary)


def test_a_summary_alone_never_suggests_more_than_there_is(tmp_path: Path) -> None:
    """Given a full rank of 10, when one rank is suggested from the totals alone, then it is 10 and not 12."""
    summary = audit_lora_peft_dir(saved(tmp_path / "adapter", of_ranks(10, 10, r=10))).to_summary_dict()
    assert summary["energy_rank_90_p90"] == 9
    found = suggest_global_ranks_from_audit(json.loads(json.dumps(summary)))
    assert (found.median, found.p90) == (10, 10)
    rows = audit_lora_peft_dir(saved(tmp_path / "adapter", of_ranks(10, 10, r=10))).to_summary_dict(True)
    assert suggest_global_ranks_from_audit(rows, allowed_ranks=(1, 64)).p90 == 10


def test_a_summary_without_its_percentiles_is_refused(result: LoraAuditResult) -> None:
    """Given a summary of another kind, when one rank is asked for, then the missing key is named."""
    with pytest.raises(GradienceError, match="'energy_rank_90_p50'"):
        suggest_global_ranks_from_audit({"n_layers": 3})
    summary = result.to_summary_dict()
    with pytest.raises(GradienceError, match="'energy_rank_90_p90'"):
        suggest_global_ranks_from_audit(summary | {"energy_rank_90_p90": None}, allowed_ranks=(1, 2))
    with pytest.raises(GradienceError, match="is needed, not list"):
        suggest_global_ranks_from_audit([])  # type: ignore[arg-type]


def test_a_summary_of_the_earlier_writer_is_enough(result: LoraAuditResult) -> None:
    """Given only the percentiles, when one rank is asked for, then it follows from them."""
    keys = ("energy_rank_90_p50", "energy_rank_90_p90")
    found = suggest_global_ranks_from_audit({key: result.to_summary_dict()[key] for key in keys})
    assert (found.median, found.p90) == (8, 16)
    zero = suggest_global_ranks_from_audit(dict.fromkeys(keys, 0.0))
    assert (zero.median, zero.p90) == (1, 1)


@pytest.mark.parametrize("allowed", [(), (0, 4), (4, 2), (2, 2), (1.5, 2), (True, 2)])
def test_allowed_ranks_have_to_ascend(result: LoraAuditResult, allowed: Any) -> None:
    """Given ranks that are no choice, when suggested from, then it is an error."""
    with pytest.raises(GradienceError, match="allowed_ranks"):
        suggest_per_layer_ranks(result, allowed_ranks=allowed)
    with pytest.raises(GradienceError, match="allowed_ranks"):
        suggest_global_ranks_from_audit(result, allowed_ranks=allowed)


def test_an_unknown_rule_names_the_nearest(result: LoraAuditResult) -> None:
    """Given a slip in a rule's name, when asked for, then the error says which is meant."""
    with pytest.raises(GradienceError, match=r"Did you mean energy@0\.9"):
        suggest_per_layer_ranks(result, "energy@0.93")


def test_the_default_ranks_are_the_documented_ones() -> None:
    """Given the public constant, when read, then it begins as documented and ascends."""
    assert DEFAULT_ALLOWED_RANKS[:7] == (1, 2, 4, 8, 12, 16, 24)
    assert list(DEFAULT_ALLOWED_RANKS) == sorted(set(DEFAULT_ALLOWED_RANKS))
