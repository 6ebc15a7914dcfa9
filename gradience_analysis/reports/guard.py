"""What `gradience guard simulate` says: what a guard would have done in recorded runs, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gradience_analysis.diagnostics import guard_activity
from gradience_analysis.model import Field, Fields, Note, Notes, Report, Run, Section, Table, plural
from gradience_analysis.reports.format import clipped, number
from gradience_schema import Severity

SCHEMA: Final = "gradience.guard_simulation/v1"
SHOWN: Final = 12
_ACTIONS: Final[Mapping[str, str]] = {"skip": "skip", "abort": "abort", "warn": "warning", "scaled": "scaler's skip"}
"""Every action, in the order in which they are told, and its noun."""
_CHANGES: Final = ("skip", "abort")
_SEEN: Final[Mapping[str, str]] = {
    "nonfinite_loss": "loss not finite",
    "nonfinite_gradient": "gradient not finite",
    "gradient_cap": "norm above the cap",
    "gradient_spike": "norm is a spike",
}
_DECIDING: Final = (
    *("grad_threshold", "spike_deviations", "spike_ratio", "spike_window", "spike_min_history"),
    *("on_clipped_spike", "max_skips"),
)
"""The guard's options that decide in a record; the others are about snapshots and rollbacks."""
_RIGHT: Final = frozenset({"step", "norm", "limit", "steps"})
_BLIND: Final = (
    "A log shows no weights: damage outside the gradient, and the rollback it leads to, cannot be played. The spike "
    "rule knows only the norms that were logged."
)
_FOLLOWS: Final = (
    "Steps in a row that are not finite are often what the first of them did to the weights: a guard that left the "
    "first out would then not have met the others. After an abort nothing more is played."
)
_UNKNOWN_CLIPPING: Final = (
    "Whether the gradient is clipped is not recorded, and the run is played as if it were not: a finite spike is "
    "skipped, where with clipping it only warns. Log training.max_grad_norm."
)


@dataclass(frozen=True, slots=True)
class PlayedStep:
    """One thing that a guard would have done.

    Attributes:
        segment: Index of the run's segment.
        step: Optimizer step.
        action: `warn`, `scaled`, `skip` or `abort`.
        trigger: What was seen, as the guard names it.
        norm: Gradient norm; None when unknown.
        limit: The norm above which it is too large; None when nothing limited it.
        reason: Why it is that; may be empty.
        after: It happened somewhere after that step, up to `step`; None when `step` is known to be the one.
        follows: Not the first of a row of steps that are not finite.
    """

    segment: int
    step: int
    action: str
    trigger: str
    norm: float | None
    limit: float | None
    reason: str = ""
    after: int | None = None
    follows: bool = False


@dataclass(frozen=True, slots=True)
class PlayedRun:
    """A guard played over one run.

    Attributes:
        run: The run.
        actions: What it would have done, in order.
        points: Steps that were played.
        steps: Optimizer steps that the run made.
        with_norm: How many of the played ones have a gradient norm.
        clipping: The declared `max_grad_norm`; 0 when clipping is off, None when it is not recorded.
        scaled: Whether a gradient scaler was in use.
    """

    run: Run
    actions: tuple[PlayedStep, ...]
    points: int
    steps: int
    with_norm: int
    clipping: float | None
    scaled: bool

    @property
    def counts(self) -> dict[str, int]:
        """How often it would have done each thing."""
        return {kind: sum(action.action == kind for action in self.actions) for kind in _ACTIONS}


