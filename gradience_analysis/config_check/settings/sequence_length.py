"""Maximum length: is it within its range, and within what the model's positions reach?

The longest sequence in tokens must be an integer within the policy's range (128 to 32,768) and not above
`max_position_embeddings` of the base model, where its config.json was given. It is wrong about a model whose
positions are stretched when it is loaded (`rope_scaling`), and about tasks whose examples are all shorter than the
lower limit: lower it in a policy file then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.settings.quantity import broken, by_name, in_words, take, usable
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy

CODES: Mapping[str, str] = {
    "max_length_invalid": "The maximum length is out of its range, or more than the model has positions."
}
COVERS: Mapping[str, frozenset[str]] = {}
_WHY = "longer costs memory, shorter cuts examples off"


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """The maximum length, and how many positions the base model has."""
    absent = "not set; set max_length where the trainer cuts sequences"
    length = take(subject, "training.max_length", "max_length", "tokens", whole=True, absent=absent)
    model = subject.base_model
    positions = None if model is None else model.max_position_embeddings
    reason = "give the base model by --model DIR" if model is None else "config.json names no max_position_embeddings"
    return (
        length,
        Measurement(
            "model_positions",
            positions,
            "tokens",
            source="" if model is None or positions is None else f"max_position_embeddings in {model.path}/config.json",
            reason="" if positions is not None else reason,
        ),
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:
    """An error for a length that is no integer within the range and within the model's positions."""
    taken = by_name(measurements)
    length, positions = taken["max_length"], taken["model_positions"].value
    if not length.details or length.details["fault"] == "null":
        return []
    lowest, highest = int(policy.limit("sequence_length.lowest")), int(policy.limit("sequence_length.highest"))
    value = usable(length)
    said = f"The maximum length is {in_words(length)} tokens ({length.source})"
    if value is None or not lowest <= value <= highest:
        message = f"{said}; it must be an integer from {lowest} to {highest:,}."
        reach = [positions] if isinstance(positions, int) else []
        suggested = f"{lowest} to {min([highest, *reach]):,}"
        limits = [lowest, highest]
        return [broken(length, "max_length_invalid", "C05", message, suggested, _WHY, range=limits)]
    if isinstance(positions, int) and value > positions:
        message = f"{said}, and the model has {positions:,} positions."
        why = "the model has no position for later tokens"
        return [
            broken(
                length, "max_length_invalid", "C05", message, f"at most {positions:,}", why, model_positions=positions
            )
        ]
    return []
