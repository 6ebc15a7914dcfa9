"""What the guard costs on a CUDA device, and how often it makes the host wait for it.

The HF Trainer on the first GPU: without our callback, with it, and with its guard on at several snapshot intervals.

- **Waits.** Counted twice over the same kind of run. `torch.cuda.set_sync_debug_mode("warn")` makes torch warn of every
  synchronizing operation; the warnings are counted. `torch.profiler` counts the CUDA runtime's own calls. Both are per
  step, after warm-up, and nothing is logged in these steps. The goal: no more than without the guard.
- **Time.** Wall clock over many steps between two `torch.cuda.synchronize()`; the kinds take turns, and the median of
  each is printed.
- **A large state.** One snapshot, one restore and one look for NaN over an 8B model's adapter (r 16 on all linear
  layers, float32, with Adam's moments) on the device, the buffers pinned. "Host" is until the call returns, "done"
  until the device has finished. Beside it: `.cpu()` of every tensor, `torch.save`, and a loop of `torch.isfinite`.

Without a CUDA device it says so and measures nothing.

    python benchmarks/guard_gpu.py [--steps 100] [--repeat 3]
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import transformers
from _guard_runs import Clock, Size, adapter_8b, build_model, state_bytes, tensors_of, train
from transformers import TrainerCallback

from gradience_emit.guard.state import TrainingState
from gradience_emit.hf import GradienceCallback

SIZE: Final = Size("GPU", hidden=1024, inner=4096, layers=12, rank=16, batch=16, length=256)
WARM_UP: Final = 10
NEVER: Final = 1_000_000
RUNTIME: Final = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpyAsync",
    "cudaMemcpy",
)
SYNC_WARNING: Final = "synchronizing CUDA operation"
NOT_MEASURED: Final = "Not measured: torch finds no CUDA device here, and this benchmark is about one."


def kinds() -> dict[str, Callable[[], list[Any]]]:
    """What is compared: the callbacks of each."""

    def guarded(every: int) -> Callable[[], list[Any]]:
        return lambda: [GradienceCallback(enable_guard=True, guard_snapshot_every=every)]

    return {
        "the trainer alone": list,
        "the callback, guard off": lambda: [GradienceCallback()],
        **{f"guard, snapshot every {every}": guarded(every) for every in (1, 10, 100)},
    }


class Window(TrainerCallback):  # type: ignore[misc]
    """Calls ``begin`` after the warm-up and ``end`` so many steps later, each between two steps.

    Args:
        steps: steps in between.
        begin: what begins the measurement.
        end: what ends it.
    """

    def __init__(self, steps: int, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._steps, self._begin, self._end = steps, begin, end

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin or end when it is time."""
        del args, control, kwargs
        if state.global_step == WARM_UP:
            self._begin()
        elif state.global_step == WARM_UP + self._steps:
            self._end()


def count_warnings(callbacks: list[Any], steps: int, *, cpu: bool = False) -> float:
    """Synchronizing operations per step of which torch warns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")

        def begin() -> None:
            warnings.filterwarnings("always", message=f".*{SYNC_WARNING}")
            torch.cuda.set_sync_debug_mode("warn")

        def end() -> None:
            torch.cuda.set_sync_debug_mode("default")

        try:
            train(SIZE, WARM_UP + steps, [*callbacks, Window(steps, begin, end)], cpu=cpu, logging_steps=NEVER)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum(SYNC_WARNING in str(warning.message) for warning in caught) / steps


def count_calls(callbacks: list[Any], steps: int, *, cpu: bool = False) -> Counter[str]:
    """Calls by name in those steps, as torch's profiler saw them."""
    profiler = torch.profiler.profile(activities=list(torch.profiler.supported_activities()))
    window = Window(steps, profiler.start, profiler.stop)
    train(SIZE, WARM_UP + steps, [*callbacks, window], cpu=cpu, logging_steps=NEVER)
    return Counter({event.key: event.count for event in profiler.key_averages()})


def seconds_per_step(callbacks: list[Any], steps: int, *, cpu: bool = False) -> float:
    """Wall clock of a step, the device waited for only before the first and after the last."""
    marks: list[float] = []

    def mark() -> None:
        torch.cuda.synchronize()
        marks.append(time.perf_counter())

    train(SIZE, WARM_UP + steps, [*callbacks, Window(steps, mark, mark)], cpu=cpu)
    return (marks[1] - marks[0]) / steps


