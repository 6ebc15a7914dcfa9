"""Policies: thresholds by name, files that change some of them, and what is wrong with a file."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest

from gradience_analysis.errors import PolicyError
from gradience_analysis.policy import load_policy

POLICY = load_policy()


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    """Given a file with one value, when loaded, then that threshold is changed and says by whom, and no other is."""
    path = tmp_path / "mine.toml"
    path.write_text("version = 1\n[loss_spike.deviations]\nvalue = 20\n")
    mine = load_policy(path)
    assert mine.limit("loss_spike.deviations") == 20
    assert mine["loss_spike.deviations"].source == f"policy file {path}"
    assert not mine["loss_spike.deviations"].calibrated
    assert {name for name in POLICY.thresholds if mine[name] != POLICY[name]} == {"loss_spike.deviations"}


def test_the_shipped_file_can_be_taken_as_a_start(tmp_path: Path) -> None:
    """Given a copy of the shipped policy, when loaded, then every value is the same."""
    shipped = Path(__file__).parents[2] / "gradience_analysis" / "policy" / "v1" / "default.toml"
    copy = tmp_path / "copy.toml"
    copy.write_text(shipped.read_text())
    mine = load_policy(copy)
    assert {name: mine.limit(name) for name in mine.thresholds} == {
        name: POLICY.limit(name) for name in POLICY.thresholds
    }


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "1", None])
def test_a_limit_is_a_finite_number_of_at_least_zero(value: float) -> None:
    """Given what is no limit, when set, then it is refused by name."""
    with pytest.raises(PolicyError, match=r"loss_spike\.deviations"):
        POLICY.with_limits({"loss_spike.deviations": value})


def test_an_unknown_threshold_names_the_nearest() -> None:
    """Given a slip in a name, when set, then the error says which is meant."""
    with pytest.raises(PolicyError, match=r"Did you mean loss_spike\.deviations"):
        POLICY.with_limits({"loss_spikes.deviation": 3})


def test_thresholds_of_a_diagnostic_are_found_together() -> None:
    """Given a diagnostic, when its thresholds are asked for, then all of its own come and none of another."""
    names = set(POLICY.under("memory"))
    assert names == {name for name in POLICY.thresholds if name.startswith("memory.")}
    assert names
    assert not any(name.startswith("memorization") for name in names)


def test_what_never_ends_is_refused(tmp_path: Path) -> None:
    """Given a FIFO, a device or a folder for a policy, when loaded, then it is refused and not waited for."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(PolicyError, match=re.escape(str(path))):
            load_policy(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"\xff\xfe", "cannot be read as TOML"),
        (b"version = ", "cannot be read as TOML"),
        (b"version = 2", "version must be 1"),
        (b"version = 1\nloss_spike = 3", "is no table"),
        (b"version = 1\n[loss_spike]\ndeviations = 3", "is no table"),
        (b"version = 1\n[loss_spike.deviations]\nunit = 'x'", "value must be a finite number"),
        (b"version = 1\n[loss_spike.deviations]\nvalue = 3\nlevel = 4", "unknown key 'level'"),
    ],
)
def test_a_faulty_file_is_an_error_that_names_it(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Given a file with one fault, or none at all, when loaded, then the error names the file and the fault."""
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match=words) as caught:
        load_policy(path)
    assert "mine.toml" in str(caught.value)
