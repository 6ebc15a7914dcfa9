"""The example with a fault of each kind: the guard recovers from each, bit for bit, or gives up with finite weights."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gradience_analysis import load_run, validate
from gradience_schema import RunStatus

pytestmark = [pytest.mark.hf, pytest.mark.xdist_group("guard faults")]  # one run of the example serves all tests

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "guard_faults.py"
RECOVERED = {
    "NaN loss": "1 skipped",
    "NaN gradient": "1 skipped",
    "NaN weight": "1 rolled back",
    "gradient x 10,000, no clipping": "1 skipped",
    "NaN weight twice, in the cooldown": "6 skipped, 2 rolled back",
}
ABORTED = {
    "NaN loss from a step on": "19 skipped, gave up (20 bad steps in a row)",
    "NaN weight four times in the window": "3 rolled back, gave up (3 rollbacks within 50 steps)",
}
WARNED = "gradient x 10,000, clipped to 1"
Row = dict[str, str]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Row]]:
    """Give the folder of the example's runs, and its table by the name of the fault."""
    folder = tmp_path_factory.mktemp("faults")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLE), "--out", str(folder / "runs")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    return folder / "runs", {cells[0]: dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]}


Printed = tuple[Path, dict[str, Row]]


def test_every_kind_of_fault_is_in_the_table(printed: Printed) -> None:
    """Given the example, when its table is read, then it has a row for each kind of fault."""
    assert set(printed[1]) == {*RECOVERED, *ABORTED, WARNED}


@pytest.mark.parametrize("name", RECOVERED)
def test_the_run_goes_on_as_if_nothing_had_been(printed: Printed, name: str) -> None:
    """Given a fault that passes, when the guarded run ends, then it is the run that never saw those batches."""
    row = printed[1][name]
    assert row["the guard"] == RECOVERED[name]
    assert row["integrity"] == "recovered"
    assert row["max difference"] == "0"
    assert math.isfinite(float(row["loss, guarded"]))


@pytest.mark.parametrize("name", ABORTED)
def test_the_guard_gives_up_with_finite_weights(printed: Printed, name: str) -> None:
    """Given a fault that comes again and again, when the guard gives up, then the last sound state is what is left."""
    row = printed[1][name]
    assert row["the guard"] == ABORTED[name]
    assert row["integrity"] == "aborted"
    assert row["max difference"] == "0"
    assert math.isfinite(float(row["loss, guarded"]))


def test_a_clipped_explosion_is_only_noted(printed: Printed) -> None:
    """Given an explosion that clipping takes care of, when the guard sees it, then the run is the unguarded one."""
    row = printed[1][WARNED]
    assert (row["the guard"], row["integrity"], row["max difference"]) == ("1 warned of", "ok", "-")
    assert row["loss, guarded"] == row["unguarded"]


def test_what_the_faults_do_without_a_guard(printed: Printed) -> None:
    """Given the runs without a guard, when their losses are read, then NaN ruined each, and the explosion cost some."""
    rows = printed[1]
    assert all(math.isnan(float(row["unguarded"])) for name, row in rows.items() if name.startswith("NaN"))
    exploded = rows["gradient x 10,000, no clipping"]
    assert float(exploded["unguarded"]) > float(exploded["loss, guarded"])


def test_the_telemetry_tells_the_same(printed: Printed) -> None:
    """Given the recorded runs, when they are read, then each keeps the contract and ended as the table says."""
    folder, rows = printed
    for name in rows:
        path = folder / re.sub(r"[ ,]+", "-", name.replace(",", "")) / "run.jsonl"
        assert not validate(path, strict=True).issues
        assert load_run(path).status == (RunStatus.ABORTED if name in ABORTED else RunStatus.OK)
