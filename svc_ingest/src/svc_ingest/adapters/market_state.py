"""The state of a market out of the lake's tables, by the aligner that history goes through too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from qraft_store.tables.port import TableStore
from svc_ingest.adapters.late_rows import ReadMark
from svc_ingest.domain.market_state import KnownState
from svc_ingest.domain.raw import Int64Array, instant_of

if TYPE_CHECKING:
    from qraft_data.living_state import LivingState

# Polls end half a minute after a bar: what they brought is in memory long before the next one.
REFRESH_S: Final = 10.0


class LakeState:
    """The MarketState of the tables of one market, such as `binance.perp`. mark: shared with who polls it."""

    def __init__(self, tables: TableStore, market: str, mark: ReadMark | None = None) -> None:
        self._tables, self._market, self._mark = tables, market, mark or ReadMark()
        self._living: LivingState | None = None

    def read(self, *, symbols: Sequence[str], at_us: Int64Array) -> KnownState:
        """Return the state as of each time; what cannot be read is named, not raised. See the port."""
        # Numba costs a second of start and the first join its compilation: both off the event loop, with the first bar.
        from qraft_data.living_state import LivingState

        if self._living is None:
            self._living = LivingState(self._tables, self._market)
        with self._mark.lock:
            self._mark.read_of(int(at_us[0]), int(at_us[-1]))
            panel = self._living.read(symbols=symbols, at_us=at_us, as_of=instant_of(int(at_us[-1])), skips_faults=True)
        return KnownState(panel.values, panel.faults)

    async def keep_fresh(self) -> None:
        """Read new rows between the bars, so that no bar waits for it, until cancelled; does not return."""
        while True:
            await asyncio.sleep(REFRESH_S)
            if self._living is not None:
                await asyncio.to_thread(self._living.refresh)
