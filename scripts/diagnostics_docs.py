"""Write `docs/diagnostics.md` and `docs/rules/`: what is examined, by which thresholds, and how well it was measured.

Run it from the root of the repository, in an environment with the extra `dev`:

    python scripts/diagnostics_docs.py            # write them
    python scripts/diagnostics_docs.py --check    # exit 1 when they are not what this would write

The text of a diagnostic is the docstring of its module, its thresholds are those of the policy file, the rules are
those of the catalogue, and the tables of misses and false alarms are counted over the runs in `fixtures/diagnosis/`.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gradience_analysis.catalogue import RULES, Rule
from gradience_analysis.policy import Policy, Threshold, load_policy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DOCS = ROOT / "docs"
PAGE = "diagnostics.md"
GENERATED = "<!-- Written by scripts/diagnostics_docs.py from the code; change it there. -->"
INTRODUCTION = """\
What `gradience monitor` and `gradience check` examine, one section a question. Each measures numbers first, without any
threshold, and then holds them against the [policy file](../gradience_analysis/policy/v1/default.toml); a threshold is
*calibrated* when labelled runs set it, and *proposed* otherwise. `gradience config show` lists the thresholds in force,
`--policy FILE` and `[tool.gradience.thresholds]` change them.

A finding has a code, a severity, one sentence, the numbers it rests on, what to try, a confidence with its basis, and a
caveat. Advice is a hypothesis: confirm it on a held-out evaluation. What could not be measured is listed with what to
log to have it. A finding that follows one of the [80 rules](rules/README.md) names it.
"""
MEASURED = """\
Small models were really trained under planted conditions, on three tasks, in several sizes and seeds, with the callback
recording; [`benchmarks/diagnosis/`](../benchmarks/diagnosis/__init__.py) has the conditions and the generator, and
`fixtures/diagnosis/` the telemetry. Thresholds were tuned on the odd seeds; the even seeds, which the tables count,
were trained after the last threshold was set. (Two earlier sets of even seeds were seen on the way and are not
counted. The first was looked at while the diagnostics were written; the second, counted once with all limits in place,
gave 84 of 88 planted runs their finding, and 4 of 64 healthy ones a warning, which moved three limits.)

{totals}

