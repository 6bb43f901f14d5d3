"""Compute the features of one closed bar; warm up from stored bars whenever the state does not reach up to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_contracts.kinds import STATE_INPUTS
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_data.state import StatePanel, state_of_bars
from qraft_frames.bars import BarBatch
from qraft_frames.features import FeatureBatch
from qraft_quant.features import BAR_INPUTS, FeatureSet, OnlineFeatures
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.tables.port import TableStore
from qraft_telemetry import logs, metrics
from svc_features.domain.grid import FloatArray, grid_index

Inputs = dict[str, FloatArray]
# Features of a range are held whole; beyond this the machine of a researcher has no memory left for anything else.
GIBIBYTES_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the symbols of a message stand in the state. Messages name the same symbols for days: kept, not redone."""

    given: tuple[str, ...]
    places: npt.NDArray[np.intp]  # of the symbols as given
    ordered: tuple[str, ...]
    ordered_places: npt.NDArray[np.intp]
    is_whole: bool  # the message names exactly the symbols of the state, in their order: nothing has to be moved


@dataclass(frozen=True, slots=True)
class Computed:
    """The features of a bar. refused: symbols whose row was no bar; they have a row of NaN."""

    batch: FeatureBatch
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateTables:
    """Whose tables hold the state of the symbols, such as those of `binance.perp`."""

    tables: TableStore
    market: str


def state_for(
    features: FeatureSet, bars: BarPanel, state: StateTables | None, *, skips_faults: bool = False
) -> StatePanel:
    """
    Return the state beside stored bars, as far as a feature set reads it; None = none.

    Raises:
        Malformed: if a table is damaged. Not with skips_faults: then the panel names it.
    """
    if state is None:
        return StatePanel()
    names = [name for name in features.inputs if name in STATE_INPUTS]
    return state_of_bars(state.tables, bars, market=state.market, names=names, skips_faults=skips_faults)


def bars_for(
    bars: BarStore, *, market: str, interval: str, start: datetime, end: datetime, n_features: int
) -> BarPanel:  # fmt: skip
    """
    Return the stored bars with start < closed_at <= end, few enough that so many features of them fit in memory.

    Raises:
        Refused: if there is none, or there are too many.
        Malformed: if that is no name of a market.
    """
    newest_bar(bars, market=market, interval=interval)
    try:
        read = bars.read(market=market, interval=interval, symbols=None, start=start, end=end)
    except ValueError as error:
        raise Refused("range_too_large", f"{error}: shorten the range") from error
    if read is None:
        raise Refused("no_bars", f"expected {market} {interval} bars up to {end.isoformat()}, found none")
    gibibytes = read.close.size * n_features * 4 / 2**30
    if gibibytes > GIBIBYTES_MAX:
        raise Refused(
            "range_too_large",
            f"expected at most {GIBIBYTES_MAX} GiB of features, received {gibibytes:.1f}: shorten the range",
        )
    return read


def newest_bar(bars: BarStore, *, market: str, interval: str) -> datetime:
    """
    Return the end of the newest stored bar.

    Raises:
        Refused: if there is none.
        Malformed: if that is no name of a market.
    """
    try:
        stored = bars.range(market=market, interval=interval)
    except ValueError as error:
        raise Malformed("bad_market", str(error)) from error
    if stored is None:
        raise Refused("no_bars", f"expected {market} {interval} bars, received none: collect some first")
    return stored[1]


def inputs_of(bars: BarPanel, state: StatePanel) -> Inputs:
    """Return what the engine reads: the five values of each bar, and the state beside it."""
    return {name: getattr(bars, name) for name in BAR_INPUTS} | state.values


