"""What the folder of a base model, or of a checkpoint, says by its JSON files and safetensors headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """The tokenizer beside a model.

    Attributes:
        path: Its tokenizer.json; empty when there is none.
        size: `len(tokenizer)`: tokens including the added ones; None when it cannot be told.
        eos: End-of-sequence string; None when not known.
        eos_id: Its id; None when not known.
        pad: Padding string; None when none is set.
        pad_id: Its id; None when not known.
        chat_template: Whether a chat template is set.
        appends_eos: Whether the tokenizer itself ends a text with the end-of-sequence token.
    """

    path: str = ""
    size: int | None = None
    eos: str | None = None
    eos_id: int | None = None
    pad: str | None = None
    pad_id: int | None = None
    chat_template: bool = False
    appends_eos: bool = False


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A base model's folder.

    Attributes:
        path: As it was given.
        fault: Why the folder or its config.json cannot be read; empty when it can.
        model_type: `model_type` of config.json.
        architectures: Class names in config.json; labels only.
        max_position_embeddings: Longest sequence the positions reach to, in tokens; None when config.json names none.
        hidden_size: Width of the residual stream; None when not named.
        layers: Number of layers; None when not named.
        heads: Attention heads; None when not named.
        intermediate_size: Width inside the MLP; None when not named.
        vocab_size: Vocabulary that config.json names.
        tied: Whether the output layer shares the input embedding's weights; None when not named.
        quantized: Whether config.json names a quantization, so that shapes are not those of the modules.
        shapes: Tensor name to shape, from the safetensors headers.
        weights_fault: Why there are no shapes; empty when there are.
        weight_bytes: Bytes of the tensors; None without headers.
        tokenizer: The tokenizer; None when there is none beside the model.
    """

    path: str
    fault: str = ""
    model_type: str = ""
    architectures: tuple[str, ...] = ()
    max_position_embeddings: int | None = None
    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    intermediate_size: int | None = None
    vocab_size: int | None = None
    tied: bool | None = None
    quantized: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    weights_fault: str = ""
    weight_bytes: int | None = None
    tokenizer: TokenizerFacts | None = None


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """A checkpoint to resume from, by names and sizes only; nothing in it is unpickled.

    Attributes:
        path: As it was given.
        fault: Why the folder cannot be read; empty when it can.
        sizes: File name to bytes, of the regular files in it.
        sharded_state: Whether a folder of DeepSpeed or FSDP is in it, which holds the optimizer in shards.
        global_step: `global_step` of trainer_state.json; None when it cannot be told.
        state_fault: Why it cannot be told; empty when it can.
        named_step: The number at the end of the folder's name (`checkpoint-500`); None when it has none.
    """

    path: str
    fault: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    sharded_state: bool = False
    global_step: int | None = None
    state_fault: str = ""
    named_step: int | None = None