def guard_report(played: Sequence[PlayedRun], limits: Mapping[str, Any], *, verbose: bool = False) -> Report:
    """What a guard with these limits would have done in each run and in all; beside it what one really did.

    Args:
        played: The runs, at least one.
        limits: Every option of the guard, by its name.
        verbose: Every run and every action, and the limits that decided.

    Raises:
        ValueError: There is no run.
    """
    if not played:
        raise ValueError("a report on a guard needs at least one run")
    verdict = _verdict(played)
    sections: list[Section] = []
    if len(played) > 1:
        sections.append(Section("Overview", (_overview(played),)))
    for item in played:
        if len(played) == 1 or item.actions or verbose:
            sections += _run_sections(item, alone=len(played) == 1, verbose=verbose)
    sections.append(Section("How to read this", (Notes(tuple(_notes(played))),)))
    if verbose:
        values = tuple((name, _limit(limits[name])) for name in _DECIDING if name in limits)
        sections.append(Section("Limits", (Table(("limit", "value"), values, frozenset({"value"})),)))
    title = played[0].run.path if len(played) == 1 else plural(len(played), "run")
    return Report("guard_simulation", title, verdict, tuple(sections), _data(played, limits, verdict))


def _verdict(played: Sequence[PlayedRun]) -> Note:
    points, steps = sum(item.points for item in played), sum(item.steps for item in played)
    if not points:
        return Note(Severity.WARNING, "There is nothing to play: no train_step carries a loss or a gradient norm.")
    seen = f"{points:,} of {plural(steps, 'step')} seen" if steps > points else f"{plural(points, 'step')} seen"
    totals = _totals(played)
    if not any(totals.values()):
        where = "" if len(played) == 1 else f" in {plural(len(played), 'run')}"
        return Note(Severity.INFO, f"A guard would have done nothing{where} ({seen}).")
    acted = sum(bool(item.actions) for item in played)
    where = "" if len(played) == 1 else f" in {acted} of {plural(len(played), 'run')}"
    severity = Severity.WARNING if any(totals[kind] for kind in _CHANGES) else Severity.INFO
    following = _following(action for item in played for action in item.actions)
    return Note(severity, f"A guard would have acted{where}: {_words(totals)}{following} ({seen}).")


def _totals(played: Sequence[PlayedRun]) -> dict[str, int]:
    return {kind: sum(item.counts[kind] for item in played) for kind in _ACTIONS}


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(plural(counts[kind], noun) for kind, noun in _ACTIONS.items() if counts[kind])


def _following(actions: Iterable[PlayedStep]) -> str:
    """How many of the actions may come from a step that a guard would have left out."""
    count = sum(action.follows for action in actions)
    return f", {count:,} of them after the first of a row" if count else ""


def _overview(played: Sequence[PlayedRun]) -> Table:
    rows: list[tuple[str, ...]] = []
    for item in played:
        counts = item.counts
        changed = [action for action in item.actions if action.action in _CHANGES]
        cells = (
            f"{item.points:,} of {item.steps:,}",
            *(f"{counts[kind]:,}" for kind in ("warn", *_CHANGES)),
            f"{changed[0].step:,}" if changed else "-",
            _really(item.run) or "-",
        )
        rows.append((item.run.path, *cells))
    columns = ("run", "steps seen", "warn", "skip", "abort", "first skip", "a guard really did")
    return Table(columns, tuple(rows), frozenset(columns[1:6]))


def _run_sections(item: PlayedRun, *, alone: bool, verbose: bool) -> list[Section]:
    run = item.run
    fields = (
        Field("Run", f"{clipped(run.run_id)} · {run.path}"),
        Field("Steps seen", _seen(item)),
        Field("Clipping", _clipping(item)),
        Field("Would have", f"{_words(item.counts)}{_following(item.actions)}" if item.actions else "done nothing"),
        Field("Really did", _really(run) or "no guard recorded anything"),
    )
    sections = [Section("" if alone else run.path, (Fields(fields[0 if alone else 1 :]),))]
    if item.actions:
        rows = list(_rows(item))
        shown = rows if verbose else rows[:SHOWN]
        left = len(rows) - len(shown)
        columns = ("step", "action", "seen", "norm", "limit", "steps")
        more = f" (first {len(shown)}, {left:,} more with --verbose)" if left else ""
        table = Table(columns, tuple(row for row, _ in shown), _RIGHT)
        reasons = tuple(Note(Severity.INFO, text) for _, text in shown if text)
        blocks = (table, Notes(reasons)) if reasons else (table,)
        sections.append(Section(f"What it would have done{more}", blocks))
    return sections


