"""The configuration in run_start, held against the objects it was read from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import platform
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetInfo
from transformers import BitsAndBytesConfig, LlamaForCausalLM, Trainer

from gradience_emit.hf import GradienceCallback
from gradience_emit.hf import meta as hf_meta
from gradience_emit.hf.language import loss_is_plain_cross_entropy
from gradience_emit.lora import snapshot_lora
from gradience_emit.model import base_model, count_parameters, unwrapped
from gradience_schema import LoraSnapshot
from tests.emit.hf import tiny


def _config(out: Path, *, callback: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    config: dict[str, Any] = tiny.record(out, callback=callback, **options)[0]["config"]
    return config


def test_the_whole_training_part(tmp_path: Path) -> None:
    """Given arguments of all kinds, when the run starts, then each is there as it was resolved."""
    config = _config(
        tmp_path,
        callback={"task_profile": "generation", "dataset_name": "mine", "notes": "a note"},
        max_steps=-1,
        num_train_epochs=2.5,
        gradient_accumulation_steps=2,
        warmup_steps=0.5,
        lr_scheduler_type="cosine",
        lr_scheduler_kwargs={"num_cycles": 0.5},
        max_grad_norm=0.7,
        seed=11,
        data_seed=12,
        bf16=True,
        logging_nan_inf_filter=False,
    )
    training = config["training"]
    assert training == {
        "seed": 11,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "max_steps": 5,  # 16 rows in 4 batches, 2 per step, 2.5 times
        "epochs": 2.5,
        "dtype": "bfloat16",
        "extras": {"data_seed": 12, "lr_scheduler_kwargs": {"num_cycles": 0.5}},
        "world_size": 1,
        "lr_scheduler": "cosine",
        "warmup_steps": 3,
        "max_grad_norm": 0.7,
        "num_train_examples": 16,
        "logging_nan_inf_filter": False,
    }
    assert (config["task_profile"], config["dataset_name"], config["notes"]) == ("generation", "mine", "a note")


@pytest.mark.parametrize(
    ("options", "scaling", "expected"),
    [
        ({}, 2.0, {}),
        ({"use_rslora": True, "r": 16, "lora_alpha": 8}, 2.0, {"use_rslora": True, "alpha_over_r": 0.5}),
        ({"use_dora": True}, 2.0, {"use_dora": True}),
        (
            {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 16}},
            2.0,
            {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 16}},
        ),
        ({"target_modules": r".*\.(q|k)_proj"}, 2.0, {"target_modules": [r".*\.(q|k)_proj"]}),
    ],
)
def test_the_adapter_is_read_as_peft_applies_it(
    tmp_path: Path, options: dict[str, Any], scaling: float, expected: dict[str, Any]
) -> None:
    """Given LoRA in its variants, when the run starts, then rank, scaling and counts are those of PEFT's modules."""
    model = tiny.lora(**options)
    recorded = _config(tmp_path, model=model)["lora"]
    applied = {name: module.scaling["default"] for name, module in model.named_modules() if hasattr(module, "lora_A")}
    if "rank_pattern" not in options:
        assert set(applied.values()) == {recorded["scaling"]} == {scaling}
    assert recorded["trainable_params"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert recorded["total_params"] == sum(p.numel() for p in model.parameters())
    assert recorded["peft_type"] == "LORA"
    assert (recorded["dropout"], recorded["bias"]) == (0.1, "none")
    assert {key: recorded[key] for key in expected} == expected
    if "target_modules" not in options:
        assert recorded["target_modules"] == ["q_proj", "v_proj"]


def test_an_adapter_added_by_transformers_itself_is_found() -> None:
    """Given add_adapter (no PeftModel), with two adapters, when read, then it is the active one, and both are named."""
    from peft import LoraConfig

    model = tiny.base()
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]), "first")
    with pytest.warns(UserWarning, match="multiple adapters"):
        model.add_adapter(LoraConfig(r=3, target_modules=["k_proj"]), "second")
    model.set_adapter("second")
    lora = snapshot_lora(model)
    assert (lora.r, lora.target_modules) == (3, ("k_proj",))
    assert lora.extras["adapters"] == ["first", "second"]


def test_full_fine_tuning_has_no_adapter(tmp_path: Path) -> None:
    """Given a model without an adapter, when the run starts, then the lora part is unknown and nothing is invented."""
    model = tiny.base()
    config = _config(tmp_path, model=model)
    assert config["lora"] == LoraSnapshot().to_dict()
    total = sum(p.numel() for p in model.parameters())
    assert config["extras"] == {"model_class": "LlamaForCausalLM", "trainable_params": total, "total_params": total}


