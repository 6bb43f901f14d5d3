"""The state of a market out of the data sets of QRAFT_DATA, into the lake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qraft_runtime.clock import Clock
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.adapters.catalogue import read_catalogue
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.readers import FileReader
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Collector, Selection
from svc_ingest.usecases.kept_live import KeptLive
from svc_ingest.usecases.load_state import LoadState


@dataclass(frozen=True, slots=True)
class StateFiles:
    """Which files, and where to. market: whose state, such as `binance.perp`."""

    catalogue: Path
    data: Path
    lake: Path
    market: str
    clock: Clock

    def load(self, bars: BarStore, tables: TableStore) -> Tally:
        """
        Load what is not loaded yet; see LoadState.

        Raises:
            Malformed: if there is no such catalogue.
        """
        record = LakeRecord(self.lake)
        kept_live = KeptLive(self.clock, record, self.market)
        collector = Collector(
            read_catalogue(self.catalogue), self.data, FileReader(), bars, tables, record, self.clock,
            lambda _name, _tally, _done_frac: None, kept_live,
        )  # fmt: skip

        def derive(selection: Selection, tally: Tally) -> None:
            from svc_ingest.usecases.derive import Deriver  # numba costs a second of start

            Deriver(bars, tables, kept_live).derive(selection, tally)

        return LoadState(collector, derive, self.market)()
