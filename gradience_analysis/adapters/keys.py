"""What each tensor of an adapter is, from its name alone: a factor of which module, in which layout.

Layouts as PEFT writes them (X is the module, `base_model.model.` in front; an adapter name may stand in between):

| layout | tensors |
|---|---|
| linear, Conv1D, convolution, attention, experts | `X.lora_A.weight`, `X.lora_B.weight`, maybe `X.lora_B.bias` |
| embedding | `X.lora_embedding_A`, `X.lora_embedding_B` |
| DoRA, besides | `X.lora_magnitude_vector` |
| AdaLoRA | `X.lora_A`, `X.lora_B`, `X.lora_E` |

Anything else is named as what it is (another method, a whole tensor) and never taken for a factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "base_model.model."


class Role(StrEnum):
    """The part that a tensor plays in an adapter."""

    A = "lora_A"
    B = "lora_B"
    EMBEDDING_A = "lora_embedding_A"
    EMBEDDING_B = "lora_embedding_B"
    ADALORA_A = "adalora_A"
    ADALORA_B = "adalora_B"
    ADALORA_E = "adalora_E"
    BIAS = "lora_bias"
    MAGNITUDE = "magnitude"
    OTHER_METHOD = "other_method"
    UNKNOWN_LORA = "unknown_lora"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class TensorKey:
    """A tensor's name, taken apart.

    Attributes:
        name: The name as it stands in the file.
        role: What it is.
        module: The module it belongs to, without `base_model.model.`; of a whole tensor, its name.
        adapter: The adapter's name where one stands in the key, as in a state dict; else empty.
        method: For OTHER_METHOD, the method's name; else empty.
    """

    name: str
    role: Role
    module: str
    adapter: str = ""
    method: str = ""

    @property
    def plain_module(self) -> str:
        """The module as the base model names it, by which PEFT looks up its rank: up to a wrapped `base_layer`."""
        return self.module.split(".base_layer", maxsplit=1)[0]


PAIRS: Mapping[Role, Role] = {
    Role.A: Role.B,
    Role.EMBEDDING_A: Role.EMBEDDING_B,
    Role.ADALORA_A: Role.ADALORA_B,
}
"""Which factor belongs to which."""

_MARKERS: Mapping[str, Role] = {
    "lora_A": Role.A,
    "lora_B": Role.B,
    "lora_E": Role.ADALORA_E,
    "lora_embedding_A": Role.EMBEDDING_A,
    "lora_embedding_B": Role.EMBEDDING_B,
    "lora_magnitude_vector": Role.MAGNITUDE,
}
_ADALORA = {Role.A: Role.ADALORA_A, Role.B: Role.ADALORA_B}
# The first letters of the parts that other methods, and other programs, name their parameters by.
_METHODS: Mapping[str, str] = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "vera_": "VeRA",
    "pvera_": "PVeRA",
    "ia3_": "IA3",
    "oft_": "OFT",
    "boft_": "BOFT",
    "hra_": "HRA",
    "ln_tuning_": "LN tuning",
    "poly_": "Poly",
    "fourierft_": "FourierFT",
    "vblora_": "VB-LoRA",
    "randlora_": "RandLoRA",
    "shira_": "SHiRA",
    "c3a_": "C3A",
    "miss_": "MiSS",
    "bone_": "Bone",
    "road_": "RoAd",
    "waveft_": "WaveFT",
    "gralora_": "GraLoRA",
    "delora_": "DeLoRA",
    "adamss_": "AdaMSS",
    "beft_": "BEFT",
    "deft_": "DEFT",
    "frod_": "FRoD",
    "glora_": "GLoRA",
    "hira_": "HiRA",
    "lily_": "Lily",
    "osf_": "OSF",
    "peanut_": "PEANuT",
    "psoft_": "PSOFT",
    "shadow_": "Shadow",
    "supertuning_": "SuperTuning",
    "tinylora_": "TinyLoRA",
    "unilora_": "UniLoRA",
    "xlora_": "X-LoRA",
    "prompt_embeddings": "prompt tuning",
    "prompt_encoder": "prompt tuning",
    "adaption_": "adaption prompt",
    "lora_up": "kohya LoRA",
    "lora_down": "kohya LoRA",
    "lora_mid": "kohya LoRA",
    "lora_a": "MLX LoRA",
    "lora_b": "MLX LoRA",
}
_WEIGHT = "weight"


def classify(name: str) -> TensorKey:
    """What the tensor of that name is; every name has an answer."""
    parts = name.split(".")
    for place in range(len(parts) - 1, -1, -1):
        role = _MARKERS.get(parts[place])
        if role is not None:
            found = _factor(name, parts, place, role)
            return found or TensorKey(name, Role.UNKNOWN_LORA, _module(parts[:place]))
    method = _method(parts)
    if method:
        return TensorKey(name, Role.OTHER_METHOD, _module(parts[:-1]), method=method)
    if any(part.startswith("lora_") for part in parts[-3:]) and not name.startswith("lora_"):
        return TensorKey(name, Role.UNKNOWN_LORA, _module(parts[:-1]))
    return TensorKey(name, Role.WHOLE, _module(parts))


def _factor(name: str, parts: list[str], place: int, role: Role) -> TensorKey | None:
    """A key by what follows the marker: nothing, an adapter's name, `weight` or `bias`; None for anything else."""
    module, rest = _module(parts[:place]), parts[place + 1 :]
    if not module or len(rest) > 2:
        return None
    ending = rest[-1] if rest else ""
    if role in {Role.A, Role.B}:
        if role is Role.B and ending == "bias":
            return TensorKey(name, Role.BIAS, module, rest[0] if len(rest) == 2 else "")
        if ending == _WEIGHT:
            return TensorKey(name, role, module, rest[0] if len(rest) == 2 else "")
        return TensorKey(name, _ADALORA[role], module, ending) if len(rest) < 2 else None
    if ending == _WEIGHT:
        rest = rest[:-1]
    return TensorKey(name, role, module, rest[0] if rest else "") if len(rest) < 2 else None


def _method(parts: list[str]) -> str:
    for part in reversed(parts):
        for start, method in _METHODS.items():
            if part.startswith(start):
                return method
    # kohya writes the whole path as one part: lora_unet_down_blocks_0_....alpha
    return "kohya LoRA" if parts[0].startswith(("lora_unet_", "lora_te")) else ""


def _module(parts: list[str]) -> str:
    return ".".join(parts).removeprefix(PREFIX)
