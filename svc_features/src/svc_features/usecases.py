"""Compute the features of one closed bar; warm up from stored bars whenever the state does not reach up to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_frames.bars import BarBatch
from qraft_frames.features import FeatureBatch
from qraft_quant.features import FEATURE_NAMES, WARM_UP_BARS, OnlineFeatures, feature_signature
from svc_features.domain.grid import FloatArray, grid_index, usable_rows
from svc_features.ports import History, StoredBars

_VALUES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Computed:
    """The features of a bar. n_unusable: rows refused as bars. is_warmed_up: the state was made from stored bars."""

    batch: FeatureBatch
    n_unusable: int
    is_warmed_up: bool


@dataclass(slots=True)
class ComputeFeatures:
    """
    Fold closed bars into feature matrices.

    The state is rebuilt from the store on the first bar, after a gap in the grid, and when a symbol appears that was
    not there before; a symbol that is missing in a bar keeps its place as a missing bar. Since the engine gives the
    same bits from any start, none of this changes a value.
    """

    market: str
    interval: str
    store: StoredBars
    n_symbols_max: int
    _symbols: tuple[str, ...] = ()
    _places: dict[str, int] = field(default_factory=dict)
    _engine: OnlineFeatures | None = None
    _next_index: int = -1

    def __call__(self, bar: BarBatch) -> Computed:
        """
        Return the features as of the bar's end; row t uses bars up to t only.

        Raises:
            Refused: if the bar is of another market or interval, or is a revision.
            Malformed: if it does not end on the grid or holds too many symbols.
        """
        self._check(bar)
        try:
            index = grid_index(bar.closed_at, interval_s=INTERVAL_SECONDS[self.interval])
        except ValueError as error:
            raise Malformed("off_grid", str(error)) from error
        is_known = self._places.keys() >= set(bar.symbols)
        is_warm_up = self._engine is None or index != self._next_index or not is_known
        if is_warm_up:
            self._warm_up(bar, index)
        assert self._engine is not None
        (open_, high, low, close, volume), n_unusable = self._columns(bar)
        values = self._engine.step(open_, high, low, close, volume, index)
        self._next_index = index + 1
        return Computed(self._batch(bar, values), n_unusable, is_warm_up)

    def _check(self, bar: BarBatch) -> None:
        if (bar.market, bar.interval) != (self.market, self.interval):
            received = f"{bar.market} {bar.interval}"
            raise Refused("other_market", f"expected {self.market} {self.interval}, received {received}")
        if bar.revision > 0:
            raise Refused("revision", f"r{bar.revision} of {bar.closed_at}: features keep what was known first")
        if len(bar.symbols) > self.n_symbols_max:
            raise Malformed("too_many_symbols", f"expected at most {self.n_symbols_max}, received {len(bar.symbols)}")

    def _warm_up(self, bar: BarBatch, index: int) -> None:
        interval = timedelta(seconds=INTERVAL_SECONDS[self.interval])
        history = self._read(bar.closed_at - (WARM_UP_BARS + 1) * interval, bar.closed_at - interval)
        known = history.symbols if history is not None else ()
        self._symbols = tuple(sorted({*known, *bar.symbols}))
        self._places = {symbol: place for place, symbol in enumerate(self._symbols)}
        self._engine = OnlineFeatures(len(self._symbols))
        first_index = index - WARM_UP_BARS
        open_, high, low, close, volume = self._history_arrays(history, first_index=first_index)
        self._engine.warm_up(open_, high, low, close, volume, first_index)

    def _read(self, start: datetime, end: datetime) -> History | None:
        return self.store.read(
            market=self.market, interval=self.interval, symbols=None, start=start, end=end, as_of=end
        )

    def _history_arrays(self, history: History | None, *, first_index: int) -> list[FloatArray]:
        """Return the five value arrays on the whole warm-up grid, unusable rows as missing."""
        arrays = [np.full((WARM_UP_BARS, len(self._symbols)), np.nan) for _ in _VALUES]
        if history is None:
            return arrays
        seconds = history.closed_at.astype("datetime64[s]").astype(np.int64)
        rows = seconds // INTERVAL_SECONDS[self.interval] - first_index
        columns = np.array([self._places[symbol] for symbol in history.symbols])
        values = [getattr(history, name) for name in _VALUES]
        usable = usable_rows(*values)
        for array, stored in zip(arrays, values, strict=True):
            array[np.ix_(rows, columns)] = np.where(usable, stored, np.nan)
        return arrays

    def _columns(self, bar: BarBatch) -> tuple[list[FloatArray], int]:
        places = [self._places[symbol] for symbol in bar.symbols]
        values = [getattr(bar, name) for name in _VALUES]
        usable = usable_rows(*values)
        columns = []
        for given in values:
            column = np.full(len(self._symbols), np.nan)
            column[places] = np.where(usable, given, np.nan)
            columns.append(column)
        return columns, int(np.count_nonzero(~usable))

    def _batch(self, bar: BarBatch, values: npt.NDArray[np.float32]) -> FeatureBatch:
        # Only the symbols of this bar have a row: what else the state knows depends on when it was warmed up.
        symbols = tuple(sorted(bar.symbols))
        return FeatureBatch(
            market=self.market,
            interval=self.interval,
            as_of=bar.closed_at,
            origin=bar.origin,
            signature=feature_signature(self.interval),
            names=FEATURE_NAMES,
            symbols=symbols,
            values=values[[self._places[symbol] for symbol in symbols]],
        )
