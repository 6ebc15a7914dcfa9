"""Models, data and trainings small enough for a test: a one-layer Llama from a config, nothing downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

from gradience_emit.hf import GradienceCallback

WORDS = tuple(f"w{index}" for index in range(28))


def tokenizer() -> Any:
    """A word-level tokenizer over `WORDS`; padding is 0, end of sequence 1."""
    backend = Tokenizer(
        WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, **{w: i + 3 for i, w in enumerate(WORDS)}}, "<unk>")
    )
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def base(seed: int = 0) -> Any:
    """A causal LM of about 5,000 parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def lora(seed: int = 0, **options: Any) -> Any:
    """The same with a LoRA adapter whose dropout draws random numbers at every step."""
    defaults: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.1,
        "target_modules": ["v_proj", "q_proj"],
        "task_type": "CAUSAL_LM",
    }
    model = base(seed)
    return get_peft_model(model, LoraConfig(**defaults | options))


def rows(count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Token sequences of length 8."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 31, (count, 8), generator=generator)
    return [{"input_ids": row, "labels": row.clone()} for row in ids]


def arguments(out: Path, **options: Any) -> Any:
    """Training arguments for four steps on the CPU that log each step and save nothing."""
    defaults: dict[str, Any] = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(str(out), **defaults | options)


def trainer(out: Path, *callbacks: Any, model: Any = None, kind: type[Trainer] = Trainer, **options: Any) -> Any:
    """A trainer on 16 training and 8 evaluation rows; ``options`` are those of `arguments` or of the trainer."""
    own = {"optimizers", "train_dataset", "eval_dataset", "compute_metrics", "model_init", "compute_loss_func"}
    given = {key: options.pop(key) for key in own & options.keys()}
    defaults: dict[str, Any] = {"train_dataset": rows(16), "eval_dataset": rows(8, seed=1)}
    if "model_init" not in given:
        defaults["model"] = lora() if model is None else model
    set_seed(7)
    return kind(args=arguments(out, **options), callbacks=list(callbacks), **defaults | given)


def record(out: Path, *, callback: dict[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    """Train with the callback and return what it wrote."""
    trainer(out, GradienceCallback(**callback or {}), **options).train()
    return events(out)


def events(folder: Path, name: str = "run.jsonl") -> list[dict[str, Any]]:
    """The records of one segment."""
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def of(records: list[dict[str, Any]], event: str, **values: Any) -> list[dict[str, Any]]:
    """The records of one event type whose fields have the given values."""
    return [r for r in records if r["event"] == event and all(r.get(key) == value for key, value in values.items())]


def weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of all parameters."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two models are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
