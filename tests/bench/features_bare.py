"""
The same features as straight compiled loops over a symbol: what one would write by hand for exactly this set.

The source is generated: a statement for every distinct part of the features, in order, inside `for t in range(n)`,
25 features a loop.
Sums are running sums (add the newest, drop the oldest), extremes scan only when the old one leaves, medians keep a
sorted window, exponential means run for ever. Nothing is checked: no missing bars, no anchors, no live use. So it is
the speed that there is to have without an engine, at the price of one compilation a set.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numba import njit
from tests.bench.features_pandas import expanded, operators_in

from qraft_quant.features import BAR_INPUTS, FeatureSet, FeatureSpec
from qraft_quant.features.expression import Call, Expression, Name, Number, canonical

FloatArray = npt.NDArray[np.float64]
_CROSS = ("cross_rank", "cross_zscore", "cross_demean")
_INFIX = "+-*"
# All 150 in one loop take three minutes to compile.
FEATURES_A_LOOP = 25


@njit(nogil=True, error_model="numpy", inline="never")
def extreme(h, t, n, old, is_max):  # type: ignore[no-untyped-def]
    """Return the extreme of the last n values of h; old is that of the bar before."""
    x = h[t]
    if t >= n and h[t - n] == old:
        best = x
        for i in range(max(0, t - n + 1), t):
            y = h[i]
            if (y > best) if is_max else (y < best):
                best = y
        return best
    if t == 0:
        return x
    return (x if x > old else old) if is_max else (x if x < old else old)


@njit(nogil=True, error_model="numpy", inline="never")
def replace(window, gone, new, n):  # type: ignore[no-untyped-def]
    """Take one value out of a sorted window and put another in."""
    at = np.searchsorted(window, gone)
    if new > gone:
        while at + 1 < n and window[at + 1] < new:
            window[at] = window[at + 1]
            at += 1
    else:
        while at > 0 and window[at - 1] > new:
            window[at] = window[at - 1]
            at -= 1
    window[at] = new


@njit(nogil=True, error_model="numpy", inline="never")
def rank_of(h, t, n):  # type: ignore[no-untyped-def]
    """Return the rank of the newest of n values, ties average."""
    count, x = 0.0, h[t]
    for i in range(max(0, t - n + 1), t + 1):
        count += 1.0 if h[i] < x else (0.5 if h[i] == x else 0.0)
    return count / n


@njit(nogil=True, error_model="numpy")
def across(out, source, target, how):  # type: ignore[no-untyped-def]
    """Fill a column that compares symbols from another column, bar by bar."""
    n_bars, n_symbols, _ = out.shape
    for t in range(n_bars):
        mean = 0.0
        for s in range(n_symbols):
            mean += source[t, s]
        mean /= n_symbols
        squares = 0.0
        for s in range(n_symbols):
            squares += (source[t, s] - mean) ** 2
        deviation = math.sqrt(squares / n_symbols)
        for s in range(n_symbols):
            x = source[t, s]
            if how == 0:
                n_less = 0
                for other in range(n_symbols):
                    n_less += source[t, other] < x
                out[t, s, target] = (n_less + 0.5) / n_symbols
            else:
                out[t, s, target] = (x - mean) / (deviation if how == 1 else 1.0)


@dataclass(slots=True)
class _Writer:
    known: dict[str, str] = field(default_factory=dict)
    head: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)

    def value(self, e: Expression) -> str:
        if isinstance(e, Number):
            return repr(e.value)
        if isinstance(e, Name):
            return f"{e.name}[t, s]" if e.name in BAR_INPUTS else repr(math.nan)
        name = canonical(e)
        if name not in self.known:
            self.known[name] = self._written(e)
        return self.known[name]

    def _new(self, text: str) -> str:
        name = f"v{len(self.known)}_{len(self.body)}"
        self.body.append(f"{name} = {text}")
        return name

    def _past(self, e: Expression) -> str:
        """Return the array that keeps a part for later bars."""
        key = f"past {canonical(e)}"
        if key not in self.known:
            value, name = self.value(e), f"h{len(self.known)}"
            self.head.append(f"{name} = np.zeros(n)")
            self.body.append(f"{name}[t] = {value}")
            self.known[key] = name
        return self.known[key]

    def _sum(self, e: Expression, n: int) -> str:
        key = f"sum {n} {canonical(e)}"
        if key not in self.known:
            past, name = self._past(e), f"s{len(self.known)}"
            self.head.append(f"{name} = 0.0")
            self.body.append(f"{name} += {past}[t] - ({past}[t - {n}] if t >= {n} else 0.0)")
            self.known[key] = name
        return self.known[key]

    def _mean(self, e: Expression, n: int) -> str:
        return f"({self._sum(e, n)} * {1.0 / n!r})"

    def _cov(self, x: Expression, y: Expression, n: int) -> str:
        return f"({self._mean(Call('*', (x, y)), n)} - {self._mean(x, n)} * {self._mean(y, n)})"

    def _var(self, x: Expression, n: int) -> str:
        return f"max({self._cov(x, x, n)}, 0.0)"

    def _written(self, e: Call) -> str:
        op, series, parameters = e.operator, e.series, e.parameters
        if op in _CROSS:
            raise AssertionError(op)
        if op == "lag":
            past, k = self._past(series[0]), int(parameters[0])
            return self._new(f"{past}[t - {k}] if t >= {k} else 0.0")
        if op in ("mean", "sum", "var", "std", "cov", "corr", "skew", "kurt", "slope", "fit"):
            return self._new(self._window(op, series, int(parameters[0])))
        if op in ("max", "min"):
            past, name, n = self._past(series[0]), f"m{len(self.known)}", int(parameters[0])
            self.head.append(f"{name} = 0.0")
            self.body.append(f"{name} = extreme({past}, t, {n}, {name}, {op == 'max'})")
            return name
        if op == "ema":
            name, decay = f"e{len(self.known)}", 1.0 - 2.0 / (parameters[0] + 1.0)
            self.head.append(f"{name} = 0.0")
            x = self.value(series[0])
            self.body.append(f"{name} = {x} if t == 0 else {name} * {decay!r} + {x} * {1.0 - decay!r}")
            return name
        if op == "rank":
            return self._new(f"rank_of({self._past(series[0])}, t, {int(parameters[0])})")
        if op == "quantile":
            return self._quantile(series[0], int(parameters[0]), parameters[1])
        if op == "frac_diff":
            past, weight, terms = self._past(series[0]), 1.0, []
            for k in range(int(parameters[1])):
                weight *= -(parameters[0] - k + 1) / k if k else 1.0
                terms.append(f"{weight!r} * {past}[t - {k}]")
            return self._new(f"({' + '.join(terms)}) if t >= {len(terms) - 1} else 0.0")
        return self._new(self._plain(op, [self.value(part) for part in series], parameters))

    def _plain(self, op: str, v: list[str], parameters: tuple[float, ...]) -> str:
        if op in _INFIX:
            return f"{v[0]} {op} {v[1]}"
        return {
            "/": lambda: f"{v[0]} / {v[1]} if {v[1]} != 0.0 else 0.0",
            ">": lambda: f"1.0 if {v[0]} > {v[1]} else 0.0",
            "<": lambda: f"1.0 if {v[0]} < {v[1]} else 0.0",
            "log": lambda: f"math.log({v[0]})",
            "abs": lambda: f"abs({v[0]})",
            "sign": lambda: f"1.0 if {v[0]} > 0.0 else (-1.0 if {v[0]} < 0.0 else 0.0)",
            "sqrt": lambda: f"math.sqrt(max({v[0]}, 0.0))",
            "maximum": lambda: f"max({v[0]}, {v[1]})",
            "minimum": lambda: f"min({v[0]}, {v[1]})",
            "clip": lambda: f"min(max({v[0]}, {parameters[0]!r}), {parameters[1]!r})",
        }[op]()

    def _window(self, op: str, series: tuple[Expression, ...], n: int) -> str:
        x = series[0]
        if op == "mean":
            return self._mean(x, n)
        if op == "sum":
            return self._sum(x, n)
        if op in ("var", "std"):
            return self._var(x, n) if op == "var" else f"math.sqrt({self._var(x, n)})"
        if op == "cov":
            return self._cov(x, series[1], n)
        if op == "corr":
            below = self._new(f"math.sqrt({self._var(x, n)} * {self._var(series[1], n)})")
            return f"{self._cov(x, series[1], n)} / {below} if {below} > 0.0 else 0.0"
        if op in ("slope", "fit"):
            return self._trend(x, n, is_slope=op == "slope")
        square = Call("*", (x, x))
        m, m2, m3 = (self._mean(p, n) for p in (x, square, Call("*", (square, x))))
        variance = self._new(f"max({m2} - {m} * {m}, 0.0)")
        if op == "skew":
            third = f"{m3} - 3.0 * {m} * {m2} + 2.0 * {m} ** 3"
            return f"({third}) / ({variance} * math.sqrt({variance})) if {variance} > 0.0 else 0.0"
        m4 = self._mean(Call("*", (square, square)), n)
        fourth = f"{m4} - 4.0 * {m} * {m3} + 6.0 * {m} * {m} * {m2} - 3.0 * {m} ** 4"
        return f"({fourth}) / ({variance} * {variance}) - 3.0 if {variance} > 0.0 else -3.0"

    def _trend(self, x: Expression, n: int, *, is_slope: bool) -> str:
        past, total, name = self._past(x), self._sum(x, n), f"w{len(self.known)}_{len(self.body)}"
        self.head.append(f"{name} = 0.0")
        # Every value of the window grows one bar older; the oldest leaves with age n.
        self.body.append(f"{name} += {total} - {past}[t] - ({n - 1} * {past}[t - {n}] if t >= {n} else 0.0)")
        slope = self._new(f"-({name} - {(n - 1) / 2!r} * {total}) * {12.0 / (n * (n * n - 1))!r}")
        if is_slope:
            return slope
        variance = self._var(x, n)
        return f"{slope} * {slope} * {(n * n - 1) / 12.0!r} / {variance} if {variance} > 0.0 else 0.0"

    def _quantile(self, x: Expression, n: int, q: float) -> str:
        key = f"sorted {n} {canonical(x)}"
        if key not in self.known:
            past, name = self._past(x), f"q{len(self.known)}"
            self.head.append(f"{name} = np.full({n}, np.inf)")
            gone = f"{past}[t - {n}] if t >= {n} else np.inf"
            self.body.append(f"replace({name}, {gone}, {past}[t], {n})")
            self.known[key] = name
        window, height = self.known[key], q * (n - 1)
        low = int(height)
        high = min(low + 1, n - 1)
        return self._new(f"{window}[{low}] + ({window}[{high}] - {window}[{low}]) * {height - low!r}")


def _source(features: Sequence[FeatureSpec], first: int) -> tuple[str, list[tuple[int, int, str]]]:
    """Return the source of the loop, and what is left to compare across symbols: place, column, operator."""
    writer = _Writer()
    later: list[tuple[int, int, str]] = []
    for f, feature in enumerate(features, start=first):
        e = expanded(feature.parsed)
        if isinstance(e, Call) and e.operator in _CROSS:
            writer.body.append(f"crossed[t, s, {len(later)}] = {writer.value(e.series[0])}")
            later.append((len(later), f, e.operator))
        else:
            assert not operators_in(e) & set(_CROSS), feature.formula
            writer.body.append(f"out[t, s, {f}] = {writer.value(e)}")
    lines = ["def loop(open, high, low, close, volume, out, crossed, first, last):", " n = close.shape[0]",
             " for s in range(first, last):", *(f"  {line}" for line in writer.head), "  for t in range(n):",
             *(f"   {line}" for line in writer.body)]  # fmt: skip
    return "\n".join(lines), later


def _compiled(source: str) -> Callable[..., None]:
    scope = {"np": np, "math": math, "extreme": extreme, "replace": replace, "rank_of": rank_of}
    exec(compile(source, "bare loop", "exec"), scope)
    loop: Callable[..., None] = njit(nogil=True, error_model="numpy")(scope["loop"])
    return loop


def bare_loop(features: FeatureSet) -> tuple[Callable[[Mapping[str, FloatArray], int], npt.NDArray[np.float32]], float]:
    """Return a function (bars, threads) -> features, and the seconds that its compilation took."""
    loops = []
    for first in range(0, len(features.features), FEATURES_A_LOOP):
        source, later = _source(features.features[first : first + FEATURES_A_LOOP], first)
        loops.append((_compiled(source), later))

    def compute(bars: Mapping[str, FloatArray], n_threads: int) -> npt.NDArray[np.float32]:
        n_bars, n_symbols = bars["close"].shape
        out = np.empty((n_bars, n_symbols, len(features.features)), np.float32)
        arrays = [bars[name] for name in BAR_INPUTS]
        edges = np.linspace(0, n_symbols, n_threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(n_threads) as pool:
            for loop, later in loops:
                crossed = np.empty((n_bars, n_symbols, len(later)))
                parts = [pool.submit(loop, *arrays, out, crossed, *edge) for edge in pairwise(edges)]
                for part in parts:
                    part.result()
                for k, column, operator in later:
                    across(out, crossed[:, :, k], column, _CROSS.index(operator))
        return out

    started = time.perf_counter()
    compute({name: np.full((3, 1), 1.0) for name in BAR_INPUTS}, 1)
    return compute, time.perf_counter() - started
