"""Logged values: whether the training code logs what it means to log.

Reading a file names every such fault with its place (`gradience validate` lists them all); here they are counted:

- `number_in_string` (V03): metrics whose value is a string that holds a number, such as "1.5" or a printed tensor.
  Each metric is reported once, and stands in no curve.
- `metric_type_changed` (V04): values whose JSON type is not that of the same metric before. null stands for a number
  that is not finite, and fits any; a number and a list of numbers fit each other.
- `unknown_event` (V05): records of an event type within two edits of a known one (`trian_step`). Other names are
  taken as meant: a run may log events of its own.
- `step_invalid` (V07): steps that are no integer of at least 0, whose records are refused, and steps that go back
  within a segment. A run that was resumed into the same file without a `run_start` goes back once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gradience_analysis.model import Finding, Measurement, Place, Run, Segment, plural
from gradience_analysis.policy import Policy
from gradience_analysis.telemetry.faults import SHOWN_PLACES, issues_of, places_of, refused_steps
from gradience_analysis.telemetry.names import did_you_mean
from gradience_schema import EVENT_TYPES, Severity

CODES: Mapping[str, str] = {
    "number_in_string": "A metric is a string that holds a number.",
    "metric_type_changed": "A metric changes its type within a run.",
    "unknown_event": "An event type is unknown, and nearly one that is known.",
    "step_invalid": "A step is no integer, or goes back within a segment.",
}
COVERS: Mapping[str, frozenset[str]] = {}
_SOURCE = "issues of reading"


def measure(run: Run) -> tuple[Measurement, ...]:
    """Number of each kind of fault, with the first places."""
    return (
        _counted(run, "number_in_string", "metrics"),
        _counted(run, "metric_type_changed", "values"),
        _unknown_events(run),
        _steps(run),
    )


def _counted(run: Run, code: str, unit: str) -> Measurement:
    issues = issues_of(run, {code})
    details = {"first": issues[0].message if issues else None}
    return Measurement(code, run.count_issues(code), unit, _SOURCE, details=details, places=places_of(issues))


def _unknown_events(run: Run) -> Measurement:
    """Records whose event type is within two edits of a known one."""
    segments = (*run.segments, *run.other_ranks)
    names = Counter([event.event for segment in segments for event in segment.events])
    meant = {name: known for name in names if name not in EVENT_TYPES and (known := did_you_mean(name))}
    shown = dict(list(meant.items())[:SHOWN_PLACES])
    places = tuple(_first(segments, name) for name in shown)
    count = sum(names[name] for name in meant)
    source = "event of every record"
    return Measurement("unknown_event", count, "records", source, details={"meant": shown}, places=places)


def _first(segments: Sequence[Segment], name: str) -> Place:
    return next(one.place(event) for one in segments for event in one.events if event.event == name)


def _steps(run: Run) -> Measurement:
    refused = refused_steps(run)
    backwards = run.count_issues("step_backwards")
    details = {"not_an_integer": len(refused), "backwards": backwards}
    places = places_of((*refused, *issues_of(run, {"step_backwards"})))
    count = len(refused) + backwards
    return Measurement("step_invalid", count, "records", _SOURCE, details=details, places=places)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """A warning for each kind that occurred."""
    strings, types, events, steps = measurements
    found = [
        (item, words) for item, words in ((strings, _strings), (types, _types), (events, _events), (steps, _wrong))
    ]
    return [_finding(item, *words(item)) for item, words in found if item.value]


_RULE_OF = {"number_in_string": "V03", "metric_type_changed": "V04", "unknown_event": "V05", "step_invalid": "V07"}


def _finding(item: Measurement, message: str, advice: str, caveat: str = "") -> Finding:
    return Finding(
        code=item.name,
        rule=_RULE_OF[item.name],
        severity=Severity.WARNING,
        message=message,
        evidence={"count": item.value, **item.details},
        advice=advice,
        basis="counted while reading",
        caveat=caveat,
        places=item.places,
    )


def _strings(item: Measurement) -> tuple[str, str]:
    count = plural(int(item.value or 0), "metric")
    return (
        f"In {count} a string stands in place of the number, and no curve shows it.",
        "Log the number itself: .item() of a tensor, float() of a string.",
    )


def _types(item: Measurement) -> tuple[str, str]:
    return (
        f"A metric changes its JSON type in {plural(int(item.value or 0), 'place')}.",
        "Look at what logs it; a metric should be a number in every record.",
    )


def _events(item: Measurement) -> tuple[str, str]:
    pairs = ", ".join(f"{name} for {known}" for name, known in item.details["meant"].items())
    return (
        f"{plural(int(item.value or 0), 'record')} of an unknown event type that is nearly a known one: {pairs}.",
        "Rename the event where it is logged; until then no report counts these records.",
    )


def _wrong(item: Measurement) -> tuple[str, str, str]:
    words = {"not_an_integer": "is no integer of at least 0 in {}", "backwards": "goes back in {}"}
    parts = [text.format(plural(item.details[key], "record")) for key, text in words.items() if item.details[key]]
    caveat = "a run that was resumed into the same file goes back once" if item.details["backwards"] else ""
    advice = "Log the trainer's global_step, and write a resumed run to a segment of its own."
    return f"The step {' and '.join(parts)}.", advice, caveat
