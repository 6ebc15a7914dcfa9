"""Which weight of which architecture is attention, which is MLP, and which is neither; written down by hand.

`N` is the number of the layer, `*` any other number. Every weight that LoRA can adapt stands here (linear layers,
Conv1D, and the parameters of fused experts), which a test holds against the models of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 32,
}
GROUPED = SMALL | {"num_key_value_heads": 2}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
SEQ2SEQ = SPECIAL | {
    "d_model": 16,
    "vocab_size": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}

DECODER = """
attn model.layers.N.self_attn.q_proj
attn model.layers.N.self_attn.k_proj
attn model.layers.N.self_attn.v_proj
attn model.layers.N.self_attn.o_proj
mlp model.layers.N.mlp.gate_proj
mlp model.layers.N.mlp.up_proj
mlp model.layers.N.mlp.down_proj
other lm_head
"""
BERT = """
attn X.encoder.layer.N.attention.self.query
attn X.encoder.layer.N.attention.self.key
attn X.encoder.layer.N.attention.self.value
attn X.encoder.layer.N.attention.output.dense
mlp X.encoder.layer.N.intermediate.dense
mlp X.encoder.layer.N.output.dense
"""
NEOX_LIKE = """
attn X.query_key_value
attn X.dense
mlp Y.mlp.dense_h_to_4h
mlp Y.mlp.dense_4h_to_h
"""
EXPERTS = """
attn model.layers.N.self_attn.q_proj
attn model.layers.N.self_attn.k_proj
attn model.layers.N.self_attn.v_proj
attn model.layers.N.self_attn.o_proj
mlp model.layers.N.mlp.experts.gate_up_proj
mlp model.layers.N.mlp.experts.down_proj
mlp model.layers.N.mlp.gate
other lm_head
"""


class Name(NamedTuple):
    """One weight: its pattern, and what it is."""

    pattern: str
    kind: str

    def at(self, layer: int) -> str:
        """The name in a layer."""
        return ".".join(str(layer) if part == "N" else "1" if part == "*" else part for part in self.pattern.split("."))

    def matches(self, name: str) -> bool:
        """Whether a real name is this weight's."""
        numbers = {"N": r"\d+", "*": r"\d+"}
        return bool(re.fullmatch(r"\.".join(numbers.get(p) or re.escape(p) for p in self.pattern.split(".")), name))


class Architecture(NamedTuple):
    """An architecture: its weights, and the model class and settings of transformers that make a small one."""

    names: tuple[Name, ...]
    model: str = ""
    config: str = ""
    settings: Callable[[], dict[str, Any]] = dict


def table(text: str, **parts: str) -> tuple[Name, ...]:
    """Rows of `kind name`, with the given letters standing for longer parts."""
    rows = [line.split() for line in text.splitlines() if line]
    return tuple(Name(".".join(parts.get(p, p) for p in name.split(".")), kind) for kind, name in rows)


