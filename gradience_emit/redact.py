"""Keeps secrets, personal data and long text out of telemetry, on keys and on values.

Two rules, independent of each other:

* **Typed secrets and personal data** are replaced wherever they stand and however short the string is:
  ``[EMAIL]``, ``[PHONE]``, ``[API_KEY]``, ``[JWT]``, ``[PRIVATE_KEY]``, ``[URL_WITH_TOKEN]``, ``[AUTH]``, ``[SECRET]``.
* **Long text** (more than ``max_str_len`` characters) is replaced as a whole by ``[REDACTED n chars]``, because a
  training example is most often the longest string in a payload. ``allow_text=True`` turns this second rule off,
  never the first.

Values under a name such as ``password`` or ``api_key`` are replaced whatever they look like. A bare 40-digit hex
string (an old W&B key, but also every git commit) is only recognised by the name or command beside it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

__all__ = ["Redactor", "TextViolationError", "is_secret_name", "redact_secrets"]

_T = TypeVar("_T")

_CACHE_LIMIT: Final = 4096
_CACHED_LENGTH: Final = 256

_SECRET_WORDS: Final = (
    r"passw(?:or)?d|passphrase|pwd|secret|secret[_-]?key|"  # noqa: S105 - a pattern, not a password
    r"api[_-]?key|apikey|access[_-]?key|secret[_-]?access[_-]?key|"
    r"account[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|client[_-]?secret|authorization|credentials?|cookie|"
    r"(?:access|api|auth|bearer|gh|github|gitlab|hf|hub|id|npm|oauth|refresh|session|slack|wandb)[_-]?token"
)
_SECRET_NAME: Final = re.compile(rf"(?i)(?:^|[^A-Za-z0-9])(?:{_SECRET_WORDS})$")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class _Rule:
    """One kind of secret: run ``pattern`` only when the lower-cased text contains one of ``anchors``.

    The literal anchors keep a clean string cheap, and a pattern that is never needed is never compiled. Every
    open-ended part of a pattern is bounded or starts at a boundary, so that the search stays linear in the length of
    the text.
    """

    source: str
    anchors: tuple[str, ...]
    replacement: str | Callable[[re.Match[str]], str]

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.source)


def _basic_auth(match: re.Match[str]) -> str:
    """``[AUTH]`` when the word after ``Basic`` is base64 of ``user:password``; else the text, an English phrase."""
    token = match["token"].replace("-", "+").replace("_", "/").rstrip("=")
    try:
        decoded = base64.b64decode(token + "=" * (-len(token) % 4), validate=True)
    except (binascii.Error, ValueError):
        return match.group()
    is_pair = b":" in decoded and all(31 < byte < 127 for byte in decoded)
    return "[AUTH]" if is_pair else match.group()


def _phone(match: re.Match[str]) -> str:
    digits = sum(char.isdigit() for char in match.group())
    return "[PHONE]" if digits >= _MIN_PHONE_DIGITS else match.group()


_MIN_PHONE_DIGITS: Final = 8

_KEY_FORMS: Final = (
    r"sk-(?=[A-Za-z_\-]{0,200}\d)[A-Za-z0-9_\-]{16,}",
    r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    r"hf_[A-Za-z0-9]{30,}",
    r"api_org_[A-Za-z0-9]{30,}",
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"github_pat_[A-Za-z0-9_]{30,}",
    r"glpat-[A-Za-z0-9_\-]{20,}",
    r"wandb_v\d_[A-Za-z0-9_]{30,}",
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,}",
    r"AIza[A-Za-z0-9_\-]{35}",
    r"[srp]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_\-]{50,}",
    r"nvapi-[A-Za-z0-9_\-]{40,}",
    r"gsk_[A-Za-z0-9]{40,}",
    r"r8_[A-Za-z0-9]{36,}",
    r"SG\.[A-Za-z0-9_\-]{20,}\.[A-Za-z0-9_\-]{20,}",
)
_KEY_ANCHORS: Final = (
    "sk-", "akia", "asia", "abia", "acca", "agpa", "aida", "aroa", "aipa", "anpa", "anva",
    "hf_", "api_org_", "ghp_", "gho_",
    "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "wandb_v", "xox", "aiza", "k_live_", "k_test_", "npm_", "pypi-",
    "nvapi-", "gsk_", "r8_", "sg.",
)  # fmt: skip
_PHONE_FORMS: Final = (
    r"\+[1-9]\d{9,14}",
    r"\+[1-9]\d{0,2}(?:[ \-]\(?\d{1,5}\)?|\(\d{1,5}\))(?:[ \-]?\d{2,5}){1,4}",
    r"\+[1-9]\d{0,2}(?:\.\d{2,5}){2,4}",
    r"(?:1[ .\-])?\([2-9]\d{2}\)[ .\-]?\d{3}[ .\-]\d{4}",
    r"(?:1-)?[2-9]\d{2}-\d{3}-\d{4}",
    r"(?:1\.)?[2-9]\d{2}\.\d{3}\.\d{4}",
    r"00[1-9]\d{0,2}[ \-]\d{2,5}(?:[ \-]\d{2,5}){1,4}",
)
_QUERY_WORDS: Final = r"(?:token|key|secret|sig|signature|passw(?:or)?d|pwd|auth|credential|sas|jwt)"

# In this order: what contains another secret (a PEM block, a URL) is replaced before what it contains.
_RULES: Final = (
    _Rule(
        r"-----BEGIN [A-Z0-9 ]{1,60}-----(?:[^-]|-(?!----END ))*(?:-----END [A-Z0-9 ]{1,60}-----)?",
        ("-----begin ",),
        "[PRIVATE_KEY]",
    ),
    _Rule(
        r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,15}://[^\s/?#@\"'<>]{1,512}@[^\s\"'<>]+",
        ("://",),
        "[URL_WITH_TOKEN]",
    ),
    _Rule(
        r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,15}://(?:[^\s?#\"'<>:]|:(?!//)){0,2048}[?#]"
        rf"(?:[^\s\"'<>&]{{0,512}}&){{0,32}}?[A-Za-z0-9_.\-]{{0,40}}?(?i:{_QUERY_WORDS})=[^\s\"'<>]+",
        ("://",),
        "[URL_WITH_TOKEN]",
    ),
    _Rule(
        r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]*)+",
        ("eyj",),
        "[JWT]",
    ),
    _Rule(rf"(?<![A-Za-z0-9])(?:{'|'.join(_KEY_FORMS)})", _KEY_ANCHORS, "[API_KEY]"),
    _Rule(
        r"(?i)(?<![a-z])(wandb\s{1,4}login\s{1,4})(?:--\S{1,40}\s{1,4}){0,3}[a-z0-9_]{20,}",
        ("login",),
        r"\1[API_KEY]",
    ),
    _Rule(
        r"(?i)(?<![a-z])basic[ \t:]{1,4}(?P<token>[a-z0-9+/_\-]{6,}={0,2})",
        ("basic",),
        _basic_auth,
    ),
    _Rule(
        r"(?i)(?<![a-z])bearer[ \t:]{1,4}(?=[a-z._~+/\-]{0,400}\d)[a-z0-9._~+/\-]{16,}={0,2}",
        ("bearer",),
        "[AUTH]",
    ),
    _Rule(
        rf"(?i)((?:{_SECRET_WORDS})[\"']?\s{{0,4}}[:=]\s{{0,4}})"
        r"(?:\"[^\"\n]{1,512}\"|'[^'\n]{1,512}'|"
        r"(?:(?:basic|bearer|digest|token)\s{1,4})?[^\s\"',;&\[][^\s\"',;&]{3,})",
        ("pass", "pwd", "secret", "key", "auth", "credential", "cookie", "token"),
        r"\1[SECRET]",
    ),
    _Rule(
        r"(?<![\w.%+\-])[\w.%+\-]{1,64}?(?:@|%40|&#64;)(?:[\w\-]{1,63}\.){1,8}[^\W\d_]{2,24}(?!\w)",
        ("@", "%40", "&#64;"),
        "[EMAIL]",
    ),
    _Rule(
        rf"(?<![\w.+\-/])(?:{'|'.join(_PHONE_FORMS)})(?![\w\-]|\.\d)",
        ("+", "-", "(", ".", "00"),
        _phone,
    ),
)
_INVISIBLE: Final = re.compile("[\u00ad\u180e\u200b-\u200f\u2060-\u2064\ufeff]")


class TextViolationError(ValueError):
    """A payload held text that the writer was told to refuse (``on_text_violation="raise"``).

    Attributes:
        length: characters in the refused string.
        limit: the writer's ``max_str_len``; for a secret, the length does not matter.
    """

    def __init__(self, length: int, limit: int, what: str) -> None:
        self.length = length
        self.limit = limit
        super().__init__(
            f"telemetry payload holds {what} ({length} characters; the limit is {limit}): log a number or a short "
            'label instead, or create the writer with on_text_violation="redact"'
        )


def is_secret_name(name: str) -> bool:
    """Whether a key such as ``hub_token`` or ``dbPassword`` names a secret, so that its value must never be written."""
    return _SECRET_NAME.search(_CAMEL.sub("_", name)) is not None


def redact_secrets(text: str) -> str:
    """``text`` with every typed secret and piece of personal data replaced by its label; unchanged when there is none.

    Zero-width characters and full-width letters, which hide a secret from a pattern but not from a reader, are folded
    before the search; the folded text is returned only when something was found in it.
    """
    found = _apply_rules(text)
    if text.isascii():
        return found
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    if folded == text:
        return found
    redacted = _apply_rules(folded)
    return found if redacted == folded else redacted


def _apply_rules(text: str) -> str:
    lowered = text.lower()
    for rule in _RULES:
        if any(anchor in lowered for anchor in rule.anchors):
            text = rule.pattern.sub(rule.replacement, text)
    return text


class Redactor:
    """Applies both rules to strings, and remembers the answers for short ones (metric names and labels repeat).

    Args:
        max_str_len: the longest string that is written as it is, in characters (>= 1).
        allow_text: keep long strings; secrets are still replaced.
        on_text_violation: ``"redact"`` replaces, ``"raise"`` raises `TextViolationError` for long text and for secrets.

    Attributes:
        names: the answers of `name` that are remembered.
    """

    def __init__(
        self,
        max_str_len: int = 256,
        *,
        allow_text: bool = False,
        on_text_violation: Literal["redact", "raise"] = "redact",
    ) -> None:
        if isinstance(max_str_len, bool) or max_str_len < 1:
            raise ValueError(f"max_str_len must be a positive number of characters, not {max_str_len!r}")
        if on_text_violation not in {"redact", "raise"}:
            raise ValueError(f'on_text_violation must be "redact" or "raise", not {on_text_violation!r}')
        self.max_str_len = max_str_len
        self.allow_text = allow_text
        self.on_text_violation = on_text_violation
        self._texts: dict[str, str] = {}
        self.names: dict[str, tuple[str, bool]] = {}

    def text(self, text: str) -> str:
        """The string to write in place of ``text``: itself, a label, or itself with labels in it.

        Raises:
            TextViolationError: only under ``on_text_violation="raise"``.
        """
        known = self._texts.get(text)
        if known is not None:
            return known
        result = self._compute(text)
        if len(text) <= _CACHED_LENGTH:
            _remember(self._texts, text, result)
        return result

    def name(self, name: str) -> tuple[str, bool]:
        """The key to write in place of ``name``, and whether it names a secret (its value must then be replaced)."""
        known = self.names.get(name)
        if known is not None:
            return known
        result = (self._compute(name), is_secret_name(name))
        if len(name) <= _CACHED_LENGTH:
            _remember(self.names, name, result)
        return result

    def _compute(self, text: str) -> str:
        if len(text) > self.max_str_len and not self.allow_text:
            self._violation(text, "a long text")
            return f"[REDACTED {len(text)} chars]"
        redacted = redact_secrets(text)
        if redacted != text:
            self._violation(text, "a secret or personal data")
        return redacted

    def _violation(self, text: str, what: str) -> None:
        if self.on_text_violation == "raise":
            raise TextViolationError(len(text), self.max_str_len, what)


def _remember(cache: dict[str, _T], key: str, value: _T) -> None:
    if len(cache) >= _CACHE_LIMIT:
        cache.clear()  # simpler than an LRU, and refilled within one step
    cache[key] = value
