"""A change of unit inside a series: per cent after fractions, cents after dollars."""

from __future__ import annotations

from typing import Final

import numpy as np

from svc_ingest.domain.raw import FloatArray, Int64Array

# Rows whose median stands for a level: one bad row changes nothing, a new unit is seen after a block.
BLOCK_ROWS: Final = 50
# The largest change of a block's median against the one before in all data sets at hand is 14.2 (funding); a change of
# unit is 100 and more.
RATIO_MAX: Final = 50.0
# Two blocks further apart say nothing about each other: bitcoin was 380 times cheaper ten years ago.
APART_MAX_US: Final = 45 * 86_400 * 1_000_000
# Volumes change by a factor of a hundred within a day; dollars for bitcoins are some ten thousand.
VOLUME_RATIO_MAX: Final = 2_000.0
# Dollars over amount is a price: contracts of ten coins change it tenfold, no market does that from block to block.
IMPLIED: Final[dict[str, tuple[str, str]]] = {"open_interest": ("open_interest_usd", "open_interest")}
IMPLIED_RATIO_MAX: Final = 5.0
# What has a level.
DRIFT_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "bars": ("close",),
    "taker_volume": ("buy_volume", "sell_volume"),
    "quote_bars": ("bid_close", "ask_close"),
    "mark_price": ("close",),
    "funding": ("funding_rate",),
    "open_interest": ("open_interest", "open_interest_usd"),
    "long_short": ("account_ratio", "long_account_frac", "position_ratio"),
    "basis": ("spot_price", "future_price"),
    "onchain": ("value",),
    "trades": ("price",),
}


def find_unit_drift(
    event_us: Int64Array, values: FloatArray, *, stored_us: Int64Array, stored: FloatArray, ratio_max: float = RATIO_MAX
) -> tuple[int, float] | None:
    """
    Return the first row of the block whose median stands too far from that of the block before, and their ratio.

    Row t is judged by rows up to the end of its block. NaN and zero are left out of the medians. None where no block
    differs, or none is near enough to be compared.

    Args:
        event_us, values: (n,) one symbol's new rows by time.
        stored_us, stored: (m,) its newest stored rows before them, perhaps none.
    """
    level, level_us = level_of(stored), int(stored_us[-1]) if stored_us.size else 0
    for start in range(0, values.size, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        found = level_of(values[block])
        near = int(event_us[start]) - level_us <= APART_MAX_US
        if found and level and near and max(found / level, level / found) > ratio_max:
            return start, found / level
        if found:
            level, level_us = found, int(event_us[block][-1])
    return None


def limit_of(kind: str) -> float:
    """Return how many times larger or smaller a field's level may become from one block to the next."""
    return VOLUME_RATIO_MAX if kind == "taker_volume" else RATIO_MAX


def level_of(values: FloatArray) -> float:
    """Return the median size of the values that are not zero; 0 = unknown, too few to say."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.median(sizes)) if sizes.size >= BLOCK_ROWS // 5 else 0.0
