"""
Windows as trees: what n bars hold is put together from windows of 1, 2, 4, … bars, of which the older half is read from
the past.

So a window of n bars costs about 2 log2(n) instructions, always the same ones in the same order: its bits depend on
its n bars alone, however long the history before them, and no bar costs more than another.
"""

from __future__ import annotations

from collections.abc import Callable

from qraft_quant.features.graph import Graph, Value
from qraft_quant.features.opcodes import Op

Part = tuple[Value, ...]
# (newer part, older part, bars of the newer, bars of the older) -> both together
Join = Callable[[Part, Part, int, int], Part]


def fold(n_bars: int, one_bar: Part, join: Join) -> Part:
    """Return what the last n_bars hold, n_bars >= 1; the smallest part is the newest."""
    whole: Part = ()
    part, size, n_whole = one_bar, 1, 0
    while True:
        if n_bars & size:
            older = _before(part, n_whole)
            whole = join(whole, older, n_whole, size) if n_whole else part
            n_whole += size
        if n_whole == n_bars:
            return whole
        part, size = join(part, _before(part, size), size, size), 2 * size


def mean(graph: Graph, x: Value, n: int) -> Value:
    """Return the mean of n bars."""
    return fold(n, (x,), _mean_join(graph))[0]


def squares(graph: Graph, x: Value, n: int) -> Value:
    """Return the sum of squared deviations from the mean of n bars."""
    join_mean = _mean_join(graph)

    def join(a: Part, b: Part, p: int, q: int) -> Part:
        both = graph.apply(Op.JOIN_SQUARES, a[1], b[1], a[0], b[0], constants=(p * q / (p + q),))
        return *join_mean(a[:1], b[:1], p, q), both

    return fold(n, (x, graph.constant(0.0)), join)[1]


def products(graph: Graph, x: Value, y: Value, n: int) -> Value:
    """Return the sum of products of deviations of n bars."""
    join_mean = _mean_join(graph)

    def join(a: Part, b: Part, p: int, q: int) -> Part:
        both = graph.apply(Op.JOIN_PRODUCTS, a[2], b[2], a[0], b[0], a[1], b[1], constants=(p * q / (p + q),))
        return *join_mean(a[:1], b[:1], p, q), *join_mean(a[1:2], b[1:2], p, q), both

    return fold(n, (x, y, graph.constant(0.0)), join)[2]


def powers(graph: Graph, x: Value, n: int) -> Part:
    """Return the sums of squared, cubed and fourth powers of deviations of n bars."""
    join_mean = _mean_join(graph)

    def join(a: Part, b: Part, p: int, q: int) -> Part:
        (ma, sa, ca, fa), (mb, sb, cb, fb), both = a, b, p + q
        s = graph.apply(Op.JOIN_SQUARES, sa, sb, ma, mb, constants=(p * q / both,))
        cubic = (p * q * (p - q) / both**2, 3 * p / both, 3 * q / both)
        c = graph.apply(Op.JOIN_CUBES, ca, cb, sa, sb, ma, mb, constants=cubic)
        quartic = (
            p * q * (p * p - p * q + q * q) / both**3, 6 * p * p / both**2, 6 * q * q / both**2, 4 * p / both,
            4 * q / both,
        )  # fmt: skip
        f = graph.apply(Op.JOIN_FOURTHS, fa, fb, ca, cb, sa, sb, ma, mb, constants=quartic)
        return *join_mean((ma,), (mb,), p, q), s, c, f

    zero = graph.constant(0.0)
    return fold(n, (x, zero, zero, zero), join)[1:]


def trend(graph: Graph, x: Value, n: int) -> Value:
    """Return the sum of products of deviations of x and of time in bars."""
    join_mean = _mean_join(graph)

    def join(a: Part, b: Part, p: int, q: int) -> Part:
        # The older part's mean time is (p + q) / 2 bars before the newer one's.
        both = graph.apply(Op.JOIN_TREND, a[1], b[1], a[0], b[0], constants=(-p * q / 2,))
        return *join_mean(a[:1], b[:1], p, q), both

    return fold(n, (x, graph.constant(0.0)), join)[1]


def extreme(graph: Graph, x: Value, n: int, *, is_maximum: bool) -> Value:
    """Return the largest or smallest value of n bars."""
    op = Op.LARGER if is_maximum else Op.SMALLER
    return fold(n, (x,), lambda a, b, _p, _q: (graph.apply(op, a[0], b[0]),))[0]


def place(graph: Graph, x: Value, n: int, *, is_maximum: bool) -> Value:
    """Return how many bars ago the largest or smallest of n values was, the newest of equal ones."""
    op, direction = (Op.LARGER, 1.0) if is_maximum else (Op.SMALLER, -1.0)

    def join(a: Part, b: Part, p: int, _q: int) -> Part:
        where = graph.apply(Op.JOIN_PLACE, a[1], b[1], a[0], b[0], constants=(float(p), direction))
        return graph.apply(op, a[0], b[0]), where

    return fold(n, (x, graph.constant(0.0)), join)[1]


def weighted(graph: Graph, x: Value, n: int, *, decay: float) -> Value:
    """Return the mean of n bars with weights 1, decay, decay², …, the newest first."""

    def join(a: Part, b: Part, p: int, _q: int) -> Part:
        return (graph.apply(Op.JOIN_WEIGHTED, a[0], b[0], constants=(_power(decay, p),)),)

    total = fold(n, (x,), join)[0]
    return graph.apply(Op.AFFINE, total, constants=((1.0 - decay) / (1.0 - _power(decay, n)), 0.0))


def tapped(graph: Graph, x: Value, weights: tuple[float, ...]) -> Value:
    """Return x[0] + w1 x[-1] + w2 x[-2] + …; the first weight is 1."""
    total = x
    for lag, weight in enumerate(weights[1:], start=1):
        total = graph.apply(Op.JOIN_WEIGHTED, total, x.before(lag), constants=(weight,))
    return total


def _mean_join(graph: Graph) -> Join:
    def join(a: Part, b: Part, p: int, q: int) -> Part:
        return (graph.apply(Op.JOIN_MEAN, a[0], b[0], constants=(q / (p + q),)),)

    return join


def _before(part: Part, n_bars: int) -> Part:
    return tuple(value.before(n_bars) for value in part)


def _power(x: float, n: int) -> float:
    """Return x ** n by squaring: the C library's pow differs in the last bit between machines."""
    result = 1.0
    while n:
        if n & 1:
            result *= x
        x, n = x * x, n >> 1
    return result
