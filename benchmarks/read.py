"""Reading telemetry into columns: our tables beside pandas, pyarrow, polars and DuckDB, in one run.

Each call is made in a process of its own, on files in the page cache, the libraries imported and used once before; the
contenders take turns, and the cheapest call of each counts. CPU seconds are user + system, summed over threads and
child processes; peaks are of the whole process. The files: one run of a million lines, the same number of lines in runs
of 500 lines, a copy of the one with a hundredth of its lines damaged, and for ours a run ten times as long.

    python benchmarks/read.py [--lines 1000000] [--repeat 3] [--quick] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from _children import Outcome, answer, free_bytes, in_turns, run
from _readers import OURS, READERS, TOLERANT, Reader, faithfulness, found, reported, treatment
from _telemetry import DAMAGE, LINE_BYTES, Data, damage, prepare, write_file

FASTER_THAN_PANDAS, FASTER_THAN_PYARROW, LESS_MEMORY = 6.0, 1.7, 5.0
# Two measurements of the same call differ by so much here.
NOISE = 1.1
LONGER = 10
# So few that of no kind of damage there are more than load_runs keeps of one file.
BRIEF = 160
EXAMINED_LINES = 8_000
_ALL = {**READERS, **TOLERANT}
_BIG = tuple(name for name in READERS if name != "ours_processes")


def child(name: str, job: str, paths: list[str]) -> None:
    """In the child: one call of one contender, after one on a small file."""
    reader = _ALL[name]
    if job == "examine":
        answer(lambda: None, lambda _: _examine(reader, paths[0]))
        return
    warm, path = paths
    reader.read([warm])
    files = sorted(str(file) for file in Path(path).iterdir()) if Path(path).is_dir() else [path]
    answer(lambda: reader.read(files), (lambda result: {"said": reported(result)}) if job == "bad" else lambda _: {})


def _examine(reader: Reader, path: str) -> dict[str, Any]:
    """What a reader makes of a sound file and of one for each kind of damage."""
    facts = faithfulness(reader, path)
    if reader.table is None:
        return facts
    with tempfile.TemporaryDirectory() as folder:
        for place, kind in enumerate(DAMAGE):
            bad = Path(folder) / f"{place}.jsonl"
            facts[kind] = treatment(reader, str(bad), path, damage(Path(path), bad, [kind]))
    return facts


def main() -> None:
    """Measure, and print the tables."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines, one call each")
    parser.add_argument("--data", type=Path, help="where the files are kept; default: nowhere")
    options = parser.parse_args()
    lines, repeat = (options.lines // 10, 1) if options.quick else (options.lines, options.repeat)
    with tempfile.TemporaryDirectory() as folder:
        _measure(options.data or Path(folder), lines, repeat)


def _measure(folder: Path, lines: int, repeat: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = prepare(folder, lines)
    small = folder / "small.jsonl"
    write_file(small, min(lines, EXAMINED_LINES))

    def call(job: str, path: Path) -> Any:
        return lambda name: run(__file__, name, job, str(small), str(path))

    facts = {name: run(__file__, name, "examine", str(small)).facts for name in _ALL}
    one = in_turns(repeat, _BIG, call("read", data.file))
    bad = in_turns(repeat, (OURS,), call("bad", data.bad))
    many = in_turns(repeat, READERS, call("read", data.runs))
    files = lines // data.runs_lines
    size = data.file.stat().st_size
    print(f"One run of {lines:,} lines, {size / 1e6:.0f} MB ({size / lines:.0f} bytes a line); best of {repeat}.\n")
    said = found(bad[OURS].facts["said"], data.damaged)
    damaged = f"| {READERS[OURS].title}, 1% of the lines bad | {_costs(bad[OURS], one[OURS], lines)} | none | {said} |"
    _table(one, lines, facts, damaged)
    print(f"\n{files:,} runs of {data.runs_lines} lines, each in a file of its own; best of {repeat}.\n")
    _table(many, files * data.runs_lines, {})
    print("\nWhat becomes of a damaged line, one kind a file.\n")
    _treatments(facts)
    scaled = _scaling(folder, data, one[OURS], repeat, call)
    _goals(data, one, many, bad[OURS], scaled)


def _table(outcomes: dict[str, Outcome], lines: int, facts: dict[str, Any], last: str = "") -> None:
    more = (" numbers changed | bad lines |", "---|---|") if facts else ("", "")
    print("| reader | cpu s | x ours | wall s | Mlines/s | peak MB | x ours |" + more[0])
    print("|---|---|---|---|---|---|---|" + more[1])
    for name, outcome in outcomes.items():
        row = f"| {READERS[name].title} |"
        row += " fails | | | | | |" if outcome.error else f" {_costs(outcome, outcomes[OURS], lines)} |"
        if facts:
            row += f" {_changed(facts[name])} | {_bad(facts[name])} |"
        print(row)
    if last:
        print(last)
    for name, outcome in outcomes.items():
        if outcome.error:
            print(f"\n{READERS[name].title} fails: {_brief(outcome.error)}")


def _costs(outcome: Outcome, ours: Outcome, lines: int) -> str:
    cpu, peak = outcome.cpu_s / ours.cpu_s, outcome.peak_mb / ours.peak_mb
    rate = lines / outcome.cpu_s / 1e6
    return f"{outcome.cpu_s:.2f} | {cpu:.2f} | {outcome.wall_s:.2f} | {rate:.2f} | {outcome.peak_mb:.0f} | {peak:.2f}"


def _changed(facts: dict[str, Any]) -> str:
    if "changed" not in facts:
        return ""
    words = f"{100 * facts['changed']:.0f}%" if facts["changed"] else "none"
    return words + (f"; lost: {', '.join(facts['gone'])}" if facts["gone"] else "")


def _bad(facts: dict[str, Any]) -> str:
    """In a few words, what `_treatments` shows."""
    outcomes = [facts[kind] for kind in DAMAGE if kind in facts]
    if not outcomes:
        return ""
    reporting = sum("reported" in outcome for outcome in outcomes)
    failing = sum(outcome == "file fails" for outcome in outcomes)
    kinds = {"reported": reporting, "fatal": failing, "unsaid": len(outcomes) - reporting - failing}
    return f"of {len(outcomes)} kinds " + ", ".join(f"{number} {what}" for what, number in kinds.items() if number)


def _brief(error: str) -> str:
    """Its beginning and its end, between which the line itself may stand."""
    return error if len(error) <= 2 * BRIEF else f"{error[:BRIEF]} … {error[-BRIEF:]}"


def _treatments(facts: dict[str, Any]) -> None:
    print("| reader | " + " | ".join(DAMAGE) + " |")
    print("|---|" + "---|" * len(DAMAGE))
    for name, found_out in facts.items():
        if all(kind in found_out for kind in DAMAGE):
            print(f"| {_ALL[name].title} | " + " | ".join(found_out[kind] for kind in DAMAGE) + " |")


def _scaling(folder: Path, data: Data, ours: Outcome, repeat: int, call: Any) -> Outcome | None:
    """Ours on a run ten times as long; None where there is no room for it."""
    lines = LONGER * data.lines
    if free_bytes(folder) < 1.5 * lines * LINE_BYTES:
        print(f"\nNo room for a run of {lines:,} lines: how the cost grows was not measured.")
        return None
    long = folder / "long.jsonl"
    write_file(long, lines)
    outcome = in_turns(min(2, repeat), (OURS,), call("read", long))[OURS]
    long.unlink()
    print("\nOurs, as the run grows.\n")
    print("| lines | cpu s | µs a line | Mlines/s | peak MB |\n|---|---|---|---|---|")
    for number, cost in ((data.lines, ours), (lines, outcome)):
        each = 1e6 * cost.cpu_s / number
        print(f"| {number:,} | {cost.cpu_s:.2f} | {each:.2f} | {1 / each:.2f} | {cost.peak_mb:.0f} |")
    return outcome


def _goals(data: Data, one: dict[str, Outcome], many: dict[str, Outcome], bad: Outcome, scaled: Outcome | None) -> None:
    ours, pandas, pyarrow, reference = (one[name] for name in (OURS, "pandas", "pyarrow", "orjson"))
    said, damaged = set(bad.facts["said"]), set(data.damaged)
    files = data.lines // data.runs_lines
    each_file = 1e6 * (many[OURS].cpu_s - files * data.runs_lines / data.lines * ours.cpu_s) / files
    each_bad = 1e6 * (bad.cpu_s - ours.cpu_s) / len(damaged)
    compared = f"in calls of the reference: ours {ours.cpu_s / reference.cpu_s:.2f}"
    there = "where the goal was set"
    by_pandas = f"{compared}, pandas {pandas.cpu_s / reference.cpu_s:.2f}; {there} 1.67 to 1.94 and 10.6"
    by_pyarrow = f"{compared}, pyarrow {pyarrow.cpu_s / reference.cpu_s:.2f}; {there} 1.67 to 1.94 and 3.00"
    many_each = _each(many[OURS], files * data.runs_lines, ours, data)
    rows = [
        ("x the speed of pandas.read_json, at least", FASTER_THAN_PANDAS, pandas.cpu_s / ours.cpu_s, by_pandas),
        (
            "the same, 1% of our lines bad, all reported",
            FASTER_THAN_PANDAS,
            pandas.cpu_s / bad.cpu_s,
            f"{by_pandas}; and {each_bad:.0f} µs a bad line: read twice more, explained, and the stretch of rows ends",
        ),
        ("x the speed of pyarrow.json, at least", FASTER_THAN_PYARROW, pyarrow.cpu_s / ours.cpu_s, by_pyarrow),
        ("peak memory, pandas / ours, at least", LESS_MEMORY, pandas.peak_mb / ours.peak_mb, "the libraries' share"),
        ("a line in one file / a line in many, at least", 1 / NOISE, 1 / many_each, f"{each_file:.0f} µs more a file"),
        ("damaged lines reported, and no others, share", 1.0, len(said & damaged) / len(said | damaged), "a fault"),
    ]
    if scaled:
        each = _each(scaled, LONGER * data.lines, ours, data)
        rows.append(
            (f"a line of {data.lines:,} / a line of {LONGER * data.lines:,}, at least", 1 / NOISE, 1 / each, "")
        )
    print("\n| goal | wanted | measured | met |\n|---|---|---|---|")
    for name, wanted, measured, why in rows:
        met = "yes" if measured >= wanted else f"**no**: {why}" if why else "**no**"
        print(f"| {name} | {wanted:.2f} | {measured:.2f} | {met} |")


def _each(outcome: Outcome, lines: int, ours: Outcome, data: Data) -> float:
    """The cost of a line as a multiple of what it is in the one file."""
    return outcome.cpu_s / lines / (ours.cpu_s / data.lines)


if __name__ == "__main__":
    main()
