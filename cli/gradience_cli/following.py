"""`gradience monitor --follow`: a run while it trains, on a terminal or into a pipe."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from gradience_analysis.errors import NoTelemetryError
from gradience_analysis.model import Event, Report, Run, as_number
from gradience_analysis.policy import Policy
from gradience_analysis.reports.format import number
from gradience_analysis.reports.monitor import monitor_report
from gradience_analysis.telemetry.follow import Follower

if TYPE_CHECKING:
    from rich.text import Text

POLL_S: Final = 0.25
# After run_end the trainer may still evaluate: so long nothing may come before the view ends.
_GRACE_S: Final = 1.0
# A picture that takes long to make is made less often, so that the view takes a fifth of one core at most.
_REST: Final = 4
# So long after the last line a run counts as one that goes on.
_RECENT_S: Final = 60.0


def follow_run(path: str, policy: Policy, *, verbose: bool = False) -> Report:
    """Show a run until its `run_end`, or until Ctrl-C; then its report, which is also given back.

    Raises:
        InputError: The path cannot be read, or nothing was recorded before the end.
    """
    follower = Follower(path)
    view: _View = _Screen(policy, verbose=verbose) if sys.stdout.isatty() else _Lines()
    with view:
        try:
            _watch(follower, view)
        except KeyboardInterrupt:
            follower.poll()
    run = follower.run()
    if run is None:
        raise NoTelemetryError(path, "nothing was recorded while it was followed.")
    from gradience_cli.output import emit

    report = monitor_report([run], policy, verbose=verbose)
    emit(report, "text")
    return report


class _View(AbstractContextManager[Any], Protocol):
    def show(self, follower: Follower, new: list[Event]) -> None:
        """Take in what came since the last call; called several times a second."""
        ...


def _watch(follower: Follower, view: _View) -> None:
    last_news = time.monotonic()
    ended = False
    while True:
        new = follower.poll()
        if new:
            last_news = time.monotonic()
            # Only its end ends a run, and a resumed one has a new segment after the end of the one before.
            if ended or any(event.event == "run_end" for event in new):
                ended = _ended(follower.run())
        view.show(follower, new)
        if ended and time.monotonic() - last_news >= _GRACE_S:
            return
        time.sleep(POLL_S)


def _living(run: Run) -> Run:
    """The run as one that goes on, unless its telemetry knows better: what was just written was written by someone."""
    return replace(run, writer_alive=True) if run.writer_alive is None and run.status is None else run


def _ended(run: Run | None) -> bool:
    return run is not None and run.status is not None


class _Lines(nullcontext[Any]):
    """For a pipe: a line for each logged step and evaluation."""

    def show(self, follower: Follower, new: list[Event]) -> None:
        """Print the new ones."""
        del follower
        from gradience_analysis.render.inert import inert
        from gradience_cli.streams import write

        lines = [inert(line) for event in new if (line := _line(event))]
        if lines:
            write("\n".join(lines) + "\n")


class _Screen:
    """For a terminal: the report, redrawn in place, and below it what came last."""

    def __init__(self, policy: Policy, *, verbose: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._policy = policy
        self._verbose = verbose
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._report: Report | None = None
        self._laid_out: tuple[Report, int, list[Text]] | None = None
        self._due = 0.0
        self._stale = True
        self._last_news = time.monotonic()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, follower: Follower, new: list[Event]) -> None:
        """Draw anew: the report when there is news and its time has come, the line below it always."""
        now = time.monotonic()
        if new:
            self._last_news, self._stale = now, True
        if self._stale and now >= self._due:
            run = follower.run()
            if run is not None:
                recent = now - self._last_news < _RECENT_S
                self._report = monitor_report([_living(run) if recent else run], self._policy, verbose=self._verbose)
            self._stale = False
            self._due = time.monotonic() + _REST * (time.monotonic() - now)
        self._live.update(self._picture(follower), refresh=True)

    def _picture(self, follower: Follower) -> Text:
        from rich.text import Text

        from gradience_analysis.render.inert import inert

        height, width = max(3, self._console.height - 1), self._console.width
        silent = time.monotonic() - self._last_news
        latest = "" if follower.latest is None else _line(follower.latest)
        # The path may be long, and what does not fit is cut.
        status = f"{latest} · {silent:.0f} s ago · Ctrl-C ends · following {follower.path}"
        if self._report is None:
            status = f"waiting for telemetry · {silent:.0f} s · Ctrl-C ends · {follower.path}"
        bottom = Text(inert(status)[:width], "reverse")
        return Text("\n").join([*self._lines(width)[: height - 2], Text(), bottom])

    def _lines(self, width: int) -> list[Text]:
        """The report in lines, laid out again only when it or the width is another one: the picture is drawn often."""
        if self._report is None:
            return []
        if self._laid_out is None or self._laid_out[0] is not self._report or self._laid_out[1] != width:
            from gradience_cli.terminal import layout

            lines = list(layout(self._report, width=width).split("\n", allow_blank=True))
            self._laid_out = (self._report, width, lines)
        return self._laid_out[2]


def _line(event: Event) -> str:
    """A step or an evaluation in a few words; empty for other events."""
    if event.event == "train_step":
        values = {name: event.payload.get(name) for name in ("loss", "lr", "grad_norm")}
        name = "train"
    elif event.event == "eval":
        metrics = event.payload["metrics"]
        values = {name: metrics.get(name) for name in ("loss", "ppl", "accuracy")}
        name = f"eval {event.payload['split'][:40]}"
    else:
        return f"{event.event[:40]}" if event.event in {"run_start", "run_end"} else ""
    numbers = [f"{key} {number(found)}" for key, value in values.items() if (found := as_number(value)) is not None]
    step = "" if event.step is None else f"step {event.step:,} "
    return f"{step}{name} {' '.join(numbers)}".strip()
