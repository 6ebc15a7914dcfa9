"""The pre-flight as a whole: when it says that all is well, what it merges, and what its report holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gradience_analysis.config_check.settings as room
from gradience_analysis.config_check import CHECKS
from gradience_analysis.config_check.examine import examine, has_anything
from gradience_analysis.config_check.library_keys import ADAPTER, EARLIER_TRAINING, TRAINING
from gradience_analysis.config_check.preflight import Wanted, adapter_diagnosis, preflight
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.diagnostics.base import Diagnosis
from gradience_analysis.model import Finding
from gradience_analysis.model.report import Table
from gradience_analysis.render import RENDERERS
from gradience_analysis.reports.check import check_report
from gradience_schema import Severity
from tests.analysis.config_check.configs import (
    FLAT,
    LEFT_OUT,
    NESTED,
    POLICY,
    checked,
    codes,
    flat,
    subject_of,
    written,
)


def test_every_check_of_the_settings_is_registered() -> None:
    """Given the files of the room, when compared with CHECKS, then each has its line there."""
    files = {path.stem for path in Path(room.__file__).parent.glob("*.py")} - {"__init__", "quantity"}
    listed = {name for check in CHECKS if ".settings." in (name := getattr(check, "__name__", ""))}
    assert files == {name.rpartition(".")[2] for name in listed}, "add the module to CHECKS in config_check/__init__.py"


@pytest.mark.parametrize("entries", [FLAT, NESTED])
def test_all_is_well_is_said_alone(tmp_path: Path, entries: dict[str, Any]) -> None:
    """Given a sound configuration, when checked, then config_ok says what was looked at and what was not."""
    (finding,) = checked(tmp_path, entries).findings
    assert (finding.code, finding.severity) == ("config_ok", Severity.INFO)
    assert "16 settings" in finding.message
    assert finding.evidence["not_checked"] == ["training data", "evaluation data", "base model", "machine"]


def test_all_is_well_is_not_said_beside_anything(tmp_path: Path) -> None:
    """Given a remark of the mildest kind, when checked, then config_ok is not said."""
    assert codes(tmp_path, flat(task_profile=LEFT_OUT)) == ["calibration_advised"]


def test_nothing_to_judge() -> None:
    """Given no setting and no fact, when examined, then there is no finding, not even that all is well."""
    assert examine(Preflight(), POLICY).findings == ()
    assert not has_anything(Preflight())


def test_every_measurement_has_a_value_or_a_reason(tmp_path: Path) -> None:
    """Given a configuration with gaps and faults, when measured, then each quantity has a value or says why not."""
    diagnosis = checked(tmp_path, {"lora_r": "x", "learning_rate": None, "max_steps": 10, "target_modules": {}})
    assert all((item.value is None) == bool(item.reason) for item in diagnosis.measurements)
    names = [item.name for item in diagnosis.measurements]
    assert len(names) == len(set(names))
    json.dumps([item.to_dict() for item in diagnosis.measurements])


def test_every_finding_has_its_code_in_the_catalogue_of_its_check(tmp_path: Path) -> None:
    """Given a configuration with many faults, when checked, then each code is one that a check declares."""
    declared = {code for check in CHECKS for code in check.CODES}
    wrong = dict.fromkeys(FLAT, "x") | {"lerning_rate": 1, "fp16": True, "bf16": True, "seed": None}
    assert set(codes(tmp_path, wrong)) <= declared
    assert len(codes(tmp_path, wrong)) > 5


def test_two_sources_that_differ(tmp_path: Path) -> None:
    """Given a configuration and trainer arguments with another rate, when checked, then both values are named."""
    training = written(tmp_path, {"learning_rate": 5e-5, "seed": 42}, "training_args.json")
    (finding,) = checked(tmp_path, FLAT, training=training).findings
    assert (finding.code, finding.severity) == ("settings_differ", Severity.INFO)
    assert "0.0002" in finding.message
    assert "5e-05" in finding.message
    flags = {"optimizer.lr": ("--lr", 1e-4)}
    assert [one.code for one in checked(tmp_path, FLAT, training=training, flags=flags).findings] == ["config_ok"]


def test_the_adapters_findings_stand_among_the_others(tmp_path: Path) -> None:
    """Given findings of an adapter's files, when examined, then they are merged, and nothing is said twice."""
    grave = Finding("nonfinite_weights", Severity.ERROR, "A weight is NaN.")
    subject = subject_of(tmp_path, flat(seed=None))
    adapter = Diagnosis((), (grave, examine(subject, POLICY).findings[0]))
    assert [one.code for one in examine(subject, POLICY, adapter).findings] == ["nonfinite_weights", "seed_unset"]


