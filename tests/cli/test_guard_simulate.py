"""`gradience guard simulate`: what a guard would have done in recorded runs, from files made here and real ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.policy import load_policy
from gradience_analysis.telemetry.assemble import load_run
from gradience_cli.simulating import options_of, play
from gradience_emit.guard import GuardOptions
from tests.analysis.records import CONFIG, end, record, write
from tests.analysis.reference import FOLDER, needs_reference_runs
from tests.cli.command import Result, gradience

CLEAN, USAGE, INCONCLUSIVE = 0, 2, 3
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "diagnosis"
Row = dict[str, Any]


def begin(**training: Any) -> Row:
    """A run_start with these training settings."""
    return record("run_start", config=CONFIG | {"training": CONFIG["training"] | training}, meta={})


def step(number: int, norm: float | None = 1.0, loss: float | None = 2.0, **fields: Any) -> Row:
    """A logged step; NaN and infinity as telemetry/v1 writes them."""
    values, nonfinite = dict[str, Any](fields), dict[str, str]()
    for name, value in (("grad_norm", norm), ("loss", loss)):
        if value is None:
            continue
        if value - value != 0:
            values[name] = None
            nonfinite[f"/{name}"] = "nan" if value != value else "inf"
        else:
            values[name] = value
    if nonfinite:
        values["nonfinite"] = nonfinite
    return record("train_step", number, ts=float(number), **values)


def steps(numbers: Sequence[int], **fields: Any) -> list[Row]:
    """Ordinary steps."""
    return [step(number, 1.0 + 0.01 * (number % 5), **fields) for number in numbers]


def simulated(*arguments: str | Path, code: int = CLEAN) -> dict[str, Any]:
    """The JSON report."""
    result = gradience("guard", "simulate", *arguments, "--json")
    assert result.returncode == code, result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def actions(folder: Path, rows: Sequence[Row], *arguments: str | Path) -> list[tuple[int, str, str]]:
    """(step, action, trigger) of a run with these records."""
    data = simulated(write(folder / "run.jsonl", [*rows, end()]), *arguments)
    return [(one["step"], one["action"], one["trigger"]) for one in data["runs"][0]["actions"]]


def test_the_defaults_of_the_guard_are_those_of_the_policy() -> None:
    """Given the guard and the policy file, which cannot import each other, when compared, then they are one."""
    defaults = {field.name: field.default for field in dataclasses.fields(GuardOptions)}
    thresholds = {name.partition(".")[2]: one.value for name, one in load_policy().under("guard").items()}
    assert {name: defaults[name] for name in thresholds} == thresholds
    deciding = {name for name in defaults if name.startswith(("grad_", "spike_", "max_", "window_", "cooldown_"))}
    assert deciding == thresholds.keys()
    assert options_of(load_policy()) == GuardOptions()


def test_a_healthy_run(tmp_path: Path) -> None:
    """Given an ordinary run that logs every tenth step, when simulated, then nothing, of how many steps is told."""
    path = write(tmp_path / "run.jsonl", [begin(max_grad_norm=1.0), *steps(range(10, 401, 10)), end(step=400)])
    result = gradience("guard", "simulate", path)
    assert result.returncode == CLEAN
    assert result.stdout.startswith("OK  A guard would have done nothing (40 of 400 steps seen).\n")
    assert "40 of 400, all with a gradient norm" in result.stdout
    assert "no guard recorded anything" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("clipping", "arguments", "action"),
    [
        (1.0, [], "warn"),
        (1.0, ["--on-clipped-spike", "skip"], "skip"),
        (0.0, [], "skip"),
        (0.0, ["--on-clipped-spike", "warn"], "skip"),
        (None, [], "skip"),
    ],
)
def test_a_spike_is_told_by_the_clipping_of_the_run(
    tmp_path: Path, clipping: float | None, arguments: list[str], action: str
) -> None:
    """Given one norm of 60 among ones, when simulated, then with clipping it warns, and without it is skipped."""
    settings = {} if clipping is None else {"max_grad_norm": clipping}
    rows = [begin(**settings), *steps(range(1, 31)), step(31, 60.0), *steps(range(32, 40))]
    assert actions(tmp_path, rows, *arguments) == [(31, action, "gradient_spike")]
    told = gradience("guard", "simulate", tmp_path / "run.jsonl", *arguments).stdout
    assert ("is not recorded, and the run is played" in told) == (clipping is None)
    assert told.startswith("OK  " if action == "warn" else "WARNING  ")


def test_a_policy_file_sets_the_limits(tmp_path: Path) -> None:
    """Given a stricter policy, when simulated, then what passed is skipped, and the limits in force are told."""
    rows = [begin(max_grad_norm=0.0), *steps(range(1, 31)), step(31, 3.0), step(32, 1.0), step(33, 7.0)]
    assert actions(tmp_path, rows) == [(33, "skip", "gradient_spike")]
    policy = tmp_path / "strict.toml"
    policy.write_text("version = 1\n[guard.spike_ratio]\nvalue = 2\n[loss_spike.deviations]\nvalue = 9\n")
    assert actions(tmp_path, rows, "--policy", policy) == [
        (31, "skip", "gradient_spike"),
        (33, "skip", "gradient_spike"),
    ]
    assert simulated(tmp_path / "run.jsonl", "--policy", policy)["limits"]["spike_ratio"] == 2


def test_the_project_file_sets_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a cap in gradience.toml, when simulated there, then the first norm is above it."""
    (tmp_path / "gradience.toml").write_text('[thresholds]\n"guard.grad_threshold" = 0.5\n')
    monkeypatch.chdir(tmp_path)
    assert actions(tmp_path, [begin(max_grad_norm=0.0), *steps(range(1, 31))]) == [(1, "skip", "gradient_cap")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[guard.spike_window]\nvalue = 8", "spike_window must be an integer >= 16, not 8"),
        ("[guard.max_skips]\nvalue = 2.5", "guard.max_skips counts bad steps in a row: 2.5 is no whole number"),
        ("[guard.grad_threshold]\nvalue = 0", "grad_threshold must be a number above 0, not 0"),
        ("[guard.spike_deviation]\nvalue = 3", "Did you mean guard.spike_deviations"),
        ("[guard.spike_ratio]\nvalue = 'x'", "value must be a finite number"),
    ],
)
def test_limits_that_cannot_hold_are_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    """Given a policy with a limit that makes no sense, when simulated, then exit code 2 and its name."""
    path = write(tmp_path / "run.jsonl", [begin(), *steps(range(1, 5)), end()])
    policy = tmp_path / "policy.toml"
    policy.write_text(f"version = 1\n{text}\n")
    result = gradience("guard", "simulate", path, "--policy", policy)
    assert result.returncode == USAGE
    assert words in result.stderr
    assert result.stderr.count("\n") <= 2
    assert result.stdout == ""


