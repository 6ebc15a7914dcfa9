"""Reading files of examples: what is counted, where it stands, and where the reading stops."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.config_check.base_model.facts import ModelFacts, TokenizerFacts
from gradience_analysis.config_check.data.facts import DataFacts, LengthFacts, SplitFacts
from gradience_analysis.config_check.data.gather import Caps, gather_data
from gradience_analysis.config_check.data.layouts import LAYOUTS, content_digest, layout_of, normal_text
from gradience_analysis.errors import InputError
from tests.analysis.config_check import built


def _train(path: Path, **options: Any) -> SplitFacts:
    train = gather_data(path, **options).train
    assert train is not None
    return train


def _strictly(line: bytes) -> bool:
    """The oracle for a line: the standard library's reader, told to refuse what the standard refuses."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError
        return dict(pairs)

    def refuse(_: str) -> float:
        raise ValueError

    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


_KINDS = (
    *(b'{"text": "a"}', b'{"text": "b", "text": "b"}', b"[1]", b'"x"', b"null", b"NaN", b'{"a": NaN}', b"{"),
    *(b'{"a": 1e999}', b'{"text": "\xff"}', b'{"text": "\\ud800"}', b'{"a": {"b": 1, "b": 2}}', b"\xef\xbb\xbf{}"),
    *(b"{}", b'{"a:b": ":"}', b'{"text": "\\u003a"}', b"{} {}", b"[" * 2000, b'{"a": -0}', b"\x00\x00"),
)
_PIECES = st.sampled_from(_KINDS)


@settings(max_examples=150, deadline=None)
@given(st.lists(_PIECES, max_size=12))
def test_a_line_counts_as_invalid_as_a_strict_reader_has_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    """Given lines of every kind, when counted, then those are invalid that a strict reader refuses."""
    path = tmp_path_factory.mktemp("lines") / "train.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    expected = [number for number, line in enumerate(lines, 1) if not _strictly(line)]
    train = _train(path)
    assert train.invalid == len(expected)
    assert [bad.number for bad in train.bad_lines] == expected[:5]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for bad in train.bad_lines:
        assert starts[bad.number - 1] <= bad.offset < starts[bad.number]
    assert train.examples == len(lines) - len(expected)


def test_a_blank_line_is_none_and_a_gzip_file_reads_the_same(tmp_path: Path) -> None:
    """Given blank lines and gzip, when read, then the same examples are found."""
    text = b'{"text": "a"}\n\n  \n{"text": "b"}\n'
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    for name in ("a.jsonl", "a.jsonl.gz"):
        train = _train(tmp_path / name)
        assert (train.lines, train.examples, train.invalid, train.complete) == (2, 2, 0, True)


def test_a_cut_off_gzip_file_is_an_invalid_line(tmp_path: Path) -> None:
    """Given a gzip file without its end, when read, then the line behind the last is named with the reason."""
    whole = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in built.texts(500)))
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    train = _train(tmp_path / "a.jsonl.gz")
    assert "cut off" in train.bad_lines[-1].reason
    assert 0 < train.examples < 500


@pytest.mark.parametrize("text", ["{}\n".encode("utf-16"), b"\x28\xb5\x2f\xfd"], ids=["utf-16", "zstd"])
def test_another_encoding_is_said(tmp_path: Path, text: bytes) -> None:
    """Given a file of another encoding, when read, then its first line is invalid and says so."""
    (tmp_path / "a.jsonl").write_bytes(text)
    (bad,) = _train(tmp_path / "a.jsonl").bad_lines
    assert (bad.number, bad.offset) == (1, 0)
    assert bad.reason.startswith("is ")


def test_a_missing_file_is_a_fault_for_training_and_an_error_for_evaluation(tmp_path: Path) -> None:
    """Given paths without a file, when gathered, then the training file's facts say so and the evaluation's raise."""
    train = _train(tmp_path / "none.jsonl")
    assert train.fault == "does not exist. Check the path."
    present = built.jsonl(tmp_path / "train.jsonl", built.texts(20))
    with pytest.raises(InputError):
        gather_data(present, tmp_path / "none.jsonl")


def test_the_reading_stops_at_a_cap_and_says_so(tmp_path: Path) -> None:
    """Given more lines than the cap, when read, then that many are counted and the place is in the facts."""
    path = built.jsonl(tmp_path / "train.jsonl", built.texts(50))
    train = _train(path, caps=Caps(lines=30))
    assert (train.examples, train.complete) == (30, False)
    assert train.stopped.startswith("after 30 lines")
    assert _train(path, caps=Caps(size=500)).examples < 30
    assert _train(path, caps=Caps(lines=50)).complete


