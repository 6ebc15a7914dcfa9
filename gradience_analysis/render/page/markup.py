"""Elements of a page. Text becomes markup in one place only, so that nothing can forget to escape it."""

from __future__ import annotations

from collections.abc import Iterable

from gradience_analysis.render.inert import inert

MAX_TEXT = 2_000
"""Characters of one text that a page shows."""
_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_IN_ATTRIBUTE = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_VOID = frozenset({"meta", "br", "path", "line", "rect", "circle"})


class Markup(str):
    """Text that is safe in a page as it stands. Made by `element`, `group` and `lines` from anything but data."""

    __slots__ = ()


Child = Markup | str | None
"""What an element holds: markup as it is, any other string escaped, None as nothing."""
Attribute = str | int | float | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element.

    Args:
        name: Tag name; a word of this program, never one from a file.
        children: What it holds.
        attributes: Their names, where `_` stands for `-` and a last `_` keeps a name off Python's own (`class_`);
            one whose value is None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{given}/>" if name not in {"meta", "br"} else f"<{name}{given}>")
    return Markup(f"<{name}{given}>{group(*children)}</{name}>")


def group(*children: Child) -> Markup:
    """Several things in a row, without an element around them."""
    return Markup("".join(child if isinstance(child, Markup) else _text(child) for child in children if child))


def lines(texts: Iterable[Child], between: str = "\n") -> Markup:
    """Several things with a line break, or what else is given, between them."""
    return Markup(_text(between, breaks=True).join(group(text) for text in texts))


def verbatim(text: str) -> Markup:
    """Text of any length for `<pre>`, its line breaks kept."""
    return Markup("\n".join(inert(line).translate(_IN_TEXT) for line in text.split("\n")))


def shown(text: str) -> str:
    """The text as a page shows it: what would steer a reader's eye is an escape, what is too long is cut."""
    safe = inert(text[: MAX_TEXT + 1])
    return safe if len(safe) <= MAX_TEXT else f"{safe[:MAX_TEXT]}… ({len(text):,} characters)"


def _text(text: str, *, breaks: bool = False) -> str:
    return (text if breaks else shown(text)).translate(_IN_TEXT)


def _attribute(value: str | float) -> str:
    if isinstance(value, Markup):
        return value
    return shown(value).translate(_IN_ATTRIBUTE) if isinstance(value, str) else str(value)
