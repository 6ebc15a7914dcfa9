"""What it costs to ask something: `--help`, `monitor`, `report` and `check` beside their floor and a peer.

Writes a run of 10,000 steps (a loss each step, an evaluation every 500) to a temporary folder and measures each
command as a process of its own: CPU seconds (user + system, best of several) and peak memory. The floor is
`python -c pass`, whose peak is that of this script, from which it is started. The peer is
`pandas.read_json(lines=True)` of the same file, which reads it and reports nothing.

    python benchmarks/startup.py [--steps 10000] [--repeat 5]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from pathlib import Path

from _process import measure

SCHEMA = "gradience.vnext.telemetry/v1"
GOALS = {"gradience --help": 0.15, "gradience monitor": 0.6, "gradience check": 0.5, "gradience check --env": 0.5}


def write_run(path: Path, steps: int) -> None:
    """A run as our own callback writes it, with invented numbers."""
    rng = random.Random(0)
    config = {
        "model_name": "benchmark",
        "dataset_name": "benchmark",
        "task_profile": "generation",
        "optimizer": {"name": "adamw_torch", "lr": 1e-4},
        "lora": {"r": 16, "alpha": 32.0, "target_modules": ["q_proj", "v_proj"]},
        "training": {"seed": 0, "batch_size": 8, "max_steps": steps},
    }
    records: list[dict[str, object]] = [{"event": "run_start", "step": None, "config": config, "meta": {}}]
    for step in range(1, steps + 1):
        loss = 2.5 * math.exp(-step / (steps / 4)) + 0.8 + rng.gauss(0, 0.05)
        numbers = {"loss": loss, "lr": 1e-4 * (1 - step / steps), "grad_norm": rng.lognormvariate(0, 0.4)}
        records.append({"event": "train_step", "step": step, **numbers, "epoch": step / steps * 3})
        if step % 500 == 0:
            for split, extra in (("train", 0.0), ("val", 0.1)):
                metrics = {"loss": loss + extra, "ppl": math.exp(loss + extra), "n": 256}
                records.append({"event": "eval", "step": step, "split": split, "metrics": metrics})
    records.append({"event": "run_end", "step": steps, "status": "ok"})
    with path.open("w", encoding="utf-8") as file:
        for seq, record in enumerate(records):
            envelope = {"schema": SCHEMA, "ts": 1.7e9 + seq * 0.3, "run_id": "benchmark", "seq": seq}
            file.write(json.dumps(envelope | record) + "\n")


def write_settings(folder: Path) -> Path:
    """The adapter's and the trainer's settings as PEFT and transformers write them."""
    folder.mkdir()
    peft = {
        "peft_type": "LORA",
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "target_modules": ["q_proj", "v_proj"],
    }
    training = {
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 3.0,
        "eval_strategy": "steps",
        "eval_steps": 100,
        "seed": 42,
    }
    (folder / "adapter_config.json").write_text(json.dumps(peft), encoding="utf-8")
    (folder / "training_args.json").write_text(json.dumps(training), encoding="utf-8")
    return folder


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bytecode = Path(folder) / "bytecode"
        run = Path(folder) / "run.jsonl"
        write_run(run, options.steps)
        settings = str(write_settings(Path(folder) / "settings"))
        files = ["--peft-dir", settings, "--training-dir", settings]
        peer = f"import pandas; pandas.read_json({str(run)!r}, lines=True)"
        commands = {
            "python -c pass": ["-c", "pass"],
            "gradience --help": ["-m", "gradience_cli", "--help"],
            "gradience monitor": ["-m", "gradience_cli", "monitor", str(run)],
            "gradience monitor --json": ["-m", "gradience_cli", "monitor", str(run), "--json"],
            "gradience report": ["-m", "gradience_cli", "report", str(run), "-o", f"{folder}/report.html", "--force"],
            "gradience check": ["-m", "gradience_cli", "check", *files, "--no-env"],
            "gradience check --env": ["-m", "gradience_cli", "check", *files, "--env"],
            "gradience validate": ["-m", "gradience_cli", "validate", str(run)],
            "pandas.read_json(lines=True)": ["-c", peer],
        }
        size = run.stat().st_size / 1e6
        costs = {
            name: measure([sys.executable, *command], options.repeat, bytecode) for name, command in commands.items()
        }
    print(f"A run of {options.steps:,} steps, {size:.1f} MB; best of {options.repeat}.\n")
    print("| command | cpu s | x pandas | peak MB | x pandas | goal |")
    print("|---|---|---|---|---|---|")
    other = costs["pandas.read_json(lines=True)"]
    for name, cost in costs.items():
        goal = f"<= {GOALS[name]:g} s" if name in GOALS else ""
        ratios = (cost.cpu_s / other.cpu_s, cost.peak_mb / other.peak_mb)
        print(f"| {name} | {cost.cpu_s:.3f} | {ratios[0]:.2f} | {cost.peak_mb:.0f} | {ratios[1]:.2f} | {goal} |")


if __name__ == "__main__":
    main()
