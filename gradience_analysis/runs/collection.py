"""Many runs: their frames, and the few questions that are asked of them again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from gradience_analysis.errors import GradienceError, InputError
from gradience_analysis.runs import accessor, frames
from gradience_analysis.runs.expression import Expression, UnknownColumnError
from gradience_analysis.runs.holdings import ALL, PARTS, Holding, Wanted, run_ids_of
from gradience_analysis.runs.html import runs_html
from gradience_analysis.runs.naming import short_names
from gradience_analysis.runs.pivot import Aggregate, pivot_table
from gradience_analysis.runs.summary import FINDINGS as COUNTS
from gradience_analysis.runs.summary import NEEDED, summary, with_findings
from gradience_analysis.store.contents import Finding
from gradience_analysis.tables.bundle import Tables
from gradience_analysis.tables.segments import analysis_view, segments

if TYPE_CHECKING:
    import pandas as pd

# Importing it has registered `df.gradience`: whoever has frames of runs has their methods.
ACCESSOR: Final = accessor.GradienceAccessor
_KEYS: Final = ("path", "part", "line", "run_id", "step", "ts")
_NO_CURVES: Final = frozenset({"path", "part", "line", "run_id", "segment", "step"})


class Runs:
    """Many runs, made by `load_runs`.

    Every frame is built when it is first asked for, has Arrow-backed columns, and shows the analysis view: rank 0, and
    where a run was resumed, the later segment. NA is what was not recorded, NaN is a recorded NaN; `isna()` is true of
    the first only. A frame may be changed without changing what the next access gives.

    Args:
        holding: Where the tables are.
        failures: What could not be read.
        names: Short names by run id, for a selection of other runs.
    """

    def __init__(
        self, holding: Holding, failures: Sequence[InputError] = (), *, names: Mapping[str, str] | None = None
    ) -> None:
        self._holding = holding
        self._given = names
        self.failures: tuple[InputError, ...] = tuple(failures)
        """An error for each path that gave no run."""

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The shortest name that tells a run from the others, by run id: its file or folder, more when needed."""
        if self._given is not None:
            return self._given
        first: dict[str, str] = {}
        known = segments(self._holding.tables(PARTS).parts)
        for row in known.filter(known["main"]).sort_by("order").select(["run_id", "path"]).to_pylist():
            first.setdefault(row["run_id"], row["path"])
        return short_names({run_id: first[run_id] for run_id in run_ids_of(self._holding)})

    @property
    def run_ids(self) -> list[str]:
        """The ids of the runs, in order."""
        return list(self.names)

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run.

        `run_id`, `name`, `path` (of its first file), `status` (of its last segment, `no run_end` without one),
        `reason`, `started` (UTC; NA for a log without times), `duration_s` (seconds over all segments, without the
        pauses between them; NA likewise), `segments`, `steps` (the last step); the configuration under dotted names,
        lists as JSON text; `loss.final`, `loss.min` (the lowest finite one); for each split and metric
        `<split>.<metric>.final` and, where it is known whether more or less is better, `.best` and `.best_step`; `gap`,
        the generalization gap at the last evaluation; the number of findings under the default policy and of issues
        in the run's files by severity. A run that could not be judged has NA findings.
        """
        return frames.frame(self.table())

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """The Arrow table behind `.runs`, or some of its columns; the runs are judged only for those that need it.

        Raises:
            UnknownColumnError: There is no such column.
        """
        if columns is None:
            return self._judged_rows
        known = self._rows.column_names
        for name in columns:
            if name not in known and name not in COUNTS:
                raise UnknownColumnError(name, [*known, *COUNTS])
        return (self._judged_rows if set(COUNTS) & set(columns) else self._rows).select(list(columns))

    @property
    def steps(self) -> pd.DataFrame:
        """One row a `train_step`: run_id, segment, step, ts, loss, lr, grad_norm, epoch, every other scalar, line.

        A learning rate for each parameter group gives `lr`, `lr_1`. What a number column cannot hold exactly, such as a
        number written as a string, is NA there and stands in a column `<name>__text`.
        """
        return self._steps.copy(deep=False)

    @property
    def evals(self) -> pd.DataFrame:
        """One row a metric of an evaluation: run_id, segment, step, ts, split, metric, value, type, text, line.

        `split` is canonical (eval, validation and dev are val). `type` is the JSON type as written; `value` is NA for
        what is no number, and `text` holds it as JSON.
        """
        return self._evals.copy(deep=False)

    @property
    def metrics(self) -> pd.DataFrame:
        """The same for `metrics` records, with `kind` in place of `split`; nested names are joined with dots."""
        return self._metrics.copy(deep=False)

    @property
    def alerts(self) -> pd.DataFrame:
        """One row an alert: run_id, segment, step, ts, severity, code, message, context (JSON), line."""
        return self._alerts.copy(deep=False)

    @property
    def issues(self) -> pd.DataFrame:
        """One row for each fault of a file that was kept (at most 100 of one kind and file; `.raw` counts all)."""
        return self._issues.copy(deep=False)

    @property
    def unjudged(self) -> dict[str, str]:
        """Why a run could not be judged, by run id; its findings are NA in `.runs`."""
        return {run_id: one.reason for run_id, one in self._findings.items() if one.reason is not None}

    @property
    def raw(self) -> Tables:
        """The Arrow tables as they were read: every rank and segment, nothing superseded left out."""
        return self._holding.tables(ALL, self._selection)

    def query(self, expression: str) -> Runs:
        """The runs of whose row in `.runs` an expression is true.

        Args:
            expression: Comparisons, `and`, `or`, `not`, `in` and arithmetic over columns, literals and lists, such as
                `lora.r == 8 and optimizer.lr < 1e-3`, `status in ["ok", "aborted"]`, `"q_proj" in lora.target_modules`,
                `started >= "2026-01-31"`, `gap is None`. A name with other signs stands in backticks. It is never run
                as code. Where a value is absent, a comparison is neither true nor false and selects nothing.

        Raises:
            ExpressionError: The expression cannot be understood.
            UnknownColumnError: It names a column that is not there; the message says which may have been meant.
        """
        parsed = Expression(expression)
        rows = self.table(list(dict.fromkeys(["run_id", *parsed.names]))).to_pylist()
        return self.select([row["run_id"] for row in rows if parsed.matches(row)])

    def select(self, run_ids: Sequence[str]) -> Runs:
        """The runs with these ids, in the order given; their names stay the same.

        Raises:
            GradienceError: There is no such run.
        """
        for run_id in run_ids:
            if run_id not in self.names:
                raise GradienceError(f"There is no run {str(run_id)[:80]!r} among these {len(self)}.")
        return Runs(self._holding, self.failures, names={run_id: self.names[run_id] for run_id in run_ids})

    def pivot(
        self,
        metric: str,
        by: str | Sequence[str],
        value: str = "final",
        over: str | None = None,
        aggregate: Aggregate = "median",
    ) -> pd.DataFrame:
        """A metric against the configuration; runs with the same settings, such as seeds, are one group.

        Args:
            metric: Such as `loss`, `val.loss`, or any column of numbers of `.runs`, such as `gap`.
            by: Columns of `.runs` that make the rows.
            value: Which of its values: `final`, `best`, `best_step`; `min` for `loss`.
            over: One more column, whose values make the columns.
            aggregate: With `over`, what a cell shows of its group: median, mean, min, max, std or count.

        Returns:
            Without `over`: the median, `min`, `max`, `count` (runs with a value) and `runs` (all runs) of each group.
            With `over`: one number a cell, NA where there is no value. A NaN in a group makes its median NaN.

        Raises:
            UnknownColumnError: There is no such metric or column.
            GradienceError: The metric has no such value, or the column no numbers.
        """
        columns = [by] if isinstance(by, str) else list(by)
        named = {*columns, metric, over}
        table = self._judged_rows if named & set(COUNTS) else self._rows
        return pivot_table(table, metric, by=columns, value=value, over=over, aggregate=aggregate)

    def curve(self, metric: str) -> pd.DataFrame:
        """A metric of every run against the step: one column a run, by its name, one row a step of any of them.

        Args:
            metric: A column of `.steps` such as `loss`, `split.metric` of an evaluation such as `val.loss`, or
                `kind.metric` such as `throughput.step_s`; the first of these that there is.

        Returns:
            Index `step`, sorted. NA where a run has no value at a step; of two at one step, the later. A run without
            the metric is a column of NA. Values without a step are left out.

        Raises:
            UnknownColumnError: No run has it.
        """
        steps = self._view({"steps": (*_KEYS, metric)}).steps
        if metric in steps.column_names and metric not in _NO_CURVES:
            return frames.aligned(frames.series(steps, metric), self.names)
        known = [name for name in self._view({"steps": None}).steps.column_names if name not in _NO_CURVES]
        for name, group in (("evals", "split"), ("metrics", "kind")):
            table = getattr(self._view({name: (*_KEYS, group, "metric", "value")}), name)
            curves = {f"{row[group]}.{row['metric']}": row for row in _distinct(table, group)}
            if metric in curves:
                row = curves[metric]
                rows = frames.metric_series(table, group, row[group], row["metric"])
                return frames.aligned(rows, self.names)
            known.extend(curves)
        raise UnknownColumnError(metric, known, "what the runs logged")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        """The ids of the runs."""
        return iter(self.names)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} paths not read" if self.failures else ""
        names = list(self.names.values())
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        return f"<Runs: {len(names)} ({shown}){failed}>"

    def _repr_html_(self) -> str:
        return runs_html(self._rows, len(self.failures))

    @property
    def _selection(self) -> list[str] | None:
        return None if self._given is None else self.run_ids

    def _view(self, wanted: Wanted) -> Tables:
        return analysis_view(self._holding.tables(wanted, self._selection))

    @cached_property
    def _rows(self) -> Any:
        return summary(self._view(NEEDED), self.names)

    @cached_property
    def _findings(self) -> Mapping[str, Finding]:
        return self._holding.findings(self.run_ids)

    @cached_property
    def _judged_rows(self) -> Any:
        return with_findings(self._rows, self._findings)

    @cached_property
    def _steps(self) -> pd.DataFrame:
        return frames.steps_frame(self._view({"steps": None}).steps)

    @cached_property
    def _evals(self) -> pd.DataFrame:
        return frames.long_frame("evals", self._view({"evals": None}).evals)

    @cached_property
    def _metrics(self) -> pd.DataFrame:
        return frames.long_frame("metrics", self._view({"metrics": None}).metrics)

    @cached_property
    def _alerts(self) -> pd.DataFrame:
        return frames.long_frame("alerts", self._view({"alerts": None}).alerts)

    @cached_property
    def _issues(self) -> pd.DataFrame:
        return frames.long_frame("issues", self._holding.tables({"issues": None}, self._selection).issues)


def _distinct(table: Any, group: str) -> list[dict[str, Any]]:
    """The pairs of a group and a metric that have a number."""
    numbers = table.filter(table["value"].is_valid())
    pairs: list[dict[str, Any]] = (
        numbers.select([group, "metric"]).group_by([group, "metric"]).aggregate([]).to_pylist()
    )
    return pairs