def test_the_optimizer_has_its_plain_name(tmp_path: Path) -> None:
    """Given the trainer's own optimizers, when the run starts, then the name is plain and the numbers are in force."""
    fused = _config(tmp_path / "a", weight_decay=0.1, adam_beta2=0.95)["optimizer"]
    assert fused == {
        "name": "adamw_torch_fused",
        "lr": 1e-2,
        "weight_decay": 0.1,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "extras": {},
    }
    sgd = _config(tmp_path / "b", optim="sgd")["optimizer"]
    assert (sgd["name"], sgd["betas"], sgd["eps"]) == ("sgd", None, None)


@pytest.mark.parametrize("late", [False, True])
def test_the_users_own_optimizer_goes_by_its_class(tmp_path: Path, late: bool) -> None:
    """Given an optimizer and a scheduler of the user's, when the run starts, then name and rate are theirs."""
    model = tiny.lora()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.3, weight_decay=0.2)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    callback = GradienceCallback()
    trainer = tiny.trainer(tmp_path, *([] if late else [callback]), model=model, optimizers=(optimizer, scheduler))
    if late:
        trainer.add_callback(callback)
    trainer.train()
    config = tiny.events(tmp_path)[0]["config"]
    assert (config["optimizer"]["name"], config["optimizer"]["lr"]) == ("SGD", 0.3)
    assert config["optimizer"]["weight_decay"] == 0.2
    if not late:  # afterwards the trainer's and the user's scheduler cannot be told apart
        assert config["training"]["lr_scheduler"] == "ConstantLR"


def test_a_class_of_optimizer_goes_by_its_name(tmp_path: Path) -> None:
    """Given optimizer_cls_and_kwargs, when the run starts, then the class is named and its rate taken."""
    trainer = Trainer(
        tiny.lora(),
        tiny.arguments(tmp_path),
        train_dataset=tiny.rows(8),
        optimizer_cls_and_kwargs=(torch.optim.RMSprop, {"lr": 0.02}),
        callbacks=[GradienceCallback()],
    )
    trainer.train()
    optimizer = tiny.events(tmp_path)[0]["config"]["optimizer"]
    assert (optimizer["name"], optimizer["lr"]) == ("RMSprop", 0.02)


def test_groups_with_rates_of_their_own_are_listed(tmp_path: Path) -> None:
    """Given parameter groups with different rates, when the run starts, then all peak rates are in the extras."""
    model = tiny.lora()
    a, *rest = (p for p in model.parameters() if p.requires_grad)
    optimizer = torch.optim.AdamW([{"params": [a], "lr": 0.1}, {"params": rest, "lr": 0.2}])
    config = _config(tmp_path, model=model, optimizers=(optimizer, None))
    assert config["optimizer"]["extras"] == {"group_lrs": [0.1, 0.2]}
    assert config["optimizer"]["name"] == "AdamW"


def test_before_training_only_what_is_settled_is_written(tmp_path: Path) -> None:
    """Given evaluate() before train(), when the file begins, then the number of steps is not known yet."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), max_steps=-1, num_train_epochs=3, warmup_steps=0.25)
    trainer.evaluate()
    config = tiny.events(tmp_path)[0]["config"]
    assert (config["training"]["max_steps"], config["training"]["epochs"]) == (None, 3.0)
    assert config["training"]["warmup_steps"] == 0.25
    assert config["optimizer"]["betas"] == [0.9, 0.999]
    trainer.train()
    (settled,) = tiny.of(tiny.events(tmp_path), "metrics", kind="schedule")
    assert settled["metrics"] == {"max_steps": 12, "epochs": 3.0, "warmup_steps": 3}


@pytest.mark.parametrize(("builder", "expected"), [("gsm8k", "gsm8k"), ("json", None), (None, None)])
def test_the_data_set_is_named_only_when_it_has_a_name(
    tmp_path: Path, builder: str | None, expected: str | None
) -> None:
    """Given a data set, one read from plain files, or one made in code, when named, then a file format is no name."""
    plain = [{key: value.tolist() for key, value in row.items()} for row in tiny.rows(8)]
    data = Dataset.from_list(plain, info=DatasetInfo(builder_name=builder))
    assert _config(tmp_path, train_dataset=data)["dataset_name"] == expected


def test_the_model_is_named_by_where_it_came_from(tmp_path: Path) -> None:
    """Given a model loaded from a folder, and one from a config, when named, then it is the folder, and nothing."""
    assert _config(tmp_path / "a", model=tiny.base())["model_name"] is None
    tiny.base().save_pretrained(tmp_path / "saved")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "saved")
    assert _config(tmp_path / "b", model=loaded)["model_name"] == str(tmp_path / "saved")


def test_meta_says_where_the_run_comes_from(tmp_path: Path) -> None:
    """Given this machine, when the run starts, then versions are those installed and the host is a hash."""
    meta = tiny.record(tmp_path / "a")[0]["meta"]
    for library in ("torch", "transformers", "peft", "accelerate"):
        assert meta[library] == importlib.metadata.version(library)
    assert (meta["framework"], meta["trainer"], meta["device"]) == ("huggingface", "Trainer", "cpu")
    assert meta["python"] == platform.python_version()
    assert meta["host"] == "sha256:" + hashlib.sha256(platform.node().encode()).hexdigest()[:12]
    assert platform.node() not in str(meta)
    assert "bitsandbytes" not in meta
    assert tiny.record(tmp_path / "b", callback={"allow_hostname": True})[0]["meta"]["host"] == platform.node()


def test_the_commit_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a fresh repository, a folder without one, and no git, when asked, then the commit is right or unknown."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert hf_meta.git_sha() is None
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    expected = subprocess.run(["git", "log", "-1", "--format=%H"], check=True, capture_output=True, text=True).stdout
    assert hf_meta.git_sha() == expected.strip()
    monkeypatch.setenv("PATH", "")
    assert hf_meta.git_sha() is None


def test_a_git_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a git that never answers, when the commit is asked for, then it is unknown after the timeout."""
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hf_meta, "_GIT_TIMEOUT_S", 0.1)
    assert hf_meta.git_sha() is None


