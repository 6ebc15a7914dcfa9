"""Cases of the rules about data, base model and machine: real files through the real gathering and every check."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gradience_analysis.config_check.base_model.gather import gather_checkpoint, gather_model
from gradience_analysis.config_check.data.gather import gather_data
from gradience_analysis.config_check.machine.folder import file_system, gather_folder
from gradience_analysis.config_check.machine.gather import gather_machine
from gradience_analysis.config_check.machine.host import installed
from gradience_analysis.config_check.machine.paths import name_facts, path_facts
from gradience_analysis.config_check.machine.tested import TESTED
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding
from gradience_cli.scanning import find_private
from tests.analysis.config_check import built
from tests.rules.case import Case

Rows = Sequence[Any]


def _train(rows: Rows, training: dict[str, Any] | None = None) -> Callable[[Path], Collection[Finding]]:
    def fixture(folder: Path) -> Collection[Finding]:
        data = gather_data(built.jsonl(folder / "train.jsonl", rows), find=find_private)
        return built.findings(built.on_data(data, **(training or {})))

    return fixture


def _lines(text: bytes) -> Callable[[Path], Collection[Finding]]:
    def fixture(folder: Path) -> Collection[Finding]:
        (folder / "train.jsonl").write_bytes(text)
        return built.findings(built.on_data(gather_data(folder / "train.jsonl")))

    return fixture


def _splits(train: Rows, evaluation: Rows) -> Callable[[Path], Collection[Finding]]:
    def fixture(folder: Path) -> Collection[Finding]:
        first, second = built.jsonl(folder / "train.jsonl", train), built.jsonl(folder / "eval.jsonl", evaluation)
        return built.findings(built.on_data(gather_data(first, second)))

    return fixture


def _chat(folder: Path, **tokenizer: Any) -> Collection[Finding]:
    model = gather_model(built.tokenizer_files(built.model_folder(folder / "model"), **tokenizer))
    rows = [{"messages": [{"role": "user", "content": f"question {number}"}]} for number in range(20)]
    data = gather_data(built.jsonl(folder / "chat.jsonl", rows), model=model)
    return built.findings(built.on_data(data, model))


def _config_json(folder: Path, text: str) -> Collection[Finding]:
    built.model_folder(folder / "model")
    (folder / "model" / "config.json").write_text(text, encoding="utf-8")
    return built.findings(Preflight(base_model=gather_model(folder / "model")))


def _targets(folder: Path, targets: object, rank: int = 1) -> Collection[Finding]:
    return built.findings(built.on_model(built.model_folder(folder / "model"), targets, rank))


def _checkpoint(folder: Path, *, step: int, without: str = "") -> Collection[Finding]:
    checkpoint = folder / "checkpoint-500"
    checkpoint.mkdir()
    for name in {"optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors"} - {without}:
        (checkpoint / name).write_bytes(b"not to be opened")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    return built.findings(Preflight(checkpoint=gather_checkpoint(checkpoint)))


def _gpu(folder: Path, line: str, subject: Preflight) -> Collection[Finding]:
    with built.nvidia_smi(folder / "bin", line):
        return built.findings(built.with_machine(subject, gather_machine()))


def _memory(folder: Path, free: int) -> Collection[Finding]:
    subject = built.on_model(built.model_folder(folder / "model"), "all-linear", batch_size=8, max_length=64)
    return _gpu(folder, built.gpu(total=free, used=0), subject)


def _precision(folder: Path, capability: str) -> Collection[Finding]:
    subject = Preflight(config=built.configured(training={"dtype": "bfloat16"}))
    return _gpu(folder, built.gpu(capability=capability), subject)


def _shared(folder: Path, used: int) -> Collection[Finding]:
    return _gpu(folder, built.gpu(total=10_000, used=used), Preflight())


def _no_folder(folder: Path) -> Collection[Finding]:
    """A file where the folder should be: that stops root as well."""
    (folder / "out").write_bytes(b"")
    return built.findings(built.on_folder(gather_folder(folder / "out" / "run")))


def _folder(folder: Path) -> Collection[Finding]:
    return built.findings(built.on_folder(gather_folder(folder / "not" / "there" / "yet")))


def _free(folder: Path, free: float) -> Collection[Finding]:
    return built.findings(built.on_folder(replace(gather_folder(folder), free_bytes=int(free))))


def _mounted(folder: Path, kind: str) -> Collection[Finding]:
    mounts = folder / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/share {folder.resolve()} {kind} rw 0 0\n", encoding="utf-8")
    facts = replace(gather_folder(folder), file_system=file_system(folder, mounts))
    return built.findings(built.on_folder(facts))


def _held(folder: Path) -> Collection[Finding]:
    with built.writer(folder / "run.jsonl"):
        return built.findings(built.on_folder(gather_folder(folder)))


def _let_go(folder: Path) -> Collection[Finding]:
    with built.writer(folder / "run.jsonl"):
        pass
    return built.findings(built.on_folder(gather_folder(folder)))


def _installed(folder: Path, version: str) -> Collection[Finding]:
    info = folder / f"peft-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: peft\nVersion: {version}\n", encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        libraries = installed(["peft"])
    finally:
        sys.path.remove(str(folder))
    return built.findings(built.on_folder(gather_folder(folder), libraries=libraries))


def _path(folder: Path, *, link: bool) -> Collection[Finding]:
    real, given = folder / "real.jsonl", folder / "train.jsonl"
    real.write_bytes(b"")
    if link:
        given.symlink_to(real)
    else:
        given.write_bytes(b"")
    return built.findings(Preflight(machine=gather_machine(look=False, paths=[path_facts("--data", given)])))


def _name(folder: Path, name: str) -> Collection[Finding]:
    (folder / "linked").symlink_to("/")
    return built.findings(Preflight(machine=gather_machine(look=False, names=[name_facts("--name", name, folder)])))


def _vocabulary(folder: Path, tokens: int) -> Collection[Finding]:
    model = built.tokenizer_files(built.model_folder(folder / "model"), tokens)
    return built.findings(Preflight(base_model=gather_model(model)))


_IDS = [{"input_ids": list(range(60)), "labels": list(range(60))} for _ in range(94)]
_LONG = [{"input_ids": list(range(70)), "labels": list(range(70))} for _ in range(6)]
_MAIL = {"text": "write to jane.doe@example.org about it"}
_NEWEST = TESTED["peft"].highest.rpartition(".")[0]

CASES: dict[str, Case] = {
    "D01": Case(trips=_train(built.texts(9)), passes=_train(built.texts(10))),
    "D02": Case(
        trips=_lines(b'{"text": "a"}\n{"text": "b", "text": "c"}\n' * 10),
        passes=_lines(b'{"text": "a"}\n\n{"text": "b"}\n' * 10),
    ),
    "D03": Case(
        trips=_train([*built.texts(98), {"text": " "}, {"text": ""}]),
        passes=_train([*built.texts(99), {"text": ""}]),
    ),
    "D04": Case(
        trips=_splits(built.texts(20), [{"text": "an  example with\tthe number 3"}, {"text": "another"}]),
        passes=_splits(built.texts(20), [{"text": "An example with the number 3"}, {"text": "another"}]),
    ),
    "D05": Case(
        trips=_train([*built.texts(94), *built.texts(6)]),
        passes=_train([*built.texts(95), *built.texts(5)]),
    ),
    "D06": Case(
        trips=_train([*_IDS, *_LONG], {"max_length": 64}),
        passes=_train([*_IDS, *_LONG[:4]], {"max_length": 64}),
    ),
    "D08": Case(
        trips=_train([{"text": f"t {number}", "label": int(number == 0)} for number in range(40)]),
        passes=_train([{"text": f"t {number}", "label": int(number < 2)} for number in range(40)]),
    ),
    "D09": Case(
        trips=_train([*built.texts(20), _MAIL]),
        passes=_train([*built.texts(20), {"text": "write to jane.doe at example about it"}]),
    ),
    "D10": Case(trips=_chat, passes=partial(_chat, chat_template="{{ messages }}")),
    "M01": Case(trips=partial(_config_json, text='{"model_type": '), passes=partial(_config_json, text="{}")),
    "M02": Case(
        trips=partial(_targets, targets=["query_key_value"]),
        passes=partial(_targets, targets=["query_key_value", "v_proj"]),
    ),
    "M09": Case(
        trips=partial(_checkpoint, step=500, without="scheduler.pt"),
        passes=partial(_checkpoint, step=500),
    ),
    "G01": Case(trips=partial(_memory, free=4), passes=partial(_memory, free=10)),
    "G02": Case(trips=partial(_precision, capability="7.5"), passes=partial(_precision, capability="8.0")),
    "G07": Case(trips=partial(_shared, used=1_001), passes=partial(_shared, used=1_000)),
    "P01": Case(trips=_no_folder, passes=_folder),
    "P02": Case(trips=partial(_free, free=9.9e9), passes=partial(_free, free=10e9)),
    "P03": Case(trips=partial(_mounted, kind="nfs4"), passes=partial(_mounted, kind="xfs")),
    "P06": Case(trips=_held, passes=_let_go),
    "P09": Case(
        trips=partial(_installed, version="99.0"),
        passes=partial(_installed, version=f"{_NEWEST}.99"),
    ),
    "Q01": Case(trips=partial(_path, link=True), passes=partial(_path, link=False)),
    "Q08": Case(trips=partial(_name, name="linked/adapter"), passes=partial(_name, name="plain/adapter.v2")),
    "V01": Case(
        trips=partial(_targets, targets=["q_proj", "v_proj"], rank=16),
        passes=partial(_targets, targets=["q_proj", "v_proj"], rank=8),
    ),
    "V10": Case(trips=partial(_vocabulary, tokens=built.ROWS + 1), passes=partial(_vocabulary, tokens=built.ROWS)),
}
