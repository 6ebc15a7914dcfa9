"""JSON texts for R11, named and judged by RFC 8259: `y_` is valid, `n_` is not, `i_` is left to the reader by the RFC.

Written from the grammar of the RFC, section by section. None holds a newline, which ends a line of JSONL whatever it
stands in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Case = tuple[str, bytes]


def valid() -> dict[str, bytes]:
    """Texts that the grammar derives."""
    return _named("y", [*_y_literals(), *_y_numbers(), *_y_strings(), *_y_structures(), *_y_white_space()])


def invalid() -> dict[str, bytes]:
    """Texts that it does not derive, or that are not UTF-8; so too as the value of a member of an object."""
    cases = [*_n_literals(), *_n_numbers(), *_n_strings(), *_n_structures(), *_n_bytes(), *_n_white_space()]
    return _named("n", cases)


class Undecided(NamedTuple):
    """A text about which the RFC leaves the reader free, and what ours does with it.

    Attributes:
        text: The text.
        code: The issue it causes; None when it is read without one.
        severity: `warning`: the value is read; `error`: the line is refused.
    """

    text: bytes
    code: str | None = None
    severity: str = "warning"


def undecided() -> dict[str, Undecided]:
    """Limits on numbers and depth, repeated keys, lone surrogates, and the tokens that JSON does not have."""
    bare = ("NaN", "Infinity", "-Infinity", "[NaN]", '{"a":-Infinity}', "[1,[Infinity]]")
    cases = {f"bare_{text}": Undecided(text.encode(), "nonfinite_token") for text in bare}
    cases |= {
        "number_overflow": Undecided(b"1e400", "number_overflow"),
        "number_negative_overflow": Undecided(b"-1e400", "number_overflow"),
        "number_long_exponent": Undecided(b"0.4e00669999999999999999999999999999999999999999999999", "number_overflow"),
        "number_underflow": Undecided(b"1e-400"),
        "number_negative_underflow": Undecided(b"-123e-10000000"),
        "number_more_digits_than_a_double": Undecided(b"0.1" + b"0" * 300 + b"1"),
        "number_integer_beyond_64_bits": Undecided(b"123456789012345678901234567890"),
        "number_negative_integer_beyond_64_bits": Undecided(b"-99999999999999999999"),
        "number_integer_of_4000_digits": Undecided(b"1" * 4_000),
        "number_integer_of_5000_digits": Undecided(b"1" * 5_000, "number_too_long", "error"),
        "structure_500_levels": Undecided(b"[" * 500 + b"]" * 500),
        "structure_100000_levels": Undecided(b"[" * 100_000 + b"]" * 100_000, "too_deep", "error"),
        "structure_100000_objects": Undecided(b'{"":' * 100_000 + b"1" + b"}" * 100_000, "too_deep", "error"),
    }
    cases["bare_NaN1"] = Undecided(b"NaN1", "invalid_json", "error")
    lone = (
        '"\\ud800"',
        '"\\udc00"',
        '"\\udd1e\\ud834"',
        '"\\ud800abc"',
        '"\\ud800\\n"',
        '"\\ud800\\ud800"',
        '{"\\ud800":1}',
    )
    cases |= {f"surrogate_{text}": Undecided(text.encode(), "lone_surrogate") for text in lone}
    repeated = ('{"a":1,"a":2}', '{"a":1,"a":1}', '{"":1,"":2}', '{"a":1,"\\u0061":2}', '[{"a":{"b":1,"b":[]}}]')
    cases |= {f"repeated_{text}": Undecided(text.encode(), "repeated_key") for text in repeated}
    return {f"i_{name}": case for name, case in cases.items()}


def _named(letter: str, cases: list[Case]) -> dict[str, bytes]:
    names = [f"{letter}_{name}" for name, _ in cases]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    assert not any(b"\n" in text for _, text in cases)
    return {f"{letter}_{name}": text for name, text in cases}


def _y_literals() -> Iterator[Case]:
    for word in ("true", "false", "null"):
        yield word, word.encode()
        yield f"{word}_in_array", f"[{word}]".encode()
        yield f"{word}_in_object", f'{{"a":{word}}}'.encode()


def _y_numbers() -> Iterator[Case]:
    texts = (
        *("0", "-0", "0.0", "-0.0", "1", "-1", "10", "1234567890", "9007199254740993", "-9223372036854775808"),
        *("9223372036854775807", "18446744073709551615", "0.1", "0.5", "1.25", "-1.25", "123.456", "0.000001"),
        *("1e1", "1E1", "1e+1", "1E+1", "1e-1", "1E-1", "0e0", "0e1", "0E+1", "-0e-1", "1e00", "1e01", "1e-007"),
        *("1.5e3", "1.5E-3", "-1.5e+3", "123e65", "123.456e78", "1e308", "1.7976931348623157e308", "5e-324"),
        *("2.2250738585072014e-308", "-0.000000000000000000000000000000000000000000000000000000000000000000000001"),
        "0." + "3" * 50,
    )
    for text in texts:
        yield f"number_{text[:40]}", text.encode()
    yield "number_in_array", b"[-1.5e-3]"
    yield "numbers_in_array", b"[0,-0,0.0,1e1]"


def _y_strings() -> Iterator[Case]:
    yield "string_empty", b'""'
    yield "string_plain", b'"abc"'
    yield "string_with_the_json_signs", b'"{}[],:"'
    for letter in '"\\/bfnrt':
        yield f"string_escape_{letter}", f'"\\{letter}"'.encode()
    for code in (
        "0000",
        "0001",
        "001f",
        "0020",
        "0022",
        "005c",
        "007f",
        "0085",
        "00e9",
        "00E9",
        "2028",
        "FFFF",
        "fffe",
    ):
        yield f"string_escape_u{code}", f'"\\u{code}"'.encode()
    yield "string_escape_pair", rb'"\ud834\udd1e"'
    yield "string_escape_pair_upper_case", rb'"\uD834\uDD1E"'
    yield "string_escape_last_pair", rb'"\udbff\udfff"'
    yield "string_escaped_backslash_before_u", rb'"\\u0000"'
    yield "string_escaped_backslash_at_end", rb'"a\\"'
    yield "string_escaped_quotes", rb'"\"\""'
    yield "string_all_escapes", rb'"\"\\\/\b\f\n\r\t\u20ac"'
    for point in (0x20, 0x7F, 0x80, 0x7FF, 0x800, 0x2028, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFF, 0x10000, 0x1F600):
        yield f"string_utf8_U+{point:04X}", f'"{chr(point)}"'.encode()
    yield "string_utf8_U+10FFFF", '"\U0010ffff"'.encode()
    yield "string_of_100_kB", b'"' + b"x" * 100_000 + b'"'


def _y_structures() -> Iterator[Case]:
    yield "array_empty", b"[]"
    yield "array_of_empty", b"[[],{}]"
    yield "array_mixed", b'[1,"a",null,true,1.5,[],{}]'
    yield "array_of_1000", b"[" + b",".join([b"1"] * 1_000) + b"]"
    yield "array_100_levels", b"[" * 100 + b"]" * 100
    yield "object_empty", b"{}"
    yield "object_one", b'{"a":1}'
    yield "object_two", b'{"a":1,"b":2}'
    yield "object_empty_key", b'{"":0}'
    yield "object_escaped_key", rb'{"\u0061\n":0}'
    yield "object_nul_in_key", rb'{"a\u0000b":0}'
    yield "object_unicode_key", '{"é\U0001f600":0}'.encode()
    yield "object_key_with_signs", b'{"a:b,{}[]":0}'
    yield "object_same_key_in_two_objects", b'[{"a":1},{"a":2}]'
    yield "object_same_key_on_two_levels", b'{"a":{"a":{"a":1}}}'
    yield "object_100_levels", b'{"a":' * 100 + b"1" + b"}" * 100
    yield "object_of_1000", b"{" + b",".join(f'"k{n}":{n}'.encode() for n in range(1_000)) + b"}"


def _y_white_space() -> Iterator[Case]:
    for name, space in (("space", b" "), ("tab", b"\t"), ("return", b"\r"), ("many", b" \t\r \t\r")):
        yield f"white_{name}_before", space + b"1"
        yield f"white_{name}_after", b"1" + space
        yield f"white_{name}_in_array", space.join([b"[", b"1", b",", b"2", b"]"])
        yield f"white_{name}_in_empty_array", b"[" + space + b"]"
        yield f"white_{name}_in_object", space.join([b"{", b'"a"', b":", b"1", b",", b'"b"', b":", b"2", b"}"])


def _n_literals() -> Iterator[Case]:
    words = ("tru", "fals", "nul", "True", "TRUE", "False", "NULL", "None", "undefined", "truefalse", "nulll", "t", "n")
    for word in (
        *words,
        "nan",
        "inf",
        "-inf",
        "+Infinity",
        "-NaN",
        "INF",
        "Infinit",
        "-Infinit",
        "true1",
        "yes",
    ):
        yield f"literal_{word}", word.encode()
    yield "literal_in_array", b"[nul]"
    yield "literal_without_quotes", b"[abc]"


def _n_numbers() -> Iterator[Case]:
    texts = (
        *("-", "+1", "+0", "--1", "-+1", "- 1", "01", "-01", "00", "012", "0x1", "0x", "0b1", "0o7", "1.", "-1.", ".1"),
        *("-.1", ".", "1..2", "1.2.3", "1.e1", "1e", "1E", "1e+", "1e-", "1E+", "e1", "1e1.5", "1ee1", "1e+-1", "1eE2"),
        *("1_000", "1,000", "1 000", "1a", "1f", "1.5f", "1L", "0.1.", "0e", "0e+", "1e1e1", "$1", "#1", "1%", "2.e3"),
        *("2.e+3", "-2.", "0.3e", "0.3e+", "9.e+", "1/2", "1+2", "0-1", "-a", "-foo", "1e\t1", "0 .1", "1 .5", "1e 5"),
    )
    for text in texts:
        yield f"number_{text}", text.encode()
    yield "number_full_width_digit", "\uff11".encode()
    yield "number_arabic_digit", "\u0663".encode()
    yield "number_minus_sign_of_typography", "\u22121".encode()
    yield "number_in_array", b"[-2.]"
    yield "number_nul_after", b"1\x00"


def _n_strings() -> Iterator[Case]:
    yield "string_no_quotes", b"abc"
    yield "string_single_quotes", b"'abc'"
    yield "string_typographic_quotes", "“abc”".encode()
    yield "string_backquotes", b"`abc`"
    yield "string_open", b'"abc'
    yield "string_only_a_quote", b'"'
    yield "string_open_by_escape", rb'"abc\"'
    yield "string_backslash_at_end", b'"abc\\'
    yield "string_twice", b'"a""b"'
    yield "string_letters_after", b'"a"b'
    for letter in ("a", "e", "x41", "0", "1", "v", "'", "U0041", " ", "N", "é", "\U0001f300", "\x00", "\t"):
        yield f"string_escape_{letter!a}", b'"\\' + letter.encode() + b'"'
    for digits in ("", "0", "00", "00e", "00g0", "D83", "-001", "+041", " 041", "0x41", "{41}", "٠٠٤١", "004\x00"):
        yield f"string_escape_u{digits!a}", b'"\\u' + digits.encode() + b'"'
    yield "string_escape_pair_cut", rb'"\ud834\udd"'
    yield "string_escape_pair_without_u", rb'"\ud834\dd1e"'
    for code in (*range(10), *range(11, 32)):
        yield f"string_control_{code:02x}", b'"a' + bytes([code]) + b'b"'
    yield "key_control_01", b'{"a\x01":1}'


def _n_structures() -> Iterator[Case]:
    texts = (
        *("[", "]", "{", "}", "[]]", "{}}", "[[]", "[}", "{]", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]"),
        *("[1;2]", "[1:2]", '["a":1]', '["a"', '["a",', "[1]]", "[1]2", "[1][2]", "(1)", "<1>", "[<null>]", "[*]", "*"),
        *(
            '{"a"}',
            '{"a":}',
            '{"a":1',
            '{"a":1,',
            '{"a":1,}',
            '{,"a":1}',
            "{,}",
            '{"a":1,,"b":2}',
            '{"a" 1}',
            '{"a"=1}',
        ),
        *('{"a":1 "b":2}', '{"a":1;"b":2}', '{"a"::1}', "{:1}", "{1:1}", "{a:1}", "{'a':1}", "{null:1}", "{[]:1}"),
        *(
            '{"a":1}}',
            '{"a":1}{"b":2}',
            '{"a":1}#',
            '{"a":1}/**/',
            '/**/{"a":1}',
            '{"a":/**/1}',
            '{"a":1}//',
            "//",
            "#",
        ),
        *('{"a":"b', '{"a":"b"', '{"a":[}', '{"a":{]', "[{]", '{"a', '{"a":tru', '[1,{"a":2]', '{"a":1]', "[1}", ","),
        *(
            "1,",
            ":",
            "1:1",
            '"a":1',
            '"a",',
            "...",
            "[...]",
            "[1,...]",
            "{...}",
            "@",
            "&",
            "\\",
            "\\u0031",
            "[\\u0031]",
        ),
        *('{"a":1,"b"}', '{"a":1,"b":}', '{"a":1,b:2}', '{"a":1,2}', "{{}}", "{[]}", "[[]{}]", "[1]a", "[]a"),
    )
    for text in texts:
        yield f"structure_{text}", text.encode()
    yield "structure_100000_open", b"[" * 100_000
    yield "structure_50000_objects_open", b'{"":' * 50_000
    yield "structure_nothing", b""


def _n_bytes() -> Iterator[Case]:
    sequences = {
        "continuation_alone": b"\x80",
        "continuations_alone": b"\xbf\x80",
        "byte_FF": b"\xff",
        "byte_FE": b"\xfe",
        "latin_1": b"caf\xe9",
        "windows_1252": b"\x93a\x94",
        "overlong_slash_of_2": b"\xc0\xaf",
        "overlong_nul_of_2": b"\xc0\x80",
        "overlong_of_2_highest": b"\xc1\xbf",
        "overlong_slash_of_3": b"\xe0\x80\xaf",
        "overlong_of_3_highest": b"\xe0\x9f\xbf",
        "overlong_slash_of_4": b"\xf0\x80\x80\xaf",
        "overlong_of_4_highest": b"\xf0\x8f\xbf\xbf",
        "overlong_of_5": b"\xf8\x80\x80\x80\xaf",
        "overlong_of_6": b"\xfc\x80\x80\x80\x80\xaf",
        "surrogate_D800": b"\xed\xa0\x80",
        "surrogate_DBFF": b"\xed\xaf\xbf",
        "surrogate_DC00": b"\xed\xb0\x80",
        "surrogate_DFFF": b"\xed\xbf\xbf",
        "surrogate_pair_as_cesu_8": b"\xed\xa0\x81\xed\xb0\x80",
        "beyond_U+10FFFF": b"\xf4\x90\x80\x80",
        "beyond_U+10FFFF_by_far": b"\xf7\xbf\xbf\xbf",
        "byte_F5": b"\xf5\x80\x80\x80",
        "cut_1_of_2": b"\xc3",
        "cut_1_of_3": b"\xe2",
        "cut_2_of_3": b"\xe2\x82",
        "cut_1_of_4": b"\xf0",
        "cut_3_of_4": b"\xf0\x9f\x98",
        "cut_before_a_letter": b"\xe2\x82a",
        "second_byte_no_continuation": b"\xc3\x28",
        "third_byte_no_continuation": b"\xe2\x82\x28",
        "utf_16": "a€".encode("utf-16-be"),
    }
    for name, sequence in sequences.items():
        yield f"bytes_{name}", b'"a' + sequence + b'"'
        yield f"bytes_{name}_in_key", b'{"a' + sequence + b'":1}'
    yield "bytes_outside_a_string", b"1\xff"
    yield "bytes_nul_outside_a_string", b"[\x00]"
    yield "bytes_nul_between", b"[1,\x002]"
    yield "bytes_overlong_quote", b'\xc0\xa2a"'


def _n_white_space() -> Iterator[Case]:
    spaces = {
        "form_feed": "\f",
        "vertical_tab": "\v",
        "no_break_space": "\u00a0",
        "next_line": "\u0085",
        "line_separator": "\u2028",
        "ideographic_space": "\u3000",
        "byte_order_mark": "\ufeff",
        "word_joiner": "\u2060",
        "file_separator": "\x1c",
        "nul": "\x00",
        "backspace": "\b",
        "delete": "\x7f",
    }
    for name, space in spaces.items():
        yield f"white_{name}_before", space.encode() + b"1"
        yield f"white_{name}_in_array", b"[1," + space.encode() + b"2]"
