"""The notebooks run from top to bottom, are committed without outputs, and compute what the files say."""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.xdist_group("notebooks")  # one execution serves all tests

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
KERNEL = "gradience-tests"
PROBE = {
    "many_runs": """
import json
print(json.dumps({
    "loaded": len(runs.runs),
    "final": {row.run_id: [row.train, row.val, row.test, row.gap] for row in final.reset_index().itertuples()},
    "curve": [[int(step), name, loss] for name, column in val_loss.items() for step, loss in column.items()],
    "order": [[int(rank), lr, value] for (rank, lr), value in settings["median"].items()],
    "in_sql": in_sql[["lora.r", "optimizer.lr", "median"]].values.tolist(),
    "close": [[int(rank), lr] for rank, lr in close.index],
}))
""",
}
"""For each notebook, a cell that prints what the tests compare; it runs after the notebook's own last cell."""

Setting = tuple[int, float]
Losses = dict[str, dict[str, dict[int, float]]]
"""Evaluation losses by run id, split and step."""


class Executed(NamedTuple):
    """A notebook's name, the notebook with its outputs, and what the probe printed after them."""

    name: str
    notebook: Any
    computed: dict[str, Any]


def code_cells(notebook: Any) -> list[Any]:
    """The cells that have outputs."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lay out a folder as the checkout is, and a kernel that is this very Python and nobody's settings."""
    base = tmp_path_factory.mktemp("notebooks")
    shutil.copytree(ROOT / "fixtures" / "sweep", base / "checkout" / "fixtures" / "sweep")
    (base / "checkout" / "notebooks").mkdir()
    kernel = {
        "argv": [
            *(sys.executable, "-m", "ipykernel_launcher", "-f"),
            "{connection_file}",
            "--HistoryManager.enabled=False",
        ],
        "display_name": KERNEL,
        "language": "python",
        "env": {
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "IPYTHONDIR": str(base / "ipython"),
            "OMP_NUM_THREADS": "1",
        },
    }
    spec = base / "jupyter" / "kernels" / KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(kernel), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(base / "jupyter"))
        patch.setenv("JUPYTER_CONFIG_DIR", str(base / "jupyter" / "config"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(base / "jupyter" / "runtime"))
        yield base / "checkout"


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def executed(request: pytest.FixtureRequest, room: Path) -> Executed:
    """Run a notebook from top to bottom, as Jupyter does in its folder, and the probe after it."""
    path: Path = request.param
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE[path.stem], id="probe"))
    where = {"metadata": {"path": str(room / "notebooks")}}
    NotebookClient(notebook, kernel_name=KERNEL, timeout=120, resources=where).execute()
    probe = notebook.cells.pop()
    return Executed(path.stem, notebook, json.loads(probe.outputs[0].text))


@pytest.fixture(scope="module")
def losses() -> Losses:
    """Read every evaluation loss of the sweep with the standard library: run, split, step."""
    found: Losses = {}
    for path in sorted((ROOT / "fixtures" / "sweep").glob("*/run.jsonl")):
        splits: dict[str, dict[int, float]] = defaultdict(dict)
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["event"] == "eval":
                splits[record["split"]][record["step"]] = record["metrics"]["loss"]
        found[record["run_id"]] = splits
    return found


@pytest.fixture(scope="module")
def by_setting(losses: Losses) -> dict[Setting, list[float]]:
    """The last validation losses of the seeds, by rank and learning rate, which are read from the run ids."""
    seeds: dict[Setting, list[float]] = defaultdict(list)
    for run_id, splits in losses.items():
        rank, lr, _ = run_id.split("_")
        seeds[int(rank.removeprefix("r")), float(lr.removeprefix("lr"))].append(splits["val"][160])
    return seeds


