"""adapter_config.json: read as data; patterns matched as PEFT matches them, and never for long."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradience_analysis.adapters.config import MAX_CONFIG_BYTES, AdapterConfigError, adapter_config, read_adapter_config
from gradience_analysis.adapters.patterns import ends_soon
from gradience_analysis.errors import InputError
from tests.analysis.adapters.files import config

FIRST = "model.layers.0.self_attn.q_proj"


def test_fields_are_read(tmp_path: Path) -> None:
    """Given a config as PEFT writes it, when read, then every field has its value and nothing is wrong."""
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(config(use_rslora=True, init_lora_weights="PiSSA", target_modules="all-linear")))
    found = read_adapter_config(path)
    assert (found.peft_type, found.base_model, found.r, found.lora_alpha) == ("LORA", "owner/tiny", 4, 8.0)
    assert (found.use_rslora, found.init_lora_weights, found.target_modules) == (True, "pissa", ("all-linear",))
    assert found.wrong_types == {}


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("r", "16", "string"),
        ("r", True, "boolean"),
        ("r", 0, "number not above 0"),
        ("r", -3, "number not above 0"),
        ("r", 4.0, "number"),
        ("lora_alpha", "8", "string"),
        ("lora_alpha", 10**400, "number beyond a double"),
        ("lora_alpha", True, "boolean"),
        ("lora_alpha", math.nan, "number that is not finite"),
        ("lora_alpha", math.inf, "number that is not finite"),
        ("init_r", 12.0, "number"),
        ("rank_pattern", {"q_proj": None}, "null"),
        ("alpha_pattern", {"q_proj": True}, "boolean"),
        ("alpha_pattern", {"q_proj": -math.inf}, "number that is not finite"),
        ("use_rslora", "true", "string"),
        ("fan_in_fan_out", 0, "number"),
        ("peft_type", 1, "number"),
        ("rank_pattern", [1], "array"),
        ("rank_pattern", {"q_proj": "8"}, "string"),
        ("target_modules", ["q_proj", 7], "array"),
        ("target_modules", {"q_proj": 1}, "object"),
        ("use_dora", 1, "number"),
        ("base_model_name_or_path", ["x"], "array"),
        ("init_lora_weights", 3, "number"),
    ],
)
def test_wrong_type_is_noted_and_left_out(key: str, value: Any, kind: str) -> None:
    """Given a field of the wrong type, when read, then it counts as absent and its type is named."""
    assert adapter_config(config(**{key: value})).wrong_types == {key: kind}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_value_anywhere_raises(value: Any) -> None:
    """Given any value in every field, when read and asked for ranks, then nothing raises."""
    found = adapter_config(dict.fromkeys([*config(), "use_dora", "target_parameters", "init_lora_weights"], value))
    assert found.rank_of(FIRST) is None or found.rank_of(FIRST) > 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"r": 8, "r": 16}', "duplicate_key"),
        (b'{"r": NaN}', "invalid_json"),
        (b"\xff\xfe{\0}\0", "invalid_utf8"),
        (b"[1]", "not_an_object"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "too_deep"),
        (b'{"a":' * 99_999, "too_deep"),
    ],
)
def test_faulty_file_is_refused_by_name(tmp_path: Path, text: bytes, code: str) -> None:
    """Given a file that is no strict JSON object, when read, then the error says why, where, and what to do."""
    path = tmp_path / "adapter_config.json"
    path.write_bytes(text)
    with pytest.raises(AdapterConfigError) as caught:
        read_adapter_config(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    """Given a config of more than 1 MiB, when read, then it is refused."""
    path = tmp_path / "adapter_config.json"
    path.write_bytes(b'{"a": "' + b"x" * MAX_CONFIG_BYTES + b'"}')
    with pytest.raises(InputError, match="larger than"):
        read_adapter_config(path)


def peft_rank(patterns: dict[str, int], name: str, default: int) -> int:
    """How PEFT looks a rank up, from its source."""
    key = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", name)), None)
    return default if key is None else patterns[key]


PATTERNS = [
    {},
    {"q_proj": 2},
    {"proj": 2},
    {"self_attn.q_proj": 2, "q_proj": 9},
    {"layers.1.self_attn.q_proj": 2, "q_proj": 9},
    {r"^model\.layers\.0\.self_attn\.q_proj": 3},
    {r"^layers\.0\.self_attn\.q_proj": 3},
    {r"layers\.(0|1|2)\..*\.q_proj": 5},
    {r"[0-9]+\.self_attn\.[qk]_proj": 5},
    {".*": 7},
    {"k_proj|q_proj": 6},
    {"model.layers.0": 6},
]


@pytest.mark.parametrize("patterns", PATTERNS)
@pytest.mark.parametrize("name", [FIRST, "model.layers.1.self_attn.q_proj", "q_proj", "model.layers.0.mlp.up_proj"])
def test_rank_is_looked_up_as_peft_does(patterns: dict[str, int], name: str) -> None:
    """Given patterns of ranks, when a module's rank is asked for, then it is the one that PEFT's own rule gives."""
    found = adapter_config(config(r=4, rank_pattern=patterns, alpha_pattern={k: float(v) for k, v in patterns.items()}))
    assert found.rank_of(name) == peft_rank(patterns, name, 4)
    assert found.alpha_of(name) == peft_rank(patterns, name, 8)


HOSTILE = [
    "(a+)+$",
    "(a*)*b",
    "(a|a)*c",
    "(.*)(.*)(.*)(.*)z",
    "a*a*a*a*a*a*z",
    "(a|a)" * 40 + "z",
    "a?" * 40 + "a" * 40,
    "(?=(a+))a*b",
    r"(a+)\1z",
    "a{1,999}a{1,999}a{1,999}z",
    "((a|a)(a|a)(a|a)(a|a))(a|a)" * 9,
    "x" * 5000,
    "(",
    "[",
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_pattern_that_might_not_end_is_not_tried(pattern: str) -> None:
    """Given an expression made to run for ever, when a rank is asked for, then it is unknown, at once."""
    found = adapter_config(config(rank_pattern={pattern: 2}))
    started = time.process_time()
    assert found.rank_of("a" * 60) is None
    assert time.process_time() - started < 0.5


@settings(deadline=None)
@given(st.text(alphabet="ab.*+?|(){}2,[]\\^$", max_size=24))
def test_any_pattern_that_is_tried_ends(pattern: str) -> None:
    """Given any expression, when it is judged to end soon, then matching a long name with it does."""
    found = adapter_config(config(rank_pattern={pattern: 2}))
    started = time.process_time()
    found.rank_of("ab" * 100)
    assert time.process_time() - started < 2
    assert ends_soon("model.layers.(0|1|2).*q_proj")


def test_entry_of_the_wrong_type_hides_no_other_value() -> None:
    """Given a pattern without a usable value, when a module that it matches is looked up, then its value is unknown."""
    found = adapter_config(config(rank_pattern={"q_proj": "8", "proj": 16}, alpha_pattern={"k_proj": None}))
    assert [found.rank_of(name) for name in ("q_proj", "a.proj", "v")] == [None, 16, 4]
    assert [found.alpha_of(name) for name in ("q_proj", "a.k_proj")] == [8.0, None]


def test_adalora_has_a_mask_and_no_patterns() -> None:
    """Given AdaLoRA's mask in rank_pattern, when read, then it is no pattern and nothing is wrong with it."""
    mask = {"q_proj.lora_E": [True, False]}
    found = adapter_config(config(peft_type="ADALORA", init_r=2, rank_pattern=mask, alpha_pattern={"q_proj": 3}))
    assert (found.init_r, found.rank_of("q_proj"), found.alpha_of("q_proj"), found.wrong_types) == (2, 4, 8.0, {})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        ({"lora_alpha": 0.001, "alpha_pattern": {"x": 1}}, ()),
        ({"lora_alpha": None}, ()),
        ({"lora_alpha": 0}, ("lora_alpha is 0: delta_w is zero.",)),
        ({"lora_alpha": -1.5}, ("lora_alpha is -1.5: delta_w is subtracted.",)),
        ({"lora_alpha": 0, "peft_type": "ADALORA"}, ("lora_alpha is 0: AdaLoRA takes the rank in its place.",)),
        ({"alpha_pattern": {"q_proj": -16}}, ("alpha_pattern['q_proj'] is -16: delta_w is subtracted.",)),
        ({"alpha_pattern": {"\x1b[2J": 0}}, ("alpha_pattern['\\x1b[2J'] is 0: delta_w is zero.",)),
    ],
)
def test_oddities(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    """Given an alpha that no training means, when read, then what it does is said; of any other, nothing."""
    assert adapter_config(config(**changes)).oddities == expected


def test_contested_alpha() -> None:
    """Given several entries that match a module, when asked, then only different values are a doubt."""
    found = adapter_config(config(alpha_pattern={"q_proj": 4, ".*proj": 8, "v_proj": 8}))
    assert [found.alpha_is_contested(name) for name in ("a.q_proj", "a.v_proj", "a.k_proj", "x")] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"use_qalora": False, "use_bdlora": None, "kasa_config": None, "use_dora": True}, ""),
    ],
    ids=["qalora", "bdlora", "kasa", "none"],
)
def test_variant(changes: dict[str, Any], name: str) -> None:
    """Given a variant of LoRA with another product, when read, then it is named."""
    assert adapter_config(config(**changes)).variant == name


