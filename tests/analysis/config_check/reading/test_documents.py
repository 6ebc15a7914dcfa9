"""Files of settings: what each format gives, what is refused with its place, and that nothing raises anything else."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.config_check.reading.document import read_document
from gradience_analysis.config_check.reading.json_text import parse_json
from gradience_analysis.config_check.reading.settings import Kind, read_settings
from gradience_analysis.errors import GradienceError, InputError
from gradience_analysis.sources.plain import TextFault
from gradience_analysis.sources.yaml_text import parse_yaml

VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        *("r", "lora_r", "lr", "learning_rate", "lora", "training", "optimizer", "extras", "config", "target_modules"),
        *("max_steps", "epochs", "eval_strategy", "rank_pattern", "seed", "warmup_ratio", "model", "task", "telemetry"),
    ]
)


def written(folder: Path, text: str | bytes, name: str = "config.yaml") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_json_file(tmp_path: Path) -> None:
    """Given JSON, when read, then the values are those of the text, NaN included."""
    read = read_document(written(tmp_path, '{"r": 16, "lr": NaN, "t": ["a"], "n": {"x": null}}', "c.json"))
    assert math.isnan(read.pop("lr"))
    assert read == {"r": 16, "t": ["a"], "n": {"x": None}}


def test_a_yaml_file(tmp_path: Path) -> None:
    """Given YAML, when read, then values are those of YAML 1.1; a date and a quoted number stay texts."""
    text = "r: 16\nlr: 3.0e-4\nbf16: yes\nday: 2024-01-02\nquoted: '16'\nnone: ~\nlist: [a, 1]\n1: x\nhex: 0x10\n"
    assert read_document(written(tmp_path, text)) == {
        "r": 16,
        "lr": 3.0e-4,
        "bf16": True,
        "day": "2024-01-02",
        "quoted": "16",
        "none": None,
        "list": ["a", 1],
        "1": "x",
        "hex": 16,
    }


@given(VALUES)
def test_yaml_is_read_as_pyyaml_reads_it(value: Any) -> None:
    """Given any value, when PyYAML writes it and it is read here, then it is what PyYAML reads, keys as texts."""
    text = yaml.safe_dump(value, allow_unicode=False, sort_keys=False)
    assert repr(parse_yaml(text)) == repr(_with_text_keys(value))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(NAMES | st.text(max_size=12), VALUES, max_size=6), st.sampled_from(Kind))
def test_any_json_gives_settings_or_a_complaint(entries: dict[str, Any], kind: Kind) -> None:
    """Given any JSON object, when its settings are read, then nothing but a GradienceError is ever raised."""
    try:
        read = read_settings(parse_json(json.dumps(entries)), "file", kind)
    except (GradienceError, TextFault):
        return
    assert all(setting.key and setting.source == "file" for setting in read.settings.values())


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_settings_or_a_complaint(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Given any bytes, when read as YAML or as JSON, then there is a mapping or an InputError."""
    folder = tmp_path_factory.mktemp("any")
    for name in ("c.yaml", "c.json", "c"):
        path = written(folder, data, name)
        try:
            read = read_document(path)
        except InputError:
            continue
        assert isinstance(read, dict)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ('{"r": 1, "r": 2}', "c.json", ["'r' twice"]),
        ('{"a": {"r": 1, "r": 2}}', "c.json", ["'r' twice"]),
        ('{"r": 1,}', "c.json", ["line 1, column 9"]),
        ("[1, 2]", "c.json", ["a list", "name: value"]),
        ('"r"', "c.json", ["a text"]),
        ("r: 1\nr: 2\n", "c.yaml", ["'r' twice", "line 2, column 1"]),
        ("a: &x 1\nb: *x\n", "c.yaml", ["an anchor ('x')", "line 1"]),
        ("b: *x\n", "c.yaml", ["an alias ('x')"]),
        ("a: {<<: {b: 1}}\n", "c.yaml", ["a merge key"]),
        ("a: !!python/object/apply:os.system [ls]\n", "c.yaml", ["the tag", "os.system"]),
        ("a: !!set {b}\n", "c.yaml", ["the tag"]),
        ("a: !!int x\n", "c.yaml", ["'x' for a number"]),
        ("a: !!bool x\n", "c.yaml", ["'x' for true or false"]),
        ("a: 0x_\n", "c.yaml", ["'0x_' for a number"]),
        ("[a]: 1\n", "c.yaml", ["a key that is a list"]),
        ("a: 1\n---\nb: 2\n", "c.yaml", ["several documents"]),
        ("a: [1\n", "c.yaml", ["not YAML", "line 2"]),
        ("just a text\n", "c.yaml", ["a text"]),
        ("a: " + "9" * 30, "c.yaml", ["64 bits"]),
        ('{"a": ' + "9" * 30 + "}", "c.json", ["64 bits"]),
        (b"a: \xff\n", "c.yaml", ["not UTF-8", "byte 0xFF at byte 4"]),
        ("r: 1".encode("utf-16"), "c.yaml", ["UTF-16"]),
        ('{"event": "run_start"}\n{"event": "run_end"}\n', "c.jsonl", ["gradience monitor"]),
        (b"\x80\x04\x95rest", "training_args", ["a pickle", "to_json_string"]),
        (b"PK\x03\x04....archive/data.pkl....", "training_args", ["a pickle"]),
        (b"", "training_args.bin", ["a pickle", "to_json_string"]),
        (gzip.compress(b"r: 1\n", mtime=0)[:-6], "c.yaml", ["cut off"]),
    ],
)
def test_what_is_refused_says_why_and_where(tmp_path: Path, text: str | bytes, name: str, words: list[str]) -> None:
    """Given a file that cannot be taken at its word, when read, then the error names file, fault and place."""
    path = written(tmp_path, text, name)
    with pytest.raises(InputError) as caught:
        read_document(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "~\n"])
