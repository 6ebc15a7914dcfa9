"""Print constraints.txt: the exact version of everything that the extras of pyproject.toml bring into this environment.

Run it in an environment whose tests pass, after an upgrade that was meant:

    .venv/bin/python scripts/constraints.py > constraints.new && mv constraints.new constraints.txt

A package that happens to be installed but that no extra asks for is left out, and so are local version labels
(`2.13.0+cpu` is written `2.13.0`), because a label names one machine's build of a release.
"""

from __future__ import annotations

import sys
import tomllib
from collections import deque
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The versions the tests pass with. Every `make` target installs under this file; a plain `pip install gradience` does
# not, because the ranges in pyproject.toml are the promise to users.
#
# Made by scripts/constraints.py: what the extras of pyproject.toml bring into an environment in which `make test`
# passes, dependencies of dependencies included, local version labels cut off.
#
# torch is pinned for a second reason: without a pin, pip takes the newest release from whatever index it asks, and on
# Linux that is usually a CUDA build of several GB, for tests that need a CPU. Under the pin, an index or a folder that
# offers a CPU build of this release (for example https://download.pytorch.org/whl/cpu) is accepted as this version.
"""


def main() -> None:
    """Print the header and one `name==version` per line, sorted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    own = canonicalize_name(project["project"]["name"])
    wanted = deque(Requirement(line) for lines in extras.values() for line in lines)
    wanted.extend(Requirement(line) for line in project["build-system"]["requires"])
    seen: set[tuple[str, frozenset[str]]] = set()
    pins: dict[str, str] = {}
    while wanted:
        requirement = wanted.popleft()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if name == own or key in seen:
            continue
        seen.add(key)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            sys.exit(f"{name} is asked for but not installed here: pip install -e '.[dev,peers]' and run this again")
        pins[name] = Version(found.version).public
        for line in found.requires or []:
            inner = Requirement(line)
            if applies(inner, requirement.extras):
                wanted.append(inner)
    sys.stdout.write(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether the requirement's marker holds here, without extras or with any one of those asked for."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *sorted(extras)))


if __name__ == "__main__":
    main()
