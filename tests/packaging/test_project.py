"""What pyproject.toml, constraints.txt and the Makefile promise each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
KNOWN_TO_USERS = {"hf", "bench", "dev", "all"}


def pins() -> dict[str, Version]:
    """The constraint file: name → version."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            found[canonicalize_name(name)] = Version(version)
    return found


def requirements(extra: str) -> list[Requirement]:
    """What an extra asks for, our own extras left out."""
    named = [Requirement(line) for line in EXTRAS[extra]]
    return [requirement for requirement in named if canonicalize_name(requirement.name) != PROJECT["name"]]


def test_a_training_node_gets_nothing_but_gradience() -> None:
    """Given no extra, when dependencies are resolved, then there are none."""
    assert PROJECT["dependencies"] == []


def test_the_extras_users_know_are_there() -> None:
    """Given the extras that earlier instructions name, when looked up, then each still exists."""
    assert EXTRAS.keys() >= KNOWN_TO_USERS


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_dependency_is_pinned_within_its_range(extra: str) -> None:
    """Given an extra, when its ranges are compared with constraints.txt, then each is pinned and the pin fits."""
    pinned = pins()
    for requirement in requirements(extra):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"run scripts/constraints.py: {requirement} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} does not allow {pinned[name]}"


def test_pins_are_releases_anybody_can_install() -> None:
    """Given the pins, when read, then torch is among them and none names a build of one machine."""
    assert pins()["torch"] == Version("2.13.0")
    assert not [name for name, version in pins().items() if version.local]


def test_no_dependency_has_an_upper_bound() -> None:
    """Given the ranges in pyproject.toml, when read, then they stay open upwards: pins live in constraints.txt."""
    capped = [str(r) for extra in EXTRAS for r in requirements(extra) if re.search(r"<|==|~=", str(r.specifier))]
    assert not capped


def test_ci_runs_what_contributors_run() -> None:
    """Given the CI entry, when read, then it calls the make targets and nothing else decides what passes."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "lint types test" in script
    assert "wheel" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run is not executable"
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


@pytest.mark.xdist_group("kept together")
def test_a_group_of_tests_is_kept_on_one_worker(request: pytest.FixtureRequest) -> None:
    """Given tests over several workers, when one names a group, then it carries it: a costly fixture is made once."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("only with --dist loadgroup")
    assert request.node.nodeid.endswith("@kept together")
