"""The engine's features by pandas: every operator as the library's own vectorized call, shared parts computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from qraft_quant.features import OPERATORS, FeatureSet
from qraft_quant.features.expression import Call, Expression, Name, Number, canonical, parse
from qraft_quant.features.operators import ALIASES

Frame = pd.DataFrame | float


def _skew(x: pd.DataFrame, n: float) -> pd.DataFrame:
    # pandas corrects for small samples; the engine's moments are the population's.
    return x.rolling(int(n)).skew() * (n - 2) / np.sqrt(n * (n - 1))


def _kurt(x: pd.DataFrame, n: float) -> pd.DataFrame:
    return (x.rolling(int(n)).kurt() * (n - 2) * (n - 3) / (n - 1) - 6) / (n + 1)


def _with_time(x: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(np.broadcast_to(np.arange(len(x), dtype=float)[:, None], x.shape), columns=x.columns)


def _slope(x: pd.DataFrame, n: float) -> pd.DataFrame:
    return x.rolling(int(n)).cov(_with_time(x), pairwise=False, ddof=0) / ((n * n - 1) / 12)


def _frac_diff(x: pd.DataFrame, d: float, n: float) -> pd.DataFrame:
    weight, total = 1.0, x
    for k in range(1, int(n)):
        weight *= -(d - k + 1) / k
        total = total + weight * x.shift(k)
    return total


def _rank(x: pd.DataFrame, n: float) -> pd.DataFrame:
    return (x.rolling(int(n)).rank() - 0.5) / n


# Without argmax and argmin, for which pandas has no vectorized call, and the calendar.
_CALLS: dict[str, Callable[..., Frame]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    ">": lambda x, y: (x > y).astype(float),
    "<": lambda x, y: (x < y).astype(float),
    "log": np.log,
    "abs": np.abs,
    "sign": np.sign,
    "sqrt": lambda x: np.sqrt(x.clip(lower=0)),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "clip": lambda x, low, high: x.clip(low, high),
    "lag": lambda x, k: x.shift(int(k)),
    "mean": lambda x, n: x.rolling(int(n)).mean(),
    "sum": lambda x, n: x.rolling(int(n)).sum(),
    "var": lambda x, n: x.rolling(int(n)).var(ddof=0),
    "std": lambda x, n: x.rolling(int(n)).std(ddof=0),
    "ema": lambda x, span, _: x.ewm(span=span).mean(),
    "max": lambda x, n: x.rolling(int(n)).max(),
    "min": lambda x, n: x.rolling(int(n)).min(),
    "rank": _rank,
    "quantile": lambda x, n, q: x.rolling(int(n)).quantile(q),
    "cov": lambda x, y, n: x.rolling(int(n)).cov(y, pairwise=False, ddof=0),
    "corr": lambda x, y, n: x.rolling(int(n)).corr(y, pairwise=False),
    "slope": _slope,
    "fit": lambda x, n: x.rolling(int(n)).corr(_with_time(x), pairwise=False) ** 2,
    "skew": _skew,
    "kurt": _kurt,
    "frac_diff": _frac_diff,
    "cross_rank": lambda x: x.rank(axis=1).sub(0.5).div(x.notna().sum(axis=1), axis=0),
    "cross_zscore": lambda x: x.sub(x.mean(axis=1), axis=0).div(x.std(axis=1, ddof=0), axis=0),
    "cross_demean": lambda x: x.sub(x.mean(axis=1), axis=0),
}


def expanded(expression: Expression, scope: Mapping[str, Expression] | None = None) -> Expression:
    """Return an expression over inputs and primitives alone: formulas and aliases put in."""
    if isinstance(expression, Number):
        return expression
    if isinstance(expression, Name):
        if scope and expression.name in scope:
            return scope[expression.name]
        alias = ALIASES.get(expression.name)
        return expanded(parse(alias.formula)) if alias else expression
    series = tuple(expanded(part, scope) for part in expression.series)
    operator = OPERATORS[expression.operator]
    if not operator.is_formula:
        return Call(expression.operator, series, expression.parameters)
    numbers = dict(zip(operator.parameters, expression.parameters, strict=True))
    formula = parse(operator.formula, names=frozenset(operator.series), numbers=numbers)
    return expanded(formula, dict(zip(operator.series, series, strict=True)))


def operators_in(expression: Expression) -> set[str]:
    """Return the primitives of an expanded expression."""
    if not isinstance(expression, Call):
        return set()
    return {expression.operator}.union(*(operators_in(part) for part in expression.series))


def is_possible(expression: Expression) -> bool:
    """Return whether pandas has a vectorized call for everything in it."""
    return operators_in(expanded(expression)) <= set(_CALLS)


def pandas_features(bars: Mapping[str, npt.NDArray[np.float64]], features: FeatureSet) -> dict[str, pd.DataFrame]:
    """Return each feature as one (n_bars, n_symbols) frame."""
    inputs = {name: pd.DataFrame(values) for name, values in bars.items()}
    known: dict[str, Frame] = {}

    def value(expression: Expression) -> Frame:
        if isinstance(expression, Number):
            return expression.value
        if isinstance(expression, Name):
            return inputs[expression.name]
        name = canonical(expression)
        if name not in known:
            series = [value(part) for part in expression.series]
            known[name] = _CALLS[expression.operator](*series, *expression.parameters)
        return known[name]

    return {feature.name: pd.DataFrame(value(expanded(feature.parsed))) for feature in features.features}
