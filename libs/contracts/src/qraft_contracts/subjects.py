"""Every subject of the bus, and the horizons and intervals that parametrize them."""

from __future__ import annotations

from typing import Final

HORIZONS: Final = ("1h", "4h", "1d", "7d")
HORIZON_SECONDS: Final[dict[str, int]] = {"1h": 3_600, "4h": 14_400, "1d": 86_400, "7d": 604_800}
INTERVAL_SECONDS: Final[dict[str, int]] = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "1h": 3_600,
    "4h": 14_400,
    "8h": 28_800,
    "1d": 86_400,
}

FEATURES_READY: Final = "features.ready"
TARGETS_PAPER: Final = "targets.paper"
ORDERS_PAPER: Final = "orders.paper"
FILLS_PAPER: Final = "fills.paper"
MODELS_CANDIDATE: Final = "models.candidate"
MODELS_ACTIVATED: Final = "models.activated"
MODELS_ROLLED_BACK: Final = "models.rolled_back"
MODELS_REFUSED: Final = "models.refused"
DEAD_LETTER_PREFIX: Final = "deadletter"


def bars_subject(interval: str) -> str:
    """Return the subject of closed bars of one interval, such as `bars.5m`."""
    if interval not in INTERVAL_SECONDS:
        raise ValueError(f"expected an interval out of {sorted(INTERVAL_SECONDS)}, received {interval!r}")
    return f"bars.{interval}"


def signals_subject(horizon: str) -> str:
    """Return the subject of one horizon's signals, such as `signals.4h`."""
    if horizon not in HORIZON_SECONDS:
        raise ValueError(f"expected a horizon out of {list(HORIZONS)}, received {horizon!r}")
    return f"signals.{horizon}"


def dead_letter_subject(stream: str) -> str:
    """Return the subject on which refused messages of one stream are kept, such as `deadletter.bars`."""
    return f"{DEAD_LETTER_PREFIX}.{stream.lower()}"
