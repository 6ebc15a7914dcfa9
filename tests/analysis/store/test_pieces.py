"""The pieces of a store by themselves: names, checksummed reading, the manifest, the types of columns, encodings."""

from __future__ import annotations

import hashlib
import io
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradience_analysis.store.blocks import BLOCK, CheckedFile, checksums
from gradience_analysis.store.contents import Source, columns_of, unclear
from gradience_analysis.store.manifest import Entry, Manifest, ManifestError, loads
from gradience_analysis.store.merge import as_read
from gradience_analysis.store.order import in_file_order, spans
from gradience_analysis.store.parquet import DamagedFileError, read_part, to_bytes
from gradience_analysis.store.place import bucket_of, part_name, table_and_bucket
from gradience_analysis.tables.columns import column, concat_steps, in_layout
from gradience_analysis.workers.pool import batched


def test_buckets_stay_where_they_are() -> None:
    """Given run ids, when asked for their buckets, then they are those of the first release, for ever."""
    digits = {name: hashlib.sha256(name.encode()).hexdigest()[15] for name in ("run-1", "", "ü")}
    assert {name: f"{bucket_of(name, 16):x}" for name in digits} == digits
    assert (bucket_of("run-1", 16), bucket_of("run-1", 1000)) == (5, 45)


@given(st.sampled_from(["steps", "bad_lines"]), st.integers(0, 5000))
def test_names_of_parts_say_what_they_are(table: str, bucket: int) -> None:
    """Given a table and a bucket, when a file is named after them, then its name gives both back."""
    assert table_and_bucket(part_name(table, bucket)) == (table, bucket)


@given(st.integers(0, 3 * BLOCK), st.data())
def test_a_checked_file_gives_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, size: int, data: Any) -> None:
    """Given a file of any size, when any range of it is read, then its bytes come."""
    content = os.urandom(size)
    path = tmp_path_factory.mktemp("blocks") / "file"
    path.write_bytes(content)
    start = data.draw(st.integers(0, size + 10))
    length = data.draw(st.integers(0, size + 10))
    with CheckedFile(path, size, checksums(content)) as file:
        file.seek(start)
        assert file.read(length) == content[start : start + length]
        assert file.tell() == max(start, min(start + length, size)) or not content[start : start + length]


@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_a_checked_file_gives_no_byte_of_a_changed_block(tmp_path: Path, place: int) -> None:
    """Given a file with one changed bit, when each block is read, then the one with the bit raises and no other."""
    content = os.urandom(2 * BLOCK + 10)
    path = tmp_path / "file"
    path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    for block in range(3):
        with CheckedFile(path, len(content), checksums(content)) as file:
            file.seek(block * BLOCK + 3)
            if block == place // BLOCK:
                with pytest.raises(OSError, match="not what was written"):
                    file.read(4)
                assert file.damaged
            else:
                assert file.read(4) == content[block * BLOCK + 3 : block * BLOCK + 7]


