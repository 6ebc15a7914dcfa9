"""What the guard costs a training step, by snapshot interval, beside a callback that clones the LoRA weights.

CPU time in the HF Trainer, one thread, at two step lengths. Inside the guard every event is timed by itself; the
figures are medians over the steps, with and without a snapshot apart, put together at the interval's rate, and their
share is of the other time of the same steps: a busy machine moves it little. "Whole" is all CPU time of the steps over
that of the callback without its guard, a run before and a run after; it moves by more than the guard costs.

The clone callback is what guards of this kind do: `torch.clone` of the weights whose name has "lora" in it, without
optimizer, schedule, random numbers or a look at the gradient. Memory is the process's peak during the run.

Then one snapshot, one restore and one look for NaN over the state of an 8B model's adapter (r 16 on all linear layers,
float32, with Adam's moments), beside a loop of `torch.isfinite`, `copy.deepcopy`, `torch.save` and the clone.

    python benchmarks/guard.py [--steps 401] [--profile]
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import io
import pstats
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from _guard_runs import (
    EVENTS,
    Clock,
    CloneWeights,
    Inside,
    Metered,
    Size,
    adapter_8b,
    build_model,
    inside,
    inside_guard,
    median_ms,
    state_bytes,
    tensors_of,
    train,
)

from gradience_emit.guard.state import TrainingState
from gradience_emit.hf import GradienceCallback

SHORT = Size("short", hidden=64, inner=128, layers=2, rank=8, batch=4, length=24)
LONG = Size("long", hidden=256, inner=1024, layers=4, rank=16, batch=6, length=32)
INTERVALS = (1, 10, 50, 100, 200)
GOAL_SHARE, GOAL_STEP_S, GOAL_INTERVAL = 0.01, 0.030, 10
LEAST_STEPS = 2 * max(INTERVALS) + 1
"""So that the runs of the longer steps, half as many, come to one snapshot after the first."""
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Let the peak memory of this process begin anew, where Linux can."""
    if _RESET.exists():
        _RESET.write_text("5", encoding="ascii")


def peak_mb() -> str:
    """The peak since then; a dash elsewhere."""
    if not _RESET.exists():
        return "-"
    return f"{int(_STATUS.read_text(encoding='utf-8').split('VmHWM:')[1].split()[0]) / 1024:.0f}"


def measured(size: Size, steps: int, *callbacks: Any) -> tuple[list[float], str]:
    """CPU seconds of each step after the first, and the peak memory in MB."""
    clock = Clock(time.process_time)
    reset_peak()
    train(size, steps, [clock, *callbacks])
    return clock.steps, peak_mb()


def compare(size: Size, steps: int) -> tuple[float, dict[int, Inside]]:
    """Print one table; the step's length in seconds, and what was spent inside the guard by interval."""
    bare, peak = measured(size, steps, GradienceCallback())
    lines: list[tuple[str, Inside, list[float], str]] = []
    found: dict[int, Inside] = {}
    for every in INTERVALS:
        guard = Metered(time.process_time, enable_guard=True, guard_snapshot_every=every)
        taken, guarded_peak = measured(size, steps, guard)
        found[every] = inside_guard(guard, taken, every)
        lines.append((f"guard, every {every}", found[every], taken, guarded_peak))
    for every in (1, 10):
        clone = CloneWeights(time.process_time, every)
        taken, clone_peak = measured(size, steps, GradienceCallback(), clone)
        spent = inside(clone.spent, taken, every, first=every - 1)
        lines.append((f"clone of the weights alone, every {every}", spent, taken, clone_peak))
    again, _ = measured(size, steps, GradienceCallback())  # the machine may have become faster or slower meanwhile
    step, whole = statistics.median(bare + again), (sum(bare) + sum(again)) / 2
    held = state_bytes(build_model(size)) / 1e6
    print(
        f"\n{1e3 * step:.1f} ms a step; weights and moments {held:.1f} MB, five snapshots kept; {steps} steps a run\n"
    )
    print("| | inside, µs/step | with a snapshot | share of a step | whole | peak MB |")
    print("|---|---:|---:|---:|---:|---:|")
    print(f"| without the guard | | | | {sum(bare) / whole:.2f}, {sum(again) / whole:.2f} | {peak} |")
    for name, spent, taken, its_peak in lines:
        print(
            f"| {name} | {1e6 * spent.per_step:.0f} | {1e6 * spent.extra:.0f} | {spent.share:.2%} "
            f"| {sum(taken) / whole:.2f} | {its_peak} |"
        )
    return step, found


