"""The state of a market out of the lake's tables, by the aligner that history goes through too."""

from __future__ import annotations

from collections.abc import Sequence

from qraft_store.tables.port import TableStore
from svc_ingest.adapters.late_rows import ReadMark
from svc_ingest.domain.market_state import KnownState
from svc_ingest.domain.raw import Int64Array, instant_of


class LakeState:
    """The MarketState of the tables of one market, such as `binance.perp`. mark: shared with who polls it."""

    def __init__(self, tables: TableStore, market: str, mark: ReadMark | None = None) -> None:
        self._tables, self._market, self._mark = tables, market, mark or ReadMark()

    def read(self, *, symbols: Sequence[str], at_us: Int64Array) -> KnownState:
        """Return the state as of each time; what cannot be read is named, not raised. See the port."""
        # Numba costs a second of start and the first join its compilation: both off the event loop, with the first bar.
        from qraft_data.state import read_state

        with self._mark.lock:
            self._mark.read_of(int(at_us[0]), int(at_us[-1]))
            panel = read_state(
                self._tables, market=self._market, symbols=symbols, at_us=at_us, as_of=instant_of(int(at_us[-1])),
                skips_faults=True,
            )  # fmt: skip
        return KnownState(panel.values, panel.faults)
