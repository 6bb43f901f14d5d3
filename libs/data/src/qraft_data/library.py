"""The one question that research, training and audits ask: values of these fields, as they were known then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from qraft_contracts.outcomes import Refused
from qraft_data.actions import ActionReader, adjust
from qraft_data.adjustment import Adjustment
from qraft_data.calendars import ALWAYS_OPEN, expected_times, sessions_of
from qraft_data.continuous.chains import read_chains
from qraft_data.continuous.rolls import RollPoint, RollRule
from qraft_data.currency import conversion_rates, is_converted
from qraft_data.missing import treat_missing
from qraft_data.panel import Counts, DataPanel
from qraft_data.query import Conversion, FieldRef, Missing, Query, Revisions, parse_field
from qraft_data.reading import CALENDARS, Reader, version_of
from qraft_data.times import FloatArray
from qraft_data.zones import to_local
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore

# 3.2 GB of values: ten years of 5-minute bars of 60 symbols with six fields. More is a wrong start instant.
N_CELLS_MAX: Final = 400_000_000


@dataclass(frozen=True, slots=True)
class DataLibrary:
    """The stores of a lake, read as of a time. Nothing is written, so any number of readers may share it."""

    bars: BarStore
    tables: TableStore

    def get_data(
        self,
        market: str,
        symbols: str | Sequence[str],
        start: datetime,
        end: datetime,
        fields: Sequence[str | FieldRef],
        *,
        as_of: datetime | None = None,
        interval: str = "5m",
        revisions: Revisions = "latest",
        adjustment: Adjustment = "none",
        currency: Conversion | None = None,
        time_zone: str = "UTC",
        calendar: str | None = None,
        missing: Missing = "keep",
        fill_bars: int = 0,
        continuous: RollRule | None = None,
    ) -> DataPanel:
        """
        Return the fields of the symbols on the grid of bars that end in (start, end].

        A bar stands in the row of its own end. Any other metric stands where it was the newest event known at the
        row's time (known_at <= row) and not older than the dictionary says. Nothing known after as_of is seen.

        Args:
            symbols: one or several. fields: as FieldRef, or as parse_field reads them. The others are those of Query.

        Raises:
            ValueError: for a query that cannot be answered, or by the policy `refuse`.
            KeyError: if a metric is not in the dictionary.
            Refused: if the stores hold nothing at all of it.
        """
        return self.run(
            Query(
                market=market,
                symbols=(symbols,) if isinstance(symbols, str) else tuple(symbols),
                start=start,
                end=end,
                fields=tuple(parse_field(field) if isinstance(field, str) else field for field in fields),
                as_of=as_of,
                interval=interval,
                revisions=revisions,
                adjustment=adjustment,
                currency=currency,
                time_zone=time_zone,
                calendar=calendar,
                missing=missing,
                fill_bars=fill_bars,
                continuous=continuous,
            )
        )

    def run(self, query: Query, *, has_versions: bool = False) -> DataPanel:
        """Answer a query; see get_data. has_versions: note the version of each source, as a snapshot needs it."""
        asked = query.checked()
        reader = self._reader(asked, has_versions=has_versions)
        if asked.continuous is not None:
            chains = read_chains(reader, asked)
            values, n_outside = chains.values, chains.n_outside_calendar
            points, contracts, names = chains.points, chains.active, chains.contracts
        else:
            values, n_outside = self._values(asked, reader)
            points, contracts, names = _NO_POINTS, None, ()
        if asked.currency is not None:
            values = _converted(asked, asked.currency, reader, values)
        origin = reader.origin()
        if origin is None:
            raise Refused("no_data", f"expected rows in {sorted(reader.sources)} for {asked.market}, found none")
        treated = treat_missing(asked, reader.at_us, values)
        shown = treated.is_kept.any(axis=1) if asked.missing == "drop" else np.ones(reader.at_us.size, np.bool_)
        return DataPanel(
            query=asked,
            origin=origin,
            event_us=reader.at_us[shown],
            local=to_local(reader.at_us[shown], asked.time_zone),
            values={name: cells[shown] for name, cells in treated.values.items()},
            missing={name: cells[shown] for name, cells in treated.is_missing.items()},
            is_kept=treated.is_kept[shown],
            counts=Counts(n_outside, int((~treated.is_kept).sum()), treated.n_filled, treated.n_missing),
            sources=dict(sorted(reader.sources.items())),
            roll_points=points,
            contracts=None if contracts is None else contracts[shown],
            contract_names=names,
        )

    def versions(self, sources: Iterable[str]) -> dict[str, str]:
        """Return the present versions of stored sources (not of calendars, which are not stored)."""
        return {
            source: version_of(self.bars, self.tables, source) for source in sources if not source.startswith(CALENDARS)
        }

    def _reader(self, query: Query, *, has_versions: bool) -> Reader:
        at_us = expected_times(query.calendar, query.interval, query.start, query.end)
        n_cells = at_us.size * len(query.symbols) * len(query.fields)
        if n_cells > N_CELLS_MAX:
            raise ValueError(f"expected at most {N_CELLS_MAX} cells, asked for {n_cells}: ask in parts")
        reader = Reader(
            self.bars,
            self.tables,
            start=query.start,
            end=query.end,
            as_of=query.limit,
            interval=query.interval,
            revisions=query.revisions,
            at_us=at_us,
            has_versions=has_versions,
        )
        if query.calendar is not None and query.calendar != ALWAYS_OPEN:
            hours = sessions_of(query.calendar, start=query.first_read, end=query.end).sha256
            reader.sources[CALENDARS + query.calendar] = hours
        return reader

    def _values(self, query: Query, reader: Reader) -> tuple[dict[str, FloatArray], int]:
        """Return every field on the rows, in the query's order, and how many bars lie outside the calendar."""
        shape = (reader.at_us.size, len(query.symbols))
        values: dict[str, FloatArray] = {}
        for refs in _tables(query):
            found = reader.metrics(refs, refs[0].market or query.market, query.symbols)
            values |= {name: np.broadcast_to(cells, shape) for name, cells in found.items()}
        n_outside = 0
        for market, symbol in dict.fromkeys((ref.market, ref.symbol) for ref in _bar_fields(query)):
            refs = [ref for ref in _bar_fields(query) if (ref.market, ref.symbol) == (market, symbol)]
            of_bars, n_left_out = self._bars(query, reader, refs)
            values |= of_bars
            n_outside += n_left_out
        return {ref.name: values[ref.name] for ref in query.fields}, n_outside

    def _bars(self, query: Query, reader: Reader, refs: list[FieldRef]) -> tuple[dict[str, FloatArray], int]:
        """Return fields of one market's bars, adjusted, and how many of them lie outside the calendar."""
        market = refs[0].market or query.market
        symbols = query.symbols if refs[0].symbol is None else (refs[0].symbol,)
        panel = reader.bar_panel(market, symbols)
        found = {ref.field.name: reader.on_rows(panel, ref.field.name, len(symbols)) for ref in refs}
        n_outside = 0
        if panel is not None:
            n_inside = int(np.isfinite(reader.on_rows(panel, "close", len(symbols))).sum())
            n_outside = int(np.isfinite(panel.close).sum()) - n_inside
        actions = ActionReader(self.bars, self.tables, market, query.interval, query.limit, reader.origins)
        if query.adjustment != "none":
            reader.use(f"tables/corporate_actions/{market}")
        found = adjust(found, symbols, reader.at_us, reader=actions, adjustment=query.adjustment)
        shape = (reader.at_us.size, len(query.symbols))
        return {ref.name: np.broadcast_to(found[ref.field.name], shape) for ref in refs}, n_outside


_NO_POINTS: tuple[RollPoint, ...] = ()


def _bar_fields(query: Query) -> list[FieldRef]:
    return [ref for ref in query.fields if ref.kind.name == "bars"]


def _tables(query: Query) -> list[list[FieldRef]]:
    """Return the fields that are not of bars, those that are read together side by side."""
    found: dict[tuple[str, str | None, str | None, int | None], list[FieldRef]] = {}
    for ref in query.fields:
        if ref.kind.name != "bars":
            found.setdefault((ref.kind.name, ref.market, ref.symbol, ref.max_age_s), []).append(ref)
    return list(found.values())


def _converted(query: Query, pair: Conversion, reader: Reader, values: dict[str, FloatArray]) -> dict[str, FloatArray]:
    rates = conversion_rates(reader, pair)[:, None]
    return {ref.name: values[ref.name] * rates if is_converted(ref) else values[ref.name] for ref in query.fields}
