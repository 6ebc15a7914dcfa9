"""What `gradience audit A --against B` says: how far two adapters overlap, each figure beside what chance gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gradience_analysis.audit.naming import MODULE_TYPES
from gradience_analysis.audit.overlap_result import LABELS, AdapterOverlap, ModuleOverlap, Side, totals
from gradience_analysis.model import Block, Field, Fields, Note, Notes, Report, Section, Table, plural
from gradience_analysis.reports.format import clipped, number
from gradience_schema import Severity

SCHEMA: Final = "gradience.adapter_overlap/v1"
_MOST: Final = 5
_MOST_VERBOSE: Final = 20
_NAMES: Final = 5
_BRACKETS: Final = " (in brackets: random updates)"
_COLUMNS: Final = ("outputs", "inputs", "direction", "size ratio")
_NONE: Final = "-"
_SPREAD: Final = "+-"  # a terminal that can show ASCII alone has it, too


def overlap_report(result: AdapterOverlap, *, verbose: bool = False, layers: bool = False) -> Report:
    """The comparison of two adapters: verdict, medians, a table by module type, and the modules that overlap most.

    Args:
        result: The comparison.
        verbose: Name more modules, and the limits that the labels rest on.
        layers: List every module, in the text and in the data.
    """
    verdict = _verdict(result)
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        **result.to_dict(layers=layers),
    }
    title = f"{clipped(str(result.a.path))} against {clipped(str(result.b.path))}"
    sections = tuple(_sections(result, verbose=verbose, layers=layers))
    return Report("adapter_overlap", title, verdict, sections, data)


def _verdict(result: AdapterOverlap) -> Note:
    if not result.rows:
        why = (
            f"{plural(len(result.mismatched), 'module')} of the same name {_have(len(result.mismatched))} other shapes"
            if result.mismatched
            else f"the first adapts {plural(result.a.modules, 'module')}, the second {result.b.modules:,} others"
            if result.a.modules and result.b.modules
            else f"the {'second' if result.a.modules else 'first'} has no module that could be read"
        )
        return Note(Severity.WARNING, f"Nothing in common to compare: {why}.")
    counts = ", ".join(f"{count:,} {label}" for label, count in result.labels.items() if count)
    alone = len(result.only_a) + len(result.only_b) + len(result.mismatched)
    rest = f"; {plural(alone, 'further module')} cannot be compared" if alone else ""
    # Ranks that AdaLoRA has pruned away are no fault: the update is zero there.
    lost = [one for side in (result.a, result.b) for one in side.left_out if one.reason != "pruned"]
    unread = f" {plural(sum(len(one.keys) for one in lost), 'LoRA key')} left out." if lost else ""
    standing = " Limits are not calibrated." if _uncalibrated(result) else ""
    loud = result.labels["conflicting"] or result.mismatched or lost
    text = f"{plural(len(result.rows), 'module')} in common: {counts}{rest}.{unread}{standing}"
    return Note(Severity.WARNING if loud else Severity.INFO, text)


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _uncalibrated(result: AdapterOverlap) -> bool:
    return not all(one.calibrated for one in result.thresholds.values())


def _sections(result: AdapterOverlap, *, verbose: bool, layers: bool) -> Iterator[Section]:
    yield Section("", (Fields(tuple(_sides(result, verbose=verbose))),))
    if result.rows:
        yield Section("Overlap (medians over modules)", (_medians(result.summary),))
        yield Section(f"By module type{_BRACKETS}", (_by_type(result.rows),))
        yield _modules(result, verbose=verbose, layers=layers)
        labels = tuple(Field(label, meaning) for label, meaning in LABELS.items() if result.labels[label])
        yield Section("Labels", (Fields(labels),))
    notes = tuple(_notes(result))
    if notes:
        yield Section("How to read this", (Notes(notes),))
    if verbose and result.rows:
        yield Section("Limits", (_limits(result),))


def _sides(result: AdapterOverlap, *, verbose: bool) -> Iterator[Field]:
    yield Field("First", _side(result.a))
    yield Field("Second", _side(result.b))
    for label, names in (("First alone", result.only_a), ("Second alone", result.only_b)):
        if names:
            yield Field(label, _list(names, verbose=verbose))
    if result.mismatched:
        words = [f"{one.name} ({_by(one.shape_a)} and {_by(one.shape_b)})" for one in result.mismatched]
        yield Field("Shapes differ", _list(words, verbose=verbose))


def _side(side: Side) -> str:
    parts = [clipped(side.name), plural(side.modules, "module")]
    lost = sum(len(one.keys) for one in side.left_out)
    if side.left_out:
        parts.append(f"{lost:,} of {plural(side.lora_keys, 'LoRA key')} left out ({_reasons(side)})")
    if side.base_model:
        parts.append(f"base {clipped(side.base_model)}")
    return " · ".join(parts)


def _reasons(side: Side) -> str:
    return ", ".join(dict.fromkeys(one.reason.replace("_", " ") for one in side.left_out))


def _list(names: Sequence[str], *, verbose: bool) -> str:
    shown = len(names) if verbose else _NAMES
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return f"{plural(len(names), 'module')}: {', '.join(clipped(name) for name in names[:shown])}{more}"


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _medians(summary: Mapping[str, Any]) -> Fields:
    def beside(name: str, sign: str = "") -> str:
        return f"{_figure(summary[f'{name}_median'])}, random {sign}{_figure(summary[f'{name}_baseline_median'])}"

    ratio = summary["magnitude_ratio_median"]
    return Fields(
        (
            Field("Outputs", f"{beside('left')} (lora_B; 0 apart, 1 the same subspace)"),
            Field("Inputs", f"{beside('right')} (lora_A)"),
            Field("Direction", f"{beside('direction', _SPREAD)} (1 the same way, -1 opposed)"),
            Field("Size ratio", "not measured" if ratio is None else f"{number(ratio)} (norm of first over second)"),
        )
    )


def _by_type(rows: Sequence[ModuleOverlap]) -> Table:
    lines: list[tuple[str, ...]] = []
    for kind in MODULE_TYPES:
        some = [row for row in rows if row.module_type == kind]
        if not some:
            continue
        median = totals(some)
        counts = {label: sum(row.label == label for row in some) for label in LABELS}
        words = ", ".join(f"{count:,} {label}" for label, count in counts.items() if count)
        lines.append(
            (
                kind,
                f"{len(some):,}",
                *(_pair(median[f"{name}_median"], median[f"{name}_baseline_median"]) for name in ("left", "right")),
                _pair(median["direction_median"], median["direction_baseline_median"], _SPREAD),
                _figure(median["magnitude_ratio_median"]),
                words,
            )
        )
    return Table(("type", "modules", *_COLUMNS, "labels"), tuple(lines), frozenset({"modules", *_COLUMNS}))


def _modules(result: AdapterOverlap, *, verbose: bool, layers: bool) -> Section:
    rows = result.rows
    title = "Modules"
    if not layers:
        most = _MOST_VERBOSE if verbose else _MOST
        rows = tuple(sorted(rows, key=_weight, reverse=True)[:most])
        title = "Modules that overlap most" if len(rows) < len(result.rows) else title
    blocks: list[Block] = [
        Table(
            ("module", *_COLUMNS, "label"),
            tuple(
                (
                    clipped(row.name),
                    _pair(row.left, row.left_baseline),
                    _pair(row.right, row.right_baseline),
                    _pair(row.direction, row.direction_baseline, _SPREAD),
                    _figure(row.magnitude_ratio),
                    f"{row.label}: {row.reason}" if row.reason else row.label,
                )
                for row in rows
            ),
            frozenset(_COLUMNS),
        )
    ]
    if len(rows) < len(result.rows):
        more = f"{plural(len(result.rows) - len(rows), 'module')} (--layers lists all)"
        blocks.append(Fields((Field("Not shown", more),)))
    return Section(f"{title}{_BRACKETS}", tuple(blocks))


def _weight(row: ModuleOverlap) -> float:
    """How far a module is above chance, in outputs or in direction; one without figures comes last."""
    if math.isnan(row.left) or math.isnan(row.direction):
        return -math.inf
    room = 1 - row.left_baseline
    return max((row.left - row.left_baseline) / room if room > 0 else 0.0, abs(row.direction))


def _notes(result: AdapterOverlap) -> Iterator[Note]:
    for remark in result.remarks:
        yield Note(Severity.WARNING, remark)
    if result.rows:
        yield Note(
            Severity.INFO,
            "Updates interfere mainly where they write, in the outputs; inputs agree, too, when both had one seed.",
        )
        yield Note(
            Severity.INFO,
            "Nothing was merged here, and the labels are proposals: an evaluation tells whether the two work together.",
        )


def _limits(result: AdapterOverlap) -> Table:
    rows = tuple(
        (name.partition(".")[2], f"{one.value:g}", one.unit, one.standing) for name, one in result.thresholds.items()
    )
    return Table(("limit", "value", "unit", "standing"), rows, frozenset({"value"}))


def _pair(value: float | None, baseline: float | None, sign: str = "") -> str:
    if value is None or math.isnan(value):
        return _NONE
    return f"{_figure(value)} ({sign}{_figure(baseline)})"


def _figure(value: float | None) -> str:
    """Two significant digits below 1, three above."""
    if value is None or math.isnan(value):
        return _NONE
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"
