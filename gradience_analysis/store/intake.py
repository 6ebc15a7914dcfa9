"""Brings a store up to date with telemetry files."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

from gradience_analysis.policy import load_policy
from gradience_analysis.store.contents import Finding, Source
from gradience_analysis.store.inspection import State, inspect, prepare
from gradience_analysis.store.merge import Fresh, buckets_of
from gradience_analysis.store.outcome import Ingested
from gradience_analysis.store.place import bucket_of
from gradience_analysis.store.plan import Plan, files_given, plan
from gradience_analysis.store.reading import Same, Wanted, judge_runs, read_sources
from gradience_analysis.store.swap import only_writer
from gradience_analysis.store.writing import write_buckets
from gradience_analysis.workers.pool import Pool, batched, workers_for

ROUND_BYTES: Final = 1 << 30
"""JSONL read between two writes: what bounds the memory that a first ingest of very much takes, and a kill's cost."""

_BATCH_BYTES: Final = 8 << 20
_GZIP_RATIO: Final = 10


class Watch(Protocol):
    """What is told of each file that was read, and of each run that was judged."""

    def start(self, name: str) -> None:
        """One of them is done."""
        ...


Watching = Callable[[str, int], AbstractContextManager[Watch]]
"""Given what is done (`reading`, `judging`) and to how many, gives a context in which each is named once it is done."""


def ingest(
    paths: Sequence[str | Path],
    store: str | Path,
    *,
    workers: int | None = None,
    rebuild: bool = False,
    prune: bool = False,
    watch: Watching | None = None,
) -> Ingested:
    """Read what is new or changed among telemetry files into a store; the store is made if there is none.

    A file of the same size and time of change as before is not opened; one of the same content is read but not taken
    apart; any other is read whole, from its beginning. A run is stored with all its segments in the folder.

    Args:
        paths: Files, folders (every .jsonl and .jsonl.gz below), globs.
        store: The store's folder.
        workers: Processes that read; None for one a processor, or this one alone where there is little to read.
        rebuild: Read every file again, those that the store knows too.
        prune: Drop the rows of files that are no longer there; they are kept otherwise.
        watch: What shows how far the work is.

    Raises:
        InputError: No path stands for a file, the store is no store or of another version, or another ingest holds it.
        GradienceError: A process ended before its work was done.
    """
    root = Path(store)
    names, errors = files_given(paths, root)
    if not names and errors:
        raise errors[0]
    prepare(root)
    with only_writer(root):
        state = inspect(root)
        todo = plan(names, state.known, state.buckets, rebuild=rebuild)
        result = Ingested(str(store), unchanged=todo.unchanged, unread=[*errors, *todo.errors], damaged=state.aside)
        result.lost = sorted(state.lossy.intersection(todo.gone))
        with Pool(workers_for(len(todo.read), 2 * sum(map(_weight, todo.read)), workers)) as pool:
            _Ingest(state, todo, result, pool, watch, prune=prune).run()
        result.runs = len(state.findings)
    return result


def _weight(wanted: Wanted) -> int:
    return wanted.bytes * (_GZIP_RATIO if wanted.path.endswith(".gz") else 1)


