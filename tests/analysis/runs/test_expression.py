"""Conditions on runs: what they mean, what is refused, and that nothing of them is ever run."""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.runs import load_runs
from gradience_analysis.runs.expression import Expression, ExpressionError, UnknownColumnError, nearest

ROW: dict[str, Any] = {
    "lora.r": 8,
    "optimizer.lr": 1e-3,
    "status": "ok",
    "lora.target_modules": '["q_proj", "v_proj"]',
    "model_name": "tiny-llama",
    "lora.use_dora": False,
    "gap": None,
    "loss.final": float("nan"),
    "val.rewards/margins.final": 0.5,
    "started": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "big": 2**53 + 1,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lora.r == 8", True),
        ("lora.r == 8.0 and optimizer.lr < 1e-2", True),
        ("lora.r != 8 or status == 'ok'", True),
        ("not lora.r > 4", False),
        ("1e-4 < optimizer.lr <= 1e-3", True),
        ("1e-4 < optimizer.lr < 1e-3", False),
        ("status in ['ok', 'aborted']", True),
        ("lora.r not in (4, 16)", True),
        ("lora.r in {8}", True),
        ("'q_proj' in lora.target_modules", True),
        ("'q' in lora.target_modules", False),
        ("'llama' in model_name", True),
        ("'Llama' not in model_name", True),
        ("lora.use_dora", False),
        ("not lora.use_dora", True),
        ("lora.r * 2 + 1 == 17", True),
        ("lora.r / 0 > 1e308", True),
        ("lora.r % 3 == 2 and lora.r // 3 == 2 and 2 ** 3 == lora.r and -lora.r == -8", True),
        ("gap > 1.5", False),
        ("not gap > 1.5", False),
        ("gap > 1.5 or lora.r == 8", True),
        ("gap > 1.5 and lora.r == 8", False),
        ("gap is None", True),
        ("gap is not None", False),
        ("loss.final is None", False),
        ("loss.final != loss.final", True),
        ("loss.final < 1", False),
        ("`val.rewards/margins.final` > 0.4", True),
        ("status == '`'", False),
        ("started >= '2026-01-31'", True),
        ("started < '2026-01-31T13:00:00+02:00'", False),
        ("lora.r == 'ok'", False),
        ("lora.r != 'ok'", True),
        ("big == 9007199254740993", True),
        ("big == 9007199254740992", False),
        ("True", True),
        ("  lora.r == 8  ", True),
    ],
)
def test_what_an_expression_means(text: str, expected: bool) -> None:
    """Given an expression, when held against a row, then it is true or it is not."""
    assert Expression(text).matches(ROW) is expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("__import__('os').system('touch pwned')", "not allowed"),
        ("lora.r.__class__()", "not allowed"),
        ("[x for x in (1,)]", "not allowed"),
        ("lambda: 1", "not allowed"),
        ("lora.r if True else 1", "not allowed"),
        ("lora['r'] == 8", "not allowed"),
        ("(big := 9) == 9", "not allowed"),
        ("f'{lora.r}' == '8'", "not allowed"),
        ("(1).real == 1", "not allowed"),
        ("lora.r == 8 & status == 'ok'", "`and`"),
        ("lora.r == 8 | lora.r == 4", "`or`"),
        ("~(lora.r == 8)", "`not`"),
        ("lora.r = 8", "Two equal signs"),
        ("lora.r ==", "cannot be read"),
        ("", "cannot be read"),
        ("lora.r == 8; import os", "cannot be read"),
        ("lora.r == 8\nimport os", "cannot be read"),
        ("b'x' == status", "no number or text"),
        ("1j == lora.r", "no number or text"),
        ("... == lora.r", "no number or text"),
        ("gap == None", "asks whether"),
        ("gap is 3", "asks whether"),
        ("lora.r == [8]", "`in`"),
        ("lora.r", "true or false"),
        ("not lora.r", "true or false"),
        ("lora.r and True", "true or false"),
        ("lora.r < 'a'", "a number with text"),
        ("status < 3", "text with a number"),
        ("status + 'x' == 'okx'", "computes with text"),
        ("'a' * 9 == status", "computes with text"),
        ("8 in lora.r", "looks into a number"),
        ("8 in model_name", "looks for a number"),
        ("started > 'soon'", "2026-01-31"),
        ("(" * 300 + "1" + ")" * 300, ""),
        ("not " * 5000 + "True", ""),
        ("-" * 9000 + "1 == 1", ""),
        ("lora.r == 8 and " * 2000 + "True", "longer than"),
        ("\0", ""),
        ("1" * 5000 + " == 1", ""),
    ],
)
def test_what_is_refused(text: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given what is no condition, or compares what cannot be, when used, then one sentence says so; nothing is run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExpressionError) as caught:
        Expression(text).matches(ROW)
    assert word in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["9 ** 9 ** 9 ** 9 > 1", "2 ** 1e9 > 1", "10 ** 400 > lora.r", "-1 ** 0.5 < 0", "0 ** -1 != 0"]
)
def test_no_expression_fills_the_memory(text: str) -> None:
    """Given a power without bounds, when computed, then it is a double, and so it is soon done."""
    assert Expression(text).matches(ROW) is True


