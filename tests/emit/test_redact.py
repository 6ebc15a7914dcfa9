"""Redaction of single strings; recall and false hits over thousands are in tests/reliability/test_r21_redaction.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_emit.redact import Redactor, TextViolationError, is_secret_name, redact_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail alice@example.com now", "mail [EMAIL] now"),
        ("alice%40example.com", "[EMAIL]"),
        ("al\u200bice@exam\u200bple.com", "[EMAIL]"),
        ("\uff41lice@example.com", "[EMAIL]"),
        ("call +1 415 555 0132", "call [PHONE]"),
        ("(415) 555-0132", "[PHONE]"),
        ("sk-proj-abcdEFGH1234567890abcd", "[API_KEY]"),
        ("AKIAIOSFODNN7EXAMPLE", "[API_KEY]"),
        ("hf_" + "a1B2" * 9, "[API_KEY]"),
        ("https://user:pw@host/x", "[URL_WITH_TOKEN]"),
        ("https://host/x?access_token=abc123&y=1", "[URL_WITH_TOKEN]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [AUTH]"),
        ("basic dXNlcjpwYXNz", "[AUTH]"),
        ("a basic understanding", "a basic understanding"),
        ("password = hunter22", "password = [SECRET]"),
        ("wandb login " + "0a1b2c3d" * 5, "wandb login [API_KEY]"),
        ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"),
        ("0a1b2c3d4e" * 4, "0a1b2c3d4e" * 4),
        ("3b1f9c52-6a0e-4d0f-9f0a-2f5f0c6b7d11", "3b1f9c52-6a0e-4d0f-9f0a-2f5f0c6b7d11"),
    ],
)
def test_a_secret_becomes_its_label(text: str, expected: str) -> None:
    """Given a string, when it is redacted, then the secret is a label and the rest stays."""
    assert redact_secrets(text) == expected


@given(st.text(max_size=300))
def test_redaction_never_raises_and_is_stable(text: str) -> None:
    """Given any text, when it is redacted twice, then the second pass finds nothing."""
    once = redact_secrets(text)
    assert redact_secrets(once) == once


@pytest.mark.parametrize("length", [1, 255, 256])
def test_short_text_stays(length: int) -> None:
    """Given text up to the limit, when it is redacted, then it is unchanged."""
    assert Redactor().text("x" * length) == "x" * length


def test_long_text_is_replaced_as_a_whole() -> None:
    """Given 257 characters, when they are redacted, then only their number is written."""
    assert Redactor().text("x" * 257) == "[REDACTED 257 chars]"


def test_allow_text_keeps_text_and_still_hides_secrets() -> None:
    """Given ``allow_text``, when a long text holds an address, then the text stays and the address does not."""
    text = Redactor(allow_text=True).text("word " * 100 + "bob@example.com" + " word" * 100)
    assert "bob@" not in text
    assert text.count("word") == 200


@pytest.mark.parametrize("text", ["x" * 257, "bob@example.com"])
def test_raise_mode_says_what_it_refused(text: str) -> None:
    """Given ``on_text_violation="raise"``, when text must not be written, then the error carries length and limit."""
    with pytest.raises(TextViolationError) as caught:
        Redactor(on_text_violation="raise").text(text)
    assert (caught.value.length, caught.value.limit) == (len(text), 256)
    assert text not in str(caught.value)


@pytest.mark.parametrize("name", ["password", "HF_TOKEN", "dbPassword", "wandb_api_key", "x-api-key", "client_secret"])
def test_a_name_of_a_secret_is_known(name: str) -> None:
    """Given the name of a secret in any spelling, when it is asked for, then it is one."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokens", "num_tokens", "eos_token", "pad_token_id", "key", "passes", "secretary", "keys"]
)
def test_a_harmless_name_is_not(name: str) -> None:
    """Given a name that training uses, when it is asked for, then it is not a secret's."""
    assert not is_secret_name(name)


@pytest.mark.parametrize("options", [{"max_str_len": 0}, {"max_str_len": True}, {"on_text_violation": "ignore"}])
def test_nonsense_options_are_refused(options: dict[str, object]) -> None:
    """Given an option out of range, when the redactor is made, then a ValueError says so."""
    with pytest.raises(ValueError, match="must be"):
        Redactor(**options)  # type: ignore[arg-type]


def test_the_memory_of_answers_is_bounded() -> None:
    """Given more strings than the cache holds, when they are redacted, then it does not grow for ever."""
    redactor = Redactor()
    for number in range(10_000):
        redactor.text(f"label {number}")
        redactor.name(f"name {number}")
    assert len(redactor._texts) <= 4096
    assert len(redactor.names) <= 4096
