"""`TelemetryWriter`: its calls, its end, its copies in other threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradience_emit import MAX_LINE_BYTES, TelemetryWriter, TextViolationError, describe_exception
from gradience_schema import ConfigSnapshot, Recommendation
from tests.emit import oracle, payloads


def events(path: Path) -> list[str]:
    """The event of each record."""
    return [record["event"] for record in oracle.read_strict(path)]


def test_a_whole_run(tmp_path: Path) -> None:
    """Given every kind of call, when the run is over, then each left one valid record, numbered without a gap."""
    with TelemetryWriter(tmp_path / "new" / "run.jsonl") as writer:
        writer.run_start(ConfigSnapshot(model_name="m"), meta={"framework": "none"})
        writer.train_step(1, loss=0.5, lr=1e-4)
        writer.eval(1, split="val", metrics={"loss": 0.4})
        writer.metrics(1, kind="memory", metrics={"rss_mb": 5})
        writer.alert(severity="info", code="C", message="m", step=1, context={"a": 1})
        writer.recommendation([Recommendation(severity="info", action="a"), {"action": "b"}], step=1)
        writer.log("my_event", 1, value=2)
        writer.log("run_end", 1, status="ok")
        writer.metrics(1, kind="lora_audit", metrics={})
    records = oracle.read_strict(writer.path)
    for record in records:
        oracle.assert_valid(record)
    assert [record["seq"] for record in records] == list(range(9))
    assert {record["run_id"] for record in records} == {writer.run_id}
    assert records[7]["step"] == 1
    assert "renamed" not in str(records)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("bad token alice@example.com"), "error", "ValueError: bad token [EMAIL]"),
        (RuntimeError("x" * 201), "error", "RuntimeError: [REDACTED 201 chars]"),
        (KeyboardInterrupt(), "aborted", "KeyboardInterrupt"),
        (SystemExit(3), "aborted", "SystemExit: 3"),
        (type("Odd", (Exception,), {"__str__": lambda _: 1 / 0})(), "error", "Odd"),
        (ValueError("\ud800"), "error", "ValueError: ?"),
    ],
)
def test_an_exception_leaves_a_run_end(tmp_path: Path, error: BaseException, status: str, reason: str) -> None:
    """Given an exception in the with block, when it passes, then run_end has its type and redacted text."""
    with pytest.raises(type(error)), TelemetryWriter(tmp_path / "run.jsonl") as writer:
        raise error
    end = oracle.read_strict(writer.path)[-1]
    assert (end["event"], end["status"], end["reason"]) == ("run_end", status, reason)
    assert describe_exception(error)["status"] == status


def test_a_writer_that_was_never_used_leaves_no_event(tmp_path: Path) -> None:
    """Given a with block in which nothing is logged, when it ends, then there is no run_end of no run."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        pass
    assert events(writer.path) == []


def test_run_end_is_written_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Given a second run_end, when it is called, then the first stays and a warning says so."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_end(status="aborted")
        writer.run_end(status="ok")
        writer.log("run_end")
    (record,) = oracle.read_strict(writer.path)
    assert record["status"] == "aborted"
    assert "second one is ignored" in caplog.text


