"""Features as data: a name, a family and an expression each; sets of them with a signature."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

from qraft_quant.features.expression import Expression, ExpressionError, canonical, parse
from qraft_quant.features.graph import Graph
from qraft_quant.features.lowering import inputs_of, lower, operators_of
from qraft_quant.features.memory import Tables
from qraft_quant.features.operators import BAR_INPUTS, INPUTS, MADE_BY

DTYPE: Final = "float32"
# Raised when numbers change although no operator does.
ENGINE_VERSION: Final = 2
# A message and a model hold so many columns; more is a mistake in a template.
N_FEATURES_MAX: Final = 4_096
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UNIT_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400}
_INTERVAL: Final = re.compile(r"([1-9][0-9]{0,3})([mhd])")
DEFAULT_INTERVAL: Final = "5m"


@dataclass(frozen=True)
class FeatureSpec:
    """
    One feature. version: raised when its meaning changes under the same expression.

    Raises:
        ValueError: if the name or the expression is none; the message says what to change.
    """

    name: str
    family: str
    expression: str
    version: int = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not _NAME.fullmatch(self.family):
            raise ValueError(
                f"expected a name and a family like `{_NAME.pattern}`, received {self.name}, {self.family}"
            )
        try:
            used = self.inputs
        except ExpressionError as error:
            raise ExpressionError(f"{self.name}: {error}") from error
        if not used and not self.formula.startswith(("hour_", "week_")):
            raise ExpressionError(f"{self.name}: expected an expression over an input, received {self.expression}")

    @cached_property
    def parsed(self) -> Expression:
        """Return the expression, read."""
        return parse(self.expression)

    @cached_property
    def formula(self) -> str:
        """Return the expression in its canonical form."""
        return canonical(self.parsed)

    @cached_property
    def inputs(self) -> frozenset[str]:
        """Return the names of the inputs that are read."""
        return inputs_of(self.parsed)

    @cached_property
    def window(self) -> int:
        """Return how many bars are read, the newest included: from then on the value is final."""
        graph = Graph(INPUTS, interval_seconds(DEFAULT_INTERVAL))  # windows do not depend on it
        value = lower(graph, self.parsed)
        return value.lag + graph.window(value)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Return what the signature covers: the expression with every operator in it, versions, makers of inputs."""
        operators = operators_of(self.parsed)
        made_by = {name: MADE_BY[name] for name in sorted(self.inputs) if name in MADE_BY}
        return ({"made_by": made_by} if made_by else {}) | {
            "name": self.name,
            "family": self.family,
            "formula": self.formula,
            "window": self.window,
            "version": self.version,
            "operators": [operators[name].content for name in sorted(operators)],
        }

    @property
    def signature(self) -> str:
        """Return the SHA-256 that names this feature."""
        return _sha256({"engine": ENGINE_VERSION, "dtype": DTYPE, "feature": self.content})


@dataclass(frozen=True)
class FeatureSet:
    """
    Features in the order of the matrix.

    Raises:
        ValueError: if it is empty, too large, or a name comes twice.
    """

    name: str
    features: tuple[FeatureSpec, ...]

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if not 0 < len(names) <= N_FEATURES_MAX or len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"expected 1 to {N_FEATURES_MAX} distinct features, received {len(names)}, twice: {twice}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Return the inputs that are read, the five of a bar first."""
        used = frozenset().union(*(feature.inputs for feature in self.features))
        return tuple(name for name in INPUTS if name in BAR_INPUTS or name in used)

    @cached_property
    def warm_up_bars(self) -> int:
        """Return after how many bars every feature of the next one is final."""
        return max(feature.window for feature in self.features) - 1

    def signature(self, interval: str) -> str:
        """
        Return the SHA-256 that names this set on bars of one interval, such as `5m`.

        It covers names, order, dtype, formulas, operators, windows and versions: whatever changes the numbers or their
        meaning. A model is refused where its signature differs.
        """
        return _signature(self, interval)

    def program(self, interval: str) -> Tables:
        """Return the set as the machine runs it on bars of one interval."""
        return _program(self, interval_seconds(interval))


def interval_seconds(interval: str) -> int:
    """
    Return the seconds of an interval such as `5m`, `1h` or `1d`.

    Raises:
        ValueError: if it is none.
    """
    found = _INTERVAL.fullmatch(interval)
    if found is None:
        raise ValueError(f"expected an interval such as 5m, 1h or 1d, received {interval!r}")
    return int(found[1]) * _UNIT_SECONDS[found[2]]


@cache
def _signature(features: FeatureSet, interval: str) -> str:
    content = [feature.content for feature in features.features]
    return _sha256({"engine": ENGINE_VERSION, "interval": interval, "dtype": DTYPE, "features": content})


@cache
def _program(features: FeatureSet, interval_s: int) -> Tables:
    graph = Graph(features.inputs, interval_s)
    return graph.tables([lower(graph, feature.parsed) for feature in features.features])


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
