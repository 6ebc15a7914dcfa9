"""Reports made by hand of every kind of block."""

from __future__ import annotations

from gradience_analysis.model import (
    Block,
    Chart,
    Curve,
    Field,
    Fields,
    Heat,
    HeatRow,
    Mark,
    Note,
    Notes,
    Report,
    Section,
    Table,
)
from gradience_schema import Severity

LOSS = Curve(tuple((float(step), 2.0 - step / 40) for step in range(0, 41, 5)), "train")
WARNED = "The loss jumped at step 20."


def of(*blocks: Block, title: str = "Part") -> Report:
    """A report of one section."""
    return Report("monitor", "run.jsonl", Note(Severity.INFO, "Fine."), (Section(title, blocks),))


def every_block(text: str = "text") -> Report:
    """One of each block, with this text in every place that takes one."""
    curve = Curve(LOSS.points, text)
    chart = Chart(text, text, (curve, Curve(((0.0, 1.0), (40.0, float("nan"))), f"{text} 2")), x_label=text)
    marks = (Mark(20.0, Severity.WARNING, text), Mark(30.0, Severity.ERROR, f"no note says {text}"))
    rows = (HeatRow(text, (0.5, None), text), HeatRow(f"{text} 2", (float("nan"), 1.0)))
    heat = Heat(text, text, (text, f"{text} 2"), rows, 1.0, text, text, percent=True)
    wide = ("name", *(f"{text}{number}" for number in range(5)))
    sections = (
        Section(text, (Fields((Field(text, text), Field("", text))),)),
        Section(
            f"Findings {text}",
            (
                Notes((Note(Severity.WARNING, text, (text, text)), Note(Severity.CRITICAL, f"again {text}"))),
                Chart(text, text, (curve,), marks, text),
                chart,
            ),
        ),
        Section(f"Tables {text}", (Table(("", text, "curve"), ((text, text, curve),), frozenset({text})),)),
        Section("", (Table(wide, (tuple(text for _ in wide), tuple("" for _ in wide))), curve)),
        Section(f"Heat {text}", (heat,)),
    )
    verdict = Note(Severity.ERROR, text, (text,))
    return Report("monitor", text, verdict, sections, {"schema": "x/v1", text: [text, {text: 1.5}]})
