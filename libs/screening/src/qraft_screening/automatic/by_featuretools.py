"""
featuretools' primitives, stacked two deep as its deep feature synthesis stacks them: aggregations over a window's
series, and over transforms of these.

Its own synthesis is not called: it wants an EntitySet, which keeps its schema in an accessor that pandas 3 makes anew
at every use (woodwork 0.31.0), and it works out a batch of windows at once, where a transform such as a difference
reaches from one window into the next. Here a primitive sees one window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Final

from qraft_screening.automatic.calculators import SERIES, Calculator, PackageMissing, Window, name_of

# Kurtosis and counts of crossings take a millisecond a window there; tsfresh has them for a tenth of it.
_AGGREGATIONS: Final = ("Mean", "Std", "Skew", "MaxMinDelta")
_OF_ONE: Final = ("Diff", "Absolute")
_OF_TWO: Final = ("MultiplyNumeric",)


@dataclass(frozen=True, slots=True)
class _Stack:
    """A series of a window, or a transform of some. compute: None = the series itself."""

    text: str
    series: tuple[str, ...]
    compute: Callable[..., Any] | None = None


def featuretools_calculators() -> list[Calculator]:
    """
    Return every aggregation of every series and transform.

    Raises:
        PackageMissing: if featuretools or pandas is not installed.
    """
    try:
        from featuretools import primitives
        from pandas import Series
    except ImportError as error:
        raise PackageMissing("featuretools") from error
    stacks = [_Stack(series, (series,)) for series in SERIES]
    for name in _OF_ONE:
        transform = getattr(primitives, name)()
        # Ranges and volumes have no sign to lose.
        of = SERIES[:1] if name == "Absolute" else SERIES
        stacks += [_Stack(f"{transform.name}({it})", (it,), transform.get_function()) for it in of]
    for name in _OF_TWO:
        transform = getattr(primitives, name)()
        stacks += [
            _Stack(f"{transform.name}({a}, {b})", (a, b), transform.get_function()) for a, b in combinations(SERIES, 2)
        ]
    found = []
    for name in _AGGREGATIONS:
        aggregation = getattr(primitives, name)()
        found += [
            Calculator(
                name_of("dfs", aggregation.name, it.text),
                f"featuretools.{aggregation.name}({it.text})",
                partial(_value, Series, aggregation.get_function(), it),
            )
            for it in stacks
        ]
    return found


def _value(series_of: Callable[[Any], Any], aggregate: Callable[..., Any], stack: _Stack, window: Window) -> float:
    parts = [series_of(window[name]) for name in stack.series]
    whole = parts[0] if stack.compute is None else series_of(stack.compute(*parts))
    return float(aggregate(whole))
