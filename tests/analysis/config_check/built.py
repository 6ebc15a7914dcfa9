"""Files and folders that the checks of facts look at, built for real, and what the checks then say."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from gradience_analysis.config_check import CHECKS
from gradience_analysis.config_check.base_model.facts import ModelFacts
from gradience_analysis.config_check.base_model.gather import gather_model
from gradience_analysis.config_check.data.facts import DataFacts
from gradience_analysis.config_check.machine.facts import FolderFacts, MachineFacts
from gradience_analysis.config_check.subject import Preflight, Setting
from gradience_analysis.diagnostics.base import Diagnosis, diagnose
from gradience_analysis.model import Finding
from gradience_analysis.policy import load_policy
from gradience_schema import ConfigSnapshot

HIDDEN, INNER, ROWS, LAYERS = 64, 128, 40, 2


def diagnosis(subject: Preflight) -> Diagnosis:
    """What all checks say of a subject, by the default policy."""
    return diagnose(subject, CHECKS, load_policy())


def findings(subject: Preflight) -> tuple[Finding, ...]:
    """The findings alone."""
    return diagnosis(subject).findings


def following(subject: Preflight, rule: str) -> list[Finding]:
    """The findings that follow one rule."""
    return [finding for finding in findings(subject) if finding.rule == rule]


def on_data(data: DataFacts, model: ModelFacts | None = None, **training: Any) -> Preflight:
    """A subject with data, and what the configuration says of training."""
    return Preflight(config=configured(training=training), data=data, base_model=model)


def configured(lora: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None) -> ConfigSnapshot:
    """A configuration with some values set."""
    return ConfigSnapshot.from_dict({"lora": dict(lora or {}), "training": dict(training or {})})


def settings(**values: Any) -> dict[str, Setting]:
    """Settings by canonical name, with two underscores for the dot."""
    keys = {name.replace("__", "."): value for name, value in values.items()}
    return {key: Setting(key, value, value, key, "a test") for key, value in keys.items()}


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """A file of these rows, one a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(count: int, prefix: str = "an example with the number") -> list[dict[str, Any]]:
    """Examples of the layout `text`, each different."""
    return [{"text": f"{prefix} {number}"} for number in range(count)]


def model_folder(folder: Path, rows: int = ROWS, **config: Any) -> Path:
    """A small Llama-like model: config.json and a safetensors file of zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "vocab_size": rows,
    }
    (folder / "config.json").write_text(json.dumps(document | config), encoding="utf-8")
    save_file(tensors(rows), folder / "model.safetensors")
    return folder


def tensors(rows: int = ROWS) -> dict[str, Any]:
    """The weights of that model."""
    found = {"model.embed_tokens.weight": _zeros(rows, HIDDEN), "lm_head.weight": _zeros(rows, HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            found[f"{at}.self_attn.{name}.weight"] = _zeros(HIDDEN, HIDDEN)
        for name in ("gate_proj", "up_proj"):
            found[f"{at}.mlp.{name}.weight"] = _zeros(INNER, HIDDEN)
        found[f"{at}.mlp.down_proj.weight"] = _zeros(HIDDEN, INNER)
        found[f"{at}.input_layernorm.weight"] = _zeros(HIDDEN)
    return found


def _zeros(*shape: int) -> Any:
    return np.zeros(shape, dtype=np.float32)


def tokenizer_files(folder: Path, tokens: int = ROWS, **config: Any) -> Path:
    """A tokenizer.json of so many tokens (three of them added), and its tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {f"word{number}": number for number in range(tokens - 3)}
    added = [{"id": tokens - 3 + place, "content": name} for place, name in enumerate(("<pad>", "<s>", "</s>"))]
    document = {"added_tokens": added, "post_processor": None, "model": {"type": "WordLevel", "vocab": words}}
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    names = {"eos_token": "</s>", "pad_token": "<pad>", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | config), encoding="utf-8")
    return folder


def on_model(folder: Path, targets: object, rank: int = 8, **training: Any) -> Preflight:
    """A subject with a base model and LoRA on some of its modules."""
    config = configured({"r": rank}, training)
    return Preflight(settings(lora__target_modules=targets), config, base_model=gather_model(folder))


def on_folder(folder: FolderFacts, **machine: Any) -> Preflight:
    """A subject that is to write to a folder."""
    return Preflight(machine=MachineFacts(looked=True, folder=folder, **machine))


def with_machine(subject: Preflight, machine: MachineFacts) -> Preflight:
    """The same subject on a machine."""
    return replace(subject, machine=machine)


@contextlib.contextmanager
def nvidia_smi(folder: Path, gpus: str, apps: str = "", **environment: str) -> Iterator[None]:
    """A program of that name on PATH that prints these tables."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "nvidia-smi"
    cases = f"--query-gpu=*) cat <<'END'\n{gpus}\nEND\n;;\n--query-compute-apps=*) cat <<'END'\n{apps}\nEND\n;;"
    program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    before = dict(os.environ)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ.update({"PATH": f"{folder}{os.pathsep}{before['PATH']}", **environment})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def gpu(index: int = 0, total: int = 40_000, used: int = 100, capability: str = "8.0") -> str:
    """A line as nvidia-smi prints it; memory in MiB."""
    return f"{index}, GPU-{index}aaaa, A Device, {total}, {used}, {total - used}, {capability}, 550.54.15"


_WRITER = """
import sys
from pathlib import Path
from gradience_emit.segments import open_segment
segment = open_segment(Path(sys.argv[1]))
segment.write(b'{}\\n')
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def writer(path: Path) -> Iterator[int]:
    """Another process that writes a segment, as long as the block lasts; its id."""
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'schema'}"}
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"held\n"
        try:
            yield child.pid
        finally:
            child.stdin.close()
