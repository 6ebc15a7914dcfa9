"""Options outside the command line: their order, their sources, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradience_analysis.errors import GradienceError
from gradience_cli.settings import OPTIONS, SettingsError, load_settings
from tests.analysis.records import end, evaluation, start, train, write
from tests.cli.command import gradience


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the current folder, in an environment that sets nothing."""
    for name in OPTIONS:
        monkeypatch.delenv(f"GRADIENCE_{name.upper()}", raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def gap_run(folder: Path, ratio: float) -> Path:
    """A run whose generalization gap is `ratio`."""
    rows = [start(), *train(range(1, 9)), evaluation(8, "train", ppl=2.0), evaluation(8, "val", ppl=2.0 * ratio), end()]
    return write(folder / "run.jsonl", rows)


def test_nothing_set_gives_the_shipped_policy(project: Path) -> None:
    """Given no file and no variable, when settings are loaded, then nothing is set."""
    settings = load_settings(project, {})
    assert not settings.options
    assert settings.policy().limit("generalization_gap.ratio") == 1.5


def test_flag_beats_environment_beats_file(project: Path) -> None:
    """Given a value at each place, when asked for, then the flag wins, then the environment, then the file."""
    (project / "gradience.toml").write_text("gap_threshold = 2.0\n")
    environ = {"GRADIENCE_GAP_THRESHOLD": "3.0"}
    limit = "generalization_gap.ratio"
    assert load_settings(project, {}).policy().limit(limit) == 2.0
    assert load_settings(project, environ).policy().limit(limit) == 3.0
    assert load_settings(project, environ).policy(gap_threshold=4.0).limit(limit) == 4.0


def test_the_nearest_file_above_is_taken(project: Path) -> None:
    """Given a table in pyproject.toml of a folder above, when settings are loaded below, then it counts."""
    (project / "pyproject.toml").write_text('[tool.gradience]\nfail_on = "warning"\n')
    below = project / "a" / "b"
    below.mkdir(parents=True)
    (below.parent / "pyproject.toml").write_text('[project]\nname = "x"\n')
    setting = load_settings(below, {}).options["fail_on"]
    assert (setting.value, setting.source) == ("warning", str(project / "pyproject.toml"))


def test_thresholds_are_set_by_name_or_by_table(project: Path) -> None:
    """Given thresholds in both ways of writing, when the policy is asked for, then both have their value and source."""
    (project / "gradience.toml").write_text(
        '[thresholds]\n"generalization_gap.ratio" = 1.25\n[thresholds.telemetry_quality]\nevents_lost = 2\n'
    )
    policy = load_settings(project, {}).policy()
    assert policy.limit("generalization_gap.ratio") == 1.25
    assert policy.limit("telemetry_quality.events_lost") == 2
    assert policy["generalization_gap.ratio"].source == str(project / "gradience.toml")
    assert not policy["generalization_gap.ratio"].calibrated


def test_a_policy_file_is_relative_to_the_file_that_names_it(project: Path) -> None:
    """Given a relative policy path, when settings are loaded from below, then it is found."""
    (project / "strict.toml").write_text("version = 1\n[generalization_gap.ratio]\nvalue = 1.1\n")
    (project / "gradience.toml").write_text('policy = "strict.toml"\n')
    (project / "below").mkdir()
    assert load_settings(project / "below", {}).policy().limit("generalization_gap.ratio") == 1.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gap_treshold = 2", "Did you mean gap_threshold"),
        ("gap_threshold = 'much'", "must be a number"),
        ("gap_threshold = true", "must be a number"),
        ("fail_on = 'never'", "must be error or warning"),
        ("policy = 3", "must be the path of a file"),
        ("thresholds = 3", "is no table"),
        ("[thresholds]\ngap = 'x'", "not a number"),
        ("nonsense", "cannot be read"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(project: Path, text: str, words: str) -> None:
    """Given a file with one fault, when settings are loaded, then the error names the file and what is wrong."""
    (project / "gradience.toml").write_text(text)
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(project, {})
    assert "gradience.toml" in str(caught.value)


def test_an_unknown_threshold_is_an_error(project: Path) -> None:
    """Given a threshold that does not exist, when the policy is asked for, then the error says which is meant."""
    (project / "gradience.toml").write_text('[thresholds]\n"generalization_gap.ration" = 1\n')
    with pytest.raises(GradienceError, match=r"Did you mean generalization_gap\.ratio"):
        load_settings(project, {}).policy()


def test_monitor_judges_by_the_project_file(project: Path) -> None:
    """Given a project that fails on warnings with a lower gap, when a gap between is judged, then it fails."""
    run = gap_run(project, 1.4)
    assert gradience("monitor", run, "--quiet", "--fail-on", "warning").returncode == 0
    (project / "gradience.toml").write_text('gap_threshold = 1.3\nfail_on = "warning"\n')
    assert gradience("monitor", run, "--quiet").returncode == 1
    assert gradience("monitor", run, "--quiet", "--gap-threshold", "1.45").returncode == 0


def test_config_show_names_every_source(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given values from a file and the environment, when shown, then each has its source."""
    (project / "gradience.toml").write_text("gap_threshold = 1.3\n")
    monkeypatch.setenv("GRADIENCE_FAIL_ON", "error")
    shown = gradience("config", "show")
    assert shown.returncode == 0
    assert "environment GRADIENCE_FAIL_ON" in shown.stdout
    assert str(project / "gradience.toml") in shown.stdout
    data = json.loads(gradience("config", "show", "--json").stdout)
    assert data["schema"] == "gradience.config/v1"
    assert data["thresholds"]["generalization_gap.ratio"]["value"] == 1.3
    assert {row["name"] for row in data["options"]} == set(OPTIONS)
