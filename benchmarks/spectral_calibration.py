"""What live spectral monitoring costs, how often its levels fire on sound runs, and whether they lead the loss.

Cost: one sample of a tiny model and of an adapter shaped like that of an 8B model (factors only), beside what one would
write first: the SVD of each dense product B A, and QR of the factors module by module.

Levels: the three embedded tasks are really trained, each with two seeds, sound and with a fault planted (mostly in the
middle). Kappa is measured after every step, and the readings of an interval are taken from that series, so that all
intervals are judged on the same runs. The loss is said to rise at the first step after its smoothed value (mean of 20
steps) has passed 1.5 times its running minimum, and that by 0.2 nats at least, or when it is not finite. (The margin is
from the losses of these runs themselves, so not independent of them: at 0.1 nats 11 of the 30 sound ones rise, at 0.2
there are 4, and without it noise around a small loss is a rise in every second one.) A level leads
when it is entered after the fault was planted and before the loss rises; a level that was there before the fault is not
counted as having seen it.

Usage: ``python benchmarks/spectral_calibration.py [--steps 500] [--jobs 2]``
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.diagnosis.faulty import mislabelled
from benchmarks.diagnosis.jobs import GOOD_LR, SOURCES, base_of, row_by_row
from gradience_emit.spectral import RiskLevel, RiskWindow, SpectralLimits, SpectralProbe

INTERVALS = (1, 2, 5, 10, 25, 50)
SMOOTHED = 20
RISE, MARGIN = 1.5, 0.2
ALARMS = (RiskLevel.WARNING, RiskLevel.DANGER, RiskLevel.INSTABILITY)
USUAL = {"CAUSAL_LM": ["q_proj", "v_proj", "down_proj"], "SEQ_CLS": ["query", "value"]}
GROUNDS = tuple(itertools.product(("qa", "arithmetic", "sentiment"), (1, 3)))


@dataclass(frozen=True, slots=True)
class Condition:
    """How a run is trained, and what is planted in it.

    Attributes:
        name: what the tables call it.
        lr: learning rate as a multiple of the one that suits the task.
        schedule: multiple of that rate by the share of the run done, 0..1.
        at: share of the run at which the fault is planted; None for a sound run.
        hot: multiple of the learning rate from the fault on, by the number of steps since.
        labels: which steps since the fault get wrong labels.
        scale: factor on one module's B when the fault is planted.
        batch: rows a step.
        everywhere: whether the adapter goes on all linear layers.
        length: run length as a multiple of the usual one.
    """

    name: str
    lr: float = 0.5
    schedule: Callable[[float], float] = lambda _: 1.0
    at: float | None = None
    hot: Callable[[int], float] = lambda _: 1.0
    labels: range = range(0)
    scale: float = 1.0
    batch: int = 16
    everywhere: bool = False
    length: int = 1


def cosine(share: float) -> float:
    """A warm-up over a twentieth of the run, then half a cosine."""
    return share / 0.05 if share < 0.05 else 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95))


CONTROL = "sound: constant rate"
HEALTHY = (
    Condition(CONTROL),
    Condition("sound: cosine", lr=1.0, schedule=cosine),
    Condition("sound: linear, all layers", schedule=lambda share: 1 - share, everywhere=True),
    Condition("sound: four rows a batch", lr=0.3, batch=4),
    Condition("sound: cosine, three times as long", lr=1.0, schedule=cosine, length=3),
)
FAULTY = (
    Condition("rate x 30 from the start", at=0.0, hot=lambda _: 30.0),
    Condition("rate x 30 from the middle", at=0.5, hot=lambda _: 30.0),
    Condition("rate x 5 from the middle", at=0.5, hot=lambda _: 5.0),
    Condition("rate x 100 for 5 steps", at=0.5, hot=lambda since: 100.0 if since < 5 else 1.0),
    Condition("rate grows by 2 % a step", at=0.5, hot=lambda since: min(1.02**since, 100.0)),
    Condition("wrong labels from the middle", at=0.5, labels=range(1_000_000)),
    Condition("3 batches with wrong labels", at=0.5, labels=range(3)),
    Condition("one module's B times 50", at=0.5, scale=50.0),
)


@dataclass(frozen=True, slots=True)
class Course:
    """One run: kappa and loss after each step, from step 1 on, and the step before which the fault was planted."""

    condition: str
    kappas: list[float | None]
    losses: list[float]
    planted: int | None

    @property
    def rise(self) -> int | None:
        """The step at which the loss is seen to rise, at or after the fault; None when it does not."""
        lowest = math.inf
        for last in range(1, len(self.losses) + 1):
            if not math.isfinite(self.losses[last - 1]):
                return last
            if last < SMOOTHED:
                continue
            mean = math.fsum(self.losses[last - SMOOTHED : last]) / SMOOTHED
            lowest = min(lowest, mean)
            if mean > max(RISE * lowest, lowest + MARGIN) and last > (self.planted or 0):
                return last
        return None

    def levels(self, interval: int) -> list[tuple[int, RiskLevel]]:
        """Step and level of each reading that has one."""
        window = RiskWindow(SpectralLimits())
        readings = [
            (step, window.add(step, kappa)) for step, kappa in enumerate(self.kappas, 1) if step % interval == 0
        ]
        return [(step, reading.level) for step, reading in readings if reading.level is not None]

    def courses(self, interval: int) -> list[tuple[int, float, float]]:
        """Step, slope and volatility of each reading that has them."""
        window = RiskWindow(SpectralLimits())
        steps = [step for step in range(1, len(self.kappas) + 1) if step % interval == 0]
        readings = [(step, window.add(step, self.kappas[step - 1])) for step in steps]
        return [
            (step, reading.slope, reading.volatility)
            for step, reading in readings
            if reading.slope is not None and reading.volatility is not None
        ]

    def onset(self, interval: int, level: RiskLevel) -> int | None:
        """The first step after the fault at which this level or a higher one is entered; None when it never is."""
        held = False
        for step, now in self.levels(interval):
            high = now.rank >= level.rank
            if high and not held and step > (self.planted or 0):
                return step
            held = high
        return None


def train(condition: Condition, task: str, seed: int, bases: Path, steps: int) -> Course:
    """Train one run and measure it after each step."""
    steps *= condition.length
    source = SOURCES[task]
    base, tokenizer = base_of(task, "tiny", seed, bases)
    splits = source.splits(seed)
    rows, _ = row_by_row(source.rows(splits.train + splits.val, tokenizer), seed)
    torch.manual_seed(seed)
    targets = list(source.targets) if condition.everywhere else USUAL[source.task_type]
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type=source.task_type)
    model: Any = get_peft_model(copy.deepcopy(base), lora)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = GOOD_LR[task, "tiny"] * condition.lr
    optimizer: Any = torch.optim.AdamW(trained, lr=rate)
    probe = SpectralProbe(model)
    draw = torch.Generator().manual_seed(1000 * seed + len(condition.name))
    planted = None if condition.at is None else round(condition.at * steps)
    kappas: list[float | None] = []
    losses: list[float] = []
    for step in range(1, steps + 1):
        since = -1 if planted is None else step - 1 - planted
        if since == 0:
            spoil(model, condition.scale)
        hot = condition.hot(since) if since >= 0 else 1.0
        optimizer.param_groups[0]["lr"] = rate * condition.schedule((step - 1) / steps) * hot
        chosen = torch.randint(0, len(rows), (condition.batch,), generator=draw).tolist()
        batch: dict[str, Any] = {key: torch.tensor([rows[place][key] for place in chosen]) for key in rows[0]}
        if since in condition.labels:
            batch |= mislabelled(batch, model.config)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        kappas.append(probe.measure().kappa)
    return Course(condition.name, kappas, losses, planted)


def spoil(model: Any, scale: float) -> None:
    """Multiply the first module's B."""
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).mul_(scale)