def test_a_run_that_stays_nan(tmp_path: Path) -> None:
    """Given NaN from step 31 to the end, when simulated, then one skip is the fault's, and the rest follow it."""
    bad = [step(number, float("nan"), float("nan")) for number in range(31, 101)]
    path = write(tmp_path / "run.jsonl", [begin(max_grad_norm=1.0), *steps(range(1, 31)), *bad, end()])
    result = gradience("guard", "simulate", path)
    assert result.returncode == CLEAN
    assert "19 skips, 1 abort, 19 of them after the first of a row (100 steps seen)" in result.stdout
    assert "31 to 49  skip    loss not finite" in result.stdout
    assert "Step 50: abort, for there were 20 bad steps in a row." in result.stdout
    assert "would then not have met the others" in result.stdout


def test_counters_tell_of_steps_between_logs(tmp_path: Path) -> None:
    """Given a counter that rises while logged values stay finite, when simulated, then a step between is skipped."""
    counted = [
        step(10 * place, 1.0, nonfinite_loss_steps=count, nonfinite_grad_steps=count)
        for place, count in enumerate((0, 0, 1, 1, 3), 1)
    ]
    rows = [begin(max_grad_norm=1.0), *counted]
    assert actions(tmp_path, rows) == [(29, "skip", "nonfinite_loss"), *[(49, "skip", "nonfinite_loss")] * 2]
    (run,) = simulated(tmp_path / "run.jsonl")["runs"]
    assert [one["after"] for one in run["actions"]] == [20, 40, 40]
    assert (run["points"], run["steps"], run["with_norm"]) == (8, 50, 5)
    assert "21 to 29" in gradience("guard", "simulate", tmp_path / "run.jsonl").stdout


def test_a_counted_step_that_is_logged_is_played_once(tmp_path: Path) -> None:
    """Given every step logged with its counters, when one is NaN, then it is one action at its own step."""
    rows: list[Row] = [begin()]
    for number in range(1, 31):
        bad = number == 20
        norm = float("nan") if bad else 1.0
        rows.append(step(number, norm, norm, nonfinite_loss_steps=number >= 20, nonfinite_grad_steps=number >= 20))
        rows[-1] |= {name: int(rows[-1][name]) for name in ("nonfinite_loss_steps", "nonfinite_grad_steps")}
    assert actions(tmp_path, rows) == [(20, "skip", "nonfinite_loss")]


def test_a_mean_that_is_nan_is_of_a_step_between_logs(tmp_path: Path) -> None:
    """Given a logged loss that is NaN beside a finite norm, when simulated, then a step before it is skipped."""
    rows = [begin(), *steps(range(5, 21, 5)), step(25, 1.0, float("nan")), *steps(range(30, 50, 5))]
    assert actions(tmp_path, rows) == [(24, "skip", "nonfinite_loss")]
    each = [begin(), *steps(range(1, 25)), step(25, 1.0, float("nan")), *steps(range(26, 30))]
    assert actions(tmp_path, each) == [(25, "skip", "nonfinite_loss")]


