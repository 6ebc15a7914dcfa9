"""What `gradience check` says about a run that has not started."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradience_analysis.config_check.examine import examine, has_anything, known_settings, looked_at
from gradience_analysis.config_check.keys import ALIASES
from gradience_analysis.config_check.settings.quantity import shown
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.diagnostics.base import Diagnosis
from gradience_analysis.model import (
    Block,
    Change,
    Field,
    Fields,
    Finding,
    Measurement,
    Note,
    Notes,
    Report,
    Section,
    Table,
    plural,
)
from gradience_analysis.policy import Policy
from gradience_analysis.reports.format import clipped, number
from gradience_analysis.reports.header import batch_words, length_words
from gradience_analysis.reports.remarks import finding_notes
from gradience_schema import Severity

SCHEMA = "gradience.check/v1"
NOTHING = "Nothing to check: no setting was given."
_HOW = (
    "Give a configuration, --peft, --training, single settings such as --r and --lr, --data, --model or --env; "
    "`gradience check --help` lists them."
)
_SHOWN_UNKNOWN = 8
_MOST_UNKNOWN = 200
_SETTINGS = {
    "peak_lr": "learning rate",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_targets": "target modules",
    "batch_size": "batch size",
    "max_length": "maximum length",
}
"""Settings worth a word when they are not set, by the name of their measurement."""


def check_report(
    subject: Preflight, policy: Policy, adapter: Diagnosis | None = None, *, verbose: bool = False
) -> Report:
    """Examine a configuration, and lay out what there is to say.

    Args:
        subject: What was read and gathered.
        policy: The thresholds.
        adapter: What the files of an adapter showed.
        verbose: Add evidence, every setting with its source, and every measurement.
    """
    diagnosis = examine(subject, policy, adapter)
    judged = has_anything(subject) or adapter is not None
    verdict = _verdict(subject, diagnosis) if judged else Note(Severity.WARNING, NOTHING)
    checked, unchecked = looked_at(subject, adapter=adapter is not None)
    data = {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "judged": judged,
        "sources": list(subject.sources),
        "checked": list(checked),
        "not_checked": [{"what": what, "how": how} for what, how in unchecked],
        "settings": _settings_data(subject),
        "unknown_keys": [
            {"name": one.name, "source": one.source, "meant": one.meant or None}
            for one in subject.unknown[:_MOST_UNKNOWN]
        ],
        "config": subject.config.to_dict(),
        "findings": [finding.to_dict() for finding in diagnosis.findings],
        "measurements": [measurement.to_dict() for measurement in diagnosis.measurements],
    }
    sections = _sections(subject, diagnosis, adapter, verbose=verbose) if judged else _nothing(subject)
    return Report("check", ", ".join(subject.sources) or "configuration", verdict, tuple(sections), data)


def _verdict(subject: Preflight, diagnosis: Diagnosis) -> Note:
    loud = [finding for finding in diagnosis.findings if finding.severity is not Severity.INFO]
    if loud:
        more = f" ({plural(len(loud) - 1, 'more finding')} below)" if len(loud) > 1 else ""
        return Note(loud[0].severity, loud[0].message + more)
    ok = next((finding for finding in diagnosis.findings if finding.code == "config_ok"), None)
    if ok is not None:
        return Note(Severity.INFO, ok.message)
    advice = plural(len(diagnosis.findings), "remark")
    return Note(Severity.INFO, f"No error and no warning; {advice} on {plural(known_settings(subject), 'setting')}.")


def _nothing(subject: Preflight) -> list[Section]:
    blocks: list[Block] = [Notes((Note(Severity.INFO, _HOW),))]
    if subject.sources:
        fields = [Field("Read", ", ".join(subject.sources)), *_not_understood(subject)]
        blocks.insert(0, Fields(tuple(fields)))
    return [Section("", tuple(blocks))]


def _sections(subject: Preflight, diagnosis: Diagnosis, adapter: Diagnosis | None, *, verbose: bool) -> list[Section]:
    sections: list[Section] = []
    header = _header(subject)
    if header:
        sections.append(Section("", (Fields(tuple(header)),)))
    findings = [finding for finding in diagnosis.findings if finding.code != "config_ok"]
    if findings:
        sections.append(Section("Findings", (_notes(findings, verbose=verbose),)))
    changes = [change for finding in findings for change in finding.changes]
    if changes:
        sections.append(Section("Changes to try", (_changes(changes),)))
    if verbose and subject.settings:
        sections.append(Section("Settings", (_settings_table(subject),)))
    sections.append(Section("Checked", (_coverage(subject, diagnosis, adapter, verbose=verbose),)))
    return sections


def _header(subject: Preflight) -> list[Field]:
    """What is to be trained, as far as it is known."""
    config, fields = subject.config, [Field("Read", ", ".join(subject.sources))] if subject.sources else []
    lora, training, optimizer = config.lora, config.training, config.optimizer
    names = [clipped(name) for name in (config.model_name, config.dataset_name) if name]
    if names:
        fields.append(Field("Run", " on ".join(names)))
    parts = [
        f"{word} {number(value)}"
        for word, value in (("r", lora.r), ("alpha", lora.alpha), ("dropout", lora.dropout))
        if value is not None
    ]
    if lora.target_modules:
        more = len(lora.target_modules) - 7
        shown = ", ".join(clipped(name) for name in lora.target_modules[:7])
        parts.append(f"on {shown}" + (f" and {more} more" if more > 0 else ""))
    if parts:
        fields.append(Field("LoRA", " · ".join(parts)))
    parts = [
        *([f"lr {number(optimizer.lr)}"] if optimizer.lr is not None else []),
        *([clipped(training.lr_scheduler)] if training.lr_scheduler else []),
        *[words for words in (batch_words(training), length_words(training)) if words],
        *([clipped(training.dtype)] if training.dtype else []),
        *([f"seed {training.seed}"] if training.seed is not None else []),
    ]
    return [*fields, Field("Training", " · ".join(parts))] if parts else fields


def _notes(findings: Sequence[Finding], *, verbose: bool) -> Notes:
    """The findings; their changes stand in a table of their own."""
    return finding_notes([replace(finding, changes=()) for finding in findings], verbose=verbose)


def _changes(changes: Sequence[Change]) -> Table:
    rows = tuple(
        (clipped(one.setting), clipped(one.current), clipped(one.suggested), clipped(one.why))
        for one in dict.fromkeys(changes)
    )
    return Table(("setting", "now", "try", "because"), rows)


def _settings_table(subject: Preflight) -> Table:
    rows = tuple(
        (key, shown(setting.value), clipped(setting.name), clipped(setting.source))
        for key, setting in sorted(subject.settings.items())
        if key in ALIASES
    )
    return Table(("setting", "value", "written as", "source"), rows)


def _coverage(subject: Preflight, diagnosis: Diagnosis, adapter: Diagnosis | None, *, verbose: bool) -> Fields:
    checked, unchecked = looked_at(subject, adapter=adapter is not None)
    fields = [Field("Looked at", ", ".join(checked) or "nothing")]
    if unchecked:
        fields.append(Field("Left out", ", ".join(f"{what} ({how})" for what, how in unchecked)))
    unset = [
        _SETTINGS[one.name]
        for one in diagnosis.measurements
        if one.name in _SETTINGS and one.value is None and not one.details.get("written")
    ]
    if unset and subject.settings:
        fields.append(Field("Not set", ", ".join(unset)))
    fields += _not_understood(subject)
    taken = [one for one in diagnosis.measurements if one.value is not None]
    absent = [one for one in diagnosis.measurements if one.value is None]
    if verbose:
        fields += [Field("Measured", _measured(one)) for one in taken]
        fields += [Field("Not measured", f"{one.name}: {clipped(one.reason)}") for one in absent]
    elif absent:
        fields.append(
            Field("Measured", f"{len(taken)} of {len(taken) + len(absent)} quantities (--verbose names them)")
        )
    return Fields(tuple(fields))


def _measured(one: Measurement) -> str:
    value = number(one.value) if isinstance(one.value, int | float) else clipped(str(one.value))
    unit = f" {one.unit}" if one.unit not in {"name", "0 or 1"} else ""
    return f"{one.name}: {value}{unit}" + (f" ({clipped(one.source)})" if one.source else "")


def _not_understood(subject: Preflight) -> list[Field]:
    others = [one.name for one in subject.unknown if not one.meant]
    if not others:
        return []
    listed = ", ".join(clipped(name) for name in others[:_SHOWN_UNKNOWN])
    more = f" and {len(others) - _SHOWN_UNKNOWN:,} more" if len(others) > _SHOWN_UNKNOWN else ""
    return [Field("Not known", f"{listed}{more}")]


def _settings_data(subject: Preflight) -> Mapping[str, Any]:
    """The settings that the checks know, with where each came from; no other value of a file is repeated."""
    replaced = itertools.groupby(sorted(subject.shadowed, key=lambda one: one.key), key=lambda one: one.key)
    others = {
        key: [{"value": one.value, "name": one.name, "source": one.source} for one in several]
        for key, several in replaced
    }
    return {
        key: {
            "value": one.value,
            "raw": one.raw,
            "name": one.name,
            "source": one.source,
            "remark": one.remark or None,
            "replaced": others.get(key, []),
        }
        for key, one in sorted(subject.settings.items())
        if key in ALIASES
    }
