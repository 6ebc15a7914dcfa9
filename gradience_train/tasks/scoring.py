"""Answer accuracy for the Trainer, without keeping any logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradience_train.tasks.encoding import IGNORED_LABEL


def keep_best_token(logits: Any, labels: Any) -> Any:
    """Return the most probable token at each position: `(batch, length, vocabulary)` to `(batch, length)`."""
    del labels  # part of the Trainer's signature
    return logits.argmax(dim=-1)


def answer_accuracy(prediction: Any) -> dict[str, float | int]:
    """Return `accuracy`, the fraction 0..1 of answer tokens predicted, and `n`, how many there are.

    `prediction.predictions` holds `keep_best_token`'s result; position `i` predicts the token at `i + 1`.
    Without any answer token there is no accuracy, and only `n` is returned.
    """
    wanted = np.asarray(prediction.label_ids)[:, 1:]
    got = np.asarray(prediction.predictions)[:, :-1]
    answers = wanted != IGNORED_LABEL
    n = int(answers.sum())
    return {"accuracy": float((wanted == got)[answers].mean()), "n": n} if n else {"n": 0}
