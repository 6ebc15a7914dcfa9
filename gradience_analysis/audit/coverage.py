"""How much of an adapter an audit covers."""

from __future__ import annotations

from dataclasses import dataclass

from gradience_analysis.adapters.factors import LeftOut


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the adapter was audited.

    Attributes:
        audited: Keys of the adapter that went into a row.
        lora_keys: Keys that belong to the adapter at all; whole tensors (`modules_to_save`) are none.
        left_out: Why the others did not.
        whole_tensors: Names of the whole tensors, which are no factors and are not audited.
    """

    audited: int
    lora_keys: int
    left_out: tuple[LeftOut, ...] = ()
    whole_tensors: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """Audited over LoRA-like keys; None when there are none."""
        return self.audited / self.lora_keys if self.lora_keys else None
