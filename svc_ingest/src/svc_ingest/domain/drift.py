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
# What has a level. Volumes do not: they change by a factor of a hundred within a day.
DRIFT_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "bars": ("close",),
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
    event_us: Int64Array, values: FloatArray, *, stored_us: Int64Array, stored: FloatArray
) -> tuple[int, float] | None:
    """
    Return the first row of the block whose median stands too far from that of the block before, and their ratio.

    Row t is judged by rows up to the end of its block. NaN and zero are left out of the medians. None where no block
    differs, or none is near enough to be compared.

    Args:
        event_us, values: (n,) one symbol's new rows by time.
        stored_us, stored: (m,) its newest stored rows before them, perhaps none.
    """
    level, level_us = _level(stored), int(stored_us[-1]) if stored_us.size else 0
    for start in range(0, values.size, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        found = _level(values[block])
        near = int(event_us[start]) - level_us <= APART_MAX_US
        if found and level and near and max(found / level, level / found) > RATIO_MAX:
            return start, found / level
        if found:
            level, level_us = found, int(event_us[block][-1])
    return None


def _level(values: FloatArray) -> float:
    """Return the median size of the values that are not zero; 0 = unknown, too few to say."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.median(sizes)) if sizes.size >= BLOCK_ROWS // 5 else 0.0
