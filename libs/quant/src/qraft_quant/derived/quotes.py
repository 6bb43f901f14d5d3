"""Best bid and ask: their state at the end of an interval, and the order flow in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_quant.align import as_of_join, bucket_sums, lag
from qraft_quant.align.times import FloatArray, MicrosArray

# A feed of best quotes that is silent for longer may have died: what it said last is not the book any more.
SILENCE_US_MAX: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class BestQuotes:
    """(n,) each, in the order in which they became known (ascending); prices and quantities are positive."""

    known_us: MicrosArray
    bid_px: FloatArray
    bid_qty: FloatArray
    ask_px: FloatArray
    ask_qty: FloatArray


@dataclass(frozen=True, slots=True)
class QuoteStates:
    """
    (n_ends,) each, NaN = not known. spread_frac: of the mid. microprice_frac: microprice / mid - 1; the microprice
    weighs each price with the other side's quantity. queue_imbalance: in [-1, 1], positive = more is bid than asked.

    order_flow_imbalance: over (end - step, end], in mean queue sizes; positive = buying pressure.
    """

    spread_frac: FloatArray
    microprice_frac: FloatArray
    queue_imbalance: FloatArray
    order_flow_imbalance: FloatArray


def quote_states(
    quotes: BestQuotes, *, ends: MicrosArray, step_us: int, silence_us: int = SILENCE_US_MAX
) -> QuoteStates:
    """
    Return the state of the best quotes at each end, of the quotes known by then and not older than the silence allowed.

    A crossed quote (bid above ask) gives no state. An interval gives an order flow only where the feed was never silent
    for longer from before its start to its end.

    Args:
        ends: ends of intervals, strictly ascending multiples of step_us.

    Raises:
        ValueError: if times are out of order or ends are off the grid.

    Source: Stoikov (2018), The micro-price, for the weighted mid; Cont, Kukanov and Stoikov (2014), The price impact of
    order book events, eq. 4, for the order flow.
    """
    both = np.stack([quotes.bid_px, quotes.bid_qty, quotes.ask_px, quotes.ask_qty], axis=1)
    bid, bid_qty, ask, ask_qty = as_of_join(ends, quotes.known_us, both, tolerance_us=silence_us).T
    bid = np.where(bid > ask, np.nan, bid)
    mid, size = (bid + ask) / 2, bid_qty + ask_qty
    with np.errstate(invalid="ignore", divide="ignore"):
        microprice = (bid * ask_qty + ask * bid_qty) / size
        return QuoteStates(
            spread_frac=(ask - bid) / mid,
            microprice_frac=microprice / mid - 1.0,
            queue_imbalance=np.where(np.isnan(mid), np.nan, (bid_qty - ask_qty) / size),
            order_flow_imbalance=np.where(np.isnan(mid), np.nan, _order_flow(quotes, ends, step_us, silence_us)),
        )


def _order_flow(quotes: BestQuotes, ends: MicrosArray, step_us: int, silence_us: int) -> FloatArray:
    """Return the sum of what each quote added to the bid or took from the ask, in mean queue sizes."""
    bid, bid_before = quotes.bid_px, lag(quotes.bid_px, 1)
    ask, ask_before = quotes.ask_px, lag(quotes.ask_px, 1)
    change = (
        np.where(bid >= bid_before, quotes.bid_qty, 0.0)
        - np.where(bid <= bid_before, lag(quotes.bid_qty, 1), 0.0)
        - np.where(ask <= ask_before, quotes.ask_qty, 0.0)
        + np.where(ask >= ask_before, lag(quotes.ask_qty, 1), 0.0)
    )
    known = quotes.known_us.astype(np.float64)  # microseconds until 2100 are exact
    is_after_silence = ~(known - lag(known, 1) <= silence_us)  # the first quote too: nothing is known before it
    columns = np.stack([change, (quotes.bid_qty + quotes.ask_qty) / 2, is_after_silence.astype(np.float64)], axis=1)
    made = bucket_sums(quotes.known_us, columns, ends=ends, bucket_us=step_us)
    n, (flow, size, silences) = made.n_items[:, 0], made.sums[:, 0, :].T
    return np.where((n > 0) & (silences == 0), flow * n / size, np.nan)