def print_events(steps: dict[str, dict[int, Inside]]) -> None:
    """Where the time of a step without a snapshot goes."""
    print("\nA step without a snapshot (interval 200), µs by event of the trainer:\n")
    print(f"| | {' | '.join(EVENTS)} |")
    print(f"|---|{'---:|' * len(EVENTS)}")
    for name, found in steps.items():
        print(f"| {name} | " + " | ".join(f"{1e6 * found[200].by_event[event]:.0f}" for event in EVENTS) + " |")


def large(repeat: int) -> None:
    """One of each over the state of an 8B adapter."""
    model, optimizer = adapter_8b("cpu")
    state = TrainingState(model, optimizer)
    count = sum(1 for _ in model.parameters())
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(model, optimizer))
    weights = {str(number): parameter for number, parameter in enumerate(model.parameters())}
    print(f"\n8B adapter, r 16: {count} tensors, {total / 1e6:.0f} MB with moments; CPU ms, median of {repeat}\n")
    began = time.process_time()
    saved = state.save(None)
    first = 1e3 * (time.process_time() - began)
    ours = {
        "snapshot into the memory of an older one": median_ms(lambda: state.save(saved), repeat),
        "restore": median_ms(lambda: state.load(saved), repeat),
        "look for NaN in weights and moments": median_ms(state.is_finite, repeat),
    }

    def loop() -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(model, optimizer))

    def as_file() -> None:
        torch.save({"weights": weights, "optimizer": optimizer.state_dict()}, io.BytesIO())

    peers = {
        "loop of torch.isfinite over the same": median_ms(loop, repeat),
        "copy.deepcopy of weights and optimizer": median_ms(
            lambda: copy.deepcopy((weights, optimizer.state_dict())), repeat
        ),
        "torch.save of them, to memory": median_ms(as_file, max(2, repeat // 2)),
        "clone of the weights alone, a third of the bytes": median_ms(
            lambda: {name: weight.detach().clone() for name, weight in weights.items()}, repeat
        ),
    }
    print("| | ms | GB/s |")
    print("|---|---:|---:|")
    print(f"| first snapshot, which takes its memory from the system | {first:.1f} | {total / 1e6 / first:.1f} |")
    for name, taken in (*ours.items(), *peers.items()):
        size = total / 3 if "third" in name else total
        print(f"| {name} | {taken:.1f} | {size / 1e6 / taken:.1f} |")


def profile(steps: int) -> None:
    """Where the time inside goes, by function; to stderr."""
    profiler = cProfile.Profile()

    class Profiled(Metered):
        """Profiles the guard alone."""

        def __init__(self, **options: Any) -> None:
            super().__init__(time.process_time, **options)
            for event in EVENTS:
                setattr(self._watch, event, self._profiled(getattr(self._watch, event)))

        @staticmethod
        def _profiled(method: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                profiler.enable()
                try:
                    return method(*args, **kwargs)
                finally:
                    profiler.disable()

            return call

    train(LONG, steps, [Profiled(enable_guard=True)])
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(40)


def main() -> None:
    """Print the tables, and whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=LEAST_STEPS, help="steps of a run; the longer ones make half as many"
    )
    parser.add_argument("--profile", action="store_true", help="only say where the time inside goes")
    options = parser.parse_args()
    if options.steps < LEAST_STEPS and not options.profile:
        parser.error(f"--steps must be at least {LEAST_STEPS}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    train(SHORT, 20, [Metered(time.process_time, enable_guard=True)])  # the first run pays for imports
    if options.profile:
        profile(options.steps)
        return
    short_step, short = compare(SHORT, options.steps)
    long_step, long = compare(LONG, options.steps // 2 + 1)
    print_events({f"{1e3 * short_step:.1f} ms": short, f"{1e3 * long_step:.1f} ms": long})
    at_goal = long[GOAL_INTERVAL]
    met = "met" if at_goal.share <= GOAL_SHARE and long_step >= GOAL_STEP_S else "NOT met"
    print(
        f"\nGoal, at steps of {1e3 * GOAL_STEP_S:.0f} ms or more and a snapshot every {GOAL_INTERVAL}: at most "
        f"{GOAL_SHARE:.0%}. At {1e3 * long_step:.1f} ms it is {at_goal.share:.2%}: {met}. The same cost on a step of "
        f"{1e3 * GOAL_STEP_S:.0f} ms would be {at_goal.per_step / GOAL_STEP_S:.2%}."
    )
    large(9)


if __name__ == "__main__":
    main()
