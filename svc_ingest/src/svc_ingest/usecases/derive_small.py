"""
What is derived of the small tables that commands bring (macro, on-chain, events), kept up while a line lives.

No venue is polled for these: `qraft data collect` brings them, of one data set also without deriving anything. The line
looks every hour whether there are new rows, and gives the tables it writes back at once, as commands write them too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from qraft_contracts.outcomes import Outcome
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.market_state import derivable, state_tables
from svc_ingest.domain.polling import FeedState
from svc_ingest.domain.tally import Count, Tally
from svc_ingest.ports import CollectRecord
from svc_ingest.usecases.bans import wait_until
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derived_rows import KnownTimes
from svc_ingest.usecases.feed_teller import FeedTeller
from svc_ingest.usecases.load_state import derive_small
from svc_ingest.usecases.newest import newest_events

# Daily series and dates; what fails (a command writes at the moment) is tried again then, too.
_EVERY: Final = timedelta(hours=1)


@dataclass(slots=True)
class SmallDeriver:
    """
    Derives beside a living line whose state is that of a market. stores: opens the lake, for one derivation.

    known: when what is derived now could first have been known. pause: sleeps so many seconds.
    """

    market: str
    stores: Callable[[], AbstractContextManager[tuple[BarStore, TableStore]]]
    record: CollectRecord
    known: KnownTimes
    teller: FeedTeller
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    states: dict[tuple[str, str], FeedState] = field(default_factory=dict)

    async def serve(self) -> None:
        """Derive at once and every hour until cancelled; does not return."""
        while True:
            await self.derive()
            await wait_until(self.teller.clock, self.pause, self.teller.clock.now() + _EVERY)

    async def derive(self) -> None:
        """Add what can be derived and is not stored. What fails is told and tried again by the next call."""
        wanted = derivable(state_tables(self.market))
        for kind, market in sorted(wanted):
            self.states.setdefault((kind, market), FeedState(kind, market))
        tally, error = Tally(), None
        try:
            newest = await asyncio.to_thread(self._derive, wanted, tally)
        except Outcome as found:
            newest, error = {}, found
        made = tally.tables()
        for table, state in self.states.items():
            state.newest_us |= newest.get(table, {})
            problem = "" if error is None else self.teller.failed(state, "", error)
            if state.newest_us or problem:  # a lake without the series has nothing that could be stale
                self.teller.tell(state, made.get(table, Count()), problem)

    def _derive(
        self, wanted: frozenset[tuple[str, str]], tally: Tally
    ) -> dict[tuple[str, str], dict[str, int]]:  # fmt: skip
        """Derive, and return of each table the newest event of each symbol, microseconds since 1970. Blocks."""
        with self.stores() as (bars, tables):

            def work(selection: Selection, counts: Tally) -> None:
                from svc_ingest.usecases.derive import Deriver  # numba costs a second of start

                Deriver(bars, tables, self.known).derive(selection, counts)

            derive_small(state_tables(self.market), tables, self.record, work, tally)
            return {(kind, market): newest_events(tables, kind, market=market) for kind, market in wanted}
