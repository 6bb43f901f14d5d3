"""Trades and liquidations by interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qraft_quant.align import bucket_ends, bucket_sums, lag
from qraft_quant.align.times import FloatArray, IntArray, MicrosArray


@dataclass(frozen=True, slots=True)
class TradeFlow:
    """(n_ends,) each: counts, and quote currency. ends: of the intervals that the trades cover whole."""

    ends: MicrosArray
    n_trades: FloatArray
    n_taker_buys: FloatArray
    notional: FloatArray
    taker_buy_notional: FloatArray


@dataclass(frozen=True, slots=True)
class LiquidationFlow:
    """ends: (n_ends,). The others: (n_ends, n_symbols), counts and USD."""

    ends: MicrosArray
    n_liquidations: FloatArray
    liquidation_usd: FloatArray


def trade_flow(
    known_us: MicrosArray,
    price: FloatArray,
    qty: FloatArray,
    is_buy: npt.NDArray[np.bool_],
    ids: IntArray | None,
    *,
    step_us: int,
) -> TradeFlow:
    """
    Return what was traded in each interval (end - step, end], by the time at which it became known.

    An interval counts only if it is covered: a trade stands at or before its start, one after its end, and no id
    between them is missing, as a venue numbers its trades without a break. Without such numbers nothing proves that
    trades are whole, and nothing is returned.

    Args:
        known_us, price, qty, is_buy: (n,) in any order. ids: (n,) the venue's running numbers, None = it has none.
    """
    ends = _covered(known_us, ids, step_us) if ids is not None and known_us.size else np.empty(0, np.int64)
    order = np.argsort(known_us, kind="stable") if ids is None else np.lexsort((ids, known_us))
    notional, bought = (price * qty)[order], is_buy[order].astype(np.float64)
    columns = np.stack([bought, notional, notional * bought], axis=1)
    made = bucket_sums(known_us[order], columns, ends=ends, bucket_us=step_us)
    n_buys, total, buys = made.sums[:, 0, :].T
    return TradeFlow(ends, made.n_items[:, 0].astype(np.float64), n_buys, total, buys)


def liquidation_flow(
    known_us: MicrosArray, size_usd: FloatArray, symbol: IntArray, *,
    n_symbols: int, step_us: int, until_us: int | None = None,
) -> LiquidationFlow:  # fmt: skip
    """
    Return what became known of liquidations in each interval (end - step, end] in which there was any.

    In an interval without a liquidation of any symbol nothing tells a quiet market from a dead feed: it has no row. In
    the others the symbols without one have 0.

    Args:
        known_us: (n,), ascending. symbol: (n,), numbers in [0, n_symbols).
        until_us: when the feed was last heard; an interval that was not over before may still grow and is left out.
            None = nothing can follow.
    """
    ends = np.unique(bucket_ends(known_us, step_us))
    ends = ends if until_us is None else ends[ends < until_us]
    made = bucket_sums(known_us, size_usd[:, None], ends=ends, bucket_us=step_us, key=symbol, n_keys=n_symbols)
    return LiquidationFlow(ends, made.n_items.astype(np.float64), made.sums[:, :, 0])


def _covered(known_us: MicrosArray, ids: IntArray, step_us: int) -> MicrosArray:
    """Return the ends of the intervals within the stretches of ids without a break."""
    order = np.argsort(ids, kind="stable")
    known, numbers = known_us[order], ids[order].astype(np.float64)  # ids below 2^53 are exact
    starts = np.flatnonzero(~(numbers - lag(numbers, 1) == 1.0))
    stops = np.append(starts[1:], numbers.size)
    found = [np.empty(0, np.int64)]
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        stretch = known[start:stop]
        first, last = -(-int(stretch[0]) // step_us) + 1, -(-int(stretch.max()) // step_us)
        found.append(np.arange(first, last, dtype=np.int64) * step_us)
    return np.unique(np.concatenate(found))
