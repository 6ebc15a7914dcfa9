"""Reads a page as a tree, and refuses what a browser would have to mend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})
CLOSED = frozenset({"path", "line", "rect", "circle"})
"""Elements of a picture, which close themselves unless they hold a title."""


@dataclass
class Node:
    """An element, with what it holds."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Node] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    def all(self, tag: str | None = None) -> Iterator[Node]:
        """It and everything below it, in the order of the page; only these elements when a tag is given."""
        if tag is None or self.tag == tag:
            yield self
        for child in self.children:
            yield from child.all(tag)

    def one(self, tag: str) -> Node:
        """The only element of that tag."""
        (found,) = self.all(tag)
        return found

    @property
    def text(self) -> str:
        """Its own text and that of everything below it, in order of the elements."""
        return "".join(self.own) + "".join(child.text for child in self.children)

    @property
    def classes(self) -> set[str]:
        """Its classes."""
        return set((self.attributes.get("class") or "").split())


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID | CLOSED, f"<{tag}/> does not close itself"
        self.handle_starttag(tag, attrs)
        if tag in CLOSED:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].own.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:80]}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"a processing instruction: {data[:80]}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data[:80]}")


def parse(page: str) -> Node:
    """The tree of a page in which every element is closed where it should be."""
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert builder.open == [builder.root], f"<{builder.open[-1].tag}> is never closed"
    return builder.root


def start_tags(page: str) -> list[str]:
    """The tags of a page in order, from any HTML, well-formed or not."""
    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag)

    reader = Tags()
    reader.feed(page)
    reader.close()
    return found
