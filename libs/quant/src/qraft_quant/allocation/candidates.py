"""Which (symbol, horizon) pairs may be traded, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant.allocation.limits import AllocationLimits
from qraft_quant.allocation.sizing import YEAR_S

FloatArray = npt.NDArray[np.float64]

# Keeps the score finite at a volatility of almost zero.
_VOLATILITY_FLOOR: Final = 1e-6
_N_EXAMPLES_MAX: Final = 3

# In the order in which they are checked; a row has the first that applies.
_RULES: Final = (
    "nan_input",
    "bad_cost",
    "bad_volatility",
    "bad_confidence",
    "unknown_bucket",
    "no_direction",
    "edge_below_min",
    "score_below_min",
    "confidence_below_min",
)
_PASSED: Final = len(_RULES)
_N_UNUSABLE_RULES: Final = _RULES.index("unknown_bucket")


@dataclass(frozen=True, slots=True)
class HorizonRows:
    """
    One horizon's outlook. Arrays: (n_symbols,).

    horizon_s: seconds. cost: round trip, fraction of notional. expected_return: fraction over the horizon before
    costs, signed. confidence: probability that the return has that sign. volatility: fraction over the horizon, > 0.

    Raises:
        ValueError: if shapes differ or a symbol stands twice.
    """

    horizon: str
    horizon_s: float
    bucket: str
    cost: float
    symbols: tuple[str, ...]
    expected_return: FloatArray
    confidence: FloatArray
    volatility: FloatArray

    def __post_init__(self) -> None:
        n = len(self.symbols)
        shapes = {self.expected_return.shape, self.confidence.shape, self.volatility.shape}
        if shapes != {(n,)}:
            raise ValueError(f"expected arrays of shape ({n},) for horizon {self.horizon}, received {shapes}")
        if len(set(self.symbols)) != n:
            raise ValueError(f"expected distinct symbols for horizon {self.horizon}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How many (symbol, horizon) pairs a rule turned away; examples such as `BTCUSDT/1h`, at most three."""

    reason: str
    n: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoreStatistics:
    """
    Distribution of one horizon's scores over the rows that have one (no NaN input); None when no row has.

    distance: threshold minus the best score, > 0 = nothing reached it.
    """

    horizon: str
    n_rows: int
    n_passed: int
    score_min: float | None
    score_p50: float | None
    score_p90: float | None
    score_max: float | None
    threshold: float
    distance: float | None


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """Rows with side, edge, score, volatility of a year, and the rule that turned it away. (n_symbols,)"""

    rows: HorizonRows
    side: FloatArray
    edge: FloatArray
    score: FloatArray
    annual_volatility: FloatArray
    rule: npt.NDArray[np.int64]

    @property
    def passed(self) -> npt.NDArray[np.bool_]:
        """Return which rows may be traded."""
        return np.asarray(self.rule == _PASSED)


def edge_and_score(
    expected_return: FloatArray, *, volatility: FloatArray, cost: float
) -> tuple[FloatArray, FloatArray]:
    """Return edge = |expected_return| - cost and score = edge / volatility, elementwise; NaN stays NaN."""
    edge = np.abs(expected_return) - cost
    return edge, edge / np.maximum(volatility, _VOLATILITY_FLOOR)


def judge(rows: HorizonRows, limits: AllocationLimits) -> JudgedRows:
    """
    Return each row's side = sign(expected_return), edge = |expected_return| - cost, score = edge / volatility.

    A row with a NaN or infinite input, or a volatility that is infinite over a year, never passes; its score is NaN.

    Raises:
        ValueError: if the limits do not know the horizon.
    """
    if rows.horizon not in limits.score_min:
        raise ValueError(f"expected a horizon out of {sorted(limits.score_min)}, received {rows.horizon!r}")
    with np.errstate(over="ignore", invalid="ignore"):
        side = np.sign(rows.expected_return)
        annual_volatility = rows.volatility * np.sqrt(YEAR_S / rows.horizon_s)
        edge, score = edge_and_score(rows.expected_return, volatility=rows.volatility, cost=rows.cost)
        is_finite = np.isfinite(score) & np.isfinite(rows.confidence) & np.isfinite(annual_volatility)
        # One line a rule, in the order of _RULES. Written as "not (good)" where NaN could slip through.
        turned_away = np.stack(
            [
                ~is_finite,
                np.full(side.shape, not rows.cost >= 0.0),
                ~(rows.volatility > 0.0),
                ~((rows.confidence >= 0.0) & (rows.confidence <= 1.0)),
                np.full(side.shape, rows.bucket not in limits.bucket_caps),
                side == 0.0,
                ~(edge > limits.edge_min),
                ~(score >= limits.score_min[rows.horizon]),
                ~(rows.confidence >= limits.confidence_min[rows.horizon]),
            ]
        )
    assert len(turned_away) == _PASSED, len(turned_away)
    rule = np.where(turned_away.any(axis=0), turned_away.argmax(axis=0), _PASSED)
    score = np.where(rule < _N_UNUSABLE_RULES, np.nan, score)
    return JudgedRows(rows, side, edge, score, annual_volatility, rule)


def score_statistics(judged: JudgedRows, limits: AllocationLimits) -> ScoreStatistics:
    """Return the distribution of the horizon's scores and the distance of the best to the threshold."""
    threshold = limits.score_min[judged.rows.horizon]
    known = np.sort(judged.score[np.isfinite(judged.score)])
    counts = (judged.rows.horizon, len(judged.rows.symbols), int(judged.passed.sum()))
    if known.size == 0:
        return ScoreStatistics(*counts, None, None, None, None, threshold, None)
    low, best = float(known[0]), float(known[-1])
    return ScoreStatistics(*counts, low, quantile(known, 0.5), quantile(known, 0.9), best, threshold, threshold - best)


def quantile(ascending: FloatArray, frac: float) -> float:
    """Return the quantile of sorted values, linear between neighbors: np.quantile at a 20th of its cost."""
    place = frac * (ascending.size - 1)
    below = int(place)
    above = min(below + 1, ascending.size - 1)
    return float(ascending[below] + (place - below) * (ascending[above] - ascending[below]))


def refusals(judged: list[JudgedRows], later: list[tuple[str, str]]) -> tuple[Refusal, ...]:
    """Return the refusals by reason, sorted; `later` holds (reason, pair) of rules that came after the thresholds."""
    pairs: dict[str, list[str]] = {}
    for one in judged:
        for index in np.flatnonzero(~one.passed):
            pair = f"{one.rows.symbols[index]}/{one.rows.horizon}"
            pairs.setdefault(_RULES[one.rule[index]], []).append(pair)
    for reason, pair in later:
        pairs.setdefault(reason, []).append(pair)
    return tuple(
        Refusal(reason, len(named), tuple(sorted(named)[:_N_EXAMPLES_MAX])) for reason, named in sorted(pairs.items())
    )