def test_weights_beside_the_config_are_examined(tmp_path: Path) -> None:
    """Given an adapter's folder with weights that are no safetensors, when asked for, then that is a finding."""
    written(tmp_path, {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q"]}, "adapter_config.json")
    wanted = Wanted(peft_dir=tmp_path)
    assert adapter_diagnosis(wanted, POLICY) is None
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not safetensors")
    diagnosis = adapter_diagnosis(wanted, POLICY)
    assert diagnosis is not None
    assert "safetensors_header_invalid" in {one.code for one in diagnosis.findings}


class TestReport:
    """What the report says, and in which order."""

    def test_the_verdict_comes_first(self, tmp_path: Path) -> None:
        """Given several findings, when reported, then the verdict is the worst one and counts the others."""
        report = check_report(subject_of(tmp_path, flat(lora_r=0, seed=None)), POLICY)
        assert report.verdict.severity is Severity.ERROR
        assert report.verdict.text.startswith("The rank is 0")
        assert report.verdict.text.endswith("(1 more finding below)")

    def test_changes_are_a_table(self, tmp_path: Path) -> None:
        """Given findings with changes, when reported, then each is a row: what it is now, what to try, and why."""
        report = check_report(subject_of(tmp_path, flat(lora_r="16", lora_dropout=1.5)), POLICY)
        (section,) = [one for one in report.sections if one.title == "Changes to try"]
        (table,) = section.blocks
        assert isinstance(table, Table)
        assert table.columns == ("setting", "now", "try", "because")
        assert [row[:3] for row in table.rows] == [("lora_r", '"16"', "16"), ("lora_dropout", "1.5", "0 to 0.1")]

    def test_the_artifact_is_stable(self, tmp_path: Path) -> None:
        """Given a configuration with a NaN, when rendered as JSON, then it is strict, with schema and sources."""
        text = RENDERERS["json"](check_report(subject_of(tmp_path, flat(learning_rate=float("nan"))), POLICY))
        data = json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))
        assert data["schema"] == "gradience.check/v1"
        assert set(data) == {
            *("schema", "verdict", "judged", "sources", "checked", "not_checked", "settings", "unknown_keys"),
            *("config", "findings", "measurements", "nonfinite"),
        }
        assert data["settings"]["lora.r"] == {
            "value": 16,
            "raw": 16,
            "name": "lora_r",
            "source": str(tmp_path / "config.json"),
            "remark": None,
            "replaced": [],
        }
        assert data["nonfinite"]["/settings/optimizer.lr/raw"] == "nan"

    def test_no_value_of_a_strangers_key_is_repeated(self, tmp_path: Path) -> None:
        """Given secrets under keys that are not checked, when reported in full, then they are in no format."""
        secrets = {"hub_token": "hf_secret_one", "my_key": "secret_two", "training": {"wandb_api": "secret_three"}}
        report = check_report(subject_of(tmp_path, FLAT | secrets), POLICY, verbose=True)
        for name in ("json", "md", "html"):
            text = RENDERERS[name](report)
            assert "secret" not in text
            assert "my_key" in text.replace("\\_", "_")

    def test_nothing_to_check(self) -> None:
        """Given nothing, when reported, then the verdict says so and the way on stands under it."""
        report = check_report(Preflight(), POLICY)
        assert report.verdict.text == "Nothing to check: no setting was given."
        assert report.data["judged"] is False
        assert "--help" in str(report.sections)


@pytest.mark.hf
def test_the_names_of_the_libraries_are_those_of_the_installed_ones() -> None:
    """Given the libraries, when their fields are compared with the committed names, then none is missing."""
    pytest.importorskip("peft")
    program = (
        "import dataclasses, json, warnings; warnings.simplefilter('ignore')\n"
        "from peft import LoraConfig\nfrom transformers import TrainingArguments\n"
        "print(json.dumps([[f.name for f in dataclasses.fields(one)] for one in (TrainingArguments, LoraConfig)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    training, adapter = json.loads(done.stdout.splitlines()[-1])
    assert set(training) <= TRAINING, "add the names to library_keys.py, with the version"
    assert {name for name in adapter if not name.startswith("_")} <= ADAPTER | {"auto_mapping"}
    assert not TRAINING & EARLIER_TRAINING


def test_the_check_of_settings_loads_nothing_heavy(tmp_path: Path) -> None:
    """Given a JSON configuration, when checked in a fresh process, then no heavy library and no YAML is loaded."""
    path = written(tmp_path, FLAT)
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from gradience_analysis.config_check.preflight import Wanted, preflight\n"
        "from gradience_analysis.policy import load_policy\nfrom gradience_analysis.reports.check import check_report\n"
        f"subject = preflight(Wanted(config=Path({str(path)!r}), machine=True))\n"
        "check_report(subject, load_policy())\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'torch', 'jsonschema', 'transformers', 'peft', 'yaml', 'statistics'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    paths = {"PYTHONPATH": f"{root}:{root / 'schema'}:{root / 'cli'}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=paths)
    assert done.stdout.strip() == "[]"


def test_a_path_is_looked_at_and_a_name_is_not(tmp_path: Path) -> None:
    """Given a base model by name and by path, when gathered, then only the path is looked at."""
    assert preflight(Wanted(model="org/name")).base_model is None
    assert preflight(Wanted(model="name")).base_model is None
    for path in (f"{tmp_path}/missing", "./missing", str(tmp_path)):
        facts = preflight(Wanted(model=path)).base_model
        assert facts is not None
        assert facts.fault
