"""Telemetry to read and to validate: runs as our emitter writes them, with invented numbers, and damaged copies.

Everything is determined by the number of the run and the length, and written line by line: a benchmark's own memory is
the floor of every peak it measures.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = "gradience.vnext.telemetry/v1"
EVAL_EVERY: Final = 500
LINE_BYTES: Final = 266
"""What a line measures, about."""
SHARE_BAD: Final = 0.01
_LOSS: Final = re.compile(rb'"loss":([^,]+)')
_TS: Final = re.compile(rb'"ts":[^,]+,')
_RUN_ID: Final = b'"run_id":"'


def run_lines(number: int, lines: int) -> Iterator[bytes]:
    """The lines of one run, newlines included.

    A `run_start`, a `train_step` each step, an `eval` of two splits each 500 steps and after the last, a `run_end`. The
    loss has four decimals, as trainers log it; rates, norms and times have all their digits.

    Args:
        number: Which run; its numbers and its id are drawn from this seed.
        lines: How many lines, at least 5.
    """
    rng = random.Random(number)
    run_id = f"{rng.getrandbits(128):032x}"
    run_id = "-".join((run_id[:8], run_id[8:12], run_id[12:16], run_id[16:20], run_id[20:]))
    started = 1.76e9 + 5000.0 * number
    peak = rng.choice((5e-5, 1e-4, 2e-4, 5e-4))
    level, total = rng.uniform(0.6, 1.1), lines - 4
    ends = f'"run_id":"{run_id}","event":"train_step","step":'
    seq = 0

    def other(event: str, step: int | None, **payload: Any) -> bytes:
        nonlocal seq
        envelope = {"schema": SCHEMA, "ts": started + 0.37 * seq, "run_id": run_id, "event": event, "step": step}
        seq += 1
        return json.dumps(envelope | payload | {"seq": seq - 1}, separators=(",", ":")).encode() + b"\n"

    def evaluations(step: int, loss: float) -> Iterator[bytes]:
        for split, gap in (("train", 0.0), ("val", 0.08 + 0.1 * step / total)):
            value = loss + gap + rng.gauss(0, 0.01)
            yield other("eval", step, split=split, metrics={"loss": value, "ppl": math.exp(value), "n": 256})

    yield other("run_start", None, config=_config(number, peak, total), meta={"framework": "transformers"})
    step, loss, left = 0, 2.5 + level, total
    while left:
        step, left = step + 1, left - 1
        loss = round(2.5 * math.exp(-4 * step / total) + level + rng.gauss(0, 0.05), 4)
        lr = peak * min(1.0, 20 * step / total) * (1 - step / (total + 1))
        yield (
            f'{{"schema":"{SCHEMA}","ts":{started + 0.37 * seq + 0.05 * rng.random()!r},{ends}{step},"loss":{loss!r},'
            f'"lr":{lr!r},"grad_norm":{math.exp(rng.gauss(0, 0.4))!r},"epoch":{round(3 * step / total, 4)!r},'
            f'"tokens":{4096 * step},"seq":{seq}}}\n'
        ).encode()
        seq += 1
        if step % EVAL_EVERY == 0 and left > 2:
            yield from evaluations(step, loss)
            left -= 2
    yield from evaluations(step, loss)
    yield other("run_end", step, status="ok")


def _config(number: int, lr: float, steps: int) -> dict[str, Any]:
    return {
        "model_name": "benchmark-1b",
        "dataset_name": "benchmark",
        "task_profile": "generation",
        "optimizer": {"name": "adamw_torch", "lr": lr, "weight_decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-8},
        "lora": {"r": 16, "alpha": 32.0, "dropout": 0.05, "bias": "none", "target_modules": ["q_proj", "v_proj"]},
        "training": {"seed": number, "batch_size": 8, "gradient_accumulation": 2, "max_steps": steps, "dtype": "bf16"},
    }


def write_file(path: Path, lines: int, number: int = 0) -> None:
    """One run of that many lines in one file."""
    with path.open("wb") as file:
        file.writelines(run_lines(number, lines))


def write_folder(folder: Path, runs: int, lines: int) -> None:
    """Runs of that many lines each, every one in a file of its own."""
    folder.mkdir()
    for number in range(1, runs + 1):
        write_file(folder / f"run-{number:05}.jsonl", lines, number)


def _torn(line: bytes, rng: random.Random) -> bytes:
    """Cut short, and the next line begins where it was cut no more: the newline is there."""
    return line[: rng.randrange(1, len(line) - 2)] + b"\n"


def _invalid_utf8(line: bytes, rng: random.Random) -> bytes:
    """One byte of the run id is 0xFF."""
    place = line.index(_RUN_ID) + len(_RUN_ID) + rng.randrange(36)
    return line[:place] + b"\xff" + line[place + 1 :]


def _wrong_type(line: bytes, rng: random.Random) -> bytes:
    """The loss is a string."""
    del rng
    return _LOSS.sub(rb'"loss":"\1"', line, count=1)


def _missing_field(line: bytes, rng: random.Random) -> bytes:
    """There is no `ts`."""
    del rng
    return _TS.sub(b"", line, count=1)


def _nan_token(line: bytes, rng: random.Random) -> bytes:
    """The loss is a bare NaN, as `json.dumps` writes it."""
    del rng
    return _LOSS.sub(b'"loss":NaN', line, count=1)


DAMAGE: Final[dict[str, Callable[[bytes, random.Random], bytes]]] = {
    "torn": _torn,
    "invalid UTF-8": _invalid_utf8,
    "wrong type": _wrong_type,
    "missing field": _missing_field,
    "NaN token": _nan_token,
}
"""Every kind of damage: what it does to a line."""


def damage(
    source: Path, target: Path, kinds: Sequence[str] = tuple(DAMAGE), share: float = SHARE_BAD
) -> dict[int, str]:
    """Copy a file, with some of its `train_step` lines damaged.

    Args:
        source: A file of whole lines.
        target: Where the copy goes.
        kinds: Keys of `DAMAGE`, of which each damaged line gets one.
        share: Which share of the lines, about.

    Returns:
        Number of each damaged line, 1-based, and what was done to it.
    """
    rng = random.Random(1)
    done: dict[int, str] = {}
    with source.open("rb") as file, target.open("wb") as copy:
        for number, line in enumerate(file, 1):
            text = line
            if rng.random() < share and b'"event":"train_step"' in line:
                done[number] = rng.choice(kinds)
                text = DAMAGE[done[number]](line, rng)
            copy.write(text)
    return done


@dataclass(frozen=True)
class Data:
    """The files of one benchmark.

    Attributes:
        file: One run in one file.
        runs: A folder of runs, each in a file of its own, with as many lines together.
        bad: A copy of `file`, a hundredth of its lines damaged in every way.
        truth: JSON beside `bad`: line number → kind of damage.
        lines: Lines in `file`, and in `bad`.
        runs_lines: Lines in each file of `runs`.
    """

    file: Path
    runs: Path
    bad: Path
    truth: Path
    lines: int
    runs_lines: int = 500

    @property
    def damaged(self) -> dict[int, str]:
        """Number of each damaged line of `bad`, and what was done to it."""
        return {int(number): kind for number, kind in json.loads(self.truth.read_text(encoding="utf-8")).items()}


def prepare(folder: Path, lines: int) -> Data:
    """Write the files, or find those that an earlier call has written."""
    home = folder / f"{lines}-lines"
    data = Data(home / "run.jsonl", home / "runs", home / "bad.jsonl", home / "truth.json", lines)
    if not data.truth.exists():
        home.mkdir(parents=True)
        write_file(data.file, lines)
        write_folder(data.runs, lines // data.runs_lines, data.runs_lines)
        data.truth.write_text(json.dumps(damage(data.file, data.bad)), encoding="utf-8")
    return data
