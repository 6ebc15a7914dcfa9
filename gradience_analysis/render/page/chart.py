"""Charts and sparklines as inline SVG that fills the room it is given, its letters and lines the same size everywhere.

The picture has no coordinates of its own: positions are percentages of its box, which the style sheet sizes, and the
curves lie in a nested picture that is stretched to it while its strokes are not. So one file is right at any width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gradience_analysis.model import Chart, Curve, Mark
from gradience_analysis.render.page.axis import HUGE, Axis, along, brief, tight, upward, upward_log
from gradience_analysis.render.page.markup import Markup, element, group
from gradience_analysis.render.page.thin import Point, in_order, stretches, thinned
from gradience_schema import Severity

MAX_POINTS = 1_500
SPARK_POINTS = 160
COLOURS = 6
"""Looks of a curve that the style sheet knows; further curves take them again."""
_SIZE = _WIDTH, _HEIGHT = 2_000, 1_000
_SPARK = (300, 60)
_MARKED_POINTS = 40
_ROWS = 4
_LABEL_SHARE = 0.05
_CORNER = 0.08
Number = Callable[[Mark], int]
"""What the page calls a mark."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A curve that can be drawn: its stretches, and where it has no value."""

    label: str
    look: int
    parts: list[Sequence[Point]]
    gaps: list[float]

    @property
    def count(self) -> int:
        return sum(map(len, self.parts))


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A chart whose curves are ready to be drawn."""

    block: Chart
    lines: list[_Line]
    marks: list[Mark]

    @property
    def xs(self) -> list[float]:
        """Where it reaches on the axis of x: of each curve and of the marks, the ends."""
        return [x for line in self.lines for x in _reach(line)] + [mark.x for mark in self.marks]


def charts(blocks: Sequence[Chart], number: Callable[[Chart, Mark], int], name: str) -> Markup:
    """Charts that belong together: over the same stretch of x, and a curve of the same name looks the same in each.

    Args:
        blocks: What to draw.
        number: Gives each mark of a chart its number.
        name: Prefix of the ids of their parts.
    """
    looks: dict[str, int] = {}
    drawings = [_drawing(block, looks) for block in blocks]
    reach: dict[str, list[float]] = {}
    for one in drawings:
        reach.setdefault(one.block.x_label, []).extend(one.xs)
    figures = [
        _figure(one, reach[one.block.x_label], partial(number, one.block), f"{name}-{place}")
        for place, one in enumerate(drawings)
    ]
    return element("div", *figures, class_="charts")


def _drawing(block: Chart, looks: dict[str, int]) -> _Drawing:
    lines: list[_Line] = []
    for curve in block.curves:
        if curve.label not in looks:
            taken = {looks.get(one.label) for one in block.curves}
            free = (look for look in range(1, COLOURS + 1) if look not in taken)
            looks[curve.label] = next(free, len(lines) % COLOURS + 1)
        lines.append(_Line(curve.label, looks[curve.label], *stretches(in_order(curve.points), above_zero=block.log)))
    return _Drawing(block, lines, [mark for mark in block.marks if abs(mark.x) <= HUGE])


def _figure(drawing: _Drawing, xs: Sequence[float], number: Number, name: str) -> Markup:
    block = drawing.block
    unit = [word for word in (block.y_label, "log scale" if block.log else "") if not _same(word, block.title)]
    caption = element(
        "figcaption",
        element("strong", block.title),
        element("span", ", ".join(unit), class_="unit") if unit else None,
        _legend(drawing.lines, block.title),
    )
    return element("figure", caption, _picture(drawing, xs, number, name), class_="chart")


def spark(curve: Curve) -> Markup:
    """A curve in the height of a line of text; nothing of fewer than two points."""
    width, height = _SPARK
    parts, gaps = stretches(in_order(curve.points))
    if len(curve.points) < 2 or not parts:
        return group()
    xs, (low, high) = list(_reach(_Line("", 0, parts, gaps))), _ends(parts)
    x, y = along(min(xs), max(xs)), tight(low, high)
    return element(
        "svg",
        element("path", d=_path(parts, SPARK_POINTS, x, y, _SPARK)),
        class_="spark",
        viewBox=f"-4 -8 {width + 8} {height + 16}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"curve of {curve.label}" if curve.label else "curve",
    )


def _same(word: str, title: str) -> bool:
    return word.casefold() in {"", title.casefold()}


def _legend(lines: Sequence[_Line], title: str) -> Markup:
    """What each look stands for; nothing where one curve is what the title says."""
    told = lines if len(lines) != 1 or not _same(lines[0].label, title) else ()
    items = [
        element("li", element("svg", element("path", d="M1 5H25"), class_=f"key c{line.look}", viewBox="0 0 26 10",
                              aria_hidden="true"), line.label)
        for line in told
    ]  # fmt: skip
    if any(line.gaps for line in lines):
        key = element("svg", element("path", d="M13 0V10"), class_="key gap", viewBox="0 0 26 10", aria_hidden="true")
        items.append(element("li", key, "no finite value"))
    return element("ul", *items, class_="legend") if items else group()


def _picture(drawing: _Drawing, xs: Sequence[float], number: Number, name: str) -> Markup:
    block = drawing.block
    drawn = [line for line in drawing.lines if line.parts]
    if not drawn:
        return element("p", "There is no finite value to draw.", class_="empty")
    x = along(min(xs), max(xs))
    low, high = _ends([part for line in drawn for part in line.parts])
    y = upward_log(low, high) if block.log else upward(low, high)
    badges, rows = _badges(drawing.marks, number, x)
    return element(
        "div",
        element(
            "svg",
            element("title", block.title, id=f"{name}-title"),
            element("desc", _description(drawing, drawn), id=f"{name}-desc"),
            _grid(x, y, block.x_label),
            # Below the curves: the line of a mark must not hide the spike that it is about.
            badges,
            _curves(drawing.lines, x, y),
            role="img",
            aria_labelledby=f"{name}-title {name}-desc",
        ),
        class_=f"plot rows{rows}",
    )


def _reach(line: _Line) -> Iterator[float]:
    for part in line.parts:
        yield part[0][0]
        yield part[-1][0]
    if line.gaps:
        yield line.gaps[0]
        yield line.gaps[-1]


def _ends(parts: Iterable[Sequence[Point]]) -> tuple[float, float]:
    values = [[y for _, y in part] for part in parts]
    return min(map(min, values)), max(map(max, values))


def _grid(x: Axis, y: Axis, x_label: str) -> Markup:
    """Lines at the values of y, and the words at both axes."""
    parts: list[Markup] = []
    for value, word in y.ticks:
        at = _percent(1 - y.place(value))
        parts.append(element("line", class_="rule", x1="0", x2="100%", y1=at, y2=at))
        parts.append(element("text", word, class_="y", x="-7", y=at, dy="0.32em"))
    parts.append(element("line", class_="base", x1="0", x2="100%", y1="100%", y2="100%"))
    named = bool(x.ticks) and x.place(x.ticks[0][0]) < _CORNER
    for place, (value, word) in enumerate(x.ticks):
        at = _percent(x.place(value))
        parts.append(element("line", class_="base", x1=at, x2=at, y1="100%", y2="102%"))
        words = f"{x_label} {word}" if named and place == 0 else word
        parts.append(element("text", words, class_="x", x=at, y="100%", dy="1.5em"))
    if not named:
        # In the corner between the axes, where no value stands.
        parts.append(element("text", x_label, class_="y", x="-7", y="100%", dy="1.5em"))
    return element("g", *parts, class_="axes", aria_hidden="true")


def _curves(lines: Sequence[_Line], x: Axis, y: Axis) -> Markup:
    parts: list[Markup] = []
    for line in lines:
        if line.gaps:
            places = sorted({round(x.place(at) * _WIDTH) for at in line.gaps})
            parts.append(element("path", class_="gap", d=Markup("".join(f"M{at} {_HEIGHT}v-45" for at in places))))
    for line in lines:
        share = MAX_POINTS if len(line.parts) < 2 else max(4, MAX_POINTS // len(line.parts))
        few = line.count <= _MARKED_POINTS
        long = [part for part in line.parts if len(part) > 1]
        if long:
            kind = "line" if few else "line dense"
            path = _path(long, share, x, y)
            parts.append(element("path", class_=f"{kind} c{line.look}", d=path))
        dots = [point for part in line.parts for point in part if few or len(part) == 1][:MAX_POINTS]
        if dots:
            path = _path([[dot] for dot in dots], 4, x, y)
            parts.append(element("path", class_=f"dots c{line.look}", d=path))
    return element(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", preserveAspectRatio="none", width="100%", height="100%",
        class_="curves",
    )  # fmt: skip


def _path(parts: Iterable[Sequence[Point]], most: int, x: Axis, y: Axis, size: tuple[int, int] = _SIZE) -> Markup:
    """Points as path data in whole units: the first of each part absolute, the others by their distance."""
    width, height = size
    pieces: list[str] = []
    for part in parts:
        before = None
        for at, value in thinned(part, most):
            here = round(x.place(at) * width), round((1 - y.place(value)) * height)
            if before is None:
                pieces.append(f"M{here[0]} {here[1]}l")
            elif here == before:
                continue
            else:
                across, down = here[0] - before[0], here[1] - before[1]
                # A minus sign parts two numbers as well as a blank does.
                pieces.append(f"{across}{down}" if down < 0 else f"{across} {down}")
                pieces.append(" ")
            before = here
        if pieces[-1].endswith("l"):
            pieces.append("0 0")
    # Digits, signs and letters of ours: safe as it stands, and longer than a text may be.
    return Markup("".join(pieces).strip())


def _badges(marks: Sequence[Mark], number: Number, x: Axis) -> tuple[Markup, int]:
    """A line at each mark with its number above it; numbers that would touch stand in rows."""
    rows: list[float] = []
    told: dict[int, float] = {}
    groups: list[Markup] = []
    for mark in sorted(marks, key=lambda mark: mark.x):
        place, label = x.place(mark.x), number(mark)
        at = _percent(place)
        row = next((row for row, taken in enumerate(rows) if place - taken >= _LABEL_SHARE), len(rows))
        badge: tuple[Markup, ...] = ()
        # Lines of one finding that stand close share its number; more numbers than a few in one place are left out.
        if row < _ROWS and place - told.get(label, -1.0) >= _LABEL_SHARE:
            rows[row : row + 1] = [place]
            told[label] = place
            top = -10 - 18 * row
            badge = (
                element("line", x1=at, x2=at, y1=top + 8, y2="100%"),
                element("circle", cx=at, cy=top, r=8),
                element("text", str(label), x=at, y=top, dy="0.35em"),
            )
        hint = element("title", f"{brief(mark.x)}: {mark.label}")
        parts = badge or (element("line", x1=at, x2=at, y1="0", y2="100%"),)
        groups.append(element("g", hint, *parts, class_=f"mark {tone(mark.severity)}"))
    return group(*groups), len(rows)


def tone(severity: Severity) -> str:
    """The class of the style sheet for a severity; what is critical looks like an error."""
    return "error" if severity is Severity.CRITICAL else str(severity)


def _description(drawing: _Drawing, drawn: Sequence[_Line]) -> str:
    axis = drawing.block.x_label
    told: list[str] = []
    for line in drawn:
        (low, high), first, last = _ends(line.parts), line.parts[0][0], line.parts[-1][-1]
        told.append(
            f"{line.label}: {brief(first[1])} at {axis} {first[0]:,.0f} to {brief(last[1])} at {last[0]:,.0f}, "
            f"between {brief(low)} and {brief(high)}."
        )
    if drawing.marks:
        places = ", ".join(f"{x:,.0f}" for x in sorted({mark.x for mark in drawing.marks}))
        told.append(f"Marked at {axis} {places}.")
    return " ".join(told)


def _percent(share: float) -> str:
    return f"{round(share * 100, 2):g}%"
