"""Bars and out-of-fold forecasts on one time grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qraft_contracts.subjects import HORIZON_SECONDS
from qraft_quant.allocation import HorizonRows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Market:
    """
    Bars of sorted symbols on the full grid. closed_at_s: (n_bars,) unix seconds. Values: (n_bars, n_symbols), quote
    currency and base asset; NaN where a symbol has no bar that execution could use.
    """

    symbols: tuple[str, ...]
    closed_at_s: IntArray
    open: FloatArray
    close: FloatArray
    volume: FloatArray


def usable_market(
    symbols: tuple[str, ...], closed_at_s: IntArray, *, open_: FloatArray, close: FloatArray, volume: FloatArray
) -> Market:
    """Return the market with symbols sorted and every bar that svc_execution would not use left out whole."""
    order = np.argsort(np.array(symbols))
    open_, close, volume = open_[:, order], close[:, order], volume[:, order]
    usable = np.isfinite(open_) & (open_ > 0.0) & np.isfinite(close) & (close > 0.0) & np.isfinite(volume)
    values = (np.ascontiguousarray(np.where(usable, column, np.nan)) for column in (open_, close, volume))
    return Market(tuple(symbols[i] for i in order), closed_at_s, *values)


@dataclass(frozen=True, slots=True)
class HorizonForecasts:
    """
    One horizon's out-of-fold forecasts, by bar. first_row: (n_bars + 1,); bar t has rows first_row[t]:first_row[t + 1].
    symbol: column in the market. Others as in HorizonRows. All (n_rows,).
    """

    horizon: str
    bucket: str
    cost: float
    first_row: IntArray
    symbol: IntArray
    expected_return: FloatArray
    confidence: FloatArray
    volatility: FloatArray

    def at(self, bar: int, names: tuple[str, ...]) -> HorizonRows:
        """Return the forecasts made at the close of one bar; none is a value too."""
        rows = slice(int(self.first_row[bar]), int(self.first_row[bar + 1]))
        return HorizonRows(
            horizon=self.horizon,
            horizon_s=float(HORIZON_SECONDS[self.horizon]),
            bucket=self.bucket,
            cost=self.cost,
            symbols=tuple([names[i] for i in self.symbol[rows].tolist()]),
            expected_return=self.expected_return[rows],
            confidence=self.confidence[rows],
            volatility=self.volatility[rows],
        )


def forecasts_by_bar(
    market: Market, *, as_of_s: IntArray, symbol: IntArray, values: FloatArray, horizon: str, bucket: str, cost: float
) -> HorizonForecasts:
    """
    Return forecasts in the order of bars.

    Args:
        market: its grid must hold every as_of.
        as_of_s: (n_rows,), unix seconds, any order.
        symbol: (n_rows,), column in the market.
        values: (n_rows, 3): expected return gross, confidence, volatility.
        horizon: such as 4h.
        bucket: of the horizon.
        cost: round trip.

    Raises:
        ValueError: if an as_of is not on the grid, or a symbol stands twice in a bar.
    """
    bar = np.searchsorted(market.closed_at_s, as_of_s)
    is_off = (bar >= market.closed_at_s.size) | (
        market.closed_at_s[np.minimum(bar, market.closed_at_s.size - 1)] != as_of_s
    )
    if is_off.any():
        raise ValueError(f"{int(is_off.sum())} forecasts of {horizon} are not on the grid of the stored bars")
    place = bar * len(market.symbols) + symbol
    order = np.argsort(place, kind="stable")
    if (np.diff(place[order]) == 0).any():
        raise ValueError(f"expected one forecast a bar and symbol for {horizon}, received several")
    first_row = np.searchsorted(bar[order], np.arange(market.closed_at_s.size + 1)).astype(np.int64)
    columns = (np.ascontiguousarray(values[order, k]) for k in range(3))
    return HorizonForecasts(horizon, bucket, cost, first_row, symbol[order], *columns)