def test_logging_after_close_is_counted_and_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Given a closed writer, when events come, then each is counted, one warning is given and nothing is raised."""
    writer = TelemetryWriter(tmp_path / "run.jsonl")
    writer.close()
    writer.close()
    for _ in range(3):
        writer.train_step(1)
    assert writer.dropped == 3
    assert caplog.text.count("is lost") == 1


def test_path_still_names_the_file_after_close(tmp_path: Path) -> None:
    """Given a second run at a path, when it is closed, then ``path`` is the file it wrote and not the first one."""
    TelemetryWriter(tmp_path / "run.jsonl").log("a")
    writer = TelemetryWriter(tmp_path / "run.jsonl")
    writer.close()
    assert writer.path.name == "run.1.jsonl"


@pytest.mark.parametrize(
    "options",
    [
        {"if_exists": "truncate"},
        {"ring_size": 0},
        {"sync_every_s": 0},
        {"sync_every_s": float("nan")},
        {"retry_every_s": -1},
        {"retry_every_s": float("nan")},
        {"sync_every_bytes": 0},
        {"run_id": ""},
        {"run_id": "r" * 5000},
        {"max_str_len": 0},
    ],
)
def test_nonsense_options_are_refused_before_training(tmp_path: Path, options: dict[str, Any]) -> None:
    """Given an option out of range, when the writer is made, then a ValueError says which and no file appears."""
    with pytest.raises(ValueError, match=next(iter(options))):
        TelemetryWriter(tmp_path / "run.jsonl", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("run_id", ["r" * 300, "run of alice@example.com", "\ud800", "ünï"])
def test_a_run_id_is_kept_whole_and_clean(tmp_path: Path, run_id: str) -> None:
    """Given a long or odd run id, when it is written, then it is not cut, is UTF-8, and holds no address."""
    with TelemetryWriter(tmp_path / "run.jsonl", run_id) as writer:
        writer.run_start({})
    written = oracle.read_strict(writer.path)[0]["run_id"]
    assert written == writer.run_id
    assert written == run_id.replace("alice@example.com", "[EMAIL]").replace("\ud800", "?")


WRONG = [None, 5, "text", [1], {"a": object()}, np.array([1, 2]), payloads.Hostile(), payloads.LyingClass(), b"x"]


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[type(value).__name__ for value in WRONG])
def test_wrong_types_never_raise_and_are_not_lost(tmp_path: Path, number: int) -> None:
    """Given an argument of the wrong type in every place, when the calls are made, then each leaves a valid record."""
    wrong: Any = WRONG[number]
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start(wrong, wrong)
        writer.train_step(wrong, loss=wrong, lr=wrong, extra=wrong)
        writer.eval(wrong, split=wrong, metrics=wrong)
        writer.metrics(wrong, kind=wrong, metrics=wrong)
        writer.alert(severity=wrong, code=wrong, message=wrong, step=wrong, context=wrong)
        writer.recommendation(wrong, step=wrong)
        writer.recommendation([wrong])
        writer.log(wrong, wrong, field=wrong)
        writer.run_end(status=wrong, reason=wrong)
    records = oracle.read_strict(writer.path)
    assert [record["seq"] for record in records] == list(range(9))
    for record in records:
        oracle.assert_valid(record)
    assert writer.dropped == writer.faults == 0


def test_a_config_whose_to_dict_fails_is_no_reason_to_stop(tmp_path: Path) -> None:
    """Given objects with a broken ``to_dict``, when they are logged, then the run goes on."""

    class Broken:
        def to_dict(self) -> dict[str, Any]:
            raise RuntimeError("no")

    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.run_start(Broken())
        writer.recommendation([Broken()])
    assert events(writer.path) == ["run_start", "recommendation", "run_end"]


def test_payload_keys_named_like_parameters(tmp_path: Path) -> None:
    """Given extras called self and event, when they are logged, then Python does not stop at them."""
    names: dict[str, Any] = {"self": 1, "event": 2}
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.train_step(1, **names)
        writer.log("mine", **names)
        writer.eval(1, split="val", metrics={}, **names)
    step, mine, evaluation, _ = oracle.read_strict(writer.path)
    assert (step["self"], step["x_event"], step["event"]) == (1, 2, "train_step")
    assert (mine["self"], mine["x_event"], mine["event"]) == (1, 2, "mine")
    assert evaluation["self"] == 1


def test_an_event_name_is_redacted_and_bounded(tmp_path: Path) -> None:
    """Given secrets, surrogates and a megabyte as event names, when logged, then names are clean, none lost."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        for name in ("mail bob@example.com", "\ud800", "x" * 2_000_000):
            writer.log(name)
    assert events(writer.path) == ["mail [EMAIL]", "?", "[REDACTED 2000000 chars]", "run_end"]
    assert writer.dropped == 0


