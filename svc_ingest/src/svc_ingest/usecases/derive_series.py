"""Out of slow series: where macro and on-chain values stand, events in a day, and the mark's premium."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from qraft_contracts.kinds import STATE_INPUTS
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_quant.derived import event_density, mark_premium, series_state
from qraft_store.bars.port import BarPanel, BarStore
from svc_ingest.domain.raw import Int64Array, micros_of
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derived_rows import DerivedRows, Series, stretches

# All rows of a daily series or of events fit at once; marks are read with bars, of 500 symbols 60 MB.
_WHOLE: Final = timedelta(days=36_500)
_BARS_WINDOW: Final = timedelta(days=10)
_MICRO: Final = timedelta(microseconds=1)


def derive_series(rows: DerivedRows, selection: Selection) -> None:
    """Add series_state of the series that features read (STATE_INPUTS), from the 60th value on."""
    read = {(it.market, it.symbol) for it in STATE_INPUTS.values() if it.kind == "series_state"}
    for kind in ("macro", "onchain"):
        for market in rows.tables.markets(kind):
            for own in _whole(rows, kind, market, column="value"):
                if (market, own.symbol) not in read:
                    continue
                scores, known = series_state(own.numbers("value"), own.micros("known_at"))
                event = own.micros("event_at")
                there = ~np.isnan(scores) & _wanted(event, selection)
                fields = {"zscore_60": scores[there]}
                rows.add("series_state", market, own.symbol, event[there], known[there], fields, kind, own.origin)


def derive_events(rows: DerivedRows, selection: Selection) -> None:
    """Add event_density, hour by hour."""
    for market in rows.tables.markets("events"):
        for own in _whole(rows, "events", market, column="name"):
            known = np.sort(own.micros("known_at"))
            ends, counts = event_density(known, until_us=int(known[-1]))
            there = _wanted(ends, selection)
            fields = {"n_events_24h": counts[there]}
            rows.add("event_density", market, own.symbol, ends[there], ends[there], fields, "events", own.origin)


def derive_premium(rows: DerivedRows, bars: BarStore, selection: Selection) -> None:
    """Add mark_premium where a bar of the market ends with the mark's, bars of the shortest interval first."""
    for market in rows.tables.markets("mark_price"):
        if not selection.takes_market("mark_premium", market):
            continue
        for start, end in stretches(rows.tables.range("mark_price", market=market), selection, _BARS_WINDOW):
            marks = rows.series("mark_price", market, start, end, columns=("close",), symbols=selection.symbols)
            for interval in sorted(INTERVAL_SECONDS, key=INTERVAL_SECONDS.__getitem__):
                if marks and market in bars.markets(interval):
                    _premium(rows, marks, market, bars.read(
                        market=market, interval=interval, symbols=None, start=start, end=end
                    ))  # fmt: skip


def _premium(rows: DerivedRows, marks: Sequence[Series], market: str, panel: BarPanel | None) -> None:
    if panel is None:
        return
    closed_us = panel.closed_at.astype("datetime64[us]").astype(np.int64)
    for own in marks:
        if own.symbol not in panel.symbols:
            continue
        close = np.ascontiguousarray(panel.close[:, panel.symbols.index(own.symbol)])
        event, known = own.micros("event_at"), own.micros("known_at")
        premium = mark_premium(event, own.numbers("close"), known, closed_us, close)
        there = ~np.isnan(premium)
        fields = {"premium_frac": premium[there]}
        origin = max(own.origin, panel.origin.value)
        rows.add("mark_premium", market, own.symbol, event[there], known[there], fields, "mark_price", origin)


def _whole(rows: DerivedRows, kind: str, market: str, *, column: str) -> list[Series]:
    span = rows.tables.range(kind, market=market)
    return [] if span is None else rows.series(kind, market, span[0] - _MICRO, span[1], columns=(column,))


def _wanted(at: Int64Array, selection: Selection) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which instants lie in what was asked for."""
    first = micros_of(selection.start) if selection.start else -1
    last = micros_of(selection.end) if selection.end else np.iinfo(np.int64).max
    return np.asarray((at > first) & (at <= last))
