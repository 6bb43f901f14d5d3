"""`signals.<horizon>`: what the active model expects of each symbol over one horizon."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from qraft_contracts.origin import Origin


class SignalRow(msgspec.Struct, frozen=True):
    """
    One symbol's outlook.

    expected_return: fraction over the horizon before costs, signed. confidence: calibrated probability in [0, 1]
    that the return has the sign of expected_return. volatility: fraction over the horizon, > 0.
    """

    symbol: str
    expected_return: float
    confidence: float
    volatility: float


class RefusedRow(msgspec.Struct, frozen=True):
    """One symbol for which no signal was made, and the reason code."""

    symbol: str
    reason: str


class Signals(msgspec.Struct, frozen=True):
    """
    One horizon's signals for all symbols of one bar.

    Published for every bar and horizon, also when empty, so that the allocator can tell "nothing to say" from
    "not yet said". cost: round-trip cost as a fraction of notional. bucket: trend, event or mean_reversion.
    """

    SCHEMA: ClassVar[str] = "signals/1"

    market: str
    interval: str
    horizon: str
    as_of: datetime
    origin: Origin
    model_id: str | None
    feature_signature: str
    bucket: str
    cost: float
    rows: tuple[SignalRow, ...]
    refused: tuple[RefusedRow, ...] = ()
    reason: str | None = None  # why there are no rows at all, such as no_active_model


def signals_id(market: str, as_of: str, horizon: str) -> str:
    """Return the deterministic message id."""
    return f"signals.{horizon}/{market}/{as_of}"