def test_raise_mode_raises_and_loses_nothing_silently(tmp_path: Path) -> None:
    """Given ``on_text_violation="raise"``, when text is refused, then the caller is told and seq has no gap."""
    with TelemetryWriter(tmp_path / "run.jsonl", on_text_violation="raise") as writer:
        writer.train_step(1)
        with pytest.raises(TextViolationError):
            writer.train_step(2, text="x" * 300)
        with pytest.raises(TextViolationError):
            writer.run_end(reason="bob@example.com")
    assert events(writer.path) == ["train_step", "run_end"]
    assert [record["seq"] for record in oracle.read_strict(writer.path)] == [0, 1]
    assert writer.dropped == 0


@pytest.mark.parametrize(
    "payload",
    [
        {"big": "x" * 3_000_000, "small": 1},
        {"big": list(range(9000)), "other": ["y" * 200] * 9000, "small": 1},
        {f"model.layers.{i}.self_attn.q_proj.lora_A.default.weight.grad_norm": i / 7 for i in range(20_000)},
        {f"k{i}": "v" * 100 for i in range(15_000)},
        {"nan": [float("nan")] * 90_000, "small": 1},
        {"keys": {f"{i:0250}": 1 for i in range(6000)}, "small": 1},
    ],
    ids=["text", "lists", "many numbers", "many strings", "nan", "long keys"],
)
def test_a_line_never_exceeds_the_limit_and_says_what_was_cut(tmp_path: Path, payload: dict[str, Any]) -> None:
    """Given more than fits, when it is logged, then the line fits, is valid, and says what was cut."""
    with TelemetryWriter(tmp_path / "run.jsonl", allow_text=True) as writer:
        writer.train_step(1, **payload)
    line = writer.path.read_bytes().split(b"\n")[0]
    record = oracle.strict_loads(line)
    oracle.assert_valid(record)
    assert len(line) < MAX_LINE_BYTES
    assert record["truncated"]
    assert record.get("small", 1) == 1
    assert writer.dropped == 0
    for pointer in (*record.get("nonfinite", {}), *record.get("renamed", {}), *record["truncated"]):
        parent, key = oracle.locate(record, pointer)
        parent[key]


def test_eight_threads_share_a_writer(tmp_path: Path) -> None:
    """Given eight threads, when each logs 300 events, then all are there, whole and numbered once."""
    with TelemetryWriter(tmp_path / "run.jsonl") as writer:

        def work(thread: int) -> None:
            for step in range(300):
                writer.train_step(step, thread=thread, nested={"a": [float("nan"), {"b": step}]})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = oracle.read_strict(writer.path)[:-1]
    assert [record["seq"] for record in records] == list(range(2400))
    assert {(record["thread"], record["step"]) for record in records} == {(t, s) for t in range(8) for s in range(300)}
    assert all(record["nonfinite"] == {"/nested/a/0": "nan"} for record in records)


