"""What is said of two adapters: the verdict first, each figure beside its baseline, in words that claim no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradience_analysis.audit.overlap import compare_adapters
from gradience_analysis.audit.overlap_result import LABELS, AdapterOverlap
from gradience_analysis.model import Field, Fields, Notes, Report, Table
from gradience_analysis.render import RENDERERS
from gradience_analysis.reports.overlap import overlap_report
from gradience_cli.terminal import render_text
from gradience_schema import Severity
from tests.analysis.audit.pairs import DOWN, Q, random_factors, saved

MANY = tuple(f"model.layers.{layer}.{name}" for layer in range(12) for name in ("self_attn.q_proj", "mlp.down_proj"))


def result(tmp_path: Path, a: Any, b: Any, **config: Any) -> AdapterOverlap:
    """The comparison of adapters with these factors."""
    return compare_adapters(saved(tmp_path / "a", a), saved(tmp_path / "b", b, **config))


def blocks(report: Report, kind: type[Any]) -> list[Any]:
    """All blocks of a kind."""
    return [block for section in report.sections for block in section.blocks if isinstance(block, kind)]


def fields(report: Report) -> dict[str, str]:
    """Every labelled value."""
    return {
        item.label: item.value for block in blocks(report, Fields) for item in block.items if isinstance(item, Field)
    }


def titled(report: Report, start: str) -> Table:
    """The table of the section with such a title."""
    (found,) = [
        block
        for section in report.sections
        if section.title.startswith(start)
        for block in section.blocks
        if isinstance(block, Table)
    ]
    return found


def test_the_verdict_counts_the_labels(tmp_path: Path) -> None:
    """Given independent adapters, when reported, then the verdict says how many modules have which label."""
    report = overlap_report(result(tmp_path, random_factors(0, *MANY), random_factors(1, *MANY)))
    assert report.verdict.severity is Severity.INFO
    assert report.verdict.text == "24 modules in common: 24 orthogonal. Limits are not calibrated."
    assert report.kind == "adapter_overlap"
    assert str(tmp_path / "a") in report.title


def test_a_conflict_is_a_warning(tmp_path: Path) -> None:
    """Given an adapter and its negative, when reported, then the verdict is a warning that names the conflict first."""
    factors = random_factors(0)
    negative = {name: (a, -b) for name, (a, b) in factors.items()} | {DOWN: factors[DOWN]}
    report = overlap_report(result(tmp_path, factors, negative))
    assert report.verdict.severity is Severity.WARNING
    assert report.verdict.text.startswith("2 modules in common: 1 conflicting, 1 redundant.")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (random_factors(0, "lm_head"), "the first adapts 2 modules, the second 1 others"),
        (random_factors(0, m=32), "2 modules of the same name have other shapes"),
        (random_factors(0, Q, m=32), "1 module of the same name has other shapes"),
    ],
)
def test_nothing_in_common_is_said_and_not_a_zero(tmp_path: Path, second: Any, words: str) -> None:
    """Given adapters without a common module, when reported, then the verdict is a warning and no figure is shown."""
    report = overlap_report(result(tmp_path, random_factors(0), second))
    assert report.verdict.severity is Severity.WARNING
    assert report.verdict.text == f"Nothing in common to compare: {words}."
    assert "Outputs" not in fields(report)
    assert not blocks(report, Table)
    assert report.data["compared"] == 0
    assert report.data["summary"]["left_median"] is None


def test_an_adapter_without_modules_is_named(tmp_path: Path) -> None:
    """Given keys of another method, when reported, then the verdict says which adapter could not be read."""
    from safetensors.numpy import save_file

    b = saved(tmp_path / "b", {})
    save_file({"base_model.model.lm_head.ia3_l": np.ones((4, 1), "float32")}, b / "adapter_model.safetensors")
    found = compare_adapters(saved(tmp_path / "a", random_factors(0)), b)
    report = overlap_report(found)
    assert report.verdict.text == "Nothing in common to compare: the second has no module that could be read."
    assert "unsupported method" in fields(report)["Second"]


def test_each_figure_stands_beside_its_baseline(tmp_path: Path) -> None:
    """Given a comparison, when reported, then medians and tables have the random figure in every cell of an overlap."""
    found = result(tmp_path, random_factors(0, *MANY), random_factors(1, *MANY))
    report = overlap_report(found)
    shown = fields(report)
    for label, name in (("Outputs", "left"), ("Inputs", "right"), ("Direction", "direction")):
        median, baseline = found.summary[f"{name}_median"], found.summary[f"{name}_baseline_median"]
        sign = "+-" if name == "direction" else ""
        assert shown[label].startswith(f"{median:.2g}, random {sign}{baseline:.2g}")
    by_type = titled(report, "By module type")
    assert [row[0] for row in by_type.rows] == ["attn", "mlp"]
    for table, column in ((by_type, 2), (titled(report, "Modules that overlap most"), 1)):
        assert table.columns[column : column + 4] == ("outputs", "inputs", "direction", "size ratio")
        for row in table.rows:
            assert all("(" in str(cell) for cell in row[column : column + 3])


def test_the_modules_that_overlap_most_come_first(tmp_path: Path) -> None:
    """Given one module that agrees among many that do not, when reported, then it leads, and the rest is counted."""
    first, second = random_factors(0, *MANY), random_factors(1, *MANY)
    second[MANY[7]] = first[MANY[7]]
    found = result(tmp_path, first, second)
    report = overlap_report(found)
    table = titled(report, "Modules that overlap most")
    assert table.rows[0][0] == MANY[7]
    assert table.rows[0][-1] == "redundant"
    assert len(table.rows) == 5
    assert fields(report)["Not shown"] == "19 modules (--layers lists all)"
    assert len(titled(overlap_report(found, verbose=True), "Modules that overlap most").rows) == 20
    everything = overlap_report(found, layers=True)
    assert [row[0] for row in titled(everything, "Modules").rows] == [row.name for row in found.rows]
    assert "Not shown" not in fields(everything)


def test_labels_are_explained_and_nothing_more_is_claimed(tmp_path: Path) -> None:
    """Given any comparison, when reported, then used labels have their meaning, and notes say what was not done."""
    report = overlap_report(result(tmp_path, random_factors(0), random_factors(1)))
    shown = fields(report)
    assert {label for label in LABELS if label in shown} == {"orthogonal"}
    notes = " ".join(note.text for block in blocks(report, Notes) for note in block.items)
    assert "Nothing was merged here" in notes
    assert "evaluation" in notes
    assert "safe" not in f"{report.verdict.text} {notes}"


def test_the_limits_are_listed_on_demand(tmp_path: Path) -> None:
    """Given a comparison, when reported verbosely, then each limit stands there with its value and standing."""
    found = result(tmp_path, random_factors(0), random_factors(1))
    rows = titled(overlap_report(found, verbose=True), "Limits").rows
    assert {row[0]: row[1] for row in rows}["imbalanced"] == "10"
    assert {row[3] for row in rows} == {"not calibrated"}
    assert not [section for section in overlap_report(found).sections if section.title == "Limits"]


def test_what_only_one_adapts_is_listed(tmp_path: Path) -> None:
    """Given further modules on both sides, when reported, then they are counted, named, and cut when many."""
    first, second = random_factors(0, Q, *MANY), random_factors(0, Q, "lm_head")
    report = overlap_report(result(tmp_path, first, second))
    shown = fields(report)
    assert shown["First alone"].startswith("23 modules: ")
    assert shown["First alone"].endswith(" and 18 more")
    assert shown["Second alone"] == "1 module: lm_head"
    assert "24 further modules cannot be compared" in report.verdict.text
    assert "and" not in fields(overlap_report(result(tmp_path, first, second), verbose=True))["First alone"]


def test_keys_that_were_left_out_are_no_silence(tmp_path: Path) -> None:
    """Given an unpaired factor, when reported, then the verdict is a warning and the side says why."""
    from safetensors.numpy import load_file, save_file

    a, b = saved(tmp_path / "a", random_factors(0)), saved(tmp_path / "b", random_factors(1))
    tensors = load_file(b / "adapter_model.safetensors")
    save_file(tensors | {"base_model.model.lm_head.lora_A.weight": np.ones((4, 8))}, b / "adapter_model.safetensors")
    report = overlap_report(compare_adapters(a, b))
    assert report.verdict.severity is Severity.WARNING
    assert "1 LoRA key left out." in report.verdict.text
    assert "1 of 5 LoRA keys left out (unpaired)" in fields(report)["Second"]


def test_the_data_is_strict_json_with_every_key(tmp_path: Path) -> None:
    """Given zero, NaN and common modules, when reported as data, then it is strict JSON with the same keys always."""
    first, second = random_factors(0, *MANY), random_factors(1, *MANY)
    second[MANY[0]] = (second[MANY[0]][0], 0 * second[MANY[0]][1])
    second[MANY[1]][0][0, 0] = np.nan
    full = overlap_report(result(tmp_path / "one", first, second), layers=True).data
    none = overlap_report(result(tmp_path / "two", random_factors(0, Q), random_factors(0, DOWN))).data
    assert full["schema"] == none["schema"] == "gradience.adapter_overlap/v1"
    text = json.dumps(full, allow_nan=False)
    assert json.loads(text) == full
    assert full.keys() - none.keys() == {"layer_data"}
    assert len(full["layer_data"]["layer_rows"]) == 24
    assert sum(full["labels"].values()) == full["compared"] == full["summary"]["n_layers"] == 24
    assert full["labels"]["unclear"] == 2
    assert {one["calibrated"] for one in full["thresholds"].values()} == {False}


@pytest.mark.parametrize("form", ["json", "md", "html"])
def test_every_format_can_show_it(tmp_path: Path, form: str) -> None:
    """Given a name that would steer a terminal or a page, when rendered, then the report comes and it is harmless."""
    evil = "model.<script>alert(1)</script>.\x1b[31m"
    report = overlap_report(result(tmp_path, random_factors(0, evil), random_factors(1, evil)), layers=True)
    text = RENDERERS[form](report)
    assert "\x1b" not in text
    assert "orthogonal" in text
    if form == "html":
        assert "<script>alert" not in text


def test_the_terminal_shows_it_in_plain_ascii(tmp_path: Path) -> None:
    """Given a terminal of ASCII alone, when rendered narrow or wide, then no sign has to be escaped."""
    report = overlap_report(result(tmp_path, random_factors(0), random_factors(1)), verbose=True)
    for width in (60, 120):
        text = render_text(report, width=width, ascii_only=True)
        assert text.isascii()
        assert "\\x" not in text
        assert "2 orthogonal" in text
