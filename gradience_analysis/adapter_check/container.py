"""Weight files: whether they can be read without running code, hold together, and are the only ones there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gradience_analysis.adapter_check.facts import AdapterFacts
from gradience_analysis.adapter_check.pairs import named, sample
from gradience_analysis.adapters.strict_json import shown
from gradience_analysis.catalogue import rule
from gradience_analysis.model import Finding, Measurement, Place
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODES: Mapping[str, str] = {
    "pickled_weights": "The weights are a pickle, which runs code when it is loaded.",
    "safetensors_header_invalid": "A safetensors file does not hold together, and nothing in it can be believed.",
    "weights_ambiguous": "It is not clear which weights are the adapter's, or a part of them is missing.",
    "adapter_weights_missing": "The folder holds no weights of an adapter.",
}
COVERS: Mapping[str, frozenset[str]] = {}


def measure(facts: AdapterFacts) -> tuple[Measurement, ...]:
    """Files of weights by kind, and what is wrong with those that cannot be read."""
    files = facts.files
    folder = str(facts.folder)
    faults = [{"file": one.file, "code": one.code, "message": one.message} for one in facts.faults]
    if files.index_fault:
        faults.append({"file": "", "code": "invalid_index", "message": files.index_fault})
    stems = {name.removesuffix(".safetensors") for name in files.safetensors}
    # Tensors that were taken out of a pickle lie elsewhere, and are no rival to it.
    taken_out = files.folder != facts.folder
    rivals = [] if taken_out else [one.name for one in files.pickled if Path(one.name).stem in stems]
    split = {
        "missing_shards": sample(files.missing_shards),
        "missing_shard_count": len(files.missing_shards),
        "rival_sets": sample(files.rivals),
        "pickled_beside": sample(rivals),
        "tensors_absent": sample(facts.absent),
        "tensors_repeated": sample(facts.repeated),
    }
    unclear = sum(map(len, (files.missing_shards, files.rivals, rivals, facts.absent, facts.repeated)))
    pickled = [{"file": one.name, "kind": one.kind} for one in files.pickled]
    count = len(files.safetensors)
    return (
        Measurement(
            "adapter_weight_files",
            count,
            "files",
            f"safetensors files in {folder}",
            details={"files": sample(files.safetensors), "empty": files.empty and not files.rivals, "folder": folder},
        ),
        Measurement(
            "adapter_pickled_files",
            len(pickled),
            "files",
            "names and first bytes",
            details={
                "files": pickled[:5],
                "alone": count == 0 or taken_out,
                "names": sample(one.name for one in files.pickled),
            },
            places=tuple(Place(path=str(facts.folder / one.name)) for one in files.pickled[:5]),
        ),
        Measurement(
            "adapter_faulty_files",
            len(faults),
            "files",
            "headers of the safetensors files",
            details={"faults": faults[:5]},
            places=tuple(Place(path=str(facts.folder / one["file"])) for one in faults[:5]),
        ),
        Measurement("adapter_unclear_files", unclear, "files or tensors", f"names in {folder}", details=split),
    )


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for each file that cannot be believed or runs code; a warning where it is unclear which ones count."""
    weights, pickled, faulty, unclear = measurements
    found = [_faulty(fault, place) for fault, place in zip(faulty.details["faults"], faulty.places, strict=True)]
    if pickled.value and pickled.details["alone"]:
        found.append(_pickled(pickled))
    if unclear.value:
        found.append(_unclear(unclear, weights))
    if weights.details["empty"]:
        found.append(_missing(weights))
    return found


def _faulty(fault: Mapping[str, str], place: Place) -> Finding:
    about = rule("M08")
    file = f"{shown(fault['file'])} " if fault["file"] else ""
    return Finding(
        code=about.code,
        rule=about.id,
        severity=Severity.ERROR,
        message=f"{file}{fault['message']}.",
        evidence=dict(fault),
        advice="Take a fresh copy, or save it again with the safetensors library; use nothing that was read from it.",
        basis="the header was held against the size of the file" if fault["code"] != "unreadable" else "it was opened",
        places=(place,),
    )


def _pickled(pickled: Measurement) -> Finding:
    about = rule("M10")
    names = pickled.details["names"]
    count = int(pickled.value or 0)
    return Finding(
        code=about.code,
        rule=about.id,
        severity=Severity.ERROR,
        message=f"The weights are pickled ({named([shown(name) for name in names], count)}), and were not opened.",
        evidence={"files": pickled.details["files"]},
        advice=(
            "Ask for a safetensors copy, or convert it where running its code does no harm: "
            "torch.load(..., weights_only=True), then safetensors.torch.save_file."
        ),
        confidence=0.95,
        basis="the first bytes of the file; loading a pickle can run any code that its author put in",
        caveat="most such files are harmless, but none shows that it is without running it",
        places=pickled.places,
    )


def _unclear(unclear: Measurement, weights: Measurement) -> Finding:
    about = rule("Q10")
    details = unclear.details
    if details["missing_shards"]:
        what = f"lacks {named([shown(name) for name in details['missing_shards']], details['missing_shard_count'])}"
    elif details["tensors_absent"]:
        what = f"has an index that names {shown(details['tensors_absent'][0])} in a shard that lacks it"
    elif details["pickled_beside"]:
        what = f"holds the weights twice, as safetensors and as {shown(details['pickled_beside'][0])}"
    elif details["rival_sets"]:
        what = f"holds several sets of safetensors weights ({', '.join(map(shown, details['rival_sets']))})"
    else:
        what = f"holds {shown(details['tensors_repeated'][0])} in more than one shard"
    return Finding(
        code=about.code,
        rule=about.id,
        severity=Severity.WARNING,
        message=f"The folder {what}.",
        evidence=dict(details),
        advice="Keep one complete set of weights; restore a missing shard from where the adapter was saved.",
        confidence=0.9,
        basis="the names in the folder and the index",
        caveat="which of several files is loaded depends on the program that loads them",
        places=(Place(path=weights.details["folder"]),),
    )


def _missing(weights: Measurement) -> Finding:
    return Finding(
        code="adapter_weights_missing",
        severity=Severity.WARNING,
        message="The folder holds no weights of an adapter: nothing could be checked.",
        evidence={"folder": weights.details["folder"]},
        advice="Give the folder that save_pretrained wrote, with adapter_model.safetensors in it.",
        basis="the names in the folder",
        places=(Place(path=weights.details["folder"]),),
    )
