"""What `gradience compress` says about an adapter that it made smaller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gradience_analysis.audit.naming import projection
from gradience_analysis.audit.ranks import SAFE_POLICY
from gradience_analysis.compression import Compression, LayerResult
from gradience_analysis.model import Field, Fields, Note, Notes, Report, Section, Table, plural
from gradience_analysis.reports.format import clipped, count, number, size
from gradience_schema import Severity

SCHEMA = "gradience.compress/v1"
SHOWN = 20
SAFE_ERROR = 0.1
"""sqrt(1 - 0.99): the relative error that is left at most where 99% of the energy are kept."""
_MEBIBYTE = 1 << 20
_EVALUATE = (
    "These errors are of the weights. What they do to the answers, evaluation decides: run your held-out evaluation on "
    "the compressed adapter before you use it."
)
_NUMBERS = frozenset({"modules", "rank", "saved", "predicted", "measured"})


def compress_report(done: Compression, *, verbose: bool = False) -> Report:
    """What was saved, and what it cost in every module.

    Args:
        done: The compression, written or planned.
        verbose: Every module, in place of those that lost most.
    """
    verdict = _verdict(done)
    sections = [Section("", (Fields(tuple(_fields(done))), Notes(tuple(_notes(done)))))]
    if done.cut:
        sections.append(Section("By projection", (_by_projection(done),)))
        sections.append(_modules(done, verbose=verbose))
    if done.sha256:
        files = [("original", name, digest) for name, digest in done.sha256.items()]
        files += [("compressed", name, digest) for name, digest in done.sha256_written.items()]
        rows = tuple((kind, clipped(name), digest) for kind, name, digest in files)
        sections.append(Section("SHA-256", (Table(("of", "file", "sha256"), rows),)))
    return Report("compress", clipped(str(done.source)), verdict, tuple(sections), _data(done, verdict))


def _verdict(done: Compression) -> Note:
    if not done.saves:
        text = f"Nothing would be saved by {done.rule[1]}: no rank would be lower. Nothing was written."
        return Note(Severity.WARNING, text)
    saved = 1 - done.params_after / done.params_before
    error = done.total_measured if done.written else done.total_predicted
    what = (
        f"{'Saved' if done.written else 'Would save'} {_percent(saved)} of the parameters "
        f"({count(done.params_before)} to {count(done.params_after)}) at a relative error of {number(error)} in all"
    )
    severity = Severity.INFO
    if done.total_predicted > SAFE_ERROR * (1 + 1e-6):
        severity = Severity.WARNING
        what += f", more than the {number(SAFE_ERROR)} to which {SAFE_POLICY} keeps it"
    decides = "evaluation decides whether that is too much"
    return Note(severity, f"{what}; {decides}." if done.written else f"{what}; nothing was written.")


def _fields(done: Compression) -> Iterator[Field]:
    yield Field("Compressed" if done.written else "Place", clipped(str(done.out)))
    yield Field("Ranks by", clipped(done.rule[1]))
    yield Field("Parameters", f"{done.params_before:,} to {done.params_after:,}")
    yield Field("Tensors", f"{_bytes(done.bytes_before)} to {_bytes(done.bytes_after)}")
    if not done.saves:
        return
    measured = "not (nothing was written)" if done.total_measured is None else number(done.total_measured)
    yield Field("Error", f"relative to delta_w: predicted {number(done.total_predicted)}, measured {measured}")
    yield Field("Config", f"r {done.r}, lora_alpha {done.r}, scaling 1" + _pattern_words(done))


def _pattern_words(done: Compression) -> str:
    others = sum(layer.rank_after != done.r for layer in done.layers)
    return f"; rank_pattern for {plural(others, 'module')}" if others else ""


def _notes(done: Compression) -> Iterator[Note]:
    if done.saves:
        yield Note(Severity.INFO, _EVALUATE)
    kept: dict[str, list[str]] = {}
    for layer in done.layers:
        if layer.kept_because:
            kept.setdefault(layer.kept_because, []).append(layer.module)
    for reason, names in kept.items():
        yield Note(
            Severity.INFO, f"{plural(len(names), 'module')} keep their rank and are copied: {reason}", _some(names)
        )
    if done.whole_tensors:
        text = f"{plural(len(done.whole_tensors), 'whole tensor')} copied bit for bit"
        yield Note(Severity.INFO, text, _some(done.whole_tensors))
    if done.not_copied:
        text = f"{plural(len(done.not_copied), 'other file')} of the folder not copied"
        yield Note(Severity.INFO, text, _some(done.not_copied))
    for remark in done.remarks:
        yield Note(Severity.INFO, remark)


def _some(names: Sequence[str], most: int = 3) -> tuple[str, ...]:
    listed = ", ".join(clipped(name, 80) for name in names[:most])
    return (listed + (f" and {len(names) - most:,} more" if len(names) > most else ""),)


def _by_projection(done: Compression) -> Table:
    groups: dict[str, list[LayerResult]] = {}
    for layer in done.layers:
        groups.setdefault(projection(layer.module), []).append(layer)
    rows: list[tuple[str, ...]] = []
    for name, layers in groups.items():
        before, after = sum(one.params_before for one in layers), sum(one.params_after for one in layers)
        worst = max(one.relative_predicted for one in layers)
        found = [one.relative_measured for one in layers if one.relative_measured is not None]
        ranks = (_range([one.rank_before for one in layers]), _range([one.rank_after for one in layers]))
        rows.append(
            (
                clipped(name, 80),
                f"{len(layers):,}",
                f"{ranks[0]} to {ranks[1]}",
                _percent(1 - after / before),
                number(worst),
                number(max(found)) if found else "-",
            )
        )
    return Table(("projection", "modules", "rank", "saved", "predicted", "measured"), tuple(rows), _NUMBERS)


def _modules(done: Compression, *, verbose: bool) -> Section:
    ordered = list(done.layers) if verbose else sorted(done.cut, key=lambda one: -one.relative_predicted)[:SHOWN]
    rows = tuple(
        (
            clipped(one.module, 120),
            f"{one.rank_before} to {one.rank_after}",
            number(one.relative_predicted),
            "-" if one.relative_measured is None else number(one.relative_measured),
        )
        for one in ordered
    )
    left = len(done.layers) - len(rows)
    title = "Modules" if not left else f"Modules that lose most ({left:,} more with --verbose)"
    return Section(title, (Table(("module", "rank", "predicted", "measured"), rows, _NUMBERS),))


def _range(ranks: Sequence[int]) -> str:
    low, high = min(ranks), max(ranks)
    return str(low) if low == high else f"{low}-{high}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.095 or share == 0 else f"{100 * share:.1f}%"


def _bytes(number_of: int) -> str:
    return f"{number_of:,} bytes" if number_of < _MEBIBYTE else size(number_of / _MEBIBYTE)


def _data(done: Compression, verdict: Note) -> dict[str, Any]:
    return {
        **done.to_dict(),
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "source": str(done.source),
        "out": str(done.out),
        "written": done.written,
        "dry_run": done.dry_run,
    }
