"""Accuracy for the Trainer, without keeping any logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradience_train.tasks.encoding import IGNORED_LABEL


def keep_best_token(logits: Any, labels: Any) -> Any:
    """Return the most probable token or class: `(…, choices)` to `(…)`, such as `(batch, length, vocabulary)`."""
    del labels  # part of the Trainer's signature
    return logits.argmax(dim=-1)


def answer_accuracy(prediction: Any) -> dict[str, float | int]:
    """Return `accuracy`, the fraction 0..1 of answer tokens predicted, and `n`, how many there are.

    `prediction.predictions` holds `keep_best_token`'s result; position `i` predicts the token at `i + 1`.
    Without any answer token there is no accuracy, and only `n` is returned.
    """
    return _share(np.asarray(prediction.predictions)[:, :-1], np.asarray(prediction.label_ids)[:, 1:])


def label_accuracy(prediction: Any) -> dict[str, float | int]:
    """Return `accuracy`, the fraction 0..1 of examples whose label was predicted, and `n`, how many have one.

    `prediction.predictions` holds `keep_best_token`'s result. Without any label only `n` is returned.
    """
    return _share(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))


def _share(got: Any, wanted: Any) -> dict[str, float | int]:
    counted = wanted != IGNORED_LABEL
    n = int(counted.sum())
    return {"accuracy": float((wanted == got)[counted].mean()), "n": n} if n else {"n": 0}
