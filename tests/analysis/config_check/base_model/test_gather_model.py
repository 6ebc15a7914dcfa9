"""A model's folder and a checkpoint's, as transformers saves them, and damaged in every way."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.config_check.base_model.gather import gather_checkpoint, gather_model
from gradience_analysis.config_check.base_model.modules import input_embedding
from gradience_analysis.config_check.subject import Preflight
from tests.analysis.config_check import built


@pytest.mark.hf
def test_a_saved_model_and_its_tokenizer_are_read_as_they_are(tmp_path: Path) -> None:
    """Given a model and tokenizer saved by transformers, when read, then sizes and tokens are the model's own."""
    from gradience_train.tiny_models import tiny_causal_lm, word_tokenizer

    tokenizer = word_tokenizer([f"w{number}" for number in range(50)])
    model = tiny_causal_lm(tokenizer, seed=1)
    tokenizer.add_tokens(["<extra>"])
    model.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    facts = gather_model(tmp_path)
    for name, shape in facts.shapes.items():
        assert tuple(model.state_dict()[name].shape) == shape
    assert sum(map(_product, facts.shapes.values())) == model.num_parameters()
    assert (facts.max_position_embeddings, facts.hidden_size, facts.layers, facts.heads) == (64, 64, 2, 4)
    assert (facts.tied, facts.quantized, facts.model_type) == (True, False, "llama")
    own = facts.tokenizer
    assert own is not None
    assert (own.size, own.eos, own.eos_id, own.pad, own.pad_id) == (
        len(tokenizer),
        tokenizer.eos_token,
        tokenizer.eos_token_id,
        tokenizer.pad_token,
        tokenizer.pad_token_id,
    )
    assert not own.chat_template
    assert input_embedding(facts) == tuple(model.get_input_embeddings().weight.shape)
    assert len(built.following(Preflight(base_model=facts), "V10")) == 1


@pytest.mark.hf
def test_a_chat_template_saved_by_transformers_is_seen(tmp_path: Path) -> None:
    """Given a tokenizer with a chat template, when saved and read, then the template is there."""
    from gradience_train.tiny_models import word_tokenizer

    tokenizer = word_tokenizer(["a"])
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(str(tmp_path))
    built.model_folder(tmp_path)
    own = gather_model(tmp_path).tokenizer
    assert own is not None
    assert own.chat_template


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    """Given a model in two shards, when read, then it has the tensors of both; a missing one is said."""
    from safetensors.numpy import save_file

    whole = gather_model(built.model_folder(tmp_path))
    tensors = built.tensors()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    (tmp_path / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    facts = gather_model(tmp_path)
    assert (dict(facts.shapes), facts.weight_bytes) == (dict(whole.shapes), whole.weight_bytes)
    (tmp_path / "two.safetensors").unlink()
    assert "two.safetensors" in gather_model(tmp_path).weights_fault


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "..", "", 7, "a/b.safetensors"])
def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path, shard: object) -> None:
    """Given an index that names a file outside the folder, when read, then nothing is opened and it is said."""
    built.model_folder(tmp_path / "model")
    built.model_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "secret.safetensors")
    (tmp_path / "model" / "model.safetensors").unlink()
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": shard}}), encoding="utf-8")
    facts = gather_model(tmp_path / "model")
    assert "is no safetensors file of this folder" in facts.weights_fault
    assert not facts.shapes


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff{}", b"[" * 100_000, b'{"a": ' * 100_000])
def test_a_config_that_cannot_be_read_is_a_finding(tmp_path: Path, text: bytes) -> None:
    """Given a damaged config.json, when checked, then M01 is all that is said of the model."""
    built.model_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(text)
    found = built.findings(built.on_model(tmp_path, ["q_proj"]))
    assert [finding.rule for finding in found if finding.rule in {"M01", "M02", "G01", "V01", "V10"}] == ["M01"]


@pytest.mark.parametrize("kind", ["missing", "file", "fifo"])
def test_a_path_that_is_no_folder_is_a_finding(tmp_path: Path, kind: str) -> None:
    """Given no folder where the model should be, when checked, then M01 says so."""
    path = tmp_path / "model"
    if kind == "file":
        path.write_bytes(b"")
    elif kind == "fifo":
        os.mkfifo(path)
    (finding,) = built.following(Preflight(base_model=gather_model(path)), "M01")
    assert str(path) in finding.message


def test_pickled_weights_are_left_alone_and_that_is_said(tmp_path: Path) -> None:
    """Given only a pickle of weights, when checked, then nothing is found, and the reason names the pickle."""
    built.model_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    diagnosis = built.diagnosis(built.on_model(tmp_path, ["q_proj"]))
    assert not [one for one in diagnosis.findings if one.rule in {"M01", "M02", "V01", "V10"}]
    assert "pickle" in diagnosis.measurement("targeted_modules").reason
    assert diagnosis.measurement("trainable_share").value is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"model": 3}',
        '{"model": {"vocab": 3}}',
        '{"added_tokens": {}}',
        "\ud800" * 0 + '{"model": {"vocab": {"a": "b"}}}',
    ],
)
def test_a_damaged_tokenizer_is_not_counted(tmp_path: Path, text: str) -> None:
    """Given a damaged tokenizer.json, when read, then its size is not known and nothing is raised."""
    built.tokenizer_files(built.model_folder(tmp_path))
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    own = gather_model(tmp_path).tokenizer
    assert own is not None
    assert own.size is None


