"""Masked labels: whether the run trained on batches in which every label is ignored (-100).

The mean of the loss over no token is undefined: the model returns NaN, and the gradient of it is exactly 0, so that
the weights stay finite and unchanged. A NaN that comes from the weights, from the data or from an overflow has
gradients that are NaN too; an adapter that cannot be trained has a gradient of 0, but a loss that is a number above 0.

**Counted.** The share of the `train_step` records in which a loss that is NaN (or 0.0, which `logging_nan_inf_filter`
makes of it) stands with a gradient norm of exactly 0. Where the run logs how many labels or tokens a batch had
(`num_items_in_batch`, `n_label_tokens`, ...), the share of records with none.

**`labels_all_ignored` (D07).** Nearly every record shows it, from the first on. It explains a loss that is not finite
or hidden, a gradient norm of 0 and a loss that does not fall, and stands in their place.

**Silent** about single batches: `hidden_nonfinite` and `nonfinite_loss` say that a loss was NaN there.

**May be wrong** for an objective whose loss and gradient are truly 0 from the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gradience_analysis.diagnostics.nonfinite_values import counted_steps
from gradience_analysis.model import Finding, Measurement, Run, plural
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "labels_all_ignored": "Every label of an example or a batch is -100, so that nothing is learned from it.",
}
COVERS: Mapping[str, frozenset[str]] = {
    "labels_all_ignored": frozenset(
        {
            *("nonfinite_loss", "hidden_nonfinite", "grad_norm_zero", "grad_norm_exploding", "grad_norm_vanishing"),
            *("no_learning", "plateau"),
        }
    )
}
NAME = "records_without_labels"
_LABEL_COUNTS: Final = ("num_items_in_batch", "n_label_tokens", "num_label_tokens", "label_tokens", "n_labels")


def measure(run: Run) -> tuple[Measurement, ...]:
    """Share of the records that say they had no label, or that look like it where no count was logged."""
    counted = next(((field, counts) for field in _LABEL_COUNTS if (counts := run.series(field))), None)
    if counted is None:
        return (_signature(run),)
    field, counts = counted
    empty = sum(count == 0.0 for _, count in counts)
    details = {"records": len(counts), "empty": empty, "field": field}
    return (Measurement(NAME, empty / len(counts), "share of records", f"{field} of train_step", details=details),)


def _signature(run: Run) -> Measurement:
    losses, norms = run.series("loss"), run.series("grad_norm")
    if not losses or not norms:
        reason = f"no train_step carries both loss and grad_norm. Log them together, or {_LABEL_COUNTS[0]}."
        return Measurement(NAME, None, "share of records", reason=reason)
    without_gradient = {step for step, norm in norms if norm == 0.0}
    empty = [(step, loss) for step, loss in losses if step in without_gradient and not (0.0 < abs(loss) < math.inf)]
    details = {
        "records": len(losses),
        "empty": len(empty),
        "field": None,
        "undefined_loss": sum(not math.isfinite(loss) for _, loss in empty),
        "nonfinite_loss_steps": counted_steps(run, "nonfinite_loss_steps") if empty else None,
    }
    first = [event for event in run.of("train_step") if event.step == empty[0][0]][:1] if empty else []
    places = tuple(run.place(event) for event in first)
    value = len(empty) / len(losses)
    return Measurement(NAME, value, "share of records", "loss and grad_norm", details=details, places=places)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error when nearly every record is one of a batch without labels."""
    share, records = policy["masked_labels.share"], policy["masked_labels.records"]
    (item,) = measurements
    details = item.details
    if not isinstance(item.value, float) or item.value < share.value or details["records"] < records.value:
        return []
    what, basis, confidence = _reading(details)
    return [
        Finding(
            code="labels_all_ignored",
            rule="D07",
            severity=Severity.ERROR,
            message=(
                f"In {details['empty']} of {plural(details['records'], 'record')} {what}, "
                "as with batches whose labels are all -100."
            ),
            evidence={"share": item.value, **details},
            advice=(
                "Decode a batch and look at its labels: the chat template or the response marker may not match, "
                "or truncation may cut the answers off."
            ),
            confidence=confidence,
            basis=f"{basis}; the share is {share.standing}",
            caveat="" if details["field"] else "an objective that is truly 0 from its start looks the same",
            places=item.places,
        )
    ]


def _reading(details: Mapping[str, Any]) -> tuple[str, str, float]:
    """What the records show, what that rests on, and how sure it is."""
    if details["field"]:
        return f"{details['field']} is 0", "a logged count", 0.95
    basis = "the mean of a loss over no label does this"
    if details["undefined_loss"] or details["nonfinite_loss_steps"]:
        return "the loss is undefined (NaN) and the gradient exactly 0", basis, 0.9
    return "loss and gradient are exactly 0", basis, 0.7
