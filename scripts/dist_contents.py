"""Check what a built wheel and sdist hold: everything that users need, and nothing that is only ours.

Run as `python scripts/dist_contents.py dist/*.whl dist/*.tar.gz`.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

PACKAGES = (
    "gradience",
    "gradience_emit",
    "gradience_analysis",
    "gradience_train",
    "gradience_schema",
    "gradience_cli",
)
ROOT = Path(__file__).resolve().parent.parent
NEVER_IN_WHEEL = ("tests/*", "fixtures/*", "docs/*", "benchmarks/*", "examples/*", "scripts/*", ".*", "*.pyc")
NEVER_IN_SDIST = (".venv/*", ".git/*", "*.pyc", "*/__pycache__/*", "dist/*", "outputs/*", "gradience-demo/*")


def package_files() -> dict[str, str]:
    """Every file of the packages that must be in the wheel: its path there, and its path in the checkout."""
    expected = {}
    for package in PACKAGES:
        source = next(root / package for root in (ROOT, ROOT / "schema", ROOT / "cli") if (root / package).is_dir())
        for path in source.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                inside = path.relative_to(source).as_posix()
                expected[f"{package}/{inside}"] = path.relative_to(ROOT).as_posix()
    return expected


def wheel_faults(path: Path) -> list[str]:
    """What is missing from the wheel, or should not be there."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    expected = package_files()
    faults = [f"{path.name}: lacks {name}" for name in sorted(expected.keys() - names)]
    faults += [f"{path.name}: lacks {package}/py.typed" for package in PACKAGES if f"{package}/py.typed" not in names]
    for pattern in (
        "gradience_schema/telemetry/v1/telemetry.schema.json",
        "gradience_schema/telemetry/v1/events/*.schema.json",
        "gradience_analysis/policy/v1/default.toml",
        "*.dist-info/licenses/LICENSE",
        "*.dist-info/entry_points.txt",
    ):
        if not any(fnmatch(name, pattern) for name in names):
            faults.append(f"{path.name}: lacks {pattern}")
    foreign = {name for name in names - expected.keys() if ".dist-info/" not in name}
    faults += [f"{path.name}: holds {name}, which is in no package" for name in sorted(foreign)]
    faults += [f"{path.name}: holds {n}" for n in sorted(names) if any(fnmatch(n, p) for p in NEVER_IN_WHEEL)]
    return faults


def sdist_faults(path: Path) -> list[str]:
    """What is missing from the sdist, or should not be there."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    needed = {*package_files().values(), "LICENSE", "README.md", "pyproject.toml"}
    faults = [f"{path.name}: lacks {name}" for name in sorted(needed - names)]
    faults += [f"{path.name}: holds {n}" for n in sorted(names) if any(fnmatch(n, p) for p in NEVER_IN_SDIST)]
    faults += [f"{path.name}: holds {n}" for n in sorted(names) if n.startswith("tests/")]
    return faults


def main(paths: list[str]) -> None:
    """Check each file and exit 1 with every fault found."""
    faults: list[str] = []
    for path in map(Path, paths):
        faults += wheel_faults(path) if path.suffix == ".whl" else sdist_faults(path)
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(paths)} files hold every package file, py.typed, the schema, the policy and the licence, and no more")


if __name__ == "__main__":
    main(sys.argv[1:])
