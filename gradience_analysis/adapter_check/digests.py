"""Digests: whether the files are still those that were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.adapter_check.facts import AdapterFacts
from gradience_analysis.adapter_check.pairs import named
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.catalogue import rule
from gradience_analysis.model import Finding, Measurement, Place
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {"digest_mismatch": "A file is not the one whose SHA-256 is on record."}
COVERS: Mapping[str, frozenset[str]] = {}
NAME = "adapter_digest_mismatches"


def measure(facts: AdapterFacts) -> tuple[Measurement, ...]:
    """Recorded files whose SHA-256 is another one now, or that cannot be read."""
    if facts.digests is None:
        reason = "no digests were given. Register the adapter, so that its files have a record."
        return (Measurement(NAME, None, "files", reason=reason),)
    wrong = [one for one in facts.digests if one.found != one.recorded]
    recorded = {one.file for one in facts.digests}
    files = [
        {"file": one.file, "recorded": one.recorded, "found": one.found, "reason": one.reason} for one in wrong[:5]
    ]
    details = {
        "files": files,
        "recorded": len(facts.digests),
        "weights_without_record": [name for name in facts.files.safetensors if name not in recorded][:5],
    }
    places = tuple(Place(path=str(facts.folder / one.file)) for one in wrong[:5])
    return (Measurement(NAME, len(wrong), "files", "SHA-256 of the files on record", details=details, places=places),)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error when a file is not the recorded one."""
    (item,) = measurements
    if not item.value:
        return []
    about = rule("Q09")
    first = item.details["files"][0]
    what = first["reason"] or "has another SHA-256 than the one on record"
    names = [shown(one["file"]) for one in item.details["files"]]
    subject = names[0] if item.value == 1 else f"{named(names, int(item.value))}: the first"
    return [
        Finding(
            code=about.code,
            rule=about.id,
            severity=Severity.ERROR,
            message=f"{subject} {what}.",
            evidence=dict(item.details),
            advice="Do not serve it; restore the recorded copy, or register the new one after evaluating it.",
            basis="the whole file was hashed",
            caveat="saving the same weights again can change the bytes: the order of tensors, or the metadata",
            places=item.places,
        )
    ]
