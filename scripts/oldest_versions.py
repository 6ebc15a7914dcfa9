"""Say which libraries this environment really imports, and fail unless they are those of constraints-oldest.txt.

`make oldest` runs it in .venv/oldest before the tests, so that they cannot pass on other libraries by mistake. It also
fails where two of the libraries would not be installed together, and where a lower bound of the extra `hf` is not the
version that is tested.
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "constraints-oldest.txt"
UNTESTED = frozenset({"orjson", "torch"})
"""Not laid over: the second torch is a large download, and an old orjson has no build for a new Python."""


def main() -> None:
    """Print the installed versions on one line; every contradiction goes to stderr, and any makes the exit status 1."""
    pins = read_pins(PINS.read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    faults = [*wrong_imports(pins), *unmet_requirements(pins), *untested_bounds(project, pins)]
    for fault in faults:
        print(f"{PINS.name}: {fault}", file=sys.stderr)
    print(*(f"{name} {installed(name)}" for name in (*pins, "torch")), sep=", ")
    sys.exit(1 if faults else 0)


def read_pins(text: str) -> dict[str, Version]:
    """The lines ``name==version`` of a constraint file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    split = (line.partition("==") for line in lines if line)
    return {canonicalize_name(name): Version(version) for name, _, version in split}


def wrong_imports(pins: Mapping[str, Version]) -> Iterator[str]:
    """Libraries of another version, by their metadata or their own word, or from elsewhere than this environment."""
    for name, version in pins.items():
        found = installed(name)
        if found is None or Version(found) != version:
            yield f"{name} {version} is pinned, and {found or 'none'} is installed"
            continue
        if name == "typer-slim":  # a name for typer: no module of its own
            continue
        module = importlib.import_module(name.replace("-", "_"))
        if Version(getattr(module, "__version__", found)) != version:
            yield f"{name} {version} is pinned, and {module.__version__} is imported"
        if not Path(module.__file__ or "").is_relative_to(sys.prefix):
            yield f"{name} is imported from {module.__file__}, which is not in {sys.prefix}"


def unmet_requirements(pins: Mapping[str, Version]) -> Iterator[str]:
    """What the pinned libraries ask for, as far as this environment has something else or nothing."""
    for name in pins:
        for requirement in map(Requirement, (installed(name) and metadata.requires(name)) or []):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            found = installed(requirement.name)
            if found is None or not requirement.specifier.contains(found, prereleases=True):
                yield f"{name} asks for {requirement}, and {found or 'none'} is installed"


def installed(name: str) -> str | None:
    """The version that is found first; None when there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def untested_bounds(project: Mapping[str, Mapping[str, list[str]]], pins: Mapping[str, Version]) -> Iterator[str]:
    """Lower bounds of the extra `hf` that are not the pinned version, but for those in `UNTESTED`."""
    for requirement in map(Requirement, project["optional-dependencies"]["hf"]):
        name = canonicalize_name(requirement.name)
        bounds = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
        if name not in UNTESTED and bounds != [pins.get(name)]:
            yield f"pyproject.toml allows {requirement}, and {pins.get(name, 'none')} is tested"


if __name__ == "__main__":
    main()