def test_a_line_beyond_the_limit_is_counted_but_not_looked_into(tmp_path: Path) -> None:
    """Given a line of 2 MiB, when read, then it is counted apart and the others are examples."""
    path = built.jsonl(tmp_path / "train.jsonl", [*built.texts(3), {"text": "x" * (2 << 20)}, {"text": "end"}])
    train = _train(path)
    assert (train.lines, train.examples, train.oversized, train.invalid) == (5, 4, 1, 0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_is_told_by_its_fields(layout: Any) -> None:
    """Given the fields of a layout and others, when told, then it is that layout; without one of them it is not."""
    assert layout_of(frozenset(layout.fields)) == layout
    for field in layout.fields:
        assert layout_of(frozenset(layout.fields) - {field}) != layout


def test_the_layout_is_that_of_most_examples(tmp_path: Path) -> None:
    """Given 7 of one layout and 3 of another, when told, then the fields of the one are absent in the 3."""
    rows = [{"prompt": "a", "completion": f"{n}"} for n in range(7)] + [{"prompt": "a", "completion": None}] * 3
    train = _train(built.jsonl(tmp_path / "train.jsonl", rows))
    assert train.layout == "prompt/completion"
    assert [(one.name, one.absent, one.first_absent) for one in train.fields] == [
        ("prompt", 0, None),
        ("completion", 3, 8),
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=20), st.lists(st.text(max_size=12), min_size=1, max_size=20))
def test_overlap_equals_a_naive_count(
    tmp_path_factory: pytest.TempPathFactory, train: list[str], evaluation: list[str]
) -> None:
    """Given two files, when compared, then the overlap is the count of different normalised texts in both."""

    def digests(values: list[str]) -> set[str]:
        normal = (" ".join(unicodedata.normalize("NFKC", value).split()) for value in values)
        return {hashlib.sha256(value.encode()).hexdigest() for value in normal}

    folder = tmp_path_factory.mktemp("splits")
    first = built.jsonl(folder / "train.jsonl", [{"text": value, "id": place} for place, value in enumerate(train)])
    second = built.jsonl(folder / "eval.jsonl", [{"text": value} for value in evaluation])
    facts = gather_data(first, second)
    assert facts.overlap == len(digests(train) & digests(evaluation))
    for there, here in facts.overlap_lines:
        assert normal_text(evaluation[there - 1]) == normal_text(train[here - 1])


def test_the_digest_is_the_documented_one() -> None:
    """Given an example, when digested, then it is SHA-256 of the normalised content as JSON."""
    text = json.dumps(["ﬁne day".replace("ﬁ", "fi")], ensure_ascii=False, separators=(",", ":"))
    row = {"text": " ﬁne \n day ", "label": 3}
    assert content_digest(row, layout_of(frozenset(row))) == hashlib.sha256(text.encode()).digest()[:16]


def test_duplicates_count_labels_and_leave_ids_out(tmp_path: Path) -> None:
    """Given equal texts with other ids and other labels, when counted, then only those of equal labels are repeats."""
    rows = [{"id": 1, "text": "a", "label": 0}, {"id": 2, "text": "a", "label": 0}, {"id": 3, "text": "a", "label": 1}]
    train = _train(built.jsonl(tmp_path / "train.jsonl", rows))
    assert (train.duplicates, train.duplicate_lines) == (1, ((2, 1),))


def test_tokens_are_counted_by_the_tokenizer_of_the_model(tmp_path: Path) -> None:
    """Given a tokenizer.json, when lengths are taken, then they are those of the library itself."""
    words = [f"w{number}" for number in range(30)]
    from gradience_train.tiny_models import word_tokenizer

    tokenizer = word_tokenizer(words)
    tokenizer.save_pretrained(str(tmp_path))
    model = ModelFacts("m", tokenizer=TokenizerFacts(path=str(tmp_path / "tokenizer.json")))
    rows = [{"text": " ".join(words[:count])} for count in range(1, 21)]
    lengths = _train(built.jsonl(tmp_path / "train.jsonl", rows), model=model).lengths
    assert lengths == LengthFacts("tokenizer", tuple((len(tokenizer(row["text"])["input_ids"]), 1) for row in rows))


def test_a_tokenizer_that_cannot_be_used_leaves_an_estimate(tmp_path: Path) -> None:
    """Given a damaged tokenizer.json, when lengths are taken, then characters are counted."""
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "none"}}', encoding="utf-8")
    model = ModelFacts("m", tokenizer=TokenizerFacts(path=str(tmp_path / "tokenizer.json")))
    lengths = _train(built.jsonl(tmp_path / "train.jsonl", [{"text": "abcd"}] * 3), model=model).lengths
    assert lengths == LengthFacts("characters", ((4, 3),))


def test_quantiles_and_shares_equal_those_of_the_sorted_lengths() -> None:
    """Given lengths, when asked for a quantile and a share, then both are those of the sorted list."""
    values = sorted([3, 3, 5, 9, 9, 9, 20])
    facts = LengthFacts("input_ids", ((3, 2), (5, 1), (9, 3), (20, 1)))
    for share in (0.01, 0.3, 0.5, 0.95, 1.0):
        assert facts.quantile(share) == values[max(math.ceil(share * len(values)) - 1, 0)]
    assert facts.longer_than(8.5) == 4


def test_numbers_to_predict_are_no_classes(tmp_path: Path) -> None:
    """Given labels with fractions, when counted, then there are no classes."""
    rows = [{"text": f"t{n}", "label": n / 7} for n in range(20)]
    assert _train(built.jsonl(tmp_path / "train.jsonl", rows)).classes == ()


def test_facts_hold_no_text_of_an_example(tmp_path: Path) -> None:
    """Given a secret in an example, when everything is gathered, then it stands nowhere in the facts."""
    rows = [*built.texts(20), {"text": "the code is xyzzy42", "note": "xyzzy42"}]
    facts: DataFacts = gather_data(built.jsonl(tmp_path / "train.jsonl", rows), find=lambda text: ("KIND",))
    assert "xyzzy42" not in repr(facts)
