"""Decides whether a trainer's loss is a language model's plain cross-entropy, whose exponential is a perplexity."""

from __future__ import annotations

from typing import Any, Final

from gradience_emit.model import active_adapter, base_model

__all__ = ["loss_is_plain_cross_entropy"]

_LANGUAGE_HEADS: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_LANGUAGE_TASKS: Final = frozenset({"CAUSAL_LM", "SEQ_2_SEQ_LM"})
_KNOWN_LOSSES: Final = frozenset({"transformers.trainer", "trl.trainer.sft_trainer"})


def loss_is_plain_cross_entropy(trainer: Any, model: Any, args: Any) -> bool:
    """Whether the evaluation loss is the mean cross-entropy per token of a language model.

    No, whenever something else may be in it: label smoothing, a loss function of the user's, a trainer that computes
    its own (DPO, a subclass), the router loss of a mixture of experts, an SFT loss other than ``nll``. Also no when the
    trainer is not known, since then none of this is.
    """
    if trainer is None or not _is_language_model(model):
        return False
    computed_in = trainer.__class__.compute_loss.__module__
    return (
        computed_in in _KNOWN_LOSSES
        and "compute_loss" not in vars(trainer)
        and getattr(trainer, "compute_loss_func", None) is None
        and not getattr(args, "label_smoothing_factor", 0.0)
        and getattr(args, "loss_type", None) in {None, "nll"}
        and not getattr(trainer, "aux_loss_enabled", False)
        and not getattr(getattr(base_model(model), "config", None), "output_router_logits", False)
    )


def _is_language_model(model: Any) -> bool:
    if type(base_model(model)).__name__.endswith(_LANGUAGE_HEADS):
        return True
    task = getattr(active_adapter(model), "task_type", None)
    return getattr(task, "value", task) in _LANGUAGE_TASKS
