"""Many features from one line: a pattern and the values of its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from qraft_quant.features.catalog import FeatureSpec


def family(name: str, **expressions: str) -> tuple[FeatureSpec, ...]:
    """Return the features of a family, one expression a name."""
    return tuple(FeatureSpec(feature, name, expression) for feature, expression in expressions.items())


def each(family: str, name: str, expression: str, **domains: tuple[int | str, ...]) -> Iterator[FeatureSpec]:
    """
    Yield a feature for each combination of the domains' values, the last one changing fastest.

    `each("trend", "slope_{n}", "slope(log(close), {n})", n=(12, 48))` yields slope_12 and slope_48.
    """
    for values in product(*domains.values()):
        filled = dict(zip(domains, values, strict=True))
        yield FeatureSpec(name.format(**filled), family, expression.format(**filled))
