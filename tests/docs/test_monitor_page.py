"""The commands and settings of docs/monitor.md do what the page says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gradience_analysis.policy import load_policy
from gradience_cli.settings import load_settings
from tests.docs.test_readme import BLOCK, ROOT, environment, run

__all__ = ["environment"]  # a fixture

BLOCKS = BLOCK.findall((ROOT / "docs" / "monitor.md").read_text(encoding="utf-8"))
COMMANDS = [line for language, body in BLOCKS if language == "bash" for line in body.splitlines() if line.strip()]
SETTINGS, POLICY = (body for language, body in BLOCKS if language == "toml")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(environment: dict[str, str], tmp_path: Path, command: str) -> None:
    """Given a command of the page and the clone's fixtures, when run, then it exits 0."""
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    done = run(["bash", "-euo", "pipefail", "-c", command], tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """Given the page's pyproject table and its policy file, when loaded, then each sets what the page says."""
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "strict.toml").write_text(POLICY)
    settings = load_settings(tmp_path, {})
    assert settings.fail_on() == "error"
    assert settings.policy().limit("generalization_gap.ratio") == 1.3
    assert load_policy(tmp_path / "policies" / "strict.toml").limit("generalization_gap.ratio") == 1.3
    assert tomllib.loads(POLICY)["version"] == 1