def train_ground(job: tuple[tuple[str, int], Path, int]) -> list[Course]:
    """All runs of one task and seed."""
    (task, seed), bases, steps = job
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return [train(condition, task, seed, bases, steps) for condition in (*HEALTHY, *FAULTY)]


def train_all(steps: int, jobs: int) -> list[Course]:
    """Every condition on every ground."""
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work = [(ground, Path(folder), steps) for ground in GROUNDS]
        return [course for courses in pool.imap(train_ground, work) for course in courses]


# --- tables


def row(cells: Iterable[object]) -> None:
    """Print a line of a table."""
    print(f"| {' | '.join(str(cell) for cell in cells)} |")


def head(*cells: str) -> None:
    """Print a table's head."""
    print()
    row(cells)
    row("---" for _ in cells)


def healthy_tables(courses: Sequence[Course]) -> None:
    """How often each level is held on sound runs, and what slope and volatility are there."""
    names = [level.value for level in RiskLevel]
    head(
        *("interval", "part", "readings", *(f"{name} / 1000" for name in names)),
        *(f"runs with {level.value}{'' if level is RiskLevel.INSTABILITY else '+'}" for level in ALARMS),
    )
    for interval, (part, late) in itertools.product(INTERVALS, (("whole run", 0.0), ("second half", 0.5))):
        runs = [[level for step, level in c.levels(interval) if step > late * len(c.losses)] for c in courses]
        held = [level for levels in runs for level in levels]
        shares = [f"{1000 * held.count(level) / len(held):.0f}" if held else "-" for level in RiskLevel]
        reached = [sum(any(item.rank >= level.rank for item in levels) for levels in runs) for level in ALARMS]
        row([interval, part, len(held), *shares, *(f"{count} of {len(runs)}" for count in reached)])
    head("interval", *(f"{name} {q}" for name in ("slope", "volatility") for q in ("p50", "p90", "p99")))
    for interval in INTERVALS:
        late_ones = [item for c in courses for item in c.courses(interval) if item[0] > 0.5 * len(c.losses)]
        values = [f"{quantile([x[place] for x in late_ones], q):.5f}" for place in (1, 2) for q in (0.5, 0.9, 0.99)]
        row([interval, *values])


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies, the nearest one."""
    return sorted(values)[round(share * (len(values) - 1))] if values else math.nan


def faulty_tables(courses: Sequence[Course]) -> None:
    """Per fault: in how many runs the loss rose, a level was entered, and that before the loss rose."""
    conditions = [CONTROL, *(condition.name for condition in FAULTY)]
    names = [level.value + ("" if level is RiskLevel.INSTABILITY else "+") for level in ALARMS]
    for interval in (5, 10, 50):
        print(f"\nAn interval of {interval} steps:")
        columns = (*(f"{name} entered" for name in names), *(f"{name} before the loss, by steps" for name in names))
        head("condition", "loss rises", "steps after the fault", *columns)
        for name in conditions:
            runs = [course for course in courses if course.condition == name]
            row([name, *fault_row(runs, interval)])


def fault_row(runs: Sequence[Course], interval: int) -> Iterator[str]:
    """The figures of one condition."""
    if runs[0].planted is None:  # the control: what is entered in its second half, where the faults are planted
        runs = [Course(run.condition, run.kappas, run.losses, len(run.losses) // 2) for run in runs]
    rises = [run.rise for run in runs]
    after = [rise - (run.planted or 0) for run, rise in zip(runs, rises, strict=True) if rise is not None]
    yield f"{len(after)} of {len(runs)}"
    yield span(after)
    onsets = {level: [run.onset(interval, level) for run in runs] for level in ALARMS}
    for level in ALARMS:
        yield f"{sum(onset is not None for onset in onsets[level])} of {len(runs)}"
    for level in ALARMS:
        leads = [
            rise - onset
            for onset, rise in zip(onsets[level], rises, strict=True)
            if onset is not None and rise is not None and onset < rise
        ]
        yield f"{len(leads)} of {len(after)}{f', {span(leads)}' if leads else ''}"


def span(values: Sequence[int]) -> str:
    """Median and range."""
    if not values:
        return "-"
    return f"{statistics.median(values):.0f} ({min(values)} to {max(values)})"


# --- cost


class Factor(nn.Module):
    """One adapted layer without the weight it adapts: what a probe looks at, and no more."""

    def __init__(self, out: int, width: int, rank: int) -> None:
        super().__init__()
        self.lora_A = nn.ModuleDict({"default": nn.Linear(width, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, out, bias=False)})
        self.scaling = {"default": 2.0}
        self.active_adapters = ["default"]


def shapes(hidden: int, kv: int, inner: int) -> list[tuple[int, int]]:
    """(out, in) of the seven linear layers of a Llama block."""
    return [(hidden, hidden), (kv, hidden), (kv, hidden), (hidden, hidden), *[(inner, hidden)] * 2, (hidden, inner)]


def adapter(layers: int, sizes: Sequence[tuple[int, int]], rank: int) -> nn.ModuleList:
    """Random factors for each of these layers."""
    return nn.ModuleList([Factor(*size, rank) for _ in range(layers) for size in sizes])


def pairs(model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A and B of each layer."""
    return [
        (layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach())
        for layer in model.modules()
        if isinstance(layer, Factor)
    ]


