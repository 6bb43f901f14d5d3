"""Out of posts and news: what is said of each symbol, by the pipeline that the proof of texts is about."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from qraft_contracts.kinds import TEXT_MARKET
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarStore
from qraft_text.sources import TooManyTexts
from qraft_text.state import TEXT_KINDS, feeds_heard, settled, state_features, symbols_of_texts, text_states
from svc_ingest.domain.raw import instant_of
from svc_ingest.domain.tally import Named
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derived_rows import DerivedRows, ends_within, stretches

_KIND: Final = "text_state"
_SOURCE: Final = "posts"
# Texts that are held at once, with the two days before them that windows and filters look back.
_WINDOW: Final = timedelta(days=10)
# The windows of a symbol reach a day beyond its last text.
_AFTER: Final = timedelta(days=1)


def derive_texts(rows: DerivedRows, bars: BarStore, selection: Selection) -> None:
    """
    Add text_state of every symbol that texts name, or that has bars and belongs to a market that they speak of as one.

    Rows stand as they were first made: a bucket within a day after a feed was last heard waits for it to be heard
    again, and one beyond that day knows nothing of it. Collect all texts of a time before deriving what is later.
    """
    places = [(kind, market) for kind in TEXT_KINDS for market in rows.tables.markets(kind)]
    spans = [span for kind, market in places if (span := rows.tables.range(kind, market=market)) is not None]
    if not spans:
        return
    try:
        features = state_features()
        heard = tuple(feeds_heard(rows.tables).values())
        span = min(first for first, _ in spans), min(max(last for _, last in spans) + _AFTER, instant_of(max(heard)))
        symbols = _symbols(rows, bars)
        for start, end in stretches(span, selection, _WINDOW):
            if not ends_within(start, end).size:
                continue
            found = text_states(rows.tables, features, symbols=symbols, after=start, until=end)
            if found is None:
                continue
            over = settled(found, heard)
            for symbol in symbols:
                ends, fields = over.of(symbol)
                rows.add(_KIND, TEXT_MARKET, symbol, ends, ends, fields, _SOURCE, over.origin.value)
    except (Refused, TooManyTexts) as error:
        # Named in the report: other kinds do not wait for texts.
        rows.tally.failures.append(Named(f"derived:{_SOURCE}", type(error).__name__, str(error)))


def _symbols(rows: DerivedRows, bars: BarStore) -> tuple[str, ...]:
    """Return the symbols that texts name and, for texts about a whole market, those of its endings that have bars."""
    named, endings = symbols_of_texts(rows.tables)
    with_bars: set[str] = set()
    for interval in INTERVAL_SECONDS if endings else ():
        for market in bars.markets(interval):
            with_bars |= {
                symbol for symbol in bars.symbols(market=market, interval=interval) if symbol.endswith(endings)
            }
    return tuple(sorted({*named, *with_bars}))