@pytest.mark.parametrize("size", [9, 11])
def test_a_checked_file_of_another_size_is_not_opened(tmp_path: Path, size: int) -> None:
    """Given a file that is longer or shorter than it was, when opened, then that raises."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with pytest.raises(OSError, match="not of the size"):
        CheckedFile(path, size, checksums(b"0123456789"))


def test_a_manifest_survives_the_way_to_the_disk_and_back() -> None:
    """Given a manifest, when written and read, then it is the same; when a byte is changed, it is refused."""
    manifest = Manifest(16, {"steps/bucket=00/part.parquet": Entry.of(b"x" * 100_000)})
    data = manifest.dumps()
    assert loads(data, Path("m")) == manifest
    for place in range(len(data) - 1):
        with pytest.raises(ManifestError):
            loads(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], Path("m"))
    for cut in range(len(data) - 1):
        with pytest.raises(ManifestError):
            loads(data[:cut], Path("m"))


numbers = st.one_of(st.integers(-(2**64), 2**64), st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63]))
pure = st.sampled_from([numbers, st.floats(width=64), st.booleans(), st.text(max_size=3)])


@st.composite
def step_tables(draw: st.DrawFn) -> Any:
    """Steps of one file, with columns x and y each of one JSON type (but for integers beyond 64 bits) and gaps."""
    size = draw(st.integers(1, 5))
    columns: dict[str, Any] = {"loss": pa.array([0.5] * size)}
    for name in draw(st.sets(st.sampled_from("xy"))):
        values = draw(st.lists(st.one_of(st.none(), draw(pure)), min_size=size, max_size=size))
        columns[name], text = column(values)
        if text is not None:
            columns[f"{name}__text"] = text
    return in_layout(columns, size)


@given(st.lists(step_tables(), min_size=1, max_size=4))
@example([in_layout({"x": pa.array([2**53 + 1, 7])}, 2), in_layout({"x": pa.array([0.5])}, 1)])
def test_columns_get_their_own_type_back(tables: list[Any]) -> None:
    """Given steps of files whose columns have different types, when joined and taken apart, then each is as it was."""
    joined = concat_steps(tables)
    sources = [Source(str(place), 1, 1, "", (), columns_of(table)) for place, table in enumerate(tables)]
    doubtful = unclear(sources)
    start = 0
    for source, table in zip(sources, tables, strict=True):
        again = as_read(joined.slice(start, len(table)), source.columns)
        start += len(table)
        if source.path not in doubtful:
            assert again.schema == table.schema
            assert [repr(row) for row in again.to_pylist()] == [repr(row) for row in table.to_pylist()]


def test_what_cannot_be_told_from_the_store_is_named() -> None:
    """Given files with a column of two types, when one has text of its own beside it, then that one is unclear."""
    plain = Source("a", 1, 1, "", (), {"x": "double"})
    own_text = Source("b", 1, 1, "", (), {"x": "int64", "x__text": "string"})
    other = Source("c", 1, 1, "", (), {"y": "double", "loss__text": "string"})
    assert unclear([plain, own_text, other]) == {"b"}
    assert unclear([own_text, other]) == set()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=30))
def test_rows_come_back_in_the_order_of_their_files(pairs: list[tuple[str, int]]) -> None:
    """Given rows by run, when brought into file order, then a plain sort by path and line agrees."""
    by_run = sorted(pairs, key=lambda pair: (pair[1] % 2, pair[0], pair[1]))
    table = pa.table(
        {
            "path": pa.array([path for path, _ in by_run], pa.string()),
            "line": pa.array([n for _, n in by_run], pa.int64()),
        }
    )
    encoded = (
        table["path"].dictionary_encode() if pairs else pa.chunked_array([], pa.dictionary(pa.int32(), pa.string()))
    )
    found = in_file_order(table, spans(encoded, 0), table["line"])
    assert [(row["path"], row["line"]) for row in found.to_pylist()] == sorted(pairs)


@given(st.lists(st.integers(0, 20)), st.integers(1, 30))
def test_batches_hold_everything_once_and_in_order(sizes: list[int], at_most: int) -> None:
    """Given items of some size, when batched, then all are there in order, and no batch of several is too large."""
    batches = batched(sizes, int, at_most)
    assert [item for batch in batches for item in batch] == sizes
    assert all(sum(batch) <= at_most or len(batch) == 1 for batch in batches)


def steps_of(size: int, runs: int) -> Any:
    """Steps of several runs with floats of full precision and rounded ones."""
    chance = random.Random(1)
    columns = {
        "run_id": pa.array([f"run-{index * runs // size:03}" for index in range(size)]),
        "path": pa.array([f"/p/{index * runs // size:03}" for index in range(size)]),
        "loss": pa.array([chance.uniform(1, 2) for _ in range(size)]),
        "lr": pa.array([round(chance.uniform(1, 2), 2) for _ in range(size)]),
        "tokens": pa.array([index * 4096 for index in range(size)]),
    }
    return in_layout(columns, size)


def test_each_float_column_gets_the_encoding_that_makes_it_small() -> None:
    """Given floats of full precision and rounded ones, when written, then only the first are split by bytes."""
    table = steps_of(20_000, 10)
    data = to_bytes(table, "steps", (0, 16), [])
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    found = {group.column(place).path_in_schema: group.column(place).encodings for place in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in found["loss"]
    assert "RLE_DICTIONARY" in found["lr"]
    assert "DELTA_BINARY_PACKED" in found["tokens"]
    assert {group.column(place).compression for place in range(group.num_columns)} == {"ZSTD"}
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    assert len(data) < 0.9 * sink.tell()


def test_the_same_rows_in_other_chunks_give_the_same_bytes() -> None:
    """Given rows in one chunk and in many, when written, then the files are equal."""
    table = steps_of(5_000, 5)
    pieces = pa.concat_tables([table.slice(start, 7) for start in range(0, 5_000, 7)])
    assert to_bytes(table, "steps", (0, 16), []) == to_bytes(pieces, "steps", (0, 16), [])


def test_a_reader_of_one_run_skips_the_row_groups_of_others(tmp_path: Path) -> None:
    """Given several row groups, when those of other runs are damaged, then reading one run notices nothing."""
    table = steps_of(200_000, 100)
    data = bytearray(to_bytes(table, "steps", (0, 16), []))
    path, entry = tmp_path / "part.parquet", Entry.of(bytes(data))
    group = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(2)
    loss = group.column(table.column_names.index("loss"))
    data[loss.data_page_offset + loss.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    (first,) = {row["run_id"] for row in table.slice(0, 1).to_pylist()}
    found = read_part(path, entry, run_ids=[first])
    assert found.num_rows == 2_000
    assert set(found["run_id"].to_pylist()) == {first}
    with pytest.raises(DamagedFileError):
        read_part(path, entry)
