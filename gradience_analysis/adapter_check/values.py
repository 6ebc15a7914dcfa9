"""Values: weights that are NaN or infinite, and factors that were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.adapter_check.facts import AdapterFacts
from gradience_analysis.adapter_check.pairs import Pair, factors, named, sample
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.catalogue import rule
from gradience_analysis.model import Finding, Measurement, Place, plural
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "nonfinite_weights": "A weight of the adapter is NaN or infinite.",
    "untrained_factors": "A module's update is zero: one of its factors is all zeros.",
}
COVERS: Mapping[str, frozenset[str]] = {}


def measure(facts: AdapterFacts) -> tuple[Measurement, ...]:
    """Values that are not finite, over all tensors; modules whose update is exactly zero, over all modules."""
    return (_nonfinite(facts), _untrained(facts))


def _nonfinite(facts: AdapterFacts) -> Measurement:
    name = "adapter_nonfinite_values"
    read = [(fact, fact.values) for fact in facts.tensors if fact.values is not None]
    if not read:
        return Measurement(name, None, "values", reason="no tensor of the adapter could be read.")
    bad = [(fact, values) for fact, values in read if values.nonfinite]
    details = {
        "tensors": [
            {"tensor": fact.key.name, "values": one.nonfinite, "of": one.elements, "first_at": one.first_nonfinite}
            for fact, one in bad[:5]
        ],
        "tensor_count": len(bad),
        "looked_at": len(read),
    }
    places = tuple(dict.fromkeys(Place(path=str(facts.folder / fact.file)) for fact, _ in bad))[:5]
    total = sum(values.nonfinite for _, values in bad)
    return Measurement(name, total, "values", "every value of every tensor", details=details, places=places)


def _untrained(facts: AdapterFacts) -> Measurement:
    name = "adapter_untrained_modules"
    pairs = factors(facts).pairs
    zero = [(pair, state) for pair in pairs if (state := _is_zero(pair)) is not None]
    if not zero:
        return Measurement(name, None, "modules", reason="no module has both factors in a number format that is read.")
    untrained = [pair for pair, state in zero if state]
    details = {
        "modules": sample(pair.module for pair in untrained),
        "looked_at": len(zero),
        "with_magnitude": sum(pair.magnitude for pair in untrained),
        "adaptive_rank": sum(pair.e is not None for pair in untrained),
    }
    places = (Place(path=facts.weights_path),)
    return Measurement(name, len(untrained), "modules", "largest magnitude of each factor", "", details, places)


def _is_zero(pair: Pair) -> bool | None:
    """Whether a factor is all zeros, so that their product is; None when a factor's values are not known.

    B starts at zero in most layouts, A in embeddings, and the diagonal in AdaLoRA.
    """
    known = [fact.values for fact in (pair.a, pair.b, pair.e) if fact is not None]
    if any(one is None or one.nonfinite for one in known):
        return None
    return any(one.zero for one in known if one is not None)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for a value that is not finite, and for an adapter of zeros; a warning for single modules of zeros."""
    nonfinite, untrained = measurements
    found: list[Finding] = []
    if nonfinite.value:
        found.append(_bad_values(nonfinite))
    if untrained.value:
        found.extend(_zeros(untrained))
    return found


def _bad_values(item: Measurement) -> Finding:
    about = rule("M04")
    first = item.details["tensors"][0]
    count, tensors = int(item.value or 0), item.details["tensor_count"]
    where = (
        shown(first["tensor"]) if tensors == 1 else f"{plural(tensors, 'tensor')}, first in {shown(first['tensor'])}"
    )
    return Finding(
        code=about.code,
        rule=about.id,
        severity=Severity.ERROR,
        message=f"{plural(count, 'value')} of the adapter {'is' if count == 1 else 'are'} NaN or infinite, in {where}.",
        evidence=dict(item.details),
        advice="Do not use or promote it; go back to a checkpoint that is finite, and look for what broke training.",
        basis="every value was read",
        places=item.places,
    )


def _zeros(item: Measurement) -> list[Finding]:
    about = rule("M07")
    count, total = int(item.value or 0), item.details["looked_at"]
    every = count == total
    if not every and item.details["adaptive_rank"] == count:
        return []  # AdaLoRA prunes whole modules to zero on purpose
    magnitude = item.details["with_magnitude"]
    modules = [shown(name) for name in item.details["modules"]]
    some = f"The update of {count:,} of {total:,} modules is exactly zero ({named(modules, count)})"
    message = f"The adapter's update is exactly zero in every module ({total:,})" if every else some
    return [
        Finding(
            code=about.code,
            rule=about.id,
            severity=Severity.ERROR if every and not magnitude else Severity.WARNING,
            message=f"{message}: a factor is all zeros.",
            evidence=dict(item.details),
            advice=(
                "Look at whether the adapter's parameters were in the optimizer, at the learning rate, and at what "
                "was frozen; an adapter that was just created looks like this."
            ),
            confidence=0.6 if magnitude else 0.95,
            basis="the factor that starts at zero has never moved",
            caveat=(
                "the magnitude vectors of DoRA may have been trained; that cannot be told without the base model"
                if magnitude
                else "a module that no batch ever goes through stays at zero, too"
            ),
            places=item.places,
        )
    ]
