"""Models small enough to train on two CPU cores in seconds, built from a config: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

TINY_CAUSAL = "embedded:tiny-causal"
_PAD, _BOS, _EOS, _UNK = "<pad>", "<s>", "</s>", "<unk>"


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


def tiny_causal_lm(tokenizer: Any, seed: int) -> Any:
    """Return a Llama-style causal LM of about 80,000 parameters with random weights.

    Two layers, hidden size 64, four attention heads over two key-value heads, tied embeddings, context 64.

    Args:
        tokenizer: Decides the vocabulary size and the special ids.
        seed: Decides the weights. The global generators are set to it.
    """
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model: Any = LlamaForCausalLM(config)
    # Telemetry and the adapter's config name the base by this; the recipes use the same word.
    model.config._name_or_path = TINY_CAUSAL  # noqa: SLF001 - the only place transformers keeps it
    model.name_or_path = TINY_CAUSAL
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