def test_every_notebook_has_a_probe() -> None:
    """Given the notebooks folder, when it is listed, then the tests below know what to compare in each."""
    assert [path.stem for path in NOTEBOOKS] == sorted(PROBE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs(path: Path) -> None:
    """Given a notebook in git, when read, then it is valid, and holds no output, count or trace of a machine."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in code_cells(notebook) if cell.outputs or cell.execution_count is not None] == []
    assert [cell.id for cell in notebook.cells if cell.metadata] == []
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert [cell.id for cell in notebook.cells if not cell.id.replace("-", "").isalpha()] == []  # named, not random


def test_it_runs_and_warns_of_nothing(executed: Executed) -> None:
    """Given a notebook, when executed in a fresh kernel, then every cell ran, in order, and stderr stayed empty."""
    cells = code_cells(executed.notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = [output for cell in cells for output in cell.outputs]
    assert [output.text for output in shown if output.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2


def test_it_loads_every_run(executed: Executed, losses: Losses) -> None:
    """Given the sweep, when the notebook has loaded it, then its runs are those of the files, all 24."""
    assert executed.computed["loaded"] == len(losses) == 24
    assert executed.computed["final"].keys() == losses.keys()


def test_its_final_losses_and_gaps_are_those_of_the_files(executed: Executed, losses: Losses) -> None:
    """Given the sweep, when each run's last losses and gap are compared with the files, then they are the same."""
    for run_id, (train, val, test, gap) in executed.computed["final"].items():
        splits = losses[run_id]
        assert (train, val, test) == tuple(splits[split][max(splits[split])] for split in ("train", "val", "test"))
        assert gap == pytest.approx(math.exp(test) / math.exp(train), rel=1e-12)


def test_its_curves_are_those_of_the_files(executed: Executed, losses: Losses) -> None:
    """Given the sweep, when the curves are compared with the files, then every point is there, to the last bit."""
    curve = {(run_id, step): loss for step, run_id, loss in executed.computed["curve"]}
    assert curve == {(run_id, step): loss for run_id, splits in losses.items() for step, loss in splits["val"].items()}


def test_it_ranks_settings_by_the_median_over_seeds(executed: Executed, by_setting: dict[Setting, list[float]]) -> None:
    """Given the sweep, when its settings are ranked, then by the median over seeds of the last validation loss."""
    expected = sorted((statistics.median(seeds), setting) for setting, seeds in by_setting.items())
    for found in (executed.computed["order"], executed.computed["in_sql"]):
        assert [(rank, lr) for rank, lr, _ in found] == [setting for _, setting in expected]
        assert [value for _, _, value in found] == pytest.approx([value for value, _ in expected], rel=1e-12)


def test_it_names_what_two_seeds_cannot_tell_from_the_best(
    executed: Executed, by_setting: dict[Setting, list[float]]
) -> None:
    """Given the best setting, when a seed of another is as good as its worse seed, then it is named too."""
    best = min(by_setting.values(), key=statistics.median)
    expected = {setting for setting, seeds in by_setting.items() if min(seeds) <= max(best)}
    assert {(rank, lr) for rank, lr in executed.computed["close"]} == expected
    assert 1 < len(expected) < len(by_setting)


def test_its_closing_words_hold_for_the_sweep(by_setting: dict[Setting, list[float]]) -> None:
    """Given the sweep, when the hypotheses that close the notebook are looked up, then the medians support each."""
    medians = {setting: statistics.median(seeds) for setting, seeds in by_setting.items()}
    rates = sorted({lr for _, lr in medians})
    by_rank = [[medians[rank, lr] for lr in rates] for rank in (2, 8, 32)]
    assert all(losses[0] == max(losses) for losses in by_rank)  # 0.001 is too low at any rank
    best_rates = [losses.index(min(losses)) for losses in by_rank]
    assert best_rates == sorted(best_rates, reverse=True)  # a higher rank wants no higher a rate
    best = min(by_setting.values(), key=statistics.median)
    assert any(
        min(seeds) <= max(best) for (rank, _), seeds in by_setting.items() if rank == 8
    )  # 8 may do as well as 32
    assert min(medians, key=lambda setting: medians[setting])[0] == 32


def test_it_leaves_what_it_exports_where_git_does_not_look(executed: Executed, room: Path) -> None:
    """Given the executed notebook, when the checkout is listed, then its only new files are in the outputs folder."""
    exported = {path.name for path in (room / "outputs" / executed.name).iterdir()}
    assert exported == {"runs.parquet", "steps.parquet", "evals.parquet", "metrics.parquet", "settings.csv"}
    assert sorted(path.name for path in room.iterdir()) == ["fixtures", "notebooks", "outputs"]
    assert list((room / "notebooks").iterdir()) == []