Such models are small, and four runs of a condition are few: what holds for them is evidence for larger ones, not proof.
The held-out rows that are a third of the training rows cannot be told from sound ones by any curve; compare the files
with `gradience check --data train.jsonl --eval-data eval.jsonl`, which finds them exactly (D04).
"""


GUARD = """\
Limits that the guard goes by while a run trains. `gradience guard simulate` plays them over recorded runs, with others
where a policy file gives them."""


class Room(NamedTuple):
    """Modules that examine the same thing: their heading, what stands under it, and the modules."""

    title: str
    text: str
    modules: Sequence[ModuleType]


def rooms() -> list[Room]:
    """What is examined, in the order of the page."""
    from gradience_analysis import adapter_check, config_check, diagnostics

    return [
        Room(
            "A recorded run", "Asked by `gradience monitor` and `gradience report`.", _modules(diagnostics.DIAGNOSTICS)
        ),
        Room("Before training", "Asked by `gradience check`.", _modules(config_check.CHECKS)),
        Room(
            "Adapter files",
            "Asked by `gradience check --peft-dir` when the folder holds weights.",
            _modules(adapter_check.ADAPTER_CHECKS),
        ),
    ]


def pages(policy: Policy) -> dict[str, str]:
    """Each page by its name below `docs/`."""
    everything = rooms()
    written = {PAGE: _diagnostics(everything, policy), "rules/README.md": _index(everything)}
    written |= {f"rules/{rule.id}.md": _rule(rule, everything, policy) for rule in RULES}
    return written


def _modules(examinations: Iterable[Any]) -> list[ModuleType]:
    modules = list(examinations)
    unfit = [item for item in modules if not isinstance(item, ModuleType)]
    if unfit:
        raise TypeError(f"an examination is a module: {unfit}")
    return modules


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _diagnostics(everything: Sequence[Room], policy: Policy) -> str:
    lines = ["# Diagnostics", "", GENERATED, "", INTRODUCTION, "## Measured on labelled runs", "", *_measured()]
    for room in everything:
        lines += [f"## {room.title}", "", room.text, ""]
        for module in room.modules:
            lines += _section(module, policy)
    lines += _comparison(policy)
    lines += ["## The guard", "", GUARD, "", *_thresholds(policy.under("guard"))]
    return "\n".join(lines).rstrip() + "\n"


def _comparison(policy: Policy) -> list[str]:
    """Two adapters: what is compared, the labels and their limits. It makes no findings, and so is no examination."""
    from gradience_analysis.audit import overlap

    lines = ["## Two adapters", "", "Asked by `gradience audit A --against B`.", ""]
    lines += [inspect.cleandoc(overlap.__doc__ or ""), "", "| label | what it says |", "|---|---|"]
    lines += [f"| {label} | {_cell(meaning)} |" for label, meaning in overlap.LABELS.items()]
    return [*lines, "", *_thresholds(policy.under("adapter_overlap"))]


def _measured() -> list[str]:
    """What the diagnosis benchmark counts: the totals of both halves, and the tables of the second one."""
    from benchmarks.diagnosis.score import score, to_markdown

    totals = ["| half | planted runs | with their finding | healthy runs | with a warning or worse |"]
    totals.append("|---|--:|--:|--:|--:|")
    for name, half in (("odd seeds, by which thresholds were set", "tune"), ("even seeds, unseen", "report")):
        scores = score(half)
        planted = [item for item in scores if not item.condition.healthy]
        healthy = [item for item in scores if item.condition.healthy]
        counts = (
            sum(len(item.outcomes) for item in planted),
            sum(item.recalled for item in planted),
            sum(len(item.outcomes) for item in healthy),
            sum(item.alarmed for item in healthy),
        )
        totals.append(f"| {name} | {' | '.join(map(str, counts))} |")
    text = MEASURED.replace("{totals}", "\n".join(totals))
    return [text, to_markdown(score("report")).strip(), ""]


def _section(module: ModuleType, policy: Policy) -> list[str]:
    lines = [f"### {_name(module)}", "", inspect.cleandoc(module.__doc__ or ""), ""]
    codes: Mapping[str, str] = module.CODES
    by_code = {rule.code: rule for rule in RULES}
    lines += ["| finding | rule | what it says |", "|---|---|---|"]
    for code, text in codes.items():
        rule = by_code.get(code)
        link = "" if rule is None else f"[{rule.id}](rules/{rule.id}.md)"
        lines.append(f"| `{code}` | {link} | {_cell(text)} |")
    lines.append("")
    return lines + _thresholds(policy.under(_name(module)))


def _thresholds(thresholds: Mapping[str, Threshold]) -> list[str]:
    if not thresholds:
        return []
    lines = ["| threshold | value | unit | meaning | source |", "|---|--:|---|---|---|"]
    lines += [
        f"| `{name}` | {one.value:g} | {_cell(one.unit)} | {_cell(one.meaning)} | {_cell(_source(one))} |"
        for name, one in thresholds.items()
    ]
    return [*lines, ""]


def _source(threshold: Threshold) -> str:
    return f"{'calibrated' if threshold.calibrated else 'proposed'}: {threshold.source}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _index(everything: Sequence[Room]) -> str:
    del everything
    lines = ["# The 80 rules", "", GENERATED, ""]
    lines += [
        "Faults that a training run shows before, while or after it trains. *Check* is asked by `gradience check`,",
        "*monitor* by `gradience monitor`, and *audit* of the files of an adapter.",
        "",
        "| rule | about | asked by | severity | what is wrong |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| [{rule.id}]({rule.id}.md) | {rule.category} | {', '.join(rule.stages)} | {', '.join(rule.severities)} "
        f"| {_cell(rule.title)} |"
        for rule in RULES
    ]
    return "\n".join(lines) + "\n"


def _rule(rule: Rule, everything: Sequence[Room], policy: Policy) -> str:
    modules = [module for room in everything for module in room.modules if rule.code in module.CODES]
    if not modules:
        raise LookupError(f"no examination makes the finding {rule.code} of {rule.id}")
    lines = [f"# {rule.id}: {rule.code}", "", GENERATED, "", rule.title, ""]
    lines += [
        f"- **Asked by:** {', '.join(rule.stages)}",
        f"- **Severity:** {' or '.join(rule.severities)}",
        f"- **What to do:** {rule.fix}",
        f"- **Examined in:** {', '.join(f'[{_name(one)}](../{PAGE}#{_name(one)})' for one in modules)}",
        "",
    ]
    for module in modules:
        said = module.CODES[rule.code]
        lines += [f"{said}", ""] if said != rule.title else []
        lines += _thresholds(policy.under(_name(module)))
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or say which differ."""
    parser = argparse.ArgumentParser(description="Write docs/diagnostics.md and docs/rules/ from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page would change")
    options = parser.parse_args(arguments)
    written = pages(load_policy())
    stale = [name for name, text in written.items() if not (DOCS / name).is_file() or (DOCS / name).read_text() != text]
    extra = [f"rules/{path.name}" for path in (DOCS / "rules").glob("*.md") if f"rules/{path.name}" not in written]
    if options.check:
        for name in (*stale, *extra):
            print(f"docs/{name} is not what the code says", file=sys.stderr)
        return 1 if stale or extra else 0
    (DOCS / "rules").mkdir(exist_ok=True)
    for name, text in written.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    for name in extra:
        (DOCS / name).unlink()
    print(f"{len(written)} pages, {len(stale)} of them changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