def test_a_loss_that_the_trainer_hid(tmp_path: Path) -> None:
    """Given a logged loss of 0.0 beside a NaN norm, when simulated, then it is the loss that was not finite."""
    rows = [begin(), *steps(range(1, 25)), step(25, float("nan"), 0.0), *steps(range(26, 30))]
    assert actions(tmp_path, rows) == [(25, "skip", "nonfinite_loss")]


def test_float16_leaves_overflows_to_its_scaler(tmp_path: Path) -> None:
    """Given float16 and infinite norms with finite losses, when simulated, then they are the scaler's affair."""
    overflows = [step(number, float("inf")) for number in (1, 2, 40)]
    rows = [begin(dtype="float16"), *overflows[:2], *steps(range(3, 40)), overflows[2], *steps(range(41, 50))]
    assert actions(tmp_path, rows) == [(number, "scaled", "nonfinite_gradient") for number in (1, 2, 40)]
    assert "3 scaler's skips" in gradience("guard", "simulate", tmp_path / "run.jsonl").stdout


def test_what_a_guard_really_did_stands_beside_it(tmp_path: Path) -> None:
    """Given a run with records of a guard, when simulated, then its own actions are told with the others."""
    acted = record("metrics", 31, ts=31.0, kind="guard", metrics={"action": "skip", "trigger": "nonfinite_gradient"})
    rows = [begin(), *steps(range(1, 31)), step(31, float("nan")), acted, *steps(range(32, 40))]
    path = write(tmp_path / "run.jsonl", [*rows, end()])
    (run,) = simulated(path)["runs"]
    assert run["recorded"]["skips"] == 1
    assert run["recorded"]["triggers"] == {"nonfinite_gradient": 1}
    assert run["counts"] == {"skip": 1, "abort": 0, "warn": 0, "scaled": 0}
    assert "Really did    1 skip" in gradience("guard", "simulate", path).stdout


def test_each_segment_has_a_guard_of_its_own(tmp_path: Path) -> None:
    """Given a resumed run whose second part begins with a high norm, when simulated, then its cap holds anew."""
    first = [begin(max_grad_norm=0.0), *steps(range(1, 31)), end("aborted", ts=31.0)]
    second = [begin(max_grad_norm=0.0) | {"meta": {"resumed_from_step": 20}, "ts": 50.0}]
    second += [one | {"ts": one["ts"] + 50.0} for one in (step(21, 150.0), *steps(range(22, 40)))]
    write(tmp_path / "run.jsonl", first)
    write(tmp_path / "run.1.jsonl", second)
    (run,) = simulated(tmp_path / "run.jsonl")["runs"]
    assert [(one["segment"], one["step"], one["trigger"]) for one in run["actions"]] == [(1, 21, "gradient_cap")]
    assert run["points"] == 30 + 19