def count_waits(steps: int) -> Mapping[str, float]:
    """Print what was counted; waits per step by kind, as torch warned of them."""
    print(f"\nPer step, over {steps} steps:\n")
    print(f"| | warned of | {' | '.join(RUNTIME)} |")
    print(f"|---|---:|{'---:|' * len(RUNTIME)}")
    warned: dict[str, float] = {}
    for name, callbacks in kinds().items():
        warned[name] = count_warnings(callbacks(), steps)
        calls = count_calls(callbacks(), steps)
        counts = " | ".join(f"{calls[call] / steps:.2f}" for call in RUNTIME)
        print(f"| {name} | {warned[name]:.2f} | {counts} |")
    return warned


def print_goal(warned: Mapping[str, float]) -> None:
    """Whether the guard adds a wait to those of the trainer with the callback."""
    added = warned["guard, snapshot every 10"] - warned["the callback, guard off"]
    met = "met" if added <= 0 else "NOT met"
    print(f"\nGoal, no wait per step added by the guard at a snapshot every 10: {added:+.2f}: {met}")


def time_steps(steps: int, repeat: int) -> None:
    """Print a step's length by kind."""
    taken: dict[str, list[float]] = {name: [] for name in kinds()}
    for _ in range(repeat):
        for name, callbacks in kinds().items():
            taken[name].append(seconds_per_step(callbacks(), steps))
    off = statistics.median(taken["the callback, guard off"])
    print(f"\nWall clock, median of {repeat} runs of {steps} steps:\n")
    print("| | ms/step | over guard off |")
    print("|---|---:|---:|")
    for name, times in taken.items():
        step = statistics.median(times)
        print(f"| {name} | {1e3 * step:.2f} | {step / off - 1:+.2%} |")


def host_and_done(action: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """Milliseconds until a call returns, and until the device has finished: medians, after one that is not counted."""
    action()
    host: list[float] = []
    done: list[float] = []
    for _ in range(repeat):
        torch.cuda.synchronize()
        began = time.perf_counter()
        action()
        host.append(time.perf_counter() - began)
        torch.cuda.synchronize()
        done.append(time.perf_counter() - began)
    return 1e3 * statistics.median(host), 1e3 * statistics.median(done)


def large(repeat: int, device: str = "cuda") -> None:
    """One of each over the state of an 8B adapter."""
    model, optimizer = adapter_8b(device)
    state = TrainingState(model, optimizer)
    saved = state.save(None)
    torch.cuda.synchronize()
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(model, optimizer))
    on_device = [tensor for tensor in tensors_of(model, optimizer) if tensor.is_cuda]

    def loop() -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in on_device)

    def as_file() -> None:
        torch.save({"weights": list(model.parameters()), "optimizer": optimizer.state_dict()}, io.BytesIO())

    actions = {
        "snapshot into pinned memory of an older one": lambda: state.save(saved),
        "restore": lambda: state.load(saved),
        "look for NaN in weights and moments": state.is_finite,
        "loop of torch.isfinite over the same": loop,
        ".cpu() of every tensor": lambda: [tensor.cpu() for tensor in on_device],
        "torch.save of them, to memory": as_file,
    }
    print(f"\n8B adapter, r 16: {total / 1e6:.0f} MB with moments on the device; median of {repeat}\n")
    print("| | host, ms | done, ms | GB/s |")
    print("|---|---:|---:|---:|")
    for name, action in actions.items():
        host, done = host_and_done(action, repeat)
        print(f"| {name} | {host:.2f} | {done:.2f} | {total / 1e6 / done:.1f} |")


def main() -> None:
    """Print the tables, or that there is nothing to measure on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(NOT_MEASURED)
        return
    warnings.simplefilter("ignore")
    print(
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, Python {platform.python_version()}"
    )
    print(f"\nLlama of {SIZE.layers} layers, hidden {SIZE.hidden}, LoRA r {SIZE.rank} on all linear layers, batches of")
    print(f"{SIZE.batch} x {SIZE.length} tokens, float32; {state_bytes(build_model(SIZE)) / 1e6:.0f} MB with moments.")
    clock = Clock(time.perf_counter)
    train(SIZE, WARM_UP, [clock, GradienceCallback(enable_guard=True)], cpu=False)  # kernels are loaded once
    print_goal(count_waits(options.steps))
    time_steps(options.steps, options.repeat)
    large(max(3, options.repeat))


if __name__ == "__main__":
    main()
