"""Corporate actions of a symbol, read with the close before each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from qraft_contracts.origin import Origin
from qraft_data.adjustment import Action, Adjustment, Factors, adjustment_factors
from qraft_data.reading import day_before
from qraft_data.times import FloatArray, Int64Array, float_column, instant_of, micros, micros_column
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore

# The longest closure of New York since 1933 is seven days (2001-09-11); a dividend without a close in so many is not
# a dividend of these bars.
_CLOSE_WITHIN_DAYS: Final = 12
_ADJUSTED: Final = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class ActionReader:
    """
    Where actions and the closes before them are read: one market, one interval, as of one instant.

    origins: is given the origins of what is read.
    """

    bars: BarStore
    tables: TableStore
    market: str
    interval: str
    as_of: datetime
    origins: set[Origin]

    def read(self, symbol: str, *, start: datetime) -> tuple[Action, ...]:
        """
        Return a symbol's actions after `start` that were known by as_of, with the newest revision of each.

        Raises:
            ValueError: if a dividend has no close of the same bars in the days before it.
        """
        rows = self.tables.read(
            "corporate_actions",
            market=self.market,
            symbols=(symbol,),
            start=start,
            end=self.as_of,
            as_of=self.as_of,
            columns=("event_at", "origin", "split_ratio", "dividend"),
            revisions="latest",
        )
        self.origins.update(Origin(str(name)) for name in rows["origin"].unique().to_pylist())
        ratios, dividends = float_column(rows, "split_ratio"), float_column(rows, "dividend")
        return tuple(
            Action(int(at), float(ratio), float(dividend), self._close_before(symbol, int(at), float(dividend)))
            for at, ratio, dividend in zip(micros_column(rows, "event_at"), ratios, dividends, strict=True)
        )

    def _close_before(self, symbol: str, at_us: int, dividend: float) -> float:
        if dividend == 0.0:
            return float("nan")
        end = instant_of(at_us)
        panel = self.bars.read(
            market=self.market,
            interval=self.interval,
            symbols=(symbol,),
            start=day_before(end, _CLOSE_WITHIN_DAYS),
            end=end,
            as_of=self.as_of,
            revisions="latest",
        )
        closes = np.empty(0) if panel is None else panel.close[np.isfinite(panel.close)]
        if panel is None or not closes.size:
            raise ValueError(
                f"expected a close of {symbol} in the {_CLOSE_WITHIN_DAYS} days before its dividend of {end:%Y-%m-%d}, "
                f"found none in {self.market} {self.interval}: collect the bars up to as_of, or choose an earlier as_of"
            )
        self.origins.add(panel.origin)
        return float(closes[-1])


def adjust(
    fields: dict[str, FloatArray],
    symbols: Sequence[str],
    at_us: Int64Array,
    *,
    reader: ActionReader,
    adjustment: Adjustment,
) -> dict[str, FloatArray]:
    """
    Return bar fields (by name without `bars.`) with every symbol's splits and dividends undone.

    Both directions begin at the first row of the range; `backward` counts the actions up to as_of, even after the last
    row.
    """
    if adjustment == "none" or at_us.size == 0:
        return fields
    adjusted = {name: values.copy() for name, values in fields.items()}
    for column, symbol in enumerate(symbols):
        factors = _factors(symbol, at_us, reader, adjustment)
        for name in _ADJUSTED:
            if name in adjusted:
                adjusted[name][:, column] *= factors.volume if name == "volume" else factors.price
    return adjusted


def _factors(symbol: str, at_us: Int64Array, reader: ActionReader, adjustment: Adjustment) -> Factors:
    # An action on the first row's own instant counts for the rows after it; the range's start is exclusive.
    start = instant_of(int(at_us[0]) - 1)
    last = int(at_us[-1]) if adjustment == "forward" else micros(reader.as_of)
    actions = [action for action in reader.read(symbol, start=start) if action.ex_at_us <= last]
    return adjustment_factors(at_us, actions, adjustment=adjustment)
