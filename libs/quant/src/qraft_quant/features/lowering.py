"""From expressions to instructions, and what an expression is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from qraft_quant.features.expression import Call, Expression, Name, Number, children, parse
from qraft_quant.features.graph import Graph, Value
from qraft_quant.features.operators import ALIASES, BAR_INPUTS, INPUTS, OPERATORS, Operator
from qraft_quant.features.primitives import BUILDERS


def lower(graph: Graph, expression: Expression, scope: Mapping[str, Value] | None = None) -> Value:
    """Return the value of an expression; scope: what the names of a formula's series stand for."""
    if isinstance(expression, Number):
        return graph.constant(expression.value)
    if isinstance(expression, Name):
        return _named(graph, expression.name, scope or {})
    series = tuple(lower(graph, part, scope) for part in expression.series)
    operator = OPERATORS[expression.operator]
    if not operator.is_formula:
        return BUILDERS[operator.name](graph, series, expression.parameters)
    formula = _formula(operator, expression.parameters)
    return lower(graph, formula, dict(zip(operator.series, series, strict=True)))


def operators_of(expression: Expression) -> dict[str, Operator]:
    """Return every operator and alias that an expression is made of, those inside formulas too."""
    found: dict[str, Operator] = {}
    for operator, parameters in _used(expression):
        found[operator.name] = operator
        if operator.is_formula:
            found |= operators_of(_formula(operator, parameters))
    return found


def inputs_of(expression: Expression) -> frozenset[str]:
    """Return the inputs that an expression reads."""
    if isinstance(expression, Name):
        if expression.name in ALIASES:
            return inputs_of(_formula(ALIASES[expression.name], ()))
        return frozenset({expression.name})
    return frozenset().union(*(inputs_of(part) for part in children(expression)))


def _named(graph: Graph, name: str, scope: Mapping[str, Value]) -> Value:
    if name in scope:
        return scope[name]
    if name in ALIASES:
        return lower(graph, _formula(ALIASES[name], ()))
    return graph.load(name, is_bar=name in BAR_INPUTS)


def _used(expression: Expression) -> Iterator[tuple[Operator, tuple[float, ...]]]:
    if isinstance(expression, Name) and expression.name in ALIASES:
        yield ALIASES[expression.name], ()
    if isinstance(expression, Call):
        yield OPERATORS[expression.operator], expression.parameters
    for part in children(expression):
        yield from _used(part)


@cache
def _formula(operator: Operator, parameters: tuple[float, ...]) -> Expression:
    """Return an operator's formula with its parameters put in."""
    numbers = dict(zip(operator.parameters, parameters, strict=True))
    names = frozenset(operator.series) if operator.series else frozenset(INPUTS)
    return parse(operator.formula, names=names, numbers=numbers)
