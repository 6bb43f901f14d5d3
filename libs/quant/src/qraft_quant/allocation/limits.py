"""The limits of an allocation, as one value, and the two profiles that ship."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class AllocationLimits:
    """
    Every number that shapes targets. Weights are fractions of equity.

    profile: the name of the set; anything but `standard` is a demonstration.
    score_min, confidence_min: by horizon; a row passes at the threshold.
    edge_min: the edge must be above it (0 in both profiles).
    score_full: by horizon, > 0; at this score a share has its full size, below it a proportional one.
    size_min: in [0, 1]; the least part of the full size that a passing share has (0 in both profiles).
    horizon_shares: by horizon; the part of the symbol cap that one horizon may use. They sum to at most 1.
    symbol_cap, bucket_caps, gross_max: largest sum of absolute shares of a symbol (and of a cluster of correlated
    symbols), of a bucket, of all. A bucket without a cap is refused.
    risk_budget: largest ex-ante volatility of the portfolio, fraction a year.
    correlation_max: same-side symbols correlated above it share one symbol cap.

    Raises:
        ValueError: if a number is out of its range or a horizon lacks one of its numbers.
    """

    profile: str
    score_min: Mapping[str, float]
    confidence_min: Mapping[str, float]
    edge_min: float
    score_full: Mapping[str, float]
    size_min: float
    horizon_shares: Mapping[str, float]
    symbol_cap: float
    bucket_caps: Mapping[str, float]
    gross_max: float
    risk_budget: float
    correlation_max: float

    def __post_init__(self) -> None:
        horizons = set(self.score_min)
        for name in ("confidence_min", "score_full", "horizon_shares"):
            if set(getattr(self, name)) != horizons:
                raise ValueError(f"expected {name} for {sorted(horizons)}, received {sorted(getattr(self, name))}")
        thresholds = (*self.score_min.values(), self.edge_min)
        if not all(map(math.isfinite, thresholds)):
            raise ValueError(f"expected finite thresholds, received {thresholds}")
        _require_range("confidence_min", self.confidence_min.values(), low=0.0, high=1.0)
        _require_range("size_min", [self.size_min], low=0.0, high=1.0)
        _require_range("horizon_shares", self.horizon_shares.values(), low=0.0, high=1.0)
        _require_range("the sum of horizon_shares", [sum(self.horizon_shares.values())], low=0.0, high=1.0 + 1e-9)
        _require_range("correlation_max", [self.correlation_max], low=0.0, high=1.0)
        _require_range("symbol_cap", [self.symbol_cap], low=0.0, high=1.0)
        _require_range("bucket_caps", self.bucket_caps.values(), low=0.0, high=math.inf)
        _require_range("gross_max", [self.gross_max], low=0.0, high=math.inf)
        _require_range("risk_budget", [self.risk_budget], low=0.0, high=math.inf)
        if not all(0.0 < score < math.inf for score in self.score_full.values()):
            raise ValueError(f"expected score_full above 0, received {dict(self.score_full)}")


def _require_range(name: str, values: Iterable[float], *, low: float, high: float) -> None:
    received = list(values)
    if not all(low <= value <= high for value in received):
        raise ValueError(f"expected {name} in [{low}, {high}], received {received}")


_EQUAL_SHARES: Final = {"1h": 0.25, "4h": 0.25, "1d": 0.25, "7d": 0.25}
_BUCKET_CAPS: Final = {"trend": 0.55, "event": 0.70, "mean_reversion": 0.45}

# The thresholds that the project's user fixed. Nothing changes them: another set needs another name.
STANDARD: Final = AllocationLimits(
    profile="standard",
    score_min={"1h": 0.60, "4h": 0.50, "1d": 0.35, "7d": 0.25},
    confidence_min={"1h": 0.55, "4h": 0.55, "1d": 0.50, "7d": 0.50},
    edge_min=0.0,
    score_full={"1h": 1.20, "4h": 1.00, "1d": 0.70, "7d": 0.50},
    size_min=0.0,
    horizon_shares=_EQUAL_SHARES,
    symbol_cap=0.20,
    bucket_caps=_BUCKET_CAPS,
    gross_max=1.0,
    risk_budget=0.60,
    correlation_max=0.90,
)

# A demonstration: thresholds low enough that a first model's small edges make some trades. Not evidence of anything.
# The same score has the same size as in `standard`, so what passes a low threshold is small.
DEMO: Final = replace(
    STANDARD,
    profile="demo",
    score_min={"1h": 0.02, "4h": 0.05, "1d": 0.05, "7d": 0.03},
    confidence_min={"1h": 0.50, "4h": 0.50, "1d": 0.50, "7d": 0.50},
)


def demonstration(
    *,
    score_min: Mapping[str, float],
    score_full: Mapping[str, float],
    confidence_min: Mapping[str, float],
    edge_min: float,
    size_min: float,
) -> AllocationLimits:
    """
    Return the limits `demo` with thresholds of its own; a horizon that a map does not name keeps the shipped one.

    Raises:
        ValueError: if a number is out of its range or a horizon is unknown.
    """
    return replace(
        DEMO,
        score_min={**DEMO.score_min, **score_min},
        score_full={**DEMO.score_full, **score_full},
        confidence_min={**DEMO.confidence_min, **confidence_min},
        edge_min=edge_min,
        size_min=size_min,
    )


def tightened(
    limits: AllocationLimits,
    *,
    symbol_cap: float,
    bucket_caps: Mapping[str, float],
    gross_max: float,
    risk_budget: float,
    correlation_max: float,
) -> AllocationLimits:
    """
    Return the limits with other risk limits, none of them looser; a bucket that is not named keeps its cap.

    Raises:
        ValueError: if a limit would be looser than it was, or a bucket is unknown.
    """
    asked = (
        ("symbol_cap", symbol_cap, limits.symbol_cap),
        ("gross_max", gross_max, limits.gross_max),
        ("risk_budget", risk_budget, limits.risk_budget),
        ("correlation_max", correlation_max, limits.correlation_max),
        *((f"the cap of bucket {name}", cap, limits.bucket_caps.get(name)) for name, cap in bucket_caps.items()),
    )
    for name, value, most in asked:
        if most is None:
            raise ValueError(f"expected a bucket out of {sorted(limits.bucket_caps)}, received {name}")
        if not 0.0 <= value <= most:
            raise ValueError(f"expected {name} in [0, {most}] (it may only get tighter), received {value}")
    return replace(
        limits,
        symbol_cap=symbol_cap,
        bucket_caps={**limits.bucket_caps, **bucket_caps},
        gross_max=gross_max,
        risk_budget=risk_budget,
        correlation_max=correlation_max,
    )
