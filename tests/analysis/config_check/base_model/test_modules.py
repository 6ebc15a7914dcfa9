"""Target modules and adapter sizes told from headers, against PEFT on the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.config_check.base_model.facts import ModelFacts
from gradience_analysis.config_check.base_model.gather import gather_model
from gradience_analysis.config_check.base_model.lora_size import LoraSize, lora_size
from gradience_analysis.config_check.base_model.modules import matched, modules, targeting
from gradience_analysis.config_check.subject import Preflight
from tests.analysis.config_check import built

pytestmark = pytest.mark.hf

LORA: list[dict[str, Any]] = [
    {"target_modules": ["q_proj", "v_proj"]},
    {"target_modules": ["q_proj"], "use_dora": True},
    {"target_modules": ["proj"]},
    {"target_modules": ["model.layers.1.self_attn.q_proj"]},
    {"target_modules": ["1.self_attn.q_proj", "down_proj"]},
    {"target_modules": "all-linear"},
    {"target_modules": "All-Linear"},
    {"target_modules": r".*\.(q|k)_proj"},
    {"target_modules": r"model\.layers\.0\..*_proj"},
    {"target_modules": "q_proj"},
    {"target_modules": ["embed_tokens", "q_proj"]},
    {"target_modules": ["lm_head"]},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 1},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [5]},
    {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["k_proj"]},
    {"target_modules": ["q_proj", "k_proj"], "exclude_modules": r".*\.0\..*"},
    {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2, "1.self_attn.q_proj": 3}},
    {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    {"target_modules": ["dense"]},
    {"target_modules": ["query", "value"]},
    {"target_modules": ["c_attn"]},
    {"target_modules": ["c_attn", "c_proj"], "bias": "lora_only"},
    {"target_modules": ["query"], "bias": "all"},
]


def _models() -> dict[str, Any]:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

    small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 30}
    llama = LlamaConfig(**small, intermediate_size=24, num_key_value_heads=1, tie_word_embeddings=False)
    bert = BertConfig(**small, intermediate_size=24)
    gpt2 = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=30)
    return {
        "llama": LlamaForCausalLM(llama),
        "bert": BertForSequenceClassification(bert),
        "gpt2": GPT2LMHeadModel(gpt2),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each model, saved by transformers."""
    folders: dict[str, Path] = {}
    for name, model in _models().items():
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
    return folders


def _subject(folder: Path, options: dict[str, Any], rank: int = 4) -> Preflight:
    known = {name: value for name, value in options.items() if name not in {"layers_to_transform", "layers_pattern"}}
    extras = {name: value for name, value in options.items() if name not in known}
    config = built.configured({"r": rank, "bias": options.get("bias", "none"), "extras": extras})
    values = {f"lora__{name}": value for name, value in known.items()}
    return Preflight(built.settings(**values), config, base_model=gather_model(folder))


def _by_peft(name: str, options: dict[str, Any]) -> tuple[set[str], int, int] | None:
    """Modules, trainable and all parameters as PEFT has them; None when it refuses."""
    from peft import LoraConfig, TaskType, get_peft_model

    task = TaskType.SEQ_CLS if name == "bert" else TaskType.CAUSAL_LM
    model = _models()[name]
    try:
        wrapped: Any = get_peft_model(model, LoraConfig(r=4, task_type=task, **options))
    except ValueError:
        return None
    trainable, total = wrapped.get_nb_trainable_parameters()
    return set(wrapped.targeted_module_names), trainable, total


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", LORA, ids=str)
@pytest.mark.parametrize("name", ["llama", "bert", "gpt2"])
def test_what_is_matched_and_counted_is_what_peft_wraps(
    saved: dict[str, Path], name: str, options: dict[str, Any]
) -> None:
    """Given a model and a LoRA configuration, when matched from headers, then modules and counts are those of PEFT."""
    subject = _subject(saved[name], options)
    model = subject.base_model
    assert model is not None
    found = set(matched(model, targeting(subject)))
    expected = _by_peft(name, options)
    if expected is None:
        assert not found
        assert [finding.rule for finding in built.findings(subject) if finding.rule in {"M02", "V01"}] == ["M02"]
        return
    names, trainable, total = expected
    assert found == names
    size = lora_size(subject)
    assert isinstance(size, LoraSize)
    if name == "bert":  # under SEQ_CLS, PEFT trains the classifier as well, without being told
        head = model.shapes["classifier.weight"][0] * (model.shapes["classifier.weight"][1] + 1)
        trainable, total = (trainable - head, total - head) if options.get("bias") != "all" else (trainable, total)
    if options.get("bias") != "all":
        assert (size.modules, size.trainable, size.total) == (len(names), trainable, total)


def test_every_module_with_a_matrix_is_found(saved: dict[str, Path]) -> None:
    """Given saved models, when their modules are listed, then each stands in the model with a weight of that shape."""
    for name, model in _models().items():
        there = {key: tuple(module.weight.shape) for key, module in model.named_modules() if hasattr(module, "weight")}
        for key, shape in modules(gather_model(saved[name])).items():
            assert there[key] == shape


def test_names_match_without_the_prefix_of_the_loaded_model() -> None:
    """Given a file whose names lack the prefix, when a full name is targeted, then it is found all the same."""
    shapes = {"layers.0.self_attn.q_proj.weight": (4, 4)}
    model = ModelFacts("m", model_type="llama", shapes=shapes)
    for targets in (r"model\.layers\..*q_proj", ["model.layers.0.self_attn.q_proj"]):
        subject = Preflight(built.settings(lora__target_modules=targets), base_model=model)
        assert matched(model, targeting(subject)) == ["layers.0.self_attn.q_proj"]