class _Ingest:
    """One ingest into a store that is held for it."""

    def __init__(
        self, state: State, todo: Plan, result: Ingested, pool: Pool, watch: Watching | None, *, prune: bool
    ) -> None:
        self.state = state
        self.todo = todo
        self.result = result
        self.pool = pool
        self._watch = watch or _unwatched
        self._before = dict(state.known)
        self._gone = set(todo.gone)
        doubted = [source for source in state.known.values() if source.sha256 is None]
        self._dirty: set[int] = {bucket for _, bucket in state.holes} | buckets_of(doubted, state.buckets)
        self._dropped: set[str] = set(todo.gone) if prune else set()
        self._stale_runs: set[str] = set()
        result.pruned = sorted(self._dropped)

    def run(self) -> None:
        """Read in rounds, each of which is written before the next one."""
        rounds = batched(self.todo.read, _weight, ROUND_BYTES) or [[]]
        for number, wanted in enumerate(rounds, 1):
            with self._watch("reading", len(wanted)) as shown:
                fresh = self._read(wanted, shown)
            self._apply(fresh, last=number == len(rounds))
        self.result.gone = sorted(self._gone - set(self.result.pruned))

    def _read(self, wanted: Sequence[Wanted], shown: Watch) -> list[Fresh]:
        fresh: list[Fresh] = []
        batches = batched(wanted, _weight, _BATCH_BYTES)
        for outcome in chain.from_iterable(self.pool.results(read_sources, batches)):
            if isinstance(outcome, Fresh):
                fresh.append(outcome)
                self._note(outcome)
                shown.start(outcome.source.path)
                continue
            if isinstance(outcome, Same):
                same = dataclasses.replace(self.state.known[outcome.path], mtime_ns=outcome.mtime_ns)
                self.state.known[outcome.path] = same
                self._dirty.add(same.home(self.state.buckets))
                self.result.unchanged.append(outcome.path)
            else:
                self.result.unread.append(outcome.error())
            shown.start(outcome.path)
        return fresh

    def _note(self, fresh: Fresh) -> None:
        """Count a file that was read, by why it was."""
        path, result = fresh.source.path, self.result
        before = self._before.get(path)
        if before is None:
            old = self._moved_from(fresh.source)
            if old is None:
                result.new.append(path)
            else:
                result.moved.append((path, old))
                self._gone.discard(old)
                self._dropped.add(old)
                result.pruned = [name for name in result.pruned if name != old]
        elif before.sha256 in {None, fresh.source.sha256}:
            result.again.append(path)
        else:
            result.changed.append(path)
        result.rows.update({name: len(getattr(fresh.tables, name)) for name in fresh.tables.__dataclass_fields__})
        (row,) = fresh.tables.files.to_pylist()
        if row["rejected"]:
            result.files_refusing.append(path)
        if not row["events"]:
            result.files_without_events.append(path)

    def _moved_from(self, source: Source) -> str | None:
        """The name that a file had, when the store knows its content under one that is gone."""
        content = (source.size, source.sha256)
        return next(
            (old for old in sorted(self._gone) if (self._before[old].size, self._before[old].sha256) == content), None
        )

    def _apply(self, fresh: list[Fresh], *, last: bool) -> None:
        """Write what a round changes, and with the last one what else there is to write."""
        state = self.state
        replaced = {one.source.path for one in fresh} | (self._dropped & state.known.keys())
        changed = [state.known[path] for path in replaced if path in state.known] + [one.source for one in fresh]
        for path in self._dropped:
            state.known.pop(path, None)
        state.known |= {one.source.path: one.source for one in fresh}
        self._stale_runs |= {run_id for source in changed for run_id in source.run_ids}
        judged = self._judge(self._stale_runs | self._unjudged() if last else self._stale_runs)
        self._stale_runs = set()
        affected = buckets_of(changed, state.buckets) | self._dirty | judged
        self.result.written += write_buckets(state, affected, fresh, replaced)
        self._dirty.clear()

    def _unjudged(self) -> set[str]:
        """Runs without a finding by the policy of this release."""
        version = load_policy().version
        known = {run_id for source in self.state.known.values() for run_id in source.run_ids}
        found = self.state.findings
        return {run_id for run_id in known if run_id not in found or found[run_id].policy_version != version}

    def _judge(self, run_ids: Collection[str]) -> set[int]:
        """Diagnose runs again; the buckets of those whose finding has changed."""
        files: dict[str, list[Source]] = {run_id: [] for run_id in run_ids}
        for source in self.state.known.values():
            for run_id in source.run_ids:
                if run_id in files:
                    files[run_id].append(source)
        there = {run_id: [one for one in sources if one.path not in self._gone] for run_id, sources in files.items()}
        tasks = [(run_id, _to_judge(sources), _size(sources)) for run_id, sources in sorted(there.items()) if sources]
        batches = batched(tasks, lambda task: task[2], _BATCH_BYTES)
        found: list[Finding] = []
        with self._watch("judging", len(tasks)) as shown:
            work = [[task[:2] for task in batch] for batch in batches]
            for finding in chain.from_iterable(self.pool.results(judge_runs, work)):
                found.append(finding)
                shown.start(finding.run_id)
        changed = {finding.run_id for finding in found if self.state.findings.get(finding.run_id) != finding}
        self.state.findings |= {finding.run_id: finding for finding in found}
        for run_id, sources in files.items():
            if not sources:
                self.state.findings.pop(run_id, None)
            elif run_id not in self.state.findings:
                reason = "its files are no longer there."
                version = load_policy().version
                self.state.findings[run_id] = Finding(run_id, None, None, None, None, version, reason)
                changed.add(run_id)
        return {bucket_of(run_id, self.state.buckets) for run_id in changed}


class _Silent:
    """A watch that nobody looks at."""

    def start(self, name: str) -> None:
        """Nothing is shown."""


def _unwatched(doing: str, total: int) -> AbstractContextManager[Watch]:
    del doing, total
    return contextlib.nullcontext(_Silent())


def _size(sources: Sequence[Source]) -> int:
    return sum(source.size or 0 for source in sources)


def _to_judge(sources: Sequence[Source]) -> str:
    """The file to load a run by: one that holds no other run where there is one; of several folders, the last."""
    return max(sources, key=lambda source: (len(source.run_ids) == 1, source.path)).path