@dataclass(slots=True)
class ComputeFeatures:
    """
    Fold closed bars into feature matrices.

    Before the first bar, after a gap in the grid and when a symbol appears that was not there before, the state has to
    be made anew from stored bars: always from the `features.warm_up_bars` grid steps before the bar, what the store
    lacks being missing bars. So what comes out for a bar depends on these bars alone, never on when this process
    started. The state of the market comes with the message (BarBatch.state), and for the bars before it out of the
    tables that the message was made from, by the function that made it: the same bits either way.

    state: None = what messages carry is not used either.
    """

    market: str
    interval: str
    store: BarStore
    n_symbols_max: int
    features: FeatureSet
    state: StateTables | None = None
    _symbols: tuple[str, ...] = ()
    _places: dict[str, int] = field(default_factory=dict)
    _engine: OnlineFeatures | None = None
    _layout: _Layout | None = None
    _next_index: int = -1

    def needs_warm_up(self, bar: BarBatch) -> bool:
        """
        Return whether `warm_up` has to come before this bar.

        Raises:
            Refused: if the bar is of another market or interval, or is a revision.
            Malformed: if it does not end on the grid or holds too many symbols.
        """
        self._check(bar)
        if self._index(bar) != self._next_index:
            return True
        is_known = self._layout is not None and self._layout.given == bar.symbols
        return not is_known and not self._places.keys() >= set(bar.symbols)

    def warm_up(self, bar: BarBatch) -> None:
        """Make the state anew from the bars before this one. Reads the store: seconds for hundreds of symbols."""
        step, n_bars = timedelta(seconds=INTERVAL_SECONDS[self.interval]), self.features.warm_up_bars
        end = bar.closed_at - step
        history = self.store.read(
            market=self.market,
            interval=self.interval,
            symbols=None,
            start=end - n_bars * step,
            end=end,
            as_of=end,
        )
        symbols = tuple(sorted({*bar.symbols, *(history.symbols if history is not None else ())}))
        engine = OnlineFeatures(len(symbols), features=self.features, interval=self.interval)
        inputs = {
            name: _columns_of(history, symbols, values, n_bars=n_bars)
            for name, values in self._history_inputs(history).items()
        }
        engine.warm_up(inputs, self._index(bar) - n_bars)
        self._engine, self._symbols = engine, symbols
        self._places = {symbol: place for place, symbol in enumerate(symbols)}
        self._next_index = self._index(bar)
        self._layout = None

    def __call__(self, bar: BarBatch) -> Computed:
        """
        Return the features as of the bar's end, from bars up to it only; warms up first where that was not done.

        Raises:
            Refused, Malformed: as `needs_warm_up`.
        """
        if self.needs_warm_up(bar):
            self.warm_up(bar)
        assert self._engine is not None
        layout = self._layout_of(bar)
        inputs = {name: self._row(layout, getattr(bar, name)) for name in BAR_INPUTS}
        inputs |= {name: self._row(layout, values) for name, values in self._state_of(bar).items()}
        values = self._engine.step(inputs, self._next_index)
        self._next_index += 1
        refused_at = np.flatnonzero(~self._engine.is_valid[layout.ordered_places])
        refused = tuple(layout.ordered[i] for i in refused_at)
        return Computed(self._batch(bar, layout, values), refused)

    def _state_of(self, bar: BarBatch) -> dict[str, FloatArray]:
        """Return the state that a message carries, as state_of_bars has it: none beside simulated or absent bars."""
        if self.state is None or bar.origin is Origin.SIMULATED:
            return {}
        read = {name: values for name, values in bar.state.items() if name in self.features.inputs}
        has_bar = ~np.isnan(bar.close)
        return read if has_bar.all() else {name: np.where(has_bar, it, np.nan) for name, it in read.items()}

    def _history_inputs(self, history: BarPanel | None) -> Inputs:
        """Return the inputs of stored bars; a table that cannot be read hides its features, not the market's."""
        if history is None:
            return dict.fromkeys(BAR_INPUTS, np.empty(0))
        panel = state_for(self.features, history, self.state, skips_faults=True)
        for source, why in panel.faults.items():
            metrics.STATE_FAULTS.labels(source).inc()
            logs.get().warning("state.unavailable", source=source, why=why[:300])
        return inputs_of(history, panel)

    def _check(self, bar: BarBatch) -> None:
        if (bar.market, bar.interval) != (self.market, self.interval):
            received = f"{bar.market} {bar.interval}"
            raise Refused("other_market", f"expected {self.market} {self.interval}, received {received}")
        if bar.revision > 0:
            raise Refused("revision", f"r{bar.revision} of {bar.closed_at}: features keep what was known first")
        if len(bar.symbols) > self.n_symbols_max:
            raise Malformed("too_many_symbols", f"expected at most {self.n_symbols_max}, received {len(bar.symbols)}")

    def _index(self, bar: BarBatch) -> int:
        try:
            return grid_index(bar.closed_at, interval_s=INTERVAL_SECONDS[self.interval])
        except ValueError as error:
            raise Malformed("off_grid", str(error)) from error

    def _layout_of(self, bar: BarBatch) -> _Layout:
        if self._layout is None or self._layout.given != bar.symbols:
            ordered = tuple(sorted(bar.symbols))
            places, ordered_places = (
                np.array([self._places[symbol] for symbol in symbols], dtype=np.intp)
                for symbols in (bar.symbols, ordered)
            )
            self._layout = _Layout(bar.symbols, places, ordered, ordered_places, bar.symbols == self._symbols)
        return self._layout

    def _row(self, layout: _Layout, values: FloatArray) -> FloatArray:
        if layout.is_whole:
            return values
        row = np.full(len(self._symbols), np.nan)
        row[layout.places] = values
        return row

    def _batch(self, bar: BarBatch, layout: _Layout, values: npt.NDArray[np.float32]) -> FeatureBatch:
        # Only the symbols of this bar have a row: what else the state knows depends on when it was warmed up.
        return FeatureBatch(
            market=self.market,
            interval=self.interval,
            as_of=bar.closed_at,
            origin=bar.origin,
            signature=self.features.signature(self.interval),
            names=self.features.names,
            symbols=layout.ordered,
            values=values if layout.is_whole else values[layout.ordered_places],
        )


def _columns_of(
    history: BarPanel | None, symbols: tuple[str, ...], values: FloatArray, *, n_bars: int
) -> FloatArray:  # fmt: skip
    """Return one value of the warm-up bars, (n_bars, n_symbols); symbols that the store lacks are NaN."""
    if history is None:
        return np.full((n_bars, len(symbols)), np.nan)
    assert values.shape == (n_bars, len(history.symbols)), f"expected every grid step, received {values.shape}"
    if history.symbols == symbols:
        return values
    columns = np.full((n_bars, len(symbols)), np.nan)
    columns[:, [symbols.index(symbol) for symbol in history.symbols]] = values
    return columns
