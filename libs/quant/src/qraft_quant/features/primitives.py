"""How each operator that is no formula becomes instructions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from qraft_quant.features import windows
from qraft_quant.features.graph import Graph, Value
from qraft_quant.features.opcodes import Op

Series = tuple[Value, ...]
Parameters = tuple[float, ...]
Build = Callable[[Graph, Series, Parameters], Value]
_DAY_S: Final = 86_400
_WEEK_S: Final = 7 * _DAY_S
_EPOCH_IN_WEEK_S: Final = 3 * _DAY_S  # 1970-01-01 was a Thursday; weeks begin on Monday


def scaled(graph: Graph, x: Value, factor: float, term: float = 0.0) -> Value:
    """Return factor · x + term."""
    return graph.apply(Op.AFFINE, x, constants=(factor, term))


def _plain(op: Op) -> Build:
    return lambda graph, series, parameters: graph.apply(op, *series, constants=parameters)


def _add(graph: Graph, series: Series, _: Parameters) -> Value:
    x, y = series
    for value, other in ((x, y), (y, x)):
        constant = graph.constant_of(other)
        if constant is not None:
            return scaled(graph, value, 1.0, constant)
    return graph.apply(Op.ADD, x, y)


def _subtract(graph: Graph, series: Series, _: Parameters) -> Value:
    x, y = series
    left, right = graph.constant_of(x), graph.constant_of(y)
    if right is not None:
        return scaled(graph, x, 1.0, -right)
    return scaled(graph, y, -1.0, left) if left is not None else graph.apply(Op.SUBTRACT, x, y)


def _multiply(graph: Graph, series: Series, _: Parameters) -> Value:
    x, y = series
    for value, other in ((x, y), (y, x)):
        constant = graph.constant_of(other)
        if constant is not None:
            return scaled(graph, value, constant)
    return graph.apply(Op.MULTIPLY, x, y)


def _divide(graph: Graph, series: Series, _: Parameters) -> Value:
    x, y = series
    constant = graph.constant_of(y)
    if constant is not None:
        return scaled(graph, x, 1.0 / constant if constant != 0.0 else 0.0)
    return graph.apply(Op.DIVIDE, x, y)


def _variance(graph: Graph, x: Value, n: int) -> Value:
    return scaled(graph, windows.squares(graph, x, n), 1.0 / n)


def _std(graph: Graph, series: Series, parameters: Parameters) -> Value:
    return graph.apply(Op.SQRT, _variance(graph, series[0], int(parameters[0])))


def _cov(graph: Graph, series: Series, parameters: Parameters) -> Value:
    (x, y), n = series, int(parameters[0])
    return scaled(graph, windows.products(graph, x, y, n), 1.0 / n)


def _corr(graph: Graph, series: Series, parameters: Parameters) -> Value:
    (x, y), n = series, int(parameters[0])
    spread = graph.apply(Op.MULTIPLY, windows.squares(graph, x, n), windows.squares(graph, y, n))
    ratio = graph.apply(Op.DIVIDE, windows.products(graph, x, y, n), graph.apply(Op.SQRT, spread))
    return graph.apply(Op.CLIP, ratio, constants=(-1.0, 1.0))


def _beta(graph: Graph, series: Series, parameters: Parameters) -> Value:
    (x, y), n = series, int(parameters[0])
    return graph.apply(Op.DIVIDE, windows.products(graph, x, y, n), windows.squares(graph, y, n))


def _time_squares(n: int) -> float:
    return n * (n * n - 1) / 12


def _slope(graph: Graph, series: Series, parameters: Parameters) -> Value:
    n = int(parameters[0])
    return scaled(graph, windows.trend(graph, series[0], n), 1.0 / _time_squares(n))


def _fit(graph: Graph, series: Series, parameters: Parameters) -> Value:
    x, n = series[0], int(parameters[0])
    trend = windows.trend(graph, x, n)
    explained = scaled(graph, graph.apply(Op.MULTIPLY, trend, trend), 1.0 / _time_squares(n))
    return graph.apply(Op.CLIP, graph.apply(Op.DIVIDE, explained, windows.squares(graph, x, n)), constants=(0.0, 1.0))


def _skew(graph: Graph, series: Series, parameters: Parameters) -> Value:
    n = int(parameters[0])
    squares, cubes, _ = windows.powers(graph, series[0], n)
    spread = graph.apply(Op.MULTIPLY, squares, graph.apply(Op.SQRT, squares))
    return scaled(graph, graph.apply(Op.DIVIDE, cubes, spread), math.sqrt(n))


def _kurt(graph: Graph, series: Series, parameters: Parameters) -> Value:
    n = int(parameters[0])
    squares, _, fourths = windows.powers(graph, series[0], n)
    ratio = graph.apply(Op.DIVIDE, fourths, graph.apply(Op.MULTIPLY, squares, squares))
    return scaled(graph, ratio, float(n), -3.0)


def _frac_diff(graph: Graph, series: Series, parameters: Parameters) -> Value:
    d, n = parameters[0], int(parameters[1])
    weights = [1.0]
    for k in range(1, n):
        weights.append(-weights[-1] * (d - k + 1) / k)
    return windows.tapped(graph, series[0], tuple(weights))


def _window(build: Callable[[Graph, Value, int], Value]) -> Build:
    return lambda graph, series, parameters: build(graph, series[0], int(parameters[0]))


def _wave(period_s: int, *, is_cosine: bool, offset_s: int = 0) -> Build:
    return lambda graph, _series, _: graph.wave(period_s=period_s, is_cosine=is_cosine, offset_s=offset_s)


BUILDERS: Final[dict[str, Build]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    ">": _plain(Op.ABOVE),
    "<": lambda graph, series, _: graph.apply(Op.ABOVE, series[1], series[0]),
    "log": _plain(Op.LOG),
    "abs": _plain(Op.ABS),
    "sign": _plain(Op.SIGN),
    "sqrt": _plain(Op.SQRT),
    "maximum": _plain(Op.LARGER),
    "minimum": _plain(Op.SMALLER),
    "clip": _plain(Op.CLIP),
    "where": _plain(Op.WHERE),
    "missing": _plain(Op.MISSING),
    "fill": _plain(Op.FILL),
    "lag": lambda _, series, parameters: series[0].before(int(parameters[0])),
    "mean": _window(windows.mean),
    "sum": _window(lambda graph, x, n: scaled(graph, windows.mean(graph, x, n), float(n))),
    "var": _window(_variance),
    "std": _std,
    "ema": lambda graph, series, parameters: windows.weighted(
        graph, series[0], int(parameters[1]), decay=1.0 - 2.0 / (parameters[0] + 1.0)
    ),
    "max": _window(lambda graph, x, n: windows.extreme(graph, x, n, is_maximum=True)),
    "min": _window(lambda graph, x, n: windows.extreme(graph, x, n, is_maximum=False)),
    "argmax": _window(lambda graph, x, n: windows.place(graph, x, n, is_maximum=True)),
    "argmin": _window(lambda graph, x, n: windows.place(graph, x, n, is_maximum=False)),
    "rank": _window(lambda graph, x, n: graph.rank(x, n)),
    "quantile": lambda graph, series, parameters: graph.quantile(series[0], int(parameters[0]), parameters[1]),
    "cov": _cov,
    "corr": _corr,
    "beta": _beta,
    "slope": _slope,
    "fit": _fit,
    "skew": _skew,
    "kurt": _kurt,
    "frac_diff": _frac_diff,
    "cross_rank": _plain(Op.CROSS_RANK),
    "cross_zscore": _plain(Op.CROSS_ZSCORE),
    "cross_demean": _plain(Op.CROSS_DEMEAN),
    "hour_sin": _wave(_DAY_S, is_cosine=False),
    "hour_cos": _wave(_DAY_S, is_cosine=True),
    "week_sin": _wave(_WEEK_S, is_cosine=False, offset_s=_EPOCH_IN_WEEK_S),
    "week_cos": _wave(_WEEK_S, is_cosine=True, offset_s=_EPOCH_IN_WEEK_S),
}