def test_yaml_is_read_as_json_is(tmp_path: Path) -> None:
    """Given one config as JSON and as YAML, when read, then both say the same."""
    raw = config(alpha_pattern={"q_proj": 3}, use_rslora=True, revision=None)
    (tmp_path / "a.json").write_text(json.dumps(raw))
    (tmp_path / "a.yaml").write_text(
        "peft_type: LORA\nbase_model_name_or_path: owner/tiny\nr: 4\nlora_alpha: 8\ntarget_modules: [q_proj]\n"
        "rank_pattern: {}\nalpha_pattern:\n  q_proj: 3\nuse_rslora: true\nrevision: ~\n"
    )
    first, second = (read_adapter_config(tmp_path / name) for name in ("a.json", "a.yaml"))
    assert dict(first.raw) == dict(second.raw)
    assert first.alpha_of("q_proj") == second.alpha_of("q_proj") == 3.0


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (b"a: &x [1]\nb: *x\n", "invalid_yaml", "an anchor"),
        (b"r: !!python/object/apply:os.system [ls]\n", "invalid_yaml", "the tag"),
        (b"r: 4\nr: 8\n", "invalid_yaml", "twice"),
        (b"<<: {r: 1}\n", "invalid_yaml", "merge key"),
        (b"r: 4\n---\nr: 8\n", "invalid_yaml", "several documents"),
        (b"r: " + b"[" * 70 + b"]" * 70, "invalid_yaml", "deeper than 64"),
        (b"r: [", "invalid_yaml", "is not YAML"),
        (b"- 1\n", "not_an_object", "not a mapping"),
        (b"", "not_an_object", "not a mapping"),
        (b"r: \xff", "invalid_utf8", "byte 0xFF at byte 4"),
    ],
    ids=["anchor", "tag", "repeated", "merge", "documents", "depth", "cut", "list", "empty", "bytes"],
)
def test_yaml_that_is_refused(tmp_path: Path, text: bytes, code: str, words: str) -> None:
    """Given YAML that is more than plain values, when read, then it is refused, and no part of it is taken."""
    path = tmp_path / "adapter_config.yaml"
    path.write_bytes(text)
    with pytest.raises(AdapterConfigError) as caught:
        read_adapter_config(path)
    assert caught.value.code == code
    assert words in caught.value.message


def test_yaml_beyond_its_size(tmp_path: Path) -> None:
    """Given YAML larger than 1 MiB, when read, then it is refused unread."""
    path = tmp_path / "adapter_config.yml"
    path.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(InputError, match="is larger than"):
        read_adapter_config(path)


def test_yaml_text_that_looks_like_a_number(tmp_path: Path) -> None:
    """Given `1e1`, which is a text in YAML 1.1, when read, then it is of the wrong type, not a number."""
    path = tmp_path / "adapter_config.yaml"
    path.write_text("r: 4\nlora_alpha: 1e1\nalpha_pattern: {a: .nan}\n")
    assert read_adapter_config(path).wrong_types == {
        "lora_alpha": "string",
        "alpha_pattern": "number that is not finite",
    }