@pytest.mark.parametrize(
    ("quantized", "expected"),
    [
        (None, None),
        (
            BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16"),
            {"method": "bitsandbytes", "bits": 4, "scheme": "nf4", "compute_dtype": "bfloat16", "double_quant": False},
        ),
        (BitsAndBytesConfig(load_in_8bit=True), {"method": "bitsandbytes", "bits": 8, "scheme": "llm_int8"}),
        ({"quant_method": "gptq", "bits": 4}, {"method": "gptq", "bits": 4, "scheme": "gptq"}),
    ],
)
def test_quantization_is_named(quantized: Any, expected: dict[str, Any] | None) -> None:
    """Given a quantized base model, when its meta is read, then bits, scheme and compute type are those configured."""
    model = SimpleNamespace(config=SimpleNamespace(quantization_config=quantized))
    assert hf_meta.quantization(model) == expected


def test_wrappers_are_looked_through() -> None:
    """Given a model wrapped in data parallelism twice, when unwrapped, then it is the model itself."""
    model = tiny.lora()
    wrapped = torch.nn.DataParallel(torch.nn.DataParallel(model))
    assert unwrapped(wrapped) is model
    assert base_model(wrapped) is model.get_base_model()
    assert count_parameters(wrapped) == model.get_nb_trainable_parameters()


class _OwnLoss(Trainer):  # type: ignore[misc]
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "options", "plain"),
    [
        (Trainer, {}, True),
        (Trainer, {"label_smoothing_factor": 0.1}, False),
        (Trainer, {"compute_loss_func": lambda outputs, labels, **_: outputs["logits"].mean()}, False),
        (_OwnLoss, {}, False),
    ],
)
def test_only_a_plain_cross_entropy_gets_a_perplexity(
    tmp_path: Path, kind: type[Trainer], options: dict[str, Any], plain: bool
) -> None:
    """Given losses with something else in them, when evaluated, then there is a perplexity only for the plain one."""
    trainer = tiny.trainer(tmp_path, GradienceCallback(), kind=kind, **options)
    metrics = trainer.evaluate()
    (evaluation,) = tiny.of(tiny.events(tmp_path), "eval")
    assert ("ppl" in evaluation["metrics"]) == plain
    if plain:
        assert evaluation["metrics"]["ppl"] == math.exp(metrics["eval_loss"])


def test_the_users_own_perplexity_is_not_touched(tmp_path: Path) -> None:
    """Given metrics with a ppl, when evaluated, then it stays."""
    tiny.trainer(tmp_path, GradienceCallback(), compute_metrics=lambda _: {"ppl": 7.0}).evaluate()
    assert tiny.events(tmp_path)[1]["metrics"]["ppl"] == 7.0


def test_no_language_model_no_perplexity(tmp_path: Path) -> None:
    """Given a classifier, an unknown trainer, or a mixture of experts with its router loss, when asked, then no."""
    trainer = tiny.trainer(tmp_path)
    args, model = trainer.args, trainer.model
    assert loss_is_plain_cross_entropy(trainer, model, args)
    assert not loss_is_plain_cross_entropy(None, model, args)
    assert not loss_is_plain_cross_entropy(trainer, torch.nn.Linear(2, 2), args)
    model.get_base_model().config.output_router_logits = True
    assert not loss_is_plain_cross_entropy(trainer, model, args)