def test_a_payload_that_logs_while_it_is_logged(tmp_path: Path) -> None:
    """Given a mapping whose items log an alert, when it is logged, then both records are whole."""

    class Chatty(payloads.UserDict):  # type: ignore[type-arg]
        def items(self) -> Any:
            writer.alert(severity="info", code="INNER", message="m", context={"deep": [float("inf")]})
            return [("a", float("nan"))]

    with TelemetryWriter(tmp_path / "run.jsonl") as writer:
        writer.train_step(1, outer={"before": float("nan"), "chatty": Chatty()})
    inner, outer, end = oracle.read_strict(writer.path)
    assert inner["nonfinite"] == {"/context/deep/0": "inf"}
    assert outer["nonfinite"] == {"/outer/before": "nan", "/outer/chatty/a": "nan"}
    assert [inner["seq"], outer["seq"], end["seq"]] == [0, 1, 2]
    assert "dropped_events" not in end


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_its_own_segment(tmp_path: Path) -> None:
    """Given a fork, when the child logs, then it writes its own segment and leaves the parent's alone."""
    script = f"""
import os
from pathlib import Path
from gradience_emit import TelemetryWriter
with TelemetryWriter({str(tmp_path / "run.jsonl")!r}, "r") as writer:
    writer.run_start({{"model_name": "m"}})
    writer.train_step(1)
    child = os.fork()
    if child == 0:
        writer.train_step(100)
        writer.run_end()
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    silent = os.fork()
    if silent == 0:
        raise SystemExit(0)   # leaves the with block and the interpreter without having logged
    os.waitpid(silent, 0)
    writer.train_step(2)
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=child_environment(), timeout=60)
    parent, child = oracle.read_strict(tmp_path / "run.jsonl"), oracle.read_strict(tmp_path / "run.1.jsonl")
    assert [(record["event"], record["seq"]) for record in parent] == [
        ("run_start", 0),
        ("train_step", 1),
        ("train_step", 2),
        ("run_end", 3),
    ]
    assert [(record["event"], record["step"]) for record in child] == [
        ("run_start", None),
        ("train_step", 100),
        ("run_end", None),
    ]
    before, meta = parent[0]["meta"], child[0]["meta"]
    assert (meta["segment"], meta["parent_segment"], meta["forked"]) == (1, 0, True)
    assert meta["pid"] != before["pid"], "a child is a process of its own"
    assert (meta["host"], meta.get("boot_id")) == (before["host"], before.get("boot_id"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.1.jsonl", "run.jsonl"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Given a worker process that outlives the writer, when the file is reopened, then it is not locked."""
    script = f"""
import os, signal
from gradience_emit import TelemetryWriter
path = {str(tmp_path / "run.jsonl")!r}
writer = TelemetryWriter(path, "r")
writer.run_start({{}})
ready, told = os.pipe()
child = os.fork()
if child == 0:
    os.write(told, b"x")
    signal.pause()
os.read(ready, 1)
writer.close()
again = TelemetryWriter(path, if_exists="append")
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
assert str(again.path) == path, again.path
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=child_environment(), timeout=60)


def test_a_signal_handler_may_end_the_run(tmp_path: Path) -> None:
    """Given SIGTERM in the middle of logging, when the handler writes run_end, then the file is whole."""
    script = f"""
import os, signal
from gradience_emit import TelemetryWriter
writer = TelemetryWriter({str(tmp_path / "run.jsonl")!r})
def stop(*_):
    writer.run_end(status="aborted", reason="SIGTERM")
    writer.close()
    os._exit(0)
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.05)
while True:
    writer.train_step(1, nested={{"a": [1.5, {{"b": float("nan")}}]}})
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=child_environment(), timeout=60)
    records = oracle.read_strict(tmp_path / "run.jsonl")
    assert records[-1]["status"] == "aborted"
    assert len(records) > 10


def test_what_waits_is_written_at_exit(tmp_path: Path) -> None:
    """Given a writer that nobody closed or kept, when the interpreter ends, then its file is complete."""
    script = f"""
import errno, os
from gradience_emit import TelemetryWriter, segments
def log():
    writer = TelemetryWriter({str(tmp_path / "run.jsonl")!r})
    real = segments._write
    def refuse(*_): raise OSError(errno.ENOSPC, "full")
    segments._write = refuse
    writer.train_step(1)
    segments._write = real
log()
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=child_environment(), timeout=60)
    assert events(tmp_path / "run.jsonl") == ["train_step", "alert"]


def test_the_core_imports_no_third_party_package() -> None:
    """Given an interpreter, when the emitter is imported, then neither torch, numpy nor pandas came with it."""
    script = "import sys, gradience_emit; print(sorted({'torch','numpy','pandas','transformers'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, env=child_environment(), capture_output=True, timeout=60
    )
    assert done.stdout.strip() == b"[]"


def child_environment() -> dict[str, str]:
    """The environment in which a child finds the packages of this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
