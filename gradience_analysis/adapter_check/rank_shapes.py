"""Shapes: whether each factor has its counterpart, and the rank that the config says.

A factor is taken as it stands: A has the rank in its first dimension, B in its second. One that does not is reported;
it is never transposed to make it fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gradience_analysis.adapter_check.facts import AdapterFacts
from gradience_analysis.adapter_check.pairs import Pair, factors, named, sample
from gradience_analysis.adapters import AdapterConfig
from gradience_analysis.adapters.config import CONFIG_NAME
from gradience_analysis.adapters.keys import Role
from gradience_analysis.adapters.scaling import declared_rank, targeted_parameters
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.catalogue import rule
from gradience_analysis.model import Finding, Measurement, Place, plural
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "unpaired_factors": "A module has one of its two factors only.",
    "rank_mismatch": "The shape of a factor is not that of its counterpart, or of the rank in the config.",
}
COVERS: Mapping[str, frozenset[str]] = {}
_MOST_DIMENSIONS = 5  # a factor of a three-dimensional convolution


def measure(facts: AdapterFacts) -> tuple[Measurement, ...]:
    """Factors without counterpart; modules whose shapes contradict each other or the config."""
    found = factors(facts)
    places = (Place(path=facts.weights_path),)
    if not found.pairs and not found.unpaired:
        reason = "no factor of a supported layout could be read."
        return tuple(
            Measurement(name, None, "modules", reason=reason)
            for name in ("adapter_unpaired_factors", "adapter_rank_mismatches")
        )
    unpaired = {
        "factors": sample(fact.key.name for fact in found.unpaired),
        "roles": dict(Counter(str(fact.key.role) for fact in found.unpaired)),
        "pairs": len(found.pairs),
    }
    faults = [(pair, fault) for pair in found.pairs if (fault := _fault(pair, facts.config))]
    ranks = {
        "modules": [
            {"module": pair.module, "fault": fault, "a": list(pair.a.shape), "b": list(pair.b.shape)}
            for pair, fault in faults[:5]
        ],
        "ranks": dict(sorted(Counter(str(size) for pair in found.pairs for size in pair.a.shape[:1]).items())),
        "without_rank_in_config": sum(_declared(pair, facts.config) is None for pair in found.pairs),
        "looked_at": len(found.pairs),
    }
    config = f"shapes of the factors and {CONFIG_NAME}" if facts.config else "shapes of the factors"
    return (
        _counted(facts, len(found.unpaired), unpaired, places),
        Measurement("adapter_rank_mismatches", len(faults), "modules", config, details=ranks, places=places),
    )


def _counted(facts: AdapterFacts, count: int, details: Mapping[str, object], places: tuple[Place, ...]) -> Measurement:
    """Factors without counterpart; what lacks here may stand in a file that is missing or cannot be read."""
    name = "adapter_unpaired_factors"
    if count and (facts.files.missing_shards or facts.faults):
        return Measurement(name, None, "factors", "", "a part of the weights could not be read.", details, places)
    return Measurement(name, count, "factors", "tensor names", "", details, places)


def _fault(pair: Pair, config: AdapterConfig | None) -> str:
    """What contradicts in the shapes of a module, in words; empty when nothing does."""
    a, b = pair.a.shape, pair.b.shape
    if len(a) != len(b) or not 2 <= len(a) <= _MOST_DIMENSIONS:
        return f"A has {plural(len(a), 'dimension')} and B {len(b)}"
    rows, columns = a[0], b[1]
    # A grouped convolution has r / groups columns in B; without groups, as everywhere else, they are equal.
    fits = rows == columns or (len(a) > 2 and columns > 0 and rows % columns == 0)
    if not fits:
        return f"A has {rows} rows and B {columns} columns"
    if pair.e is not None and pair.e.shape != (rows, 1):
        return f"A has {rows} rows, and E the shape {list(pair.e.shape)}"
    declared = _declared(pair, config)
    if declared is None:
        return ""
    if targeted_parameters(config, pair.a.key):  # their factors hold the ranks of all experts
        return "" if rows % declared == 0 else f"A has {rows} rows, which is no multiple of r = {declared}"
    return "" if rows == declared else f"A has {rows} rows, and the config says r = {declared}"


def _declared(pair: Pair, config: AdapterConfig | None) -> int | None:
    """The rank that the config gives a module; None where it gives none that these shapes must have."""
    if config is None or pair.a.key.role is Role.ADALORA_A or config.peft_type not in {None, "LORA"}:
        return None
    if config.raw.get("use_bdlora"):
        return None  # block-diagonal factors have shapes of their own
    return declared_rank(config, pair.a.key)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for a factor without counterpart, and one for shapes that contradict."""
    unpaired, mismatches = measurements
    found: list[Finding] = []
    if unpaired.value:
        found.append(_unpaired(unpaired))
    if mismatches.value:
        found.append(_mismatch(mismatches))
    return found


def _unpaired(item: Measurement) -> Finding:
    about = rule("M05")
    count = int(item.value or 0)
    names = [shown(name) for name in item.details["factors"]]
    verb = "has" if count == 1 else "have"
    return Finding(
        code=about.code,
        rule=about.id,
        severity=Severity.ERROR,
        message=f"{plural(count, 'factor')} {verb} no counterpart: {named(names, count)}.",
        evidence=dict(item.details),
        advice="Save the adapter again from the model it was trained in; do not serve it as it is.",
        basis="the names of the tensors",
        caveat="a program that names its factors in another way than PEFT looks like this, too",
        places=item.places,
    )


def _mismatch(item: Measurement) -> Finding:
    about = rule("M06")
    count, total = int(item.value or 0), item.details["looked_at"]
    first = item.details["modules"][0]
    more = "" if count == 1 else f" ({count:,} of {total:,} modules contradict)"
    return Finding(
        code=about.code,
        rule=about.id,
        severity=Severity.ERROR,
        message=f"In {shown(first['module'])}, {first['fault']}{more}.",
        evidence=dict(item.details),
        advice="Use the adapter_config.json that was saved with these weights, or the weights it was saved with.",
        basis="A is (r, in) and B is (out, r); nothing was transposed to make it fit",
        caveat="weights that are stored transposed look like this, too",
        places=item.places,
    )