def dense(items: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """The singular values of each product, which is what one writes first."""
    for a, b in items:
        torch.linalg.svdvals(2.0 * b @ a)


def by_qr(items: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """The same from the factors, one after the other, in float64."""
    for a, b in items:
        r_b, r_a = torch.linalg.qr(b.double(), mode="r").R, torch.linalg.qr(a.double().T, mode="r").R
        torch.linalg.svdvals(2.0 * r_b @ r_a.T)


def best_ms(action: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some calls after a first one, in milliseconds of processor time: other processes do not count."""
    if repeats > 1:
        action()
    found = math.inf
    for _ in range(repeats):
        started = time.process_time()
        action()
        found = min(found, 1e3 * (time.process_time() - started))
    return found


def cost_table() -> None:
    """What one sample costs."""
    head("adapter", "modules", "one sample, ms", "QR of the factors, ms", "SVD of each product, ms")
    for name, layers, sizes, rank in (
        ("tiny, r 8", 2, shapes(64, 32, 128), 8),
        ("8B, r 16", 32, shapes(4096, 1024, 14336), 16),
        ("8B, r 64", 32, shapes(4096, 1024, 14336), 64),
    ):
        model = adapter(layers, sizes, rank)
        items = pairs(model)
        sample = best_ms(SpectralProbe(model).measure)
        qr = best_ms(lambda items=items: by_qr(items), 2)
        if layers == 2:
            product = f"{best_ms(lambda items=items: dense(items)):.2f}"
        elif rank == 16:
            one = best_ms(lambda items=items: dense(items[1:2]), 1)
            product = f"{one:.0f} for one of 1024 x 4096, the smallest of the {len(items)}"
        else:
            product = "not run"
        row([name, len(items), f"{sample:.2f}", f"{qr:.1f}", product])
    weights = nn.ModuleList([nn.Linear(4096, 4096, bias=False) for _ in range(4)])
    probe = SpectralProbe(weights)
    first = best_ms(probe.measure, 1)
    print(
        f"\nFull matrices: 4 of 4096 x 4096 in float32, two power steps each and the Frobenius norm: "
        f"{best_ms(probe.measure) / 4:.1f} ms a matrix; its first sample, twenty steps: {first / 4:.0f} ms."
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("### Cost, CPU, one thread")
    cost_table()
    courses = train_all(options.steps, options.jobs)
    sound = {condition.name for condition in HEALTHY}
    healthy = [course for course in courses if course.condition in sound]
    print(f"\n### Sound runs: {len(healthy)}")
    raised = sum(course.rise is not None for course in healthy)
    print(f"\nThe loss rises, by the rule above, in {raised} of {len(healthy)}.")
    healthy_tables(healthy)
    print(f"\n### Faults: {len(FAULTY)} x {len(GROUNDS)} runs of {options.steps} steps")
    faulty_tables(courses)


if __name__ == "__main__":
    main()
