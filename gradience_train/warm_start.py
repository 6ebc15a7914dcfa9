"""Train a small base model on general text, so that a LoRA fine-tune has something to stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from gradience_train.tasks.encoding import Row


def warm_start(
    model: Any,
    rows: Sequence[Row],
    *,
    batch_size: int = 64,
    lr: float = 3e-3,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Train every weight of `model` on `rows` once, in the order given, with AdamW at a constant rate.

    A LoRA update of random weights learns next to nothing; this gives the base its language. It is not part of
    the recorded run, as the pre-training of any published base is not.

    Args:
        model: A causal LM; it is trained in place, on its own device, and left in training mode.
        rows: Encoded rows of one length.
        batch_size: Rows per step; a shorter rest makes one more step.
        lr: Learning rate.
        on_step: Called with the number of steps done.

    Returns:
        The loss of the last step in nats; NaN when there are no rows.
    """
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    loss = torch.tensor(float("nan"))
    for done, batch in enumerate(_batches(rows, batch_size), start=1):
        loss = model(**{key: value.to(model.device) for key, value in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if on_step is not None:
            on_step(done)
    return float(loss.detach())


def _batches(rows: Sequence[Row], batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    for first in range(0, len(rows), batch_size):
        chosen = rows[first : first + batch_size]
        yield {key: torch.tensor([row[key] for row in chosen]) for key in chosen[0]}
