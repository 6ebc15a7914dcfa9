"""A recogniser of RFC 8259, written from its grammar, that says where a text stops being the start of a valid one.

Slow and simple. It knows nothing of any parser, and is held against the table of cases in `test_r11_json.py`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SPACE = re.compile(rb"[ \t\n\r]*")
# Either the whole token, or the longest start of one.
_DIGITS = rb"[0-9]"
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_START = re.compile(rb"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)?(?:(?<=[0-9])[eE][+-]?[0-9]*)?")
_PLAIN = re.compile(rb"[\x20-\x21\x23-\x5b\x5d-\x7f]+")
_CHARACTER = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ESCAPE_START = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_WORDS = (b"true", b"false", b"null")


class Fault(NamedTuple):
    """Where a text is not JSON.

    Attributes:
        token: Offset of the token before the one that is wrong: where a parser may start to complain.
        at: Offset of the first byte with which no valid text goes on like this; the length of a text that is cut off.
    """

    token: int
    at: int


class _NotJsonError(Exception):
    pass


class _Recogniser:
    def __init__(self, text: bytes) -> None:
        self.text = text
        self.place = 0
        self.tokens = [0, 0]

    def fail(self, at: int) -> _NotJsonError:
        return _NotJsonError(Fault(self.tokens[-2], at))

    def token(self) -> bytes:
        """Step over white space; the byte that the next token starts with, empty at the end."""
        found = _SPACE.match(self.text, self.place)
        assert found
        self.place = found.end()
        self.tokens.append(self.place)
        return self.text[self.place : self.place + 1]

    def text_of_one_value(self) -> None:
        """value, with nothing after it; with a stack of its own, so that depth is no matter."""
        closers: list[bytes] = []
        expect_value = True
        may_close = False
        while True:
            start = self.token()
            if expect_value:
                if may_close and start == closers[-1]:
                    closers.pop()
                    self.place += 1
                    expect_value = False
                elif start == b"[" or start == b"{":
                    closers.append(b"]" if start == b"[" else b"}")
                    self.place += 1
                    may_close = True
                    if start == b"{" and not self.key_or_end():
                        closers.pop()
                        expect_value = False
                    elif start == b"{":
                        may_close = False
                    continue
                else:
                    self.scalar(start)
                    expect_value = False
                may_close = False
            elif not closers:
                if start:
                    raise self.fail(self.place)
                return
            elif start == closers[-1]:
                closers.pop()
                self.place += 1
            elif start == b",":
                self.place += 1
                if closers[-1] == b"}":
                    self.token()
                    self.key()
                expect_value = True
            else:
                raise self.fail(self.place)

    def key_or_end(self) -> bool:
        """After an opening brace: a key with its colon (true), or the closing brace."""
        if self.token() == b"}":
            self.place += 1
            return False
        self.key()
        return True

    def key(self) -> None:
        self.string()
        if self.token() != b":":
            raise self.fail(self.place)
        self.place += 1

    def scalar(self, start: bytes) -> None:
        if start == b'"':
            self.string()
            return
        for word in _WORDS:
            if start and word.startswith(start):
                self.word(word)
                return
        found = _NUMBER.match(self.text, self.place)
        longest = _NUMBER_START.match(self.text, self.place)
        assert longest
        if found is None or longest.end() > found.end():
            raise self.fail(longest.end())
        self.place = found.end()

    def word(self, word: bytes) -> None:
        for place, byte in enumerate(word, self.place):
            if self.text[place : place + 1] != bytes([byte]):
                raise self.fail(place)
        self.place += len(word)

    def string(self) -> None:
        if self.text[self.place : self.place + 1] != b'"':
            raise self.fail(self.place)
        place = self.place + 1
        while self.text[place : place + 1] != b'"':
            found = (
                _PLAIN.match(self.text, place) or _CHARACTER.match(self.text, place) or _ESCAPE.match(self.text, place)
            )
            if found is None:
                started = _ESCAPE_START.match(self.text, place)
                raise self.fail(started.end() if started else place)
            place = found.end()
        self.place = place + 1


def fault(text: bytes) -> Fault | None:
    """Where a text is not the UTF-8 of a JSON value; None when it is one."""
    try:
        _Recogniser(text).text_of_one_value()
    except _NotJsonError as error:
        found = error.args[0]
        assert isinstance(found, Fault)
        return found
    return None
