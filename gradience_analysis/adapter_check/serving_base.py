"""Base model: whether the adapter belongs to the model it is to be served with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.adapter_check.facts import AdapterFacts, BaseFact
from gradience_analysis.adapter_check.pairs import Pair, factors, sample
from gradience_analysis.adapters.keys import Role
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.base_weights.names import LayerNames
from gradience_analysis.catalogue import rule
from gradience_analysis.model import Finding, Measurement, Place
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"base_mismatch": "The adapter belongs to another base model than the one given."}
COVERS: Mapping[str, frozenset[str]] = {}
_NAME = "adapter_base_names_differ"
_SHAPES = "adapter_base_misfits"
_HEADS = frozenset({"lm_head", "embed_out", "score", "classifier", "output"})
_WEIGHT = ".weight"
_PACKED = (".absmax", ".SCB", ".qweight", ".weight_scale", ".weight_packed")


def measure(facts: AdapterFacts) -> tuple[Measurement, ...]:
    """Whether the names of the base differ (1 or 0), and the modules that do not fit its tensors."""
    if facts.base is None:
        reason = "no base model was given to hold the adapter against."
        return (Measurement(_NAME, None, "names", reason=reason), Measurement(_SHAPES, None, "modules", reason=reason))
    return (_names(facts, facts.base), _shapes(facts, facts.base))


def _names(facts: AdapterFacts, base: BaseFact) -> Measurement:
    wanted = facts.config.base_model if facts.config else None
    details = {"adapter_says": wanted, "base_says": list(base.names), "base": str(base.path)}
    places = (Place(path=str(facts.folder)),)
    if wanted is None:
        return Measurement(_NAME, None, "names", "", "the adapter's config names no base model.", details, places)
    known = [*base.names, str(base.path)]
    if _last(wanted) in {_last(name) for name in known}:
        return Measurement(_NAME, 0, "names", "names in the configs", "", details, places)
    if _is_path(wanted) or not any(not _is_path(name) for name in base.names):
        reason = "one of the two goes by a path only, which says nothing about what lies there."
        return Measurement(_NAME, None, "names", "", reason, details, places)
    return Measurement(_NAME, 1, "names", "names in the configs", "", details, places)


def _last(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold()


def _is_path(name: str) -> bool:
    """Whether a name is a path rather than `owner/name`; a folder called like a hub name cannot be told apart."""
    return name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1


def _shapes(facts: AdapterFacts, base: BaseFact) -> Measurement:
    pairs = [pair for pair in factors(facts).pairs if len(pair.a.shape) == len(pair.b.shape) == 2]
    pairs = [pair for pair in pairs if ".base_layer" not in pair.module and not _targets_parameters(facts, pair)]
    if base.reason or not pairs:
        reason = base.reason or "the adapter has no plain factors to hold against it"
        return Measurement(_SHAPES, None, "modules", reason=f"{reason}.")
    layers = {name.removesuffix(_WEIGHT): shape for name, shape in base.shapes.items() if name.endswith(_WEIGHT)}
    known = LayerNames(layers)
    misfits: list[dict[str, object]] = []
    absent: list[str] = []
    strangers: list[str] = []
    matched = 0
    for pair in pairs:
        layer = known.find(pair.module).layer
        if layer is None:
            (absent if known.has_siblings(pair.module) else strangers).append(pair.module)
            continue
        matched += 1
        wanted = _dimensions(pair)
        # Conv1D stores its weight transposed, and no file says whether a layer is one: either way round fits.
        if sorted(layers[layer]) != sorted(wanted):
            misfits.append({"module": pair.module, "base": list(layers[layer]), "adapter": list(wanted)})
    if not matched and any(name.endswith(_PACKED) for name in (*base.others, *base.shapes)):
        reason = "the base is quantized: its tensors have other dimensions than its layers."
        return Measurement(_SHAPES, None, "modules", reason=reason)
    if matched:
        # A layer that only the model in memory has, such as a tied output layer, stands in no file.
        strangers = []
    strangers = [name for name in strangers if name.rpartition(".")[2] not in _HEADS]
    details = {
        "misfits": misfits[:5],
        "misfit_count": len(misfits),
        "absent": sample([*absent, *strangers]),
        "absent_count": len(absent) + len(strangers),
        "matched": matched,
        "looked_at": len(pairs),
        "base": str(base.path),
    }
    count = len(misfits) + len(absent) + len(strangers)
    places = (Place(path=str(facts.folder)),)
    return Measurement(_SHAPES, count, "modules", "headers of the base model", details=details, places=places)


def _targets_parameters(facts: AdapterFacts, pair: Pair) -> bool:
    owners = {name.rpartition(".")[0] for name in (facts.config.target_parameters if facts.config else ())}
    return any(pair.module == owner or pair.module.endswith(f".{owner}") for owner in owners if owner)


def _dimensions(pair: Pair) -> tuple[int, int]:
    """(out, in) of the layer that the factors are for; of an embedding, (vocabulary, width)."""
    if pair.a.key.role is Role.EMBEDDING_A:
        return pair.a.shape[1], pair.b.shape[0]
    return pair.b.shape[0], pair.a.shape[1]


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error when modules do not fit the base, or the two go by different names."""
    names, shapes = measurements
    if not names.value and not shapes.value:
        return []
    about = rule("M03")
    message, confidence, basis, caveat = _by_shape(shapes) if shapes.value else _by_name(names)
    return [
        Finding(
            code=about.code,
            rule=about.id,
            severity=Severity.ERROR,
            message=message,
            evidence={"names": dict(names.details), "shapes": dict(shapes.details)},
            advice="Serve it with the base model it was trained on, at the same revision.",
            confidence=confidence,
            basis=basis,
            caveat=caveat,
            places=names.places or shapes.places,
        )
    ]


def _by_shape(shapes: Measurement) -> tuple[str, float, str, str]:
    """Message, confidence, basis and caveat of a base whose tensors do not fit."""
    details = shapes.details
    basis = "headers of the adapter and of the base model"
    resized = "a vocabulary that was resized after training changes the embedding and the output layer"
    renamed = "some programs name the layers of a model in memory otherwise than its files do"
    if details["misfits"]:
        first = details["misfits"][0]
        sides = " x ".join(map(str, first["adapter"])), " x ".join(map(str, first["base"]))
        what = f"{shown(first['module'])} is made for {sides[0]}, and is {sides[1]} in the base"
        counts = f"{details['misfit_count']:,} of {details['looked_at']:,} modules"
        return f"{counts} do not fit the base: {what}.", 0.95, basis, resized
    if details["matched"]:
        counts = f"{details['absent_count']:,} of {details['looked_at']:,} modules"
        return f"{counts} are not in the base, such as {shown(details['absent'][0])}.", 0.85, basis, renamed
    what = f"None of the adapter's {details['looked_at']:,} modules is in the base"
    return f"{what}, such as {shown(details['absent'][0])}.", 0.7, basis, renamed


def _by_name(names: Measurement) -> tuple[str, float, str, str]:
    """The same for a base that goes by another name."""
    given = next((name for name in names.details["base_says"] if not _is_path(name)), "")
    message = f"The adapter was trained on {shown(names.details['adapter_says'])}, and the base is {shown(given)}."
    caveat = "the same model under another name, such as a copy or a quantized version, is fine"
    return message, 0.6, "the names in both configs", caveat
