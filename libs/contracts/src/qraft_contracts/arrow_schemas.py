"""
Columns of the Arrow payloads, as data: this package imports no Arrow. qraft_frames turns them into codecs.

Payload metadata (Arrow schema metadata, all text) makes a payload readable without its headers.
"""

from __future__ import annotations

from typing import Final

from qraft_contracts.kinds import STATE_INPUTS

BARS_SCHEMA: Final = "bars/1"
BARS_COLUMNS: Final = (
    ("symbol", "utf8"),
    ("open", "float64"),
    ("high", "float64"),
    ("low", "float64"),
    ("close", "float64"),
    ("volume", "float64"),  # base asset
)
# May follow, in this order, any of them absent: the newest value known at the bar's end (NaN = none).
BARS_STATE_COLUMNS: Final = tuple((name, "float64") for name in STATE_INPUTS)
BARS_METADATA: Final = ("market", "interval", "closed_at", "known_at", "revision", "origin")

FEATURES_SCHEMA: Final = "features/1"
# One fixed-size list instead of a column a feature: 1 buffer to encode and decode instead of 44, and the matrix
# is usable without a copy. The names stand in the metadata.
FEATURES_COLUMNS: Final = (("symbol", "utf8"), ("values", "fixed_size_list<float32>"))
FEATURES_METADATA: Final = ("market", "interval", "as_of", "origin", "signature", "names")


def bars_id(interval: str, market: str, closed_at: str, revision: int) -> str:
    """Return the deterministic message id, such as `bars.5m/crypto/2025-06-01T00:05:00Z/r0`."""
    return f"bars.{interval}/{market}/{closed_at}/r{revision}"


def features_id(market: str, as_of: str) -> str:
    """Return the deterministic message id."""
    return f"features.ready/{market}/{as_of}"
