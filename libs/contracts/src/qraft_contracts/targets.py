"""`targets.paper`: where to be, and which horizon asked for it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from qraft_contracts.origin import Origin


class HorizonShare(msgspec.Struct, frozen=True):
    """What one horizon contributes to a symbol's target. weight: signed fraction of equity."""

    horizon: str
    bucket: str
    weight: float
    score: float
    edge: float
    confidence: float
    model_id: str


class Target(msgspec.Struct, frozen=True):
    """
    One symbol's target. weight: signed fraction of equity, 0 = flat.

    policy: `short` or `long`, the execution policy of the horizon with the largest share.
    """

    symbol: str
    weight: float
    policy: str
    horizons: tuple[HorizonShare, ...]


class Limits(msgspec.Struct, frozen=True):
    """Every limit that shaped the targets, as it stood."""

    score_min: dict[str, float]
    confidence_min: dict[str, float]
    risk_budget: float  # largest ex-ante portfolio volatility, fraction a year
    gross_max: float  # Σ |weight|
    symbol_cap: float
    bucket_caps: dict[str, float]
    correlation_max: float


class ScoreSummary(msgspec.Struct, frozen=True):
    """Distribution of one horizon's scores, and how far the best was from the threshold (> 0 = below it)."""

    horizon: str
    n_rows: int
    n_passed: int
    score_min: float | None
    score_p50: float | None
    score_p90: float | None
    score_max: float | None
    threshold: float
    distance: float | None
    reason: str | None = None


class RefusedTarget(msgspec.Struct, frozen=True):
    """How many (symbol, horizon) pairs a rule turned away. `examples` names at most three of them."""

    reason: str
    n: int
    examples: tuple[str, ...] = ()


class Targets(msgspec.Struct, frozen=True):
    """
    All targets of one bar. A symbol that is not named has the target 0.

    Published for every bar, also when nothing passed. profile: the name of the limits set; anything but
    `standard` is a demonstration and is labelled so on every screen. hold: true = nothing could be decided (for
    example no signals at all): execution keeps its positions and trades nothing.
    """

    SCHEMA: ClassVar[str] = "targets/1"

    market: str
    interval: str
    as_of: datetime
    origin: Origin
    profile: str
    targets: tuple[Target, ...]
    limits: Limits
    scores: tuple[ScoreSummary, ...]
    refused: tuple[RefusedTarget, ...] = ()
    hold: bool = False
    reason: str | None = None


def targets_id(market: str, as_of: str) -> str:
    """Return the deterministic message id."""
    return f"targets.paper/{market}/{as_of}"
