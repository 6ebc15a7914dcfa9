"""Which runs there are: each condition on four of the six pairs of task and size, with an odd and an even seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures" / "diagnosis"
GROUNDS: tuple[tuple[str, str], ...] = (
    ("qa", "tiny"),
    ("arithmetic", "small"),
    ("sentiment", "tiny"),
    ("qa", "small"),
    ("arithmetic", "tiny"),
    ("sentiment", "small"),
)
"""Task and size; any four that follow one another hold all tasks and both sizes."""
SEEDS: tuple[tuple[int, int], ...] = ((1, 22), (3, 24))
"""Pairs of an odd seed, by which thresholds may be set, and an even one, by which they are judged."""
TUNE, REPORT = "tune", "report"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One run.

    Attributes:
        condition: Name of what is planted in it.
        task: `qa`, `arithmetic` or `sentiment`.
        size: `tiny` or `small`.
        seed: Of base model and data.
        turn: 0..3, which of its condition's variants this run has; the same for both seeds of a pair.
    """

    condition: str
    task: str
    size: str
    seed: int
    turn: int

    @property
    def name(self) -> str:
        """Name of the run within its condition, such as `qa-tiny-s1`."""
        return f"{self.task}-{self.size}-s{self.seed}"

    @property
    def run_id(self) -> str:
        """Name of the run among all, such as `healthy_cosine.qa-tiny-s1`."""
        return f"{self.condition}.{self.name}"

    @property
    def order(self) -> int:
        """Seed of the adapter and of the order of batches: another in each condition, so that no two runs are alike."""
        return 10 * (zlib.crc32(self.condition.encode()) % 10_000) + self.seed

    @property
    def half(self) -> str:
        """Whether thresholds may be set by this run (odd seeds) or are judged by it (even seeds)."""
        return TUNE if self.seed % 2 else REPORT

    def path(self, root: Path = FIXTURES) -> Path:
        """The run's telemetry: a file, or a folder where the run has several segments."""
        folder = root / self.condition
        whole = folder / f"{self.name}.jsonl.gz"
        return whole if whole.exists() else folder / self.name


def cells_of(condition: str, place: int) -> tuple[Cell, ...]:
    """The eight runs of the condition that stands at `place` in the list of all."""
    cells: list[Cell] = []
    for place_of_pair, pair in enumerate(SEEDS):
        for seed in pair:
            for turn in (2 * place_of_pair, 2 * place_of_pair + 1):
                task, size = GROUNDS[(place + turn) % len(GROUNDS)]
                cells.append(Cell(condition, task, size, seed, turn))
    return tuple(cells)