def test_a_vocabulary_by_place_and_by_line_is_counted(tmp_path: Path) -> None:
    """Given a Unigram model and a vocab.txt, when counted, then each has as many tokens as it lists."""
    built.model_folder(tmp_path)
    unigram = {
        "model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2]]},
        "added_tokens": [{"id": 2, "content": "c"}],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(unigram), encoding="utf-8")
    assert _size(tmp_path) == 3
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nthe\nof\n", encoding="utf-8")
    assert _size(tmp_path) == 4


def _size(folder: Path) -> int | None:
    own = gather_model(folder).tokenizer
    return own.size if own else None


def test_a_tokenizer_that_appends_the_end_is_told(tmp_path: Path) -> None:
    """Given a post-processor with the end token, or the setting, when read, then it is said to append it."""
    built.tokenizer_files(built.model_folder(tmp_path), add_eos_token=True)
    own = gather_model(tmp_path).tokenizer
    assert own is not None
    assert own.appends_eos
    built.tokenizer_files(tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    document["post_processor"] = {"type": "TemplateProcessing", "single": single}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    own = gather_model(tmp_path).tokenizer
    assert own is not None
    assert own.appends_eos


def test_a_pattern_that_is_no_regular_expression_is_said(tmp_path: Path) -> None:
    """Given a pattern with an open bracket, when matched, then M02 says what is wrong with it."""
    (finding,) = built.following(built.on_model(built.model_folder(tmp_path), "(q_proj"), "M02")
    assert "unterminated" in finding.message or "missing )" in finding.message


def test_trainable_parameters_in_the_configuration_count(tmp_path: Path) -> None:
    """Given a configuration that counts its parameters, when none is trainable, then that is an error."""
    for trainable, total, expected in (
        (0, 1000, ["error"]),
        (10, 1000, []),
        (60, 1000, ["warning"]),
        (0, None, ["error"]),
    ):
        config = built.configured({"trainable_params": trainable, "total_params": total})
        assert [one.severity for one in built.following(Preflight(config=config), "V01")] == expected


def _complete(folder: Path, step: int = 500) -> Path:
    folder.mkdir()
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).write_bytes(b"x")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_each_missing_or_empty_part_of_a_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    """Given a checkpoint without one file, or with it empty, when checked, then that file is named."""
    folder = _complete(tmp_path / "checkpoint-500")
    assert not built.following(Preflight(checkpoint=gather_checkpoint(folder)), "M09")
    (folder / name).write_bytes(b"")
    (finding,) = built.following(Preflight(checkpoint=gather_checkpoint(folder)), "M09")
    assert name in finding.message
    (folder / name).unlink()
    (finding,) = built.following(Preflight(checkpoint=gather_checkpoint(folder)), "M09")
    assert name in finding.message


def test_the_step_of_a_checkpoint_is_compared_with_its_name(tmp_path: Path) -> None:
    """Given another step than in the name, when checked, then both are in the evidence; without a number it is fine."""
    folder = _complete(tmp_path / "checkpoint-600")
    (finding,) = built.following(Preflight(checkpoint=gather_checkpoint(folder)), "M09")
    assert (finding.evidence["global_step"], finding.evidence["named_step"]) == (500, 600)
    assert not built.following(Preflight(checkpoint=gather_checkpoint(_complete(tmp_path / "last"))), "M09")


def test_several_ranks_and_sharded_states_are_complete(tmp_path: Path) -> None:
    """Given RNG states of two ranks and a DeepSpeed folder, when checked, then nothing is missing."""
    folder = _complete(tmp_path / "checkpoint-500")
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    assert not built.following(Preflight(checkpoint=gather_checkpoint(folder)), "M09")
    for name in ("optimizer.pt", "scheduler.pt"):
        (folder / name).unlink()
    (folder / "global_step500").mkdir()
    assert not built.following(Preflight(checkpoint=gather_checkpoint(folder)), "M09")


@pytest.mark.hf
@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_the_trainer_is_complete(tmp_path: Path) -> None:
    """Given a checkpoint that the Trainer wrote, when checked, then it is complete; weights alone are not."""
    from torch.utils.data import Dataset
    from transformers import Trainer, TrainingArguments

    from gradience_train.tiny_models import tiny_causal_lm, word_tokenizer

    class Rows(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return {"input_ids": [1, 4, 5, 2], "labels": [1, 4, 5, 2]}

    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=2, report_to=[], use_cpu=True, disable_tqdm=True
    )
    Trainer(tiny_causal_lm(word_tokenizer(["a", "b"]), 1), arguments, train_dataset=Rows()).train()
    facts = gather_checkpoint(tmp_path / "checkpoint-2")
    assert (facts.global_step, facts.named_step) == (2, 2)
    assert not built.following(Preflight(checkpoint=facts), "M09")
    weights_only = replace(facts, sizes={name: size for name, size in facts.sizes.items() if "model" in name})
    assert len(built.following(Preflight(checkpoint=weights_only), "M09")) == 1


def test_nothing_of_a_model_is_run_imported_or_written(tmp_path: Path) -> None:
    """Given a model that names code of its own, when gathered, then no process, socket, import or writing happens."""
    folder = built.tokenizer_files(built.model_folder(tmp_path, auto_map={"AutoModel": "evil.Model"}))
    (folder / "evil.py").write_text("raise SystemExit('run')", encoding="utf-8")
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        if event in {"subprocess.Popen", "os.exec", "socket.connect", "exec"}:
            seen.append(event)
        if event == "open" and str(folder) in str(arguments[0]) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            seen.append(f"write {arguments[0]}")

    gather_model(folder)  # whatever is imported on first use
    watching = True
    sys.addaudithook(hook)
    try:
        gather_model(folder)
    finally:
        watching = False
    assert not seen
    assert "evil" not in sys.modules