def test_names_are_found() -> None:
    """Given an expression, when parsed, then it knows its columns, in order, each once."""
    assert Expression("a.b == 1 and `c/d` in (x, a.b)").names == ("a.b", "c/d", "x")


def test_an_unknown_name_says_what_was_meant() -> None:
    """Given runs, when a condition names no column, then the error names the nearest."""
    runs = load_runs(Path(__file__).parents[3] / "fixtures" / "runs")
    with pytest.raises(UnknownColumnError, match=r"'lora\.rank'.*Did you mean lora\.r"):
        runs.query("lora.rank == 8")
    with pytest.raises(UnknownColumnError, match=r"Did you mean optimizer\.lr"):
        runs.query("lr < 1")
    with pytest.raises(UnknownColumnError, match=r"Did you mean findings\.error"):
        runs.query("findings.eror == 0")
    with pytest.raises(UnknownColumnError, match="There are: run_id, name"):
        runs.query("xyzzy == 0")


def test_the_nearest_name() -> None:
    """Given names that end alike, when one is mistyped, then the last part decides before the letters."""
    assert nearest("seed", ["speed", "training.seed", "optimizer.lr"])[:2] == ["speed", "training.seed"]
    assert nearest("zzz", ["a", "b"]) == []


def test_query_selects_runs() -> None:
    """Given a sweep, when asked for some of it, then exactly those runs are there, in all frames, with their names."""
    runs = load_runs(Path(__file__).parents[3] / "fixtures" / "sweep")
    some = runs.query("lora.r == 8 and optimizer.lr < 1e-2")
    wanted = [f"r8_lr{lr}_s{seed}" for lr in ("0.001", "0.003") for seed in (1, 2)]
    assert some.run_ids == wanted
    assert some.runs["name"].tolist() == wanted
    assert some.steps["run_id"].unique().tolist() == wanted
    assert list(some.curve("val.loss").columns) == wanted
    assert some.raw.parts.num_rows == len(wanted)
    assert len(some.query("findings.warning == 0")) + len(some.query("findings.warning > 0")) == len(wanted)
    nothing = runs.query("lora.r == 7")
    assert len(nothing) == 0
    assert len(nothing.runs) == len(nothing.steps) == len(nothing.curve("loss")) == 0


NUMBERS = st.one_of(st.integers(-20, 20), st.floats(-5, 5))
COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@given(NUMBERS, NUMBERS, st.sampled_from(sorted(COMPARE)), st.sampled_from(sorted(ARITHMETIC)), NUMBERS, st.booleans())
def test_numbers_compare_as_python_does(
    one: float, other: float, sign: str, computed: str, third: float, negate: bool
) -> None:
    """Given any numbers, when compared and computed with, then the result is Python's own."""
    text = f"a {computed} {third!r} {sign} b"
    expected = COMPARE[sign](ARITHMETIC[computed](one, third), other)
    found = Expression(f"not ({text})" if negate else text).matches({"a": one, "b": other})
    assert found is (expected != negate)


TRUTHS = st.sampled_from([True, False, None])


@given(TRUTHS, TRUTHS)
def test_what_is_not_known_is_not_decided(one: bool | None, other: bool | None) -> None:
    """Given truths that may be absent, when joined, then the result holds whatever the absent ones may be."""
    row = {"a": one, "b": other}
    worlds = [
        (x, y)
        for x in ([one] if one is not None else [True, False])
        for y in ([other] if other is not None else [True, False])
    ]
    assert Expression("a and b").matches(row) is all(x and y for x, y in worlds)
    assert Expression("a or b").matches(row) is all(x or y for x, y in worlds)
    assert Expression("not (a or b)").matches(row) is all(not (x or y) for x, y in worlds)
