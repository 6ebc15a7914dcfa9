"""Target modules that the base model does not have: all of them, some, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradience_schema import Severity
from tests.analysis.config_check import built

CODES = {"targets_match_nothing", "targets_unmatched"}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj", "v_proj"], {}),
        (["q_proj", "vproj"], {"targets_unmatched": Severity.WARNING}),
        (["qproj", "vproj"], {"targets_match_nothing": Severity.ERROR}),
        ("all-linear", {}),
        (r".*\.q_proj", {}),
    ],
)
def test_a_name_that_matches_nothing_is_said(tmp_path: Path, targets: object, expected: dict[str, Severity]) -> None:
    """Given names of which all, some or none are in the model, when checked, then what PEFT would pass over is said."""
    findings = built.findings(built.on_model(built.model_folder(tmp_path / "model"), targets, 1))
    found = {finding.code: finding for finding in findings if finding.code in CODES}
    assert {code: finding.severity for code, finding in found.items()} == expected
    if "targets_unmatched" in found:
        assert "vproj matches no module" in found["targets_unmatched"].message
        assert found["targets_unmatched"].evidence["unmatched"] == ["vproj"]
