"""Run the benchmarks one after the other and write what they print to benchmarks/results.md.

    .venv/bin/python scripts/bench_results.py [NAME...]

Each script of benchmarks/ prints our figure beside the peers' from one run on one machine, so that a reader can compare
ratios. With names, the sections of the others stay as they are. A name that starts with `_` is a module the scripts
share, not a benchmark.
A script that fails is named in the file with the end of its error, and the exit code is 1.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
TIMEOUT_S = 3600
SHOWN = (
    *("orjson", "msgspec", "jsonschema", "jsonschema-rs", "fastjsonschema", "pandas", "pyarrow", "polars", "duckdb"),
    *("torch", "transformers", "tensorboardX", "trackio"),
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all, and write the results. Returns the exit code."""
    scripts = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
    if names:
        unknown = sorted(set(names) - {path.stem for path in scripts})
        if unknown:
            sys.exit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(path.stem for path in scripts)}")
        scripts = [path for path in scripts if path.stem in names]
    target = FOLDER / "results.md"
    sections = kept(target) if names else {}
    failures = 0
    for script in scripts:
        print(f"benchmarks/{script.name} ...", file=sys.stderr, flush=True)
        sections[script.stem], failed = section(script)
        failures += failed
    target.write_text(header() + "".join(text for _, text in sorted(sections.items())), encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}: {len(scripts)} benchmarks, {failures} failed", file=sys.stderr)
    return 1 if failures else 0


def kept(target: Path) -> dict[str, str]:
    """The sections of an earlier run, by the name of their benchmark."""
    text = target.read_text(encoding="utf-8") if target.exists() else ""
    parts = text.split("\n## ")[1:]
    return {part.split("\n", 1)[0]: f"\n## {part}" for part in parts}


def section(script: Path) -> tuple[str, bool]:
    """The script's part of the file, and whether it failed."""
    started = time.monotonic()
    environment = os.environ | {"NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(roots())}
    try:
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        output, error, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired:
        output, error, code = "", f"stopped after {TIMEOUT_S} s", 1
    seconds = time.monotonic() - started
    lines = [
        f"\n## {script.stem}\n",
        f"`python benchmarks/{script.name}`, {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s\n",
    ]
    if output.strip():
        lines.append(output.rstrip() + "\n" if is_markdown(output) else fenced(output))
    if code:
        sys.stderr.write(error)
        lines.append(f"**Failed** with exit code {code}:\n\n" + fenced("\n".join(error.splitlines()[-5:])))
    return "\n".join(lines), code != 0


def roots() -> list[str]:
    """The checkout's source roots, so that the benchmarks measure it also where it is not installed."""
    return [str(ROOT), str(ROOT / "schema"), str(ROOT / "cli")]


def is_markdown(output: str) -> bool:
    """Whether the script printed a Markdown table itself."""
    return any(line.startswith("|") and line.rstrip().endswith("|") for line in output.splitlines())


def fenced(text: str) -> str:
    """The text as a code block."""
    return f"```text\n{text.rstrip()}\n```\n"


def header() -> str:
    """When and on what the figures were taken."""
    return (
        "# Benchmark results\n\n"
        "Written by `make bench`. Compare within a table: its figures come from one run on one machine.\n\n"
        f"- {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, {processor()}\n"
        f"- {', '.join(f'{name} {version(name)}' for name in SHOWN)}\n"
    )


def version(name: str) -> str:
    """The installed version, or that there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unnamed processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unnamed processor"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