def neox(attention: str, layer: str) -> tuple[Name, ...]:
    """The four weights of GPT-NeoX and its like."""
    return (*table(NEOX_LIKE, X=f"{layer}.{attention}", Y=layer), Name("lm_head", "other"))


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(table(DECODER), "LlamaForCausalLM", "LlamaConfig", lambda: GROUPED),
    "mixtral": Architecture(
        table(EXPERTS), "MixtralForCausalLM", "MixtralConfig", lambda: GROUPED | {"num_local_experts": 2}
    ),
    "qwen2": Architecture(table(DECODER), "Qwen2ForCausalLM", "Qwen2Config", lambda: GROUPED),
    "qwen3": Architecture(table(DECODER), "Qwen3ForCausalLM", "Qwen3Config", lambda: GROUPED | {"head_dim": 8}),
    "qwen2_moe": Architecture(
        table(
            EXPERTS
            + """
mlp model.layers.N.mlp.shared_expert.gate_proj
mlp model.layers.N.mlp.shared_expert.up_proj
mlp model.layers.N.mlp.shared_expert.down_proj
mlp model.layers.N.mlp.shared_expert_gate
"""
        ),
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        lambda: (
            GROUPED
            | {
                "num_experts": 2,
                "num_experts_per_tok": 1,
                "moe_intermediate_size": 8,
                "shared_expert_intermediate_size": 8,
            }
        ),
    ),
    "gemma2": Architecture(table(DECODER), "Gemma2ForCausalLM", "Gemma2Config", lambda: GROUPED | {"head_dim": 8}),
    "phi3": Architecture(
        table("""
attn model.layers.N.self_attn.qkv_proj
attn model.layers.N.self_attn.o_proj
mlp model.layers.N.mlp.gate_up_proj
mlp model.layers.N.mlp.down_proj
other lm_head
"""),
        "Phi3ForCausalLM",
        "Phi3Config",
        lambda: GROUPED | SPECIAL,
    ),
    "falcon": Architecture(
        neox("self_attention", "transformer.h.N"), "FalconForCausalLM", "FalconConfig", lambda: SMALL
    ),
    "gpt2": Architecture(
        table("""
attn transformer.h.N.attn.c_attn
attn transformer.h.N.attn.c_proj
mlp transformer.h.N.mlp.c_fc
mlp transformer.h.N.mlp.c_proj
other lm_head
"""),
        "GPT2LMHeadModel",
        "GPT2Config",
        lambda: {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32, "bos_token_id": 0, "eos_token_id": 0},
    ),
    "gpt_neox": Architecture(
        neox("attention", "gpt_neox.layers.N"), "GPTNeoXForCausalLM", "GPTNeoXConfig", lambda: SMALL
    ),
    "bloom": Architecture(
        neox("self_attention", "transformer.h.N"),
        "BloomForCausalLM",
        "BloomConfig",
        lambda: {"hidden_size": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32},
    ),
    "bert": Architecture(
        (*table(BERT, X="bert"), *table("other bert.pooler.dense\nother classifier")),
        "BertForSequenceClassification",
        "BertConfig",
        lambda: SMALL,
    ),
    "roberta": Architecture(
        (*table(BERT, X="roberta"), *table("other classifier.dense\nother classifier.out_proj")),
        "RobertaForSequenceClassification",
        "RobertaConfig",
        lambda: SMALL,
    ),
    "albert": Architecture(
        table(
            """
other albert.encoder.embedding_hidden_mapping_in
attn X.attention.query
attn X.attention.key
attn X.attention.value
attn X.attention.dense
mlp X.ffn
mlp X.ffn_output
other albert.pooler
other classifier
""",
            X="albert.encoder.albert_layer_groups.*.albert_layers.N",
        ),
        "AlbertForSequenceClassification",
        "AlbertConfig",
        lambda: SMALL | {"embedding_size": 8},
    ),
    "distilbert": Architecture(
        table(
            """
attn X.attention.q_lin
attn X.attention.k_lin
attn X.attention.v_lin
attn X.attention.out_lin
mlp X.ffn.lin1
mlp X.ffn.lin2
other pre_classifier
other classifier
""",
            X="distilbert.transformer.layer.N",
        ),
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        lambda: {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "vocab_size": 32},
    ),
    "t5": Architecture(
        table("""
attn encoder.block.N.layer.*.SelfAttention.q
attn encoder.block.N.layer.*.SelfAttention.k
attn encoder.block.N.layer.*.SelfAttention.v
attn encoder.block.N.layer.*.SelfAttention.o
mlp encoder.block.N.layer.*.DenseReluDense.wi_0
mlp encoder.block.N.layer.*.DenseReluDense.wi_1
mlp encoder.block.N.layer.*.DenseReluDense.wo
attn decoder.block.N.layer.*.SelfAttention.q
attn decoder.block.N.layer.*.SelfAttention.k
attn decoder.block.N.layer.*.SelfAttention.v
attn decoder.block.N.layer.*.SelfAttention.o
attn decoder.block.N.layer.*.EncDecAttention.q
attn decoder.block.N.layer.*.EncDecAttention.k
attn decoder.block.N.layer.*.EncDecAttention.v
attn decoder.block.N.layer.*.EncDecAttention.o
mlp decoder.block.N.layer.*.DenseReluDense.wi_0
mlp decoder.block.N.layer.*.DenseReluDense.wi_1
mlp decoder.block.N.layer.*.DenseReluDense.wo
other lm_head
"""),
        "T5ForConditionalGeneration",
        "T5Config",
        lambda: {
            "d_model": 16,
            "d_ff": 32,
            "d_kv": 8,
            "num_layers": 2,
            "num_heads": 2,
            "vocab_size": 32,
            "feed_forward_proj": "gated-gelu",
        },
    ),
    "bart": Architecture(
        table("""
attn model.encoder.layers.N.self_attn.q_proj
attn model.encoder.layers.N.self_attn.k_proj
attn model.encoder.layers.N.self_attn.v_proj
attn model.encoder.layers.N.self_attn.out_proj
mlp model.encoder.layers.N.fc1
mlp model.encoder.layers.N.fc2
attn model.decoder.layers.N.self_attn.q_proj
attn model.decoder.layers.N.self_attn.k_proj
attn model.decoder.layers.N.self_attn.v_proj
attn model.decoder.layers.N.self_attn.out_proj
attn model.decoder.layers.N.encoder_attn.q_proj
attn model.decoder.layers.N.encoder_attn.k_proj
attn model.decoder.layers.N.encoder_attn.v_proj
attn model.decoder.layers.N.encoder_attn.out_proj
mlp model.decoder.layers.N.fc1
mlp model.decoder.layers.N.fc2
other classification_head.dense
other classification_head.out_proj
"""),
        "BartForSequenceClassification",
        "BartConfig",
        lambda: SEQ2SEQ | {"forced_eos_token_id": 0},
    ),
    "whisper": Architecture(
        table("""
attn model.encoder.layers.N.self_attn.q_proj
attn model.encoder.layers.N.self_attn.k_proj
attn model.encoder.layers.N.self_attn.v_proj
attn model.encoder.layers.N.self_attn.out_proj
mlp model.encoder.layers.N.fc1
mlp model.encoder.layers.N.fc2
attn model.decoder.layers.N.self_attn.q_proj
attn model.decoder.layers.N.self_attn.k_proj
attn model.decoder.layers.N.self_attn.v_proj
attn model.decoder.layers.N.self_attn.out_proj
attn model.decoder.layers.N.encoder_attn.q_proj
attn model.decoder.layers.N.encoder_attn.k_proj
attn model.decoder.layers.N.encoder_attn.v_proj
attn model.decoder.layers.N.encoder_attn.out_proj
mlp model.decoder.layers.N.fc1
mlp model.decoder.layers.N.fc2
other proj_out
"""),
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        lambda: SEQ2SEQ | {"num_mel_bins": 8},
    ),
    "opt": Architecture(
        table("""
attn model.decoder.layers.N.self_attn.q_proj
attn model.decoder.layers.N.self_attn.k_proj
attn model.decoder.layers.N.self_attn.v_proj
attn model.decoder.layers.N.self_attn.out_proj
mlp model.decoder.layers.N.fc1
mlp model.decoder.layers.N.fc2
other model.decoder.project_in
other model.decoder.project_out
other lm_head
"""),
        "OPTForCausalLM",
        "OPTConfig",
        lambda: SMALL | {"ffn_dim": 32, "word_embed_proj_dim": 8},
    ),
    "mamba": Architecture(
        table("""
other backbone.layers.N.mixer.in_proj
other backbone.layers.N.mixer.x_proj
other backbone.layers.N.mixer.dt_proj
other backbone.layers.N.mixer.out_proj
other lm_head
"""),
        "MambaForCausalLM",
        "MambaConfig",
        lambda: {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 32, "state_size": 4},
    ),
    "deepseek_v3": Architecture(
        table("""
attn model.layers.N.self_attn.q_a_proj
attn model.layers.N.self_attn.q_b_proj
attn model.layers.N.self_attn.kv_a_proj_with_mqa
attn model.layers.N.self_attn.kv_b_proj
attn model.layers.N.self_attn.o_proj
mlp model.layers.N.mlp.gate_proj
mlp model.layers.N.mlp.up_proj
mlp model.layers.N.mlp.down_proj
mlp model.layers.N.mlp.experts.gate_up_proj
mlp model.layers.N.mlp.experts.down_proj
mlp model.layers.N.mlp.gate
mlp model.layers.N.mlp.shared_experts.gate_proj
mlp model.layers.N.mlp.shared_experts.up_proj
mlp model.layers.N.mlp.shared_experts.down_proj
other lm_head
"""),
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        lambda: (
            GROUPED
            | {
                "moe_intermediate_size": 8,
                "n_routed_experts": 8,
                "n_group": 2,
                "topk_group": 1,
                "num_experts_per_tok": 2,
                "kv_lora_rank": 4,
                "q_lora_rank": 4,
                "qk_rope_head_dim": 4,
                "qk_nope_head_dim": 4,
                "v_head_dim": 4,
                "first_k_dense_replace": 1,
            }
        ),
    ),
    # Models whose code is not in transformers, and names of checkpoints that older versions of it saved.
    "mistral, fused": Architecture(
        table("attn layers.N.attention.wq\nattn layers.N.attention.wo\nmlp layers.N.feed_forward.w2\nother output")
    ),
    "mixtral, one module an expert": Architecture(
        table("""
mlp model.layers.N.block_sparse_moe.gate
mlp model.layers.N.block_sparse_moe.experts.*.w1
mlp model.layers.N.block_sparse_moe.experts.*.w2
mlp model.layers.N.block_sparse_moe.experts.*.w3
mlp model.layers.N.mlp.experts.*.down_proj
""")
    ),
    "chatglm": Architecture(
        table("""
attn transformer.encoder.layers.N.self_attention.query_key_value
attn transformer.encoder.layers.N.self_attention.dense
mlp transformer.encoder.layers.N.mlp.dense_h_to_4h
mlp transformer.encoder.layers.N.mlp.dense_4h_to_h
other transformer.output_layer
attn transformer.layers.N.attention.query_key_value
""")
    ),
    "baichuan": Architecture(table("attn model.layers.N.self_attn.W_pack\nattn model.layers.N.self_attn.o_proj")),
    "vit": Architecture(
        table("""
attn vit.encoder.layer.N.attention.attention.query
attn vit.encoder.layer.N.attention.output.dense
mlp vit.encoder.layer.N.intermediate.dense
mlp vit.encoder.layer.N.output.dense
attn vit.layers.N.attention.q_proj
mlp vit.layers.N.mlp.fc1
other vit.embeddings.patch_embeddings.projection
attn visual.transformer.resblocks.N.attn.out_proj
mlp visual.transformer.resblocks.N.mlp.c_fc
attn blocks.N.attn.qkv
attn blocks.N.attn.proj
other classifier
""")
    ),
    "torch.nn.TransformerEncoder": Architecture(
        table("attn encoder.layers.N.self_attn.out_proj\nmlp encoder.layers.N.linear1\nmlp encoder.layers.N.linear2")
    ),
    "stable diffusion unet": Architecture(
        table(
            """
attn X.attn1.to_q
attn X.attn1.to_out.*
attn X.attn2.to_k
attn mid_block.attentions.*.transformer_blocks.*.attn2.to_v
mlp X.ff.net.*.proj
mlp X.ff.net.*
other up_blocks.*.attentions.*.proj_in
other up_blocks.*.attentions.*.proj_out
other down_blocks.*.resnets.*.conv1
other down_blocks.*.resnets.*.time_emb_proj
other time_embedding.linear_1
""",
            X="down_blocks.*.attentions.*.transformer_blocks.*",
        )
    ),
    "flux": Architecture(
        table("""
attn transformer_blocks.N.attn.to_q
attn transformer_blocks.N.attn.add_k_proj
attn transformer_blocks.N.attn.to_out.*
mlp transformer_blocks.N.ff.net.*.proj
mlp transformer_blocks.N.ff_context.net.*
other transformer_blocks.N.norm1.linear
attn single_transformer_blocks.N.attn.to_v
mlp single_transformer_blocks.N.proj_mlp
other single_transformer_blocks.N.proj_out
""")
    ),
    "hybrids of attention and state spaces": Architecture(
        table("""
other model.layers.N.mamba.in_proj
other model.layers.N.mamba.out_proj
mlp model.layers.N.feed_forward.router
attn model.layers.N.self_attn.o_proj
attn model.layers.N.linear_attn.in_proj_qkvz
attn backbone.layers.N.mixer.q_proj
attn backbone.layers.N.mixer.o_proj
mlp backbone.layers.N.mixer.up_proj
other backbone.layers.N.mixer.in_proj
attn transformer.layers.N.mixer.Wqkv
""")
    ),
    "rwkv": Architecture(
        table("""
attn rwkv.blocks.N.attention.receptance
attn rwkv.blocks.N.attention.value
mlp rwkv.blocks.N.feed_forward.key
mlp rwkv.blocks.N.feed_forward.value
other head
""")
    ),
    "experts inside attention": Architecture(
        table("attn model.layers.N.self_attention.experts.input_linear\nmlp model.layers.N.mlp.experts.input_linear")
    ),
    "perceiver": Architecture(
        table("""
attn perceiver.encoder.cross_attention.attention.self.query
attn perceiver.encoder.cross_attention.attention.output.dense
mlp perceiver.encoder.cross_attention.mlp.dense1
mlp perceiver.encoder.self_attends.*.mlp.dense2
""")
    ),
    "deberta": Architecture(table(BERT.replace("query", "query_proj").replace("key", "key_proj"), X="deberta")),
    "several modalities": Architecture(
        table("""
attn model.vision_tower.encoder.layers.N.self_attn.q_proj
mlp model.language_model.layers.N.mlp.up_proj
other model.multi_modal_projector.linear_1
attn mask_decoder.transformer.layers.N.cross_attn_token_to_image.out_proj
""")
    ),
    "other": Architecture(
        table("""
other model.embed_tokens
other model.norm
other model.layers.N.input_layernorm
other model.layers.N.self_attn.q_norm
other transformer.wte
other score
other qa_outputs
""")
    ),
}
