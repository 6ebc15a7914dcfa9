"""Models small enough to train on two CPU cores in seconds, built from a config: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

TINY_CAUSAL = "embedded:tiny-causal"
TINY_ENCODER = "embedded:tiny-encoder"
_PAD, _BOS, _EOS, _UNK = "<pad>", "<s>", "</s>", "<unk>"


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How large a model is.

    Attributes:
        name: Its word in the name of a base model, as `tiny` in `embedded:tiny-causal`.
        hidden: Width, a multiple of 4; the feed-forward layers are twice as wide.
        layers: Number of layers.
    """

    name: str
    hidden: int
    layers: int


TINY = ModelSize("tiny", hidden=64, layers=2)
SMALL = ModelSize("small", hidden=96, layers=3)


def word_tokenizer(words: Iterable[str]) -> Any:
    """Return a fast tokenizer that maps each of `words` to one id and any other word to `<unk>`.

    Text is split at white space. The ids of the special tokens are `<pad>` 0, `<s>` 1, `</s>` 2, `<unk>` 3.
    """
    vocabulary = {word: index for index, word in enumerate((_PAD, _BOS, _EOS, _UNK, *words))}
    backend = Tokenizer(WordLevel(vocabulary, unk_token=_UNK))
    backend.pre_tokenizer = WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue] - a native setter
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=_PAD, bos_token=_BOS, eos_token=_EOS, unk_token=_UNK
    )


def tiny_causal_lm(tokenizer: Any, seed: int, size: ModelSize = TINY) -> Any:
    """Return a Llama-style causal LM with random weights: about 80,000 parameters, or 250,000 for `SMALL`.

    Four attention heads over two key-value heads, tied embeddings, context 64.

    Args:
        tokenizer: Decides the vocabulary size and the special ids.
        seed: Decides the weights. The global generators are set to it.
        size: Width and depth.
    """
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=2 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _named(LlamaForCausalLM(config), TINY_CAUSAL.replace(TINY.name, size.name))


def tiny_encoder(tokenizer: Any, seed: int, classes: int, size: ModelSize = TINY) -> Any:
    """Return a BERT-style classifier with random weights: about 80,000 parameters, or 240,000 for `SMALL`.

    Four attention heads, context 64, no dropout.

    Args:
        tokenizer: Decides the vocabulary size and the special ids.
        seed: Decides the weights. The global generators are set to it.
        classes: Number of labels.
        size: Width and depth.
    """
    set_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=2 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = classes
    return _named(BertForSequenceClassification(config), TINY_ENCODER.replace(TINY.name, size.name))


def _named(model: Any, name: str) -> Any:
    # Telemetry and the adapter's config name the base by this; the recipes use the same word.
    model.config._name_or_path = name  # noqa: SLF001 - the only place transformers keeps it
    model.name_or_path = name
    return model


@contextmanager
def one_thread() -> Generator[None]:
    """Compute on one CPU thread inside the block.

    A matrix of these models is too small to share out: a second thread saves a quarter of the time on an idle
    machine and costs six times as much on a busy one, where the threads wait for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
