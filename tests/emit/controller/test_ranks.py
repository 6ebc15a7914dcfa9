"""Two ranks (gloo, CPU) decide alike, and one of them writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.emit.controller.loops import alerts, events

ROOT = Path(__file__).parents[3]


def test_two_ranks_drop_the_same_updates(tmp_path: Path) -> None:
    """Given a batch that is NaN on one rank, when both are watched, then both drop it, and rank 0 alone writes."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *(str(Path(__file__).with_name("rank_script.py")), str(tmp_path)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "schema")]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for rank in (0, 1):
        guarded, bare = (torch.load(tmp_path / f"{name}.{rank}.pt") for name in ("guarded", "bare"))
        assert guarded.keys() == bare.keys()
        assert [name for name in bare if not torch.equal(guarded[name], bare[name])] == []
    assert sorted(path.name for path in tmp_path.glob("*.json*")) == ["run.jsonl", "summary.json"]
    assert alerts(tmp_path) == [(4, "GUARD_SKIP"), (12, "GUARD_SKIP")]
    records = events(tmp_path)
    assert records[0]["config"]["training"]["world_size"] == 2
    assert records[-1]["status"] == "ok"