def test_an_empty_file_has_no_settings(tmp_path: Path, text: str) -> None:
    """Given a file without content, when read, then there are no settings."""
    assert read_document(written(tmp_path, text)) == {}


def test_the_first_character_decides_without_a_suffix(tmp_path: Path) -> None:
    """Given files of no known suffix, when read, then a brace means JSON, and anything else YAML."""
    assert read_document(written(tmp_path, '{"a": 1}', "one")) == {"a": 1}
    assert read_document(written(tmp_path, "a: 1", "two.conf")) == {"a": 1}
    assert read_document(written(tmp_path, b"\xef\xbb\xbfa: 1", "three")) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1e5", 1e5), ("5E-05", 5e-5), ("3.0e4", 3e4), ("-2e-4", -2e-4), (".5e1", 5.0), ("1_0e1", 100.0)],
)
def test_an_exponent_that_yaml_reads_as_text(tmp_path: Path, text: str, value: float) -> None:
    """Given a number that YAML 1.1 takes for a text, when it sets something, then it is read as meant, and said."""
    assert isinstance(yaml.safe_load(f"lr: {text}")["lr"], str), "no longer a text to PyYAML"
    setting = read_settings(read_document(written(tmp_path, f"lr: {text}\n")), "file").settings["optimizer.lr"]
    assert (setting.value, setting.raw) == (value, text)
    assert text in setting.remark


@pytest.mark.parametrize("text", ["'3e-4'", '"3e-4"', "3e-4x", "fast", "1e5000"])
def test_a_text_in_quotes_stays_one(tmp_path: Path, text: str) -> None:
    """Given a text that was meant as one, when read, then it is not taken for a number."""
    setting = read_settings(read_document(written(tmp_path, f"lr: {text}\n")), "file").settings["optimizer.lr"]
    assert isinstance(setting.value, str)
    assert not setting.remark
