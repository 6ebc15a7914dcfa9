"""Conditions on the row of a run, such as `lora.r == 8 and optimizer.lr < 1e-3`: parsed, checked, never run as code.

An expression may come from a shell or from the settings of continuous integration. It is parsed to a tree of which only
comparisons, `and`, `or`, `not`, `in`, arithmetic, column names and literals are known here; anything else is refused.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, TypeVar

from gradience_analysis.errors import GradienceError
from gradience_analysis.runs.values import Value, arithmetic, compared, contained

T = TypeVar("T")
MAX_LENGTH: Final = 10_000
_MAX_DEPTH: Final = 100
_OPERATORS: Final[Mapping[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARISONS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_ALLOWED: Final = "Allowed are comparisons, and, or, not, in, arithmetic, column names, numbers and quoted text."
_HINTS: Final[Mapping[type[ast.AST], str]] = {
    ast.BitAnd: "Write `and` in place of `&`.",
    ast.BitOr: "Write `or` in place of `|`.",
    ast.Invert: "Write `not` in place of `~`.",
}


class ExpressionError(GradienceError):
    """An expression that cannot be understood, names no column, or compares what cannot be compared.

    Attributes:
        expression: The expression as it was given.
    """

    def __init__(self, expression: str, message: str, remedy: str = "") -> None:
        shown = expression if len(expression) <= 200 else f"{expression[:200]}…"
        super().__init__(f"The expression {shown!r} {message}", remedy)
        self.expression = expression


class UnknownColumnError(GradienceError):
    """A column that the runs do not have.

    Attributes:
        column: The name that was given.
        columns: The names there are.
    """

    def __init__(self, column: str, columns: Collection[str], what: str = "the runs") -> None:
        meant = nearest(column, columns)
        hint = f"Did you mean {' or '.join(meant)}?" if meant else f"There are: {_some(columns)}."
        super().__init__(f"There is no column {column[:100]!r} in {what}.", hint)
        self.column = column
        self.columns = tuple(columns)


def nearest(name: str, names: Collection[str]) -> list[str]:
    """Up to three names that a mistyped one may have meant: the same last part first, then the most alike."""
    last = name.rpartition(".")[2].lower()
    same = [known for known in names if last and known.lower().split(".")[-1] == last]
    alike = difflib.get_close_matches(name, names, n=3)
    return list(dict.fromkeys([*alike[:1], *same, *alike]))[:3]


def _some(names: Collection[str]) -> str:
    shown = list(names)[:12]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


class Expression:
    """A parsed expression.

    A value that is absent makes a comparison neither true nor false, and what is not known to be true does not match;
    `x is None` and `x is not None` ask whether it is absent. NaN is a value: it is unequal to every number and itself.

    Args:
        text: The expression; a name that is no Python name stands in backticks.

    Attributes:
        names: Columns that it names, in order.

    Raises:
        ExpressionError: It is too long, cannot be parsed, or holds something that is not allowed.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_LENGTH:
            raise ExpressionError(text, f"is longer than {MAX_LENGTH:,} characters.")
        source, self._quoted = _without_backticks(text)
        try:
            self._root = ast.parse(source.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(text, "cannot be read.", _advice(text, error)) from error
        self.names = tuple(dict.fromkeys(self._check(self._root, 0)))

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Whether the expression is true of a row; an absent value is None there.

        Raises:
            ExpressionError: Things that cannot be compared are compared, or the result is neither true nor false.
        """
        return self._truth(self._root, row) is True

    def _check(self, node: ast.AST, depth: int) -> Iterator[str]:
        """Names below a node; everything that is not allowed is refused here, before a row is seen."""
        if depth > _MAX_DEPTH:
            raise ExpressionError(self.text, f"is nested deeper than {_MAX_DEPTH} levels.")
        if isinstance(node, ast.Name | ast.Attribute):
            yield self._name(node)
            return
        self._refuse(node)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.operator | ast.cmpop | ast.boolop | ast.unaryop | ast.expr_context):
                yield from self._check(child, depth + 1)

    def _refuse(self, node: ast.AST) -> None:
        known = (ast.BoolOp, ast.UnaryOp, ast.Compare, ast.BinOp, ast.Constant, ast.List, ast.Tuple, ast.Set)
        if not isinstance(node, known):
            raise ExpressionError(self.text, f"holds `{self._words(node)}`, which is not allowed.", _ALLOWED)
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | None):
            raise ExpressionError(self.text, f"holds `{self._words(node)}`, which is no number or text.", _ALLOWED)
        if isinstance(node, ast.BinOp) and type(node.op) not in _OPERATORS:
            raise ExpressionError(
                self.text, f"holds `{self._words(node)}`, which is not allowed.", _HINTS.get(type(node.op), _ALLOWED)
            )
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            raise ExpressionError(self.text, "holds `~`, which is not allowed.", _HINTS[ast.Invert])
        if isinstance(node, ast.Compare):
            self._refuse_comparison(node)

    def _refuse_comparison(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            absent = any(isinstance(side, ast.Constant) and side.value is None for side in (left, right))
            if isinstance(operator, ast.Is | ast.IsNot) != absent:
                message = f"holds `{self._words(node)}`: `is` goes with None, and None with `is`."
                raise ExpressionError(self.text, message, "`x is None` asks whether a value is absent.")
            lists = isinstance(right, ast.List | ast.Tuple | ast.Set)
            if lists and not isinstance(operator, ast.In | ast.NotIn):
                raise ExpressionError(self.text, f"compares with a list in `{self._words(node)}`.", "Use `in`.")

    def _name(self, node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return self._quoted.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self._name(node.value)}.{node.attr}"
        raise ExpressionError(self.text, f"holds `{self._words(node)}`, which is not allowed.", _ALLOWED)

    def _words(self, node: ast.AST) -> str:
        text = ast.unparse(node)
        for placeholder, name in self._quoted.items():
            text = text.replace(placeholder, f"`{name}`")
        return text if len(text) <= 80 else f"{text[:80]}…"

    def _truth(self, node: ast.expr, row: Mapping[str, Value]) -> bool | None:
        value = self._value(node, row)
        if value is not None and not isinstance(value, bool):
            raise ExpressionError(self.text, f"uses `{self._words(node)}` where true or false belongs.")
        return value

    def _value(self, node: ast.expr, row: Mapping[str, Value]) -> Value:
        if isinstance(node, ast.Constant):
            # `_refuse` has let no other literal pass.
            return node.value  # type: ignore[return-value]
        if isinstance(node, ast.Name | ast.Attribute):
            return row[self._name(node)]
        if isinstance(node, ast.BoolOp):
            return self._joined(node, row)
        if isinstance(node, ast.Compare):
            return self._compare(node, row)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node, row)
        if isinstance(node, ast.BinOp):
            sides = self._value(node.left, row), self._value(node.right, row)
            return self._guarded(node, lambda: arithmetic(_OPERATORS[type(node.op)], *sides))
        raise ExpressionError(self.text, f"uses the list `{self._words(node)}` outside of `in`.")

    def _joined(self, node: ast.BoolOp, row: Mapping[str, Value]) -> bool | None:
        decisive = isinstance(node.op, ast.Or)
        unknown = False
        for part in node.values:
            truth = self._truth(part, row)
            if truth is decisive:
                return decisive
            unknown |= truth is None
        return None if unknown else not decisive

    def _unary(self, node: ast.UnaryOp, row: Mapping[str, Value]) -> Value:
        if isinstance(node.op, ast.Not):
            truth = self._truth(node.operand, row)
            return None if truth is None else not truth
        value = self._value(node.operand, row)
        return self._guarded(node, lambda: arithmetic("-" if isinstance(node.op, ast.USub) else "+", 0, value))

    def _compare(self, node: ast.Compare, row: Mapping[str, Value]) -> bool | None:
        unknown = False
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            truth = self._one(node, left, operator, right, row)
            if truth is False:
                return False
            unknown |= truth is None
            left = right
        return None if unknown else True

    def _one(
        self, node: ast.Compare, left: ast.expr, operator: ast.cmpop, right: ast.expr, row: Mapping[str, Value]
    ) -> bool | None:
        value = self._value(left, row)
        if isinstance(operator, ast.Is | ast.IsNot):
            absent = value is None and self._value(right, row) is None
            return absent == isinstance(operator, ast.Is)
        if not isinstance(operator, ast.In | ast.NotIn):
            other = self._value(right, row)
            return self._guarded(node, lambda: compared(_COMPARISONS[type(operator)], value, other))
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            held: Value | list[Value] = [self._value(item, row) for item in right.elts]
        else:
            held = self._value(right, row)
        found = self._guarded(node, lambda: contained(value, held))
        return found if found is None or isinstance(operator, ast.In) else not found

    def _guarded(self, node: ast.AST, work: Callable[[], T]) -> T:
        """What `work` gives; a TypeError of `values` becomes a sentence that names the place."""
        try:
            return work()
        except TypeError as error:
            raise ExpressionError(self.text, f"{error} in `{self._words(node)}`.") from error


def _without_backticks(text: str) -> tuple[str, dict[str, str]]:
    """The text with a placeholder for each name in backticks, and what the placeholders stand for."""
    pieces: list[str] = []
    names: dict[str, str] = {}
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        end = text.find("`", at + 1) if char == "`" and not quote else -1
        if end > at:
            placeholder = f"_quoted_{len(names)}_"
            names[placeholder] = text[at + 1 : end]
            pieces.append(placeholder)
            at = end + 1
            continue
        escaped = char == "\\" and bool(quote)
        pieces.append(text[at : at + 2] if escaped else char)
        if not escaped and char in "'\"":
            quote = "" if quote == char else quote or char
        at += 2 if escaped else 1
    return "".join(pieces), names


def _advice(text: str, error: BaseException) -> str:
    if isinstance(error, RecursionError | MemoryError):
        return "It is nested too deep."
    bare = text.replace("==", "").replace("<=", "").replace(">=", "").replace("!=", "")
    if "=" in bare:
        return "Two equal signs compare: lora.r == 8."
    return "Text stands in quotes, and a name that is no Python name in backticks: `val.rewards/margins.final` > 0."
