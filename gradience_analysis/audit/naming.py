"""What a module's name says: attention, MLP or something else, and in which layer it stands."""

from __future__ import annotations

import re
from typing import Literal

ModuleType = Literal["attn", "mlp", "other"]
MODULE_TYPES: tuple[ModuleType, ...] = ("attn", "mlp", "other")

# The layer is the number after one of these; the first of them counts, so that an expert's or a head's number does not.
_LAYER = re.compile(
    r"(?:^|\.)(?:layers|layer|h|blocks|block|resblocks|decoder_layers|encoder_layers|albert_layers"
    r"|(?:single_)?transformer_blocks|double_blocks|single_blocks)\.([0-9]{1,9})(?:\.|$)"
)
# A U-Net has several stacks of blocks inside each stage, and none of their numbers says how deep a module stands.
_UNET = re.compile(r"(?:^|\.)(?:down_blocks|mid_block|up_blocks)\.")
_EXPERT = re.compile(r"\[\d+\]$")
_WORDS = re.compile(r"[a-z]+")
# BERT's MLP is `layer.N.intermediate.dense` and `layer.N.output.dense`; its attention is under `attention`.
_BERT_MLP = re.compile(r"(?:^|\.)layer\.\d+\.output\.dense$")
_MLP_WORDS = frozenset(["mlp", "ffn", "ffns", "ff", "feedforward", "intermediate", "densereludense"])
_EXPERT_WORDS = frozenset(["moe", "expert", "experts"])
_NORM_WORDS = frozenset(["norm", "layernorm", "rmsnorm", "ln"])
# What says it without an owner; `out_proj`, `dense`, `proj` and the like are in heads and state-space blocks, too.
_ATTENTION_NAMES = """
q_proj k_proj v_proj o_proj qkv_proj kv_proj query_proj key_proj value_proj q_a_proj q_b_proj kv_a_proj_with_mqa
kv_b_proj q_lin k_lin v_lin out_lin query key value query_key_value c_attn q_attn wqkv w_pack wq wk wv wo
to_q to_k to_v to_kv to_qkv to_out qkv q k v
"""
_MLP_NAMES = """
gate_proj up_proj down_proj gate_up_proj fc1 fc2 fc_in fc_out lin1 lin2 linear1 linear2 c_fc dense_h_to_4h
dense_4h_to_h w1 w2 w3 wi wi_0 wi_1 gate router
"""
_ATTENTION = frozenset(_ATTENTION_NAMES.split())
_MLP = frozenset(_MLP_NAMES.split())


def module_type(name: str) -> ModuleType:
    """`attn`, `mlp` or `other` by the parts of a module's name.

    What a module belongs to decides first, the innermost owner before one around it (`attn.c_proj`, `mlp.c_proj`);
    without an owner that tells, the module's own name (`q_proj`, `fc1`). Experts and routers are `mlp` unless they
    stand inside attention. Embeddings, heads, norms, convolutions, projections between modalities and the state-space
    blocks of Mamba are `other`.

    Args:
        name: The module as the base model names it, without `base_model.model.`; an expert's number in brackets and
            a `base_layer` that wraps it are no part of it.
    """
    parts = [part for part in _EXPERT.sub("", name).lower().split(".") if part and part != "base_layer"]
    if not parts or _NORM_WORDS & _words(parts[-1]):
        return "other"
    for part in reversed(parts[:-1]):
        owner = _owner(part)
        if owner != "other":
            return owner
    if any(_EXPERT_WORDS & _words(part) for part in parts[:-1]) or _BERT_MLP.search(".".join(parts)):
        return "mlp"
    last = parts[-1] if not parts[-1].isdecimal() or len(parts) == 1 else parts[-2]  # `to_out.0`
    if last in _ATTENTION:
        return "attn"
    return "mlp" if last in _MLP or _EXPERT_WORDS & _words(last) else _owner(last)


def _owner(part: str) -> ModuleType:
    """What a part of a name says about everything below it."""
    words = _words(part)
    if words & _MLP_WORDS or "feed_forward" in part:
        return "mlp"
    # Not `attentions`: in a U-Net that is a list of whole transformers, with an MLP and projections of their own.
    return "attn" if any(word.endswith(("attn", "attention")) for word in words) else "other"


def _words(part: str) -> set[str]:
    """The words of a part: `shared_expert_gate` has three, `attn1` one."""
    return set(_WORDS.findall(part))


def layer_index(name: str) -> int | None:
    """The layer that a module stands in: the first number after `layers.`, `layer.`, `h.`, `blocks.` and the like.

    None where the name has none, as of embeddings and heads, and inside a U-Net. Each stack counts from 0: an encoder
    and a decoder, a vision tower and a language model. Of layers in stages (Swin), it is the stage.
    """
    found = None if _UNET.search(name) else _LAYER.search(name)
    return int(found[1]) if found else None


def projection(name: str) -> str:
    """What the module is called in every layer: its name after the layer's number; without a layer, its last part.

    Numbers that are left (of experts, of the parts of a layer) become `*`.
    """
    plain = _EXPERT.sub("", name.replace(".base_layer", ""))
    found = None if _UNET.search(plain) else _LAYER.search(plain)
    parts = plain.rsplit(".", 2)
    # `to_out.0` is no name without the part before it.
    rest = plain[found.end() :] if found else ".".join(parts[-2:] if parts[-1].isdecimal() else parts[-1:])
    return re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", rest) or plain or name