def test_several_runs_get_an_overview(tmp_path: Path) -> None:
    """Given a folder of two runs, when simulated, then each has its row, and one that acted its own section."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a" / "run.jsonl", [begin(max_grad_norm=0.0), *steps(range(1, 31)), end()])
    write(tmp_path / "b" / "run.jsonl", [begin(max_grad_norm=0.0), *steps(range(1, 31)), step(31, 60.0), end()])
    told = gradience("guard", "simulate", tmp_path).stdout
    assert told.startswith("WARNING  A guard would have acted in 1 of 2 runs: 1 skip (61 steps seen).")
    data = simulated(tmp_path)
    assert data["counts"] == {"skip": 1, "abort": 0, "warn": 0, "scaled": 0}
    assert [run["counts"]["skip"] for run in data["runs"]] == [0, 1]
    assert told.count("What it would have done") == 1
    assert gradience("guard", "simulate", tmp_path, "--verbose").stdout.count("Really did") == 2


def test_a_run_without_steps_is_inconclusive(tmp_path: Path) -> None:
    """Given a run that logs neither losses nor norms, when simulated, then the exit code is 3, and it says why."""
    path = write(tmp_path / "run.jsonl", [begin(), record("train_step", 1, lr=1e-4), end()])
    result = gradience("guard", "simulate", path)
    assert result.returncode == INCONCLUSIVE
    assert "nothing to play" in result.stdout


def test_one_bad_path_does_not_hide_the_others(tmp_path: Path) -> None:
    """Given a run and a path that is not there, when simulated, then the run is played and the exit code is 2."""
    path = write(tmp_path / "run.jsonl", [begin(), *steps(range(1, 5)), end()])
    result = gradience("guard", "simulate", path, tmp_path / "none.jsonl")
    assert result.returncode == USAGE
    assert "done nothing" in result.stdout
    assert "none.jsonl" in result.stderr


@pytest.mark.parametrize("count", [10**300, 1e300, -5, "x", True])
def test_a_counter_may_be_anything(tmp_path: Path, count: object) -> None:
    """Given a counter that no run can have, when simulated, then it ends, and plays no more steps than there were."""
    rows = [begin(), *steps(range(1, 20)), step(2**50, 1.0, nonfinite_grad_steps=count)]
    (run,) = simulated(write(tmp_path / "run.jsonl", rows))["runs"]
    assert run["points"] <= 20 + 10_000


@pytest.mark.parametrize("fmt", ["md", "html"])
def test_other_formats(tmp_path: Path, fmt: str) -> None:
    """Given a run with a spike, when written as a page, then the file holds what was seen, inert."""
    rows = [begin(max_grad_norm=0.0), *steps(range(1, 31)), step(31, 60.0), end()]
    path = write(tmp_path / "run.jsonl", [one | {"run_id": "<b>\x1b[31m|x"} for one in rows])
    out = tmp_path / f"out.{fmt}"
    result = gradience("guard", "simulate", path, "--format", fmt, "--output", out)
    assert (result.returncode, result.stdout) == (CLEAN, "")
    assert "norm is a spike" in out.read_text()
    assert "\x1b" not in out.read_text()
    assert "<b>\x1b" not in out.read_text()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Given a terminal of some width, when simulated, then no line is longer, but for a path that cannot be broken."""
    bad = [step(number, float("nan")) for number in range(31, 45)]
    rows = [begin(), *steps(range(1, 31)), *bad, *steps(range(45, 90)), step(90, 1e6)]
    write(tmp_path / "r.jsonl", [*rows, end()])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    told = gradience("guard", "simulate", "r.jsonl", "--verbose").stdout
    assert max(map(len, told.splitlines())) <= width
    assert told.isascii() or "·" in told


@given(
    st.lists(
        st.tuples(
            st.integers(1, 5),
            st.one_of(st.none(), st.floats(), st.integers(-(10**400), 10**400)),
            st.one_of(st.none(), st.floats()),
            st.one_of(st.none(), st.integers(0, 30)),
        ),
        max_size=40,
    )
)
def test_points_are_in_order_and_no_more_than_steps(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    """Given any records, when their run is played, then points are no more than steps, and actions in order."""
    path = tmp_path_factory.mktemp("any") / "run.jsonl"
    made, at = [begin()], 0
    for ahead, norm, loss, count in rows:
        at += ahead
        fields = {"nonfinite_grad_steps": count} if count is not None else {}
        made.append(record("train_step", at, ts=float(at), loss=loss, grad_norm=norm, **fields))
    write(path, [*made, end()])
    played = play(load_run(str(path)), GuardOptions())
    assert played.points <= played.steps == (at or played.points)
    found = [action.step for action in played.actions]
    assert found == sorted(found)


@needs_reference_runs
def test_reference_runs_meet_no_guard() -> None:
    """Given real runs of an earlier tool, all healthy, when simulated, then no guard would have acted."""
    data = simulated(FOLDER)
    assert data["points"] > 100
    assert set(data["counts"].values()) == {0}
    assert all(run["max_grad_norm"] is None for run in data["runs"])


@pytest.mark.parametrize(
    ("folder", "first"), [("nan_batch_unfiltered", {25, 70}), ("nan_batch_filtered", {25, 26, 70})]
)
def test_trainings_that_met_a_nan_batch(folder: str, first: set[int]) -> None:
    """Given really trained runs with one NaN batch, when simulated, then the first skip is at that batch."""
    data = simulated(FIXTURES / folder)
    for run in data["runs"]:
        steps_of_actions = [one["step"] for one in run["actions"]]
        assert steps_of_actions, run["path"]
        assert steps_of_actions[0] in first, run["path"]
        assert not run["actions"][0]["follows"]


def test_healthy_trainings_meet_hardly_any() -> None:
    """Given really trained healthy runs, when simulated, then no update would have been dropped: clipping is on."""
    folders = ("healthy_cosine", "healthy_linear", "healthy_accumulation", "healthy_warmup", "healthy_noisy")
    data = simulated(*(FIXTURES / name for name in folders))
    assert data["points"] > 3000
    assert data["counts"]["skip"] == data["counts"]["abort"] == 0


def help_of(*words: str) -> Result:
    """The help of a command."""
    return gradience(*words, "--help")


def test_the_group_says_what_it_has() -> None:
    """Given `gradience guard`, when asked for help, then simulate is there with its sentence and an example."""
    assert "simulate" in help_of("guard").stdout
    assert "Example: gradience guard simulate" in help_of("guard", "simulate").stdout
