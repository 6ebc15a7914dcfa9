"""The audit's report: figures from singular values that are known, what is always said, and the JSON artifact."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.audit import RANK_POLICIES, AdapterAudit, audit_adapter
from gradience_analysis.model import Block, Field, Fields, Heat, Notes, Report, Table
from gradience_analysis.render.json import render_json
from gradience_analysis.reports.audit import AuditView, audit_report
from gradience_analysis.reports.audit_data import KEYS
from gradience_analysis.reports.audit_heat import MOST_ROWS, energy_heat, percent, utilization_heat
from gradience_analysis.reports.audit_ranks import suggestions
from gradience_schema import Severity
from tests.analysis.adapters.files import PREFIX, Tensor, adapter, base, floats, linear
from tests.analysis.reports.known import factors, falling, known

SUMMARY_KEYS = {
    *("total_lora_params", "n_layers", "stable_rank_mean", "stable_rank_median", "stable_rank_weighted_mean"),
    *("effective_rank_mean", "utilization_mean", "energy_rank_90_p50", "energy_rank_90_p90", "by_type"),
    *("suggested_r_global_median", "suggested_r_global_90", "delta_sigma_max_scaled_mean"),
    *("delta_sigma_max_scaled_p50", "delta_sigma_max_scaled_p90", "delta_frob_norm_scaled_mean"),
    *("delta_frob_norm_scaled_p50", "delta_frob_norm_scaled_p90"),
}
"""Keys of `lora_audit` that scripts read."""


def report_of(folder: Path, view: AuditView | None = None, **options: Any) -> Report:
    """The report on the adapter in a folder."""
    return audit_report([audit_adapter(folder, **options)], str(folder), view)


def blocks(report: Report, title: str) -> tuple[Block, ...]:
    """The blocks of a section."""
    (found,) = (section.blocks for section in report.sections if section.title == title)
    return found


def titles(report: Report) -> list[str]:
    """The headings, in order."""
    return [section.title for section in report.sections if section.title]


def table(report: Report, title: str) -> dict[str, tuple[str, ...]]:
    """The first table of a section: first cell → the others."""
    (found,) = (block for block in blocks(report, title) if isinstance(block, Table))
    return {str(row[0]): tuple(map(str, row[1:])) for row in found.rows}


def fields(report: Report, title: str = "") -> dict[str, str]:
    """The labelled values of a section."""
    found: list[Field] = []
    for section in report.sections:
        if section.title == title:
            found += [field for block in section.blocks if isinstance(block, Fields) for field in block.items]
    return {field.label: field.value for field in found}


def notes(report: Report, title: str) -> str:
    """The remarks of a section, with their details."""
    found = [note for block in blocks(report, title) if isinstance(block, Notes) for note in block.items]
    return "\n".join("\n".join((note.text, *note.details)) for note in found)


def heats(report: Report) -> list[Heat]:
    """The heat strips of a report."""
    return [block for section in report.sections for block in section.blocks if isinstance(block, Heat)]


def test_figures_are_those_of_the_singular_values(tmp_path: Path) -> None:
    """Given known singular values, when reported, then utilization and energy of each cell are what they imply."""
    spectra = falling()
    report = report_of(known(tmp_path / "a"))
    use, energy = heats(report)
    total = math.fsum(value * value for sigma in spectra.values() for value in sigma)
    for heat, figure in (
        (use, lambda sigma: sum(v * v for v in sigma) / sigma[0] ** 2 / 8),
        (energy, lambda sigma: sum(v * v for v in sigma) / total),
    ):
        assert heat.columns == tuple("012345")
        for row in heat.rows:
            expected = [figure(spectra[f"{layer}.{row.name}"]) for layer in heat.columns]
            assert [value for value in row.values if value is not None] == pytest.approx(expected, rel=1e-5)
    assert [row.name for row in use.rows] == ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]
    assert math.fsum(value for row in energy.rows for value in row.values if value) == pytest.approx(1.0)


def test_verdict_coverage_and_config_come_first(tmp_path: Path) -> None:
    """Given a sound adapter, when reported, then verdict, coverage and configuration lead, and the rank is a guess."""
    report = report_of(known(tmp_path / "a", use_rslora=False))
    assert report.verdict.severity is Severity.INFO
    assert report.verdict.text.startswith("18 modules audited, r 8. Rank ")
    assert "only a held-out evaluation shows" in report.verdict.text
    head = fields(report)
    assert head["Audited"] == "36 of 36 LoRA-like keys · 18 modules · 4,608 parameters"
    assert head["LoRA"] == "r 8 · alpha 16 · scaling 2 · on down_proj, q_proj, v_proj"
    assert head["Base model"] == "owner/tiny"
    assert titles(report)[-4:] == [
        "Use of the rank", "Energy of the update", "Suggested ranks", "Most wasteful modules",
    ]  # fmt: skip


def test_types_are_summed_up(tmp_path: Path) -> None:
    """Given attention and MLP modules, when tabled, then counts, parameters and energy add up to those of all."""
    rows = table(report_of(known(tmp_path / "a")), "Use of the rank")
    assert list(rows) == ["attn", "mlp", "all"]
    assert [rows[name][0] for name in rows] == ["12", "6", "18"]
    assert [rows[name][1] for name in rows] == ["3,072", "1,536", "4,608"]
    shares = [float(rows[name][-1].rstrip("%")) for name in rows]
    assert shares[0] + shares[1] == pytest.approx(100, abs=1)
    assert shares[2] == 100


def test_layers_with_most_energy_are_named(tmp_path: Path) -> None:
    """Given one layer that holds nearly all energy, when reported, then it is named first, and the index says so."""
    spectra = falling()
    for name in spectra:
        if name.startswith("4."):
            spectra[name] = [100 * value for value in spectra[name]]
    words = fields(report_of(known(tmp_path / "a", spectra)), "Energy of the update")
    assert words["Most energy"].startswith("layers 4 (100%)")
    assert "Herfindahl index 0.999 (0.167 when all layers have the same" in words["Concentration"]


def test_policies_stand_side_by_side_and_disagree(tmp_path: Path) -> None:
    """Given flat spectra with one strong direction, when ranks are suggested, then rules disagree, and it is said."""
    spectra = {f"{layer}.self_attn.q_proj": [10.0, *[1.0] * 7] for layer in range(4)}
    report = report_of(known(tmp_path / "a", spectra))
    rows = table(report, "Suggested ranks")
    assert list(rows) == list(RANK_POLICIES)
    # 100 of 107 are in the first: 93%; 95% takes 3 of the ones, 99% all but one.
    assert [rows[f"energy@{share}"][1] for share in ("0.90", "0.95", "0.99")] == ["1", "4", "8"]
    assert rows["energy@0.90"][2:] == ("896", "88%")
    words = fields(report, "Suggested ranks")
    assert words["Spread"].startswith("They disagree: rank 1 (")
    assert "none of them is the truth" in words["Spread"]
    assert "evaluate held out" in words["Caveat"]
    assert report.data["policies"]["disagree"] is True


def test_policies_can_be_chosen_and_agree(tmp_path: Path) -> None:
    """Given one rule, when reported, then only that one is there, and there is nothing to disagree."""
    view = AuditView(policies=("energy@0.99",))
    report = report_of(known(tmp_path / "a"), view)
    assert list(table(report, "Suggested ranks")) == ["energy@0.99"]
    assert "Spread" not in fields(report, "Suggested ranks")
    assert report.data["policies"]["disagree"] is False


@pytest.mark.parametrize(
    ("low", "high", "disagree"), [(8, 8, False), (8, 12, False), (8, 16, True), (1, 2, False), (1, 4, True)]
)
def test_one_step_of_rounding_is_no_disagreement(tmp_path: Path, low: int, high: int, disagree: bool) -> None:
    """Given two rules, when their ranks are a step of rounding apart, then that is not held against them."""
    # Rank 0.90 sees `low` directions of weight 1, rank 0.99 some of those that hold 8% together.
    strong, weak = [1.0] * low, [math.sqrt(0.08 * low / max(1, high - low))] * (high - low)
    rest = [1e-3] * (24 - high)
    spectra = {f"{layer}.self_attn.q_proj": [*strong, *weak, *rest][:16] for layer in range(2)}
    audit = audit_adapter(known(tmp_path / "a", spectra))
    found = suggestions(audit, AuditView(policies=("energy@0.90", "energy@0.99")))
    assert found.disagree is disagree


def test_wasteful_modules_are_those_that_save_most(tmp_path: Path) -> None:
    """Given modules of different need, when the wasteful ones are named, then the largest savings come first."""
    spectra = {"0.self_attn.q_proj": [1.0] * 8, "1.self_attn.q_proj": [1.0, *[1e-4] * 7]}
    spectra["2.self_attn.q_proj"] = [1.0, 1.0, *[1e-4] * 6]
    report = report_of(known(tmp_path / "a", spectra), AuditView(top_wasteful=2))
    rows = table(report, "Most wasteful modules")
    assert {name[-18:]: cells for name, cells in rows.items()} == {
        "1.self_attn.q_proj": ("8", "1", "224", "13%"),
        "2.self_attn.q_proj": ("8", "2", "192", "25%"),
    }
    assert "Most wasteful modules" not in titles(report_of(tmp_path / "a", AuditView(top_wasteful=0)))


def test_zero_update_is_suggested_nothing(tmp_path: Path) -> None:
    """Given an update that is zero, when reported, then no rank is suggested, and no shade is drawn."""
    report = report_of(adapter(tmp_path / "a", linear(b=0.0)))
    assert report.verdict.severity is Severity.ERROR
    assert not {"Suggested ranks", "Most wasteful modules", "Energy of the update"} & set(titles(report))
    assert heats(report) == []
    assert "exactly zero" in notes(report, "Remarks")


def test_what_is_left_out_is_said_with_its_reason(tmp_path: Path) -> None:
    """Given a factor without its counterpart, when reported, then coverage, verdict and a note say what is missing."""
    tensors = linear()
    del tensors[f"{PREFIX}.1.self_attn.q_proj.lora_B.weight"]
    report = report_of(adapter(tmp_path / "a", tensors))
    assert fields(report)["Audited"].startswith("2 of 3 LoRA-like keys")
    assert report.verdict.severity is Severity.ERROR
    assert "unpaired: 1 key" in notes(report, "Left out")
    (left,) = report.data["left_out"]
    assert (left["reason"], left["keys"]) == ("unpaired", [f"{PREFIX}.1.self_attn.q_proj.lora_A.weight"])


def test_nothing_to_audit_is_never_silent(tmp_path: Path) -> None:
    """Given weights without a LoRA-like key, when reported, then the verdict says that nothing was audited."""
    report = report_of(adapter(tmp_path / "a", {"model.layers.0.q_proj.weight": floats((4, 4))}))
    assert report.verdict.severity is not Severity.INFO
    assert fields(report)["Audited"].startswith("0 of 0 LoRA-like keys · 0 modules")
    assert report.data["judged"] is False
    assert report.data["policies"] is None


def test_many_left_out_keys_are_counted_not_listed(tmp_path: Path) -> None:
    """Given many left-out keys, when reported, then a few are named and the rest counted; verbosely all are named."""
    tensors = {name: tensor for name, tensor in linear(layers=9).items() if "lora_A" in name} | linear(1)
    folder = adapter(tmp_path / "a", tensors)
    assert "and 3 more (--verbose)" in notes(report_of(folder), "Left out")
    assert "more (" not in notes(report_of(folder, AuditView(verbose=True)), "Left out")


def test_many_projections_are_shown_by_type(tmp_path: Path) -> None:
    """Given more projections than rows, when drawn, then rows are module types."""
    spectra = {f"{layer}.part{n}.q_proj": [1.0, 0.5] for layer in range(2) for n in range(MOST_ROWS + 1)}
    audit = audit_adapter(known(tmp_path / "a", spectra))
    heat = utilization_heat(audit.rows)
    assert heat is not None
    assert [row.name for row in heat.rows] == ["attn"]


def test_encoder_and_decoder_are_told_apart(tmp_path: Path) -> None:
    """Given both count their layers from 0, when drawn, then each has rows of its own."""
    tensors: dict[str, Tensor] = {}
    for stack, sigma in (("encoder", [1.0, 1.0]), ("decoder", [1.0, 1e-5])):
        a, b = factors(sigma)
        name = f"base_model.model.model.{stack}.layers.0.self_attn.q_proj"
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    audit = audit_adapter(adapter(tmp_path / "a", tensors, r=2, lora_alpha=4))
    heat = utilization_heat(audit.rows)
    assert heat is not None
    found = {row.name: row.values[0] for row in heat.rows}
    assert found == {"encoder self_attn.q_proj": pytest.approx(1.0), "decoder self_attn.q_proj": pytest.approx(0.5)}


def test_energy_needs_a_scaling(tmp_path: Path) -> None:
    """Given a config without lora_alpha, when drawn, then there is no energy, and the header says why."""
    folder = known(tmp_path / "a", lora_alpha=None)
    audit = audit_adapter(folder)
    assert energy_heat(audit.rows) is None
    report = audit_report([audit], str(folder))
    assert "scaling not known" in fields(report)["LoRA"]
    assert "Energy of the update" not in titles(report)
    assert "Use of the rank" in titles(report)


def test_base_model_is_reported_with_its_certainty(tmp_path: Path) -> None:
    """Given a base model, when reported, then UDR, SDI, shares, tolerance, and modules without a weight are there."""
    folder = adapter(tmp_path / "a", linear(layers=3))
    report = report_of(folder, base=base(tmp_path / "base", layers=2))
    words = fields(report, "Against the base model")
    # delta_w is 2 · 4 · 0.25 in each of 8 x 8 places, W 0.5: the ratio is 4.
    assert words["UDR"] == "median 4, p90 4, largest 4; above 0.1 in 100%, above 0.3 in 100% of modules"
    assert words["UDR Frobenius"] == "median 4"
    assert words["SDI"] == "median 0.602, p90 0.602"
    assert words["Base"].endswith("2 of 3 modules measured")
    assert "lower bounds, certified to 0.0001 (relative)" in words["Certainty"]
    assert notes(report, "Against the base model").startswith("1 of 3 modules have no base norm")
    assert "model.layers.2.self_attn.q_proj" in notes(report, "Against the base model")
    assert [one["module"] for one in report.data["base"]["unmatched"]] == ["model.layers.2.self_attn.q_proj"]


def test_artifact_has_its_keys(tmp_path: Path) -> None:
    """Given the plainest audit, when its artifact is made, then every key is there, and nothing that was not asked."""
    data = report_of(known(tmp_path / "a")).data
    assert tuple(data) == KEYS
    assert not SUMMARY_KEYS - set(data["summary"])
    assert set(data["summary"]["by_type"]) == {"attn", "mlp", "other"}
    assert (data["layer_data"], data["rank_suggestions"], data["base"], data["adapters"]) == (None, None, None, [])
    assert set(data["policies"]) == {"by_policy", "lowest", "highest", "disagree"}
    json.loads(render_json(report_of(tmp_path / "a")), parse_constant=pytest.fail)


def test_layers_come_with_singular_values(tmp_path: Path) -> None:
    """Given --layers and --top-singular-values, when reported, then each module has its row and so many values."""
    spectra = falling()
    report = report_of(known(tmp_path / "a"), AuditView(top_singular_values=3))
    rows = report.data["layer_data"]["layer_rows"]
    assert len(rows) == len(spectra) == len(table(report, "Modules"))
    for row in rows:
        expected = spectra[row["name"].removeprefix("model.layers.")][:3]
        assert row["singular_values"] == pytest.approx(expected, rel=1e-5)
    plain = report_of(tmp_path / "a", AuditView(layers=True)).data["layer_data"]["layer_rows"]
    assert "singular_values" not in plain[0]
    assert {"name", "r", "udr", "energy_rank_90", "scaling"} <= set(plain[0])


def test_ranks_by_module_make_a_config(tmp_path: Path) -> None:
    """Given --suggest-per-layer, when reported, then r and rank_pattern give each module its suggested rank."""
    import re

    report = report_of(
        known(tmp_path / "a"), AuditView(suggest_per_layer=True, policies=("energy@0.99", "energy@0.90"))
    )
    found = report.data["rank_suggestions"]
    assert found["policy"] == "energy@0.99"
    assert {layer["suggested_r"] for layer in found["layers"]} != {found["default_r"]}
    for layer in found["layers"]:
        # As PEFT looks a module's rank up.
        matching = [rank for key, rank in found["rank_pattern"].items() if re.match(rf"(.*\.)?({key})$", layer["name"])]
        assert (matching or [found["default_r"]])[0] == layer["suggested_r"]
        assert layer["by_policy"]["energy@0.99"] == layer["suggested_r"] <= layer["current_r"] == 8
        assert list(layer["by_policy"]) == ["energy@0.99", "energy@0.90"]
    saved = sum(256 - 256 * layer["suggested_r"] // 8 for layer in found["layers"])
    assert (found["params"], found["params_saved"]) == (4608, saved)
    assert len(table(report, "Suggested ranks by module")) == 18


def test_several_adapters_have_an_overview_and_a_part_each(tmp_path: Path) -> None:
    """Given two adapters of which one is broken, when reported, then each has its part, and the verdict counts."""
    good, bad = known(tmp_path / "good"), adapter(tmp_path / "bad", linear(b=0.0))
    audits: list[AdapterAudit] = [audit_adapter(folder) for folder in (good, bad)]
    report = audit_report(audits, str(tmp_path))
    assert report.verdict.text == "1 of 2 adapters with findings."
    assert report.verdict.severity is Severity.ERROR
    assert list(table(report, "Overview")) == ["good", "bad"]
    assert {"good", "bad"} <= set(titles(report))
    assert tuple(report.data) == KEYS
    assert report.data["summary"] is None
    assert [one["name"] for one in report.data["adapters"]] == ["good", "bad"]
    assert all(tuple(one) == KEYS for one in report.data["adapters"])
    assert len(report.data["findings"]) == sum(len(audit.findings) for audit in audits)


def test_report_of_nothing_is_refused() -> None:
    """Given no audit, when reported, then that is an error of the caller."""
    with pytest.raises(ValueError, match="at least one audit"):
        audit_report([], "x")


@pytest.mark.parametrize(("share", "words"), [(0.0, "0%"), (0.0042, "0.42%"), (0.0999, "10%"), (0.5, "50%")])
def test_percentages(share: float, words: str) -> None:
    """Given a share, when written, then small ones keep two digits."""
    assert percent(share) == words


def test_more_modules_in_one_cell_are_put_together(tmp_path: Path) -> None:
    """Given two experts of one layer, when drawn, then utilization is their mean and energy their sum."""
    spectra = {f"0.mlp.experts.{n}.w1": sigma for n, sigma in enumerate(([1.0, 1.0], [2.0, 0.0001]))}
    spectra["1.mlp.experts.0.w1"] = [1.0, 1.0]
    audit = audit_adapter(known(tmp_path / "a", spectra))
    use, energy = utilization_heat(audit.rows), energy_heat(audit.rows)
    assert use is not None
    assert energy is not None
    assert list(use.rows[0].values) == pytest.approx([0.75, 1.0])
    assert list(energy.rows[0].values) == pytest.approx([6 / 8, 2 / 8])
