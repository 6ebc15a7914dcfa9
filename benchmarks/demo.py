"""What the demo costs: `gradience demo` beside its floor, the import of the libraries it trains with.

Each is a process of its own: wall-clock and CPU seconds and peak memory. The goal is 90 s on two CPU cores.

    python benchmarks/demo.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from _process import measure

GOAL_S = 90
IMPORTS = "import torch, transformers.trainer, peft"


def main() -> None:
    """Measure, and print one table."""
    with tempfile.TemporaryDirectory() as folder:
        bytecode, out = Path(folder) / "bytecode", Path(folder) / "demo"
        floor = measure([sys.executable, "-c", IMPORTS], 3, bytecode)
        demo = measure([sys.executable, "-m", "gradience_cli", "demo", "--out", str(out)], 1, bytecode)
    print("| command | wall s | cpu s | peak MB | goal |")
    print("|---|---|---|---|---|")
    for name, cost, goal in ((IMPORTS, floor, ""), ("gradience demo", demo, f"<= {GOAL_S} s wall")):
        print(f"| {name} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.peak_mb:.0f} | {goal} |")


if __name__ == "__main__":
    main()
