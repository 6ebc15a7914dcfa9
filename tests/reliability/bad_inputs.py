"""Files that broke an earlier tool of this kind, and others like them: one of each, by name."""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
from pathlib import Path
from typing import Any

from tests.analysis.records import end, evaluation, healthy_run, lines, record, start, train

ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202eevil\r\n"
# What each holds: events that are valid, no event at all, or nothing that can be read.
EVENTS, NONE, UNREADABLE = "events", "none", "unreadable"


def healthy() -> bytes:
    """A file with nothing wrong in it."""
    return _text(healthy_run())


def make(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write all of them: name → path, and what it holds."""
    made: dict[str, tuple[Path, str]] = {}
    for what, files in ((EVENTS, _with_events()), (NONE, _without_events()), (UNREADABLE, _containers())):
        for name, data in files.items():
            path = folder / name.replace(" ", "_") / "run.jsonl"
            path.parent.mkdir()
            path.write_bytes(data)
            made[name] = (path, what)
    return made | {name: (path, UNREADABLE) for name, path in _no_files(folder).items()}


def _text(records: list[dict[str, Any]], *raw: bytes) -> bytes:
    return b"".join(line + b"\n" for line in (*lines(records), *raw))


def _with_events() -> dict[str, bytes]:
    good = _text(healthy_run())
    config: dict[str, Any] = {"model_name": ESCAPES, "dataset_name": "[bold red]x[/]", "notes": "\x00\x85"}
    guard = [
        record("metrics", 3, ts=3.0, kind="guard", metrics={"action": "rollback", "n_rollbacks": "x"}),
        record("alert", 4, ts=4.0, severity="error", code="GUARD_ABORT", message="gave up"),
    ]
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    return {
        "a byte 0xFF": good.replace(b'"loss"', b'"l\xffss"', 1),
        "BOM": b"\xef\xbb\xbf" + good,
        "BOM CRLF": b"\xef\xbb\xbf" + good.replace(b"\n", b"\r\n"),
        "brackets": _text([start(), *train([1])], b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000),
        "a 5000-digit integer": _text([start(), *train([1])], b'{"ts":' + b"7" * 5_000 + b"}"),
        "a 4000-digit step": _text([start(), *train([1])]).replace(b'"step": 1,', b'"step": ' + b"7" * 4_000 + b","),
        "a 400-digit ts": _text([start(), *train([1])]).replace(b'"ts": 1.0', b'"ts": 1' + b"0" * 400),
        "huge numbers": _text([start(), *train([2**70]), record("train_step", 2**63, ts=2.0, loss=2**70, lr=-(2**70))]),
        "a step that is 1e300": _text([start(), *train([1])]).replace(b'"step": 1,', b'"step": 1e300,'),
        "ts near the end of time": _text([start(ts=1e308), *train([1], ts=1e308), end(ts=-1e308)]),
        "duplicate keys": good.replace(b'"loss"', b'"lr": 1, "loss": 2, "loss"'),
        "a repeated key over a bare token": _text(
            [start(), *train([1])], lines(train([2]))[0][:-1] + b',"x":NaN,"x":1}'
        ),
        "ts x": _text([start(), record("train_step", 1) | {"ts": "x"}]),
        "run_id list": _text([start(), record("train_step", 1) | {"run_id": [1]}]),
        "event object": _text([start(), record("train_step", 1) | {"event": {}}]),
        "no event field": _text(
            [start(), *train([1, 2])], lines(train([3]))[0].replace(b'"event": "train_step", ', b"")
        ),
        "backward steps": _text([start(), *train([1, 2, 3]), *train([1, 2], ts=9.0), end()]),
        "many bad lines": good + b"oops\n" * 3_000,
        "n_rollbacks x": _text([start(), *train([1, 2]), *guard, end("aborted")]),
        "NaN": _text([start(), *train([1]), evaluation(1, "val", loss=float("nan"), ppl=float("inf"))]),
        "NaN in the configuration": _text([start() | {"config": {"lora": {"r": 8, "alpha": float("nan")}}}]),
        "escape sequences": _text(
            [
                start() | {"config": config, "run_id": ESCAPES},
                record("alert", 1, severity="error", code=ESCAPES, message=ESCAPES),
            ]
        ),
        "lone surrogates": good.replace(b'"tiny-llama"', rb'"\ud800"').replace(b'"templated-qa"', rb'"\udc00"'),
        "a configuration of strings": _text(
            [start() | {"config": {"lora": {"r": 16, "x": ["16"]}, "extras": {"r": "3"}}}]
        ),
        "deep values": _text([start()], lines(train([1]))[0][:-1] + b',"x":' + deep + b"}"),
        "NUL block": _text([start(), *train([1])]) + b"\x00" * 5_000 + b"\n" + _text(train([2])),
        "a line over the cap": _text([start(), *train([1])], b"x" * (3 << 20), *lines(train([2]))),
        "a cut-off gzip": gzip.compress(good)[:-30],
        "a damaged gzip": gzip.compress(good)[:-8] + b"\x00" * 8,
        "a torn tail": good[:-25],
        "unknown events only": _text([record("my_event", 1), record("train_stp", 2)]),
        "nothing but a start": _text([start() | {"config": {}}]),
        "evaluations of odd values": _text([start(), evaluation(1, "val", loss="low", ppl=[1], n={}, accuracy=None)]),
        "an audit of odd values": _text(
            [start(), record("metrics", 1, kind="lora_audit", metrics={"stable_rank_mean": "x"})]
        ),
        "other ranks only": _text([start(run_id=""), *train([1], run_id="b"), *train([1], run_id="c")]),
        "a trainer state of odd types": b'{"global_step": "x", "log_history": [{"loss": [], "step": {}}, 7, null]}',
        "a llama log of odd types": b'{"current_steps": "x", "total_steps": [], "loss": {}}\n' * 3,
        "keys like attributes": _text(
            [start(), record("train_step", 1) | {"__class__": 1, "f0": 2, "": 3, "a b": 4, "ts_": 5}]
        ),
    }


def _without_events() -> dict[str, bytes]:
    return {
        "empty": b"",
        "newlines": b"\n\n \n",
        "a NUL block only": b"\x00" * 4_096,
        "random bytes": b"!" + random.Random(0).randbytes(10_000),
        "text": b"hello\nworld\n",
        "JSON of another kind": b'{"a": 1}\n[1]\n3\n"x"\nnull\n',
        "telemetry v2": _text(healthy_run()).replace(b"telemetry/v1", b"telemetry/v2"),
        "one document": json.dumps(healthy_run(), indent=1).encode(),
        "brackets only": b"[" * 100_000 + b"\n",
        "a long line only": b"x" * (2 << 20),
        "an empty gzip": gzip.compress(b""),
        "a gzip of garbage": b"\x1f\x8b\x08garbage that is no gzip",
        "a trainer state cut off": b'{"best_metric": null, "global_step": 5, "log_history": [{"loss": 1.0, "step"',
        "a csv of nothing": b"epoch,step,train_loss\n",
    }


def _containers() -> dict[str, bytes]:
    text = _text(healthy_run())
    return {
        "UTF-16": text.decode().encode("utf-16"),
        "UTF-16 without a mark": text.decode().encode("utf-16-le"),
        "UTF-32": text.decode().encode("utf-32"),
        "zstd": b"\x28\xb5\x2f\xfd" + b"x" * 50,
        "Parquet": b"PAR1" + b"\x00" * 50 + b"PAR1",
        "zip": b"PK\x03\x04" + b"\x00" * 50,
    }


def _no_files(folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.jsonl" for name in ("missing", "fifo", "socket", "folder", "loop", "dangling")}
    os.mkfifo(paths["fifo"])
    with socket.socket(socket.AF_UNIX) as server:
        # A socket's path has room for a hundred bytes only: bind it by its name.
        before = Path.cwd()
        os.chdir(folder)
        server.bind(paths["socket"].name)
        os.chdir(before)
    paths["folder"].mkdir()
    paths["loop"].symlink_to(paths["loop"])
    paths["dangling"].symlink_to(paths["missing"])
    return paths | {
        "zero": Path("/dev/zero"),
        "tty": Path("/dev/tty"),
        "null": Path("/dev/null"),
        "a file that fails to read": Path("/proc/self/mem"),
        "a name too long": folder / ("x" * 300),
        "a path below a file": Path(__file__) / "run.jsonl",
    }
