"""Features as text: what stands in it, checked, and its canonical form."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qraft_quant.features.operators import ALIASES, INPUTS, OPERATORS, Operator, domain_error

# A feature is one line of thought; what is longer or deeper is a mistake or an attack.
LENGTH_MAX: Final = 1_000
DEPTH_MAX: Final = 40
_INFIX: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Gt: ">", ast.Lt: "<",
}  # fmt: skip
_BINDS: Final = {">": 1, "<": 1, "+": 2, "-": 2, "*": 3, "/": 3}
_TIGHTEST: Final = 9


class ExpressionError(ValueError):
    """An expression that is none; the text says what was expected, what came and where."""


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """An input, an alias, or a parameter of a formula."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operator over series, with its parameters. Infix operators are named by their sign."""

    operator: str
    series: tuple[Expression, ...]
    parameters: tuple[float, ...] = ()


Expression = Number | Name | Call


def parse(
    text: str, *, names: frozenset[str] = frozenset(INPUTS), numbers: Mapping[str, float] | None = None
) -> Expression:
    """
    Return what the text says; constants are worked out.

    Args:
        names: series that may be named, beside the aliases.
        numbers: what names stand for that are parameters of a formula.

    Raises:
        ExpressionError: if it is no expression over these names and the known operators.
    """
    if len(text) > LENGTH_MAX:
        raise ExpressionError(f"expected at most {LENGTH_MAX} characters, received {len(text)}: split the feature")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)  # such as `1if`, which Python takes for two words
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError(f"expected an expression such as `log(close) - mean(log(close), 48)`: {error}") from error
    return _Reader(text, names, dict(numbers or {})).read(tree, 0)


def canonical(expression: Expression) -> str:
    """Return the one way to write an expression: single blanks, no needless brackets, constants worked out."""
    return _written(expression)[0]


def children(expression: Expression) -> tuple[Expression, ...]:
    """Return the series that an operator is applied to."""
    return expression.series if isinstance(expression, Call) else ()


@dataclass(frozen=True, slots=True)
class _Reader:
    text: str
    names: frozenset[str]
    numbers: Mapping[str, float]

    def read(self, node: ast.expr, depth: int) -> Expression:
        if depth > DEPTH_MAX:
            raise self.error(node, f"expected at most {DEPTH_MAX} levels", "more", "split the feature")
        if isinstance(node, ast.Constant):
            return Number(self.number(node))
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return _folded(Call("-", (Number(0.0), self.read(node.operand, depth + 1))))
        if isinstance(node, ast.BinOp) and type(node.op) in _INFIX:
            pair = self.read(node.left, depth + 1), self.read(node.right, depth + 1)
            return _folded(Call(_INFIX[type(node.op)], pair))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _INFIX:
            pair = self.read(node.left, depth + 1), self.read(node.comparators[0], depth + 1)
            return Call(_INFIX[type(node.ops[0])], pair)
        if isinstance(node, ast.Call):
            return self.call(node, depth)
        raise self.error(node, "expected +, -, *, /, <, > and calls of operators", "other syntax", "rewrite it")

    def number(self, node: ast.Constant) -> float:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float) or not math.isfinite(node.value):
            raise self.error(node, "expected a finite number", repr(node.value), "write it in digits")
        return float(node.value)

    def name(self, node: ast.Name) -> Expression:
        if node.id in self.numbers:
            return Number(self.numbers[node.id])
        if node.id not in self.names and node.id not in ALIASES:
            known = ", ".join(sorted({*self.names, *ALIASES}))
            raise self.error(node, f"expected a series out of {known}", node.id, "correct the name")
        return Name(node.id)

    def call(self, node: ast.Call, depth: int) -> Expression:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        operator = OPERATORS.get(name)
        if operator is None:
            known = ", ".join(name for name in OPERATORS if name.isidentifier())
            raise self.error(node, f"expected an operator out of {known}", name, "correct the name")
        n_series, n = len(operator.series), len(operator.series) + len(operator.parameters)
        if node.keywords or len(node.args) != n:
            usage = f"{name}({', '.join((*operator.series, *operator.parameters))})"
            came = f"{len(node.args)} and {len(node.keywords)} named ones" if node.keywords else str(len(node.args))
            raise self.error(node, f"expected {n} arguments, {usage}", came, "give them in this order, without names")
        series = tuple(self.read(argument, depth + 1) for argument in node.args[:n_series])
        parameters = tuple(self.parameter(argument, operator, depth) for argument in node.args[n_series:])
        wrong = domain_error(operator, parameters)
        if wrong:
            raise ExpressionError(f"{wrong}, in `{self.text}`: choose a value of the domain")
        return _folded(Call(name, series, parameters))

    def parameter(self, node: ast.expr, operator: Operator, depth: int) -> float:
        value = self.read(node, depth + 1)
        if not isinstance(value, Number):
            expected = f"expected numbers for {', '.join(operator.parameters)} of {operator.name}"
            raise self.error(node, expected, canonical(value), "parameters are constants")
        return value.value

    def error(self, node: ast.expr, expected: str, received: str, remedy: str) -> ExpressionError:
        where = f"at column {node.col_offset + 1} of `{self.text}`"
        return ExpressionError(f"{expected}, received {received} {where}: {remedy}")


def _folded(call: Call) -> Expression:
    """Work out arithmetic of constants: exact operations only, the same on every machine."""
    values = [part.value for part in call.series if isinstance(part, Number)]
    if len(values) != len(call.series) or call.operator not in ("+", "-", "*", "/", "sqrt"):
        return call
    if call.operator == "sqrt":
        return Number(math.sqrt(max(values[0], 0.0)))
    x, y = values
    if call.operator == "/":
        return Number(x / y if y != 0.0 else 0.0)
    return Number(x + y if call.operator == "+" else x - y if call.operator == "-" else x * y)


def _written(expression: Expression) -> tuple[str, int]:
    """Return the text and how tightly it binds."""
    if isinstance(expression, Number):
        value = expression.value
        text = str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
        return text, _TIGHTEST if value >= 0 else 0
    if isinstance(expression, Name):
        return expression.name, _TIGHTEST
    name, series = expression.operator, expression.series
    if name not in _BINDS:
        numbers = (_written(Number(value))[0] for value in expression.parameters)
        return f"{name}({', '.join((*(canonical(part) for part in series), *numbers))})", _TIGHTEST
    binds = _BINDS[name]
    (left, left_binds), (right, right_binds) = (_written(part) for part in series)
    left = f"({left})" if left_binds < binds or (binds == 1 and left_binds == 1) else left
    right = f"({right})" if right_binds <= binds else right
    return f"{left} {name} {right}", binds
