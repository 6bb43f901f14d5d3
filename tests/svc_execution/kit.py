"""Bars and targets for tests, and the service's account on a real journal without a process around it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from qraft_bus.port import Delivery
from qraft_contracts import headers
from qraft_contracts.arrow_schemas import BARS_SCHEMA, bars_id
from qraft_contracts.codec import encode
from qraft_contracts.origin import Origin
from qraft_contracts.targets import HorizonShare, Limits, ScoreSummary, Target, Targets, targets_id
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch, encode_bars

T0 = datetime(2025, 6, 1, tzinfo=UTC)
STEP = timedelta(minutes=5)
LIMITS = Limits(
    score_min={"1h": 0.6},
    confidence_min={"1h": 0.55},
    risk_budget=0.6,
    gross_max=1.0,
    symbol_cap=0.20,
    bucket_caps={"trend": 0.55},
    correlation_max=0.9,
)
SYMBOLS = ("AAA", "BBB", "CCC")


def at(i: int) -> datetime:
    """Return the end of bar i."""
    return T0 + i * STEP


def make_bar(
    i: int,
    closes: Mapping[str, float],
    *,
    market: str = "crypto",
    opens: Mapping[str, float] | None = None,
    volumes: Mapping[str, float] | None = None,
    origin: Origin = Origin.REPLAY,
    revision: int = 0,
) -> BarBatch:
    """Return bar i; opens equal closes and volumes are 1e6 unless given."""
    symbols = tuple(sorted(closes))
    close = np.array([closes[s] for s in symbols], np.float64)
    open_ = np.array([(opens or {}).get(s, closes[s]) for s in symbols], np.float64)
    volume = np.array([(volumes or {}).get(s, 1e6) for s in symbols], np.float64)
    return BarBatch(
        market=market,
        interval="5m",
        closed_at=at(i),
        known_at=at(i),
        revision=revision,
        origin=origin,
        symbols=symbols,
        open=open_,
        high=np.maximum(open_, close),
        low=np.minimum(open_, close),
        close=close,
        volume=volume,
    )


def make_targets(i: int, weights: Mapping[str, float], *, market: str = "crypto", **changes: Any) -> Targets:
    """Return the targets of bar i; changes replace fields."""
    policy = changes.pop("policy", "short")
    fields: dict[str, Any] = {
        "market": market,
        "interval": "5m",
        "as_of": at(i),
        "origin": Origin.REPLAY,
        "profile": "standard",
        "targets": tuple(
            Target(s, w, policy, (HorizonShare("1h", "trend", w, 0.7, 0.001, 0.6, "m0"),)) for s, w in weights.items()
        ),
        "limits": LIMITS,
        "scores": (ScoreSummary("1h", 3, 1, 0.1, 0.2, 0.5, 0.7, 0.6, -0.1),),
    }
    return Targets(**(fields | changes))


def walk(n_bars: int, *, seed: int, symbols: Sequence[str] = SYMBOLS) -> list[dict[str, float]]:
    """Return closes of a seeded random walk."""
    rng = np.random.default_rng(seed)
    paths = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.004, (n_bars, len(symbols))), axis=0))
    return [dict(zip(symbols, map(float, row), strict=True)) for row in paths]


def sha256(data: bytes) -> str:
    """Return the hash of a message, as the journal keeps it."""
    return hashlib.sha256(data).hexdigest()


def deliver_bar(bar: BarBatch, *, seq: int = 1, hops: str | None = None) -> Delivery:
    """Return a bars message as received."""
    message_id = bars_id(bar.interval, bar.market, format_instant(bar.closed_at), bar.revision)
    return _delivery("bars.5m", "BARS", encode_bars(bar), BARS_SCHEMA, message_id, bar.closed_at, bar.origin, seq, hops)


def deliver_targets(targets: Targets, *, seq: int = 1, hops: str | None = None) -> Delivery:
    """Return a targets message as received."""
    message_id = targets_id(targets.market, format_instant(targets.as_of))
    data = encode(targets)
    return _delivery(
        "targets.paper", "TARGETS", data, Targets.SCHEMA, message_id, targets.as_of, targets.origin, seq, hops
    )


def _delivery(
    subject: str,
    stream: str,
    data: bytes,
    schema: str,
    message_id: str,
    as_of: datetime,
    origin: Origin,
    seq: int,
    hops: str | None,
) -> Delivery:
    found = {
        headers.MESSAGE_ID: message_id,
        headers.SCHEMA: schema,
        headers.AS_OF: format_instant(as_of),
        headers.ORIGIN: origin.value,
        headers.LINEAGE: "test",
        headers.TRACEPARENT: "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        **({headers.HOPS: hops} if hops else {}),
    }
    return Delivery(subject, data, found, stream, seq, 1, as_of)
