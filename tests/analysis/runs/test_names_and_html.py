"""Short names of runs, and the look of runs in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.errors import GradienceError
from gradience_analysis.runs import load_runs
from gradience_analysis.runs.naming import short_names
from tests.analysis.records import CONFIG, end, record, start, train, write


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a/run.jsonl", "/x/b/run.jsonl"], ["a", "b"]),
        (["/x/a/run.jsonl", "/y/a/run.jsonl"], ["x/a", "y/a"]),
        (["/x/a/run.jsonl", "/y/a/run.jsonl", "/x/b/run.1.jsonl.gz"], ["x/a", "y/a", "b"]),
        (["/x/one.jsonl", "/x/two.rank3.jsonl"], ["one", "two"]),
        (["/x/v.1/metrics.csv", "/x/checkpoint-9/trainer_state.json"], ["v.1", "checkpoint-9"]),
        (["/run.jsonl"], ["run"]),
        (["/x/both.jsonl", "/x/both.jsonl"], ["both#id-0", "both#id-1"]),
        ([], []),
    ],
)
def test_short_names(paths: list[str], names: list[str]) -> None:
    """Given the files of runs, when named, then each has the shortest name that tells it from the others."""
    assert list(short_names({f"id-{place}": path for place, path in enumerate(paths)}).values()) == names


PARTS = st.lists(st.sampled_from(["a", "b", "run", "run.1"]), min_size=1, max_size=3)


@given(st.lists(PARTS, max_size=8))
def test_names_are_always_unique(paths: list[list[str]]) -> None:
    """Given any paths, also equal ones, when named, then no two runs have the same name."""
    given_paths = {f"id-{place}": f"/{'/'.join(parts)}.jsonl" for place, parts in enumerate(paths)}
    names = short_names(given_paths)
    assert list(names) == list(given_paths)
    assert len(set(names.values())) == len(names)


class Text(HTMLParser):
    """The tags and the words of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An opening tag."""
        assert not attrs
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """A closing tag, which closes the last one that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text."""
        self.words += f" {data}"


def test_html_is_whole_and_escaped(tmp_path: Path) -> None:
    """Given settings that hold markup, when shown, then they are text, and the page has the tags of a table alone."""
    evil = "<script>alert(1)</script>"
    for place in range(12):
        config = {**CONFIG, "model_name": f"{evil}{place % 2}", "extras": {"<b>": place}}
        run_id = f"id-{place:02}"
        write(
            tmp_path / f"{evil.replace('/', '_')}{place:02}.jsonl",
            [record("run_start", run_id=run_id, config=config), end(run_id=run_id)],
        )
    html = load_runs([tmp_path, tmp_path / "absent.jsonl"])._repr_html_()
    page = Text()
    page.feed(html)
    assert set(page.tags) <= {"div", "p", "b", "br", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert not page.open
    assert "12 runs" in page.words
    assert "12 ok" in page.words
    assert "1 path not read" in page.words
    assert "and 2 more runs" in page.words
    assert f"{evil}0" in page.words
    assert "lora.r 8" in page.words
    assert page.tags.count("tr") == 11


def test_an_empty_selection_has_a_page(tmp_path: Path) -> None:
    """Given no run, when shown, then it says so."""
    runs = load_runs(write(tmp_path / "run.jsonl", [start(), *train([1])]))
    assert "0 runs" in runs.select([])._repr_html_()
    assert repr(runs) == f"<Runs: 1 ({tmp_path.name})>"
    assert "no_run" not in runs.select([])._repr_html_()


def test_selecting_what_is_not_there(tmp_path: Path) -> None:
    """Given a run id that is not there, when selected, then the error says so."""
    runs = load_runs(write(tmp_path / "run.jsonl", [start(), *train([1])]))
    with pytest.raises(GradienceError, match="no run 'other' among these 1"):
        runs.select(["other"])