def _seen(item: PlayedRun) -> str:
    norms = "all with a gradient norm" if item.with_norm == item.points else f"{item.with_norm:,} with a gradient norm"
    return f"{item.points:,} of {item.steps:,}, {norms}" if item.points else "none"


def _clipping(item: PlayedRun) -> str:
    limit = item.clipping
    words = "not recorded" if limit is None else f"max_grad_norm {number(limit)}" if limit else "off"
    return f"{words}; float16 with a gradient scaler" if item.scaled else words


def _really(run: Run) -> str:
    """What a guard recorded that it did; empty when none recorded anything."""
    (measured,) = guard_activity.measure(run)
    if measured.value is None:
        return ""
    done = (("rollbacks", "rollback"), ("skips", "skip"), ("aborts", "abort"))
    words = [plural(measured.details[name], noun) for name, noun in done if measured.details[name]]
    noticed = sum(measured.details["noticed"].values())
    words += [f"{plural(noticed, 'step')} noticed"] if noticed else []
    return ", ".join(words) or "nothing"


def _rows(item: PlayedRun) -> Iterator[tuple[tuple[str, ...], str]]:
    """The rows of the table, each with a sentence of its own where it needs one; steps in a row are one."""
    group: list[PlayedStep] = []
    for action in item.actions:
        if group and not _goes_on(group[-1], action):
            yield _row(group)
            group = []
        group.append(action)
    if group:
        yield _row(group)


def _goes_on(before: PlayedStep, action: PlayedStep) -> bool:
    same = (before.action, before.trigger, before.segment) == (action.action, action.trigger, action.segment)
    return same and action.follows and not action.reason


def _row(group: Sequence[PlayedStep]) -> tuple[tuple[str, ...], str]:
    first, last = group[0], group[-1]
    start = f"{first.step:,}" if first.after is None else f"{first.after + 1:,}"
    step = start if start == f"{last.step:,}" else f"{start} to {last.step:,}"
    limit = "-" if first.limit is None else number(first.limit)
    norm = "-" if first.norm is None else number(first.norm)
    seen = _SEEN.get(first.trigger, first.trigger.replace("_", " "))
    reason = f"Step {last.step:,}: {first.action}, for there were {first.reason}." if first.reason else ""
    return (step, first.action, seen, norm, limit, f"{len(group):,}"), reason


def _notes(played: Sequence[PlayedRun]) -> Iterator[Note]:
    if any(item.clipping is None for item in played):
        yield Note(Severity.INFO, _UNKNOWN_CLIPPING)
    if any(action.follows for item in played for action in item.actions):
        yield Note(Severity.INFO, _FOLLOWS)
    yield Note(Severity.INFO, _BLIND)


def _limit(value: object) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _data(played: Sequence[PlayedRun], limits: Mapping[str, Any], verdict: Note) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "verdict": {"severity": str(verdict.severity), "text": verdict.text},
        "limits": dict(limits),
        "points": sum(item.points for item in played),
        "steps": sum(item.steps for item in played),
        "counts": _totals(played),
        "runs": [_run_data(item) for item in played],
    }


def _run_data(item: PlayedRun) -> dict[str, Any]:
    (measured,) = guard_activity.measure(item.run)
    return {
        "path": item.run.path,
        "run_id": item.run.run_id,
        "points": item.points,
        "steps": item.steps,
        "with_norm": item.with_norm,
        "max_grad_norm": item.clipping,
        "scaled": item.scaled,
        "counts": item.counts,
        "actions": [
            {name: getattr(action, name) for name in PlayedStep.__dataclass_fields__} for action in item.actions
        ],
        "recorded": None if measured.value is None else dict(measured.details),
    }
