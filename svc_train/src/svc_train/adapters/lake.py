"""Where the rows of a run come from: out of the lake through a new snapshot, or out of an older one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_data.library import DataLibrary
from qraft_data.query import Query, engine_inputs
from qraft_data.snapshots.meta import META_FILE, key_of
from qraft_data.snapshots.panels import bar_panel_of, grid_of, query_of
from qraft_data.snapshots.store import SnapshotStore
from qraft_registry.artefacts import sha256_hex
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_train.domain.panel import TrainingData
from svc_train.domain.request import DataRequest


@dataclass(frozen=True, slots=True)
class TrainingLake:
    """The stores of a line. place: the lake's name for people."""

    bars: BarStore
    tables: TableStore
    artefacts: ArtefactStore
    place: str

    def range_of(self, request: DataRequest) -> tuple[datetime, datetime]:
        """
        Return (start, end] of a request, where it leaves them open from before the first to the last stored bar.

        Raises:
            ValueError: if nothing is stored.
        """
        stored = self._stored(request)
        before_first = stored[0] - timedelta(seconds=INTERVAL_SECONDS[request.interval])
        return request.start or before_first, request.end or stored[1]

    async def take(self, request: DataRequest) -> TrainingData:
        """
        Freeze what a request asks for and return the rows as they were frozen.

        Raises:
            ValueError: if there are no bars, the message says what is stored; or if the state of a market is simulated.
            Transient: if the lake kept changing while it was read, or the artefact store is away.
        """
        query, origin = self._query(request)
        meta = await SnapshotStore(self.artefacts).take(DataLibrary(self.bars, self.tables), query)
        if meta.origin is Origin.SIMULATED and origin is not Origin.SIMULATED:
            raise ValueError(
                f"expected the state of a market beside {self._name(request)}, found simulated rows in the tables of "
                f"{request.state_market}: collect them anew, or train without state (QRAFT_STATE_MARKET=)"
            )
        return await self._rows(meta.snapshot_id, request)

    async def read(self, snapshot_id: str, request: DataRequest) -> TrainingData:
        """
        Return the rows of an earlier snapshot, having hashed all of it again.

        Raises:
            ValueError: if there is none, it is not as it was taken, or it is not what the request asks for; the message
                names the snapshot and each difference.
            Transient: if the artefact store is away.
        """
        snapshots = SnapshotStore(self.artefacts)
        try:
            verified = await snapshots.verify(snapshot_id)
        except KeyError as error:
            raise ValueError(
                f"expected a snapshot {snapshot_id} under {key_of(snapshot_id, META_FILE)}, received nothing: see "
                "`qraft data snapshot --list`, QRAFT_TRAIN_SNAPSHOT"
            ) from error
        if not verified.is_intact:
            raise ValueError(
                f"snapshot {snapshot_id} is not as it was taken and trains nothing: {'; '.join(verified.differences)}"
            )
        return await self._rows(snapshot_id, request)

    async def _rows(self, snapshot_id: str, request: DataRequest) -> TrainingData:
        """Return a snapshot's rows. A symbol without a bar in a row has no state in it: no live message told of one."""
        record = await self.artefacts.get(key_of(snapshot_id, META_FILE))
        meta, table = await SnapshotStore(self.artefacts).read(snapshot_id)
        has_state = meta.origin is not Origin.SIMULATED
        query = query_of(meta)
        if faults := request.faults(query, has_state=has_state):
            raise ValueError(f"snapshot {snapshot_id} is not what this run asks for: {'; '.join(faults)}")
        bars = bar_panel_of(meta, table)
        fields = engine_inputs(query)
        states = {name: grid_of(meta, table, fields[name]) for name in request.state_fields() if name in fields}
        has_bar = ~np.isnan(bars.close)
        masked = {name: np.where(has_bar, values, np.nan) for name, values in states.items()}
        known = {name: values for name, values in masked.items() if np.isfinite(values).any()}
        return TrainingData(
            bars=bars,
            snapshot_id=snapshot_id,
            snapshot_sha256=sha256_hex(record),
            versions=meta.versions,
            state=known,
            state_fields={name: fields[name] for name in states},
        )

    def _query(self, request: DataRequest) -> tuple[Query, Origin]:
        """Return the question for a snapshot, and the origin of the bars alone."""
        start, end = self.range_of(request)
        bars = self.bars.read(
            market=request.market,
            interval=request.interval,
            symbols=request.symbols or None,
            start=start,
            end=end,
            as_of=end,
        )
        if bars is None:
            first, last = self._stored(request)
            raise ValueError(
                f"expected {self._name(request)} between {format_instant(start)} and {format_instant(end)}, received "
                f"none; stored are {format_instant(first)} to {format_instant(last)}: see QRAFT_TRAIN_START, "
                "QRAFT_TRAIN_UNTIL"
            )
        has_state = bars.origin is not Origin.SIMULATED
        return request.query(bars.symbols, start=start, end=end, has_state=has_state), bars.origin

    def _stored(self, request: DataRequest) -> tuple[datetime, datetime]:
        stored = self.bars.range(market=request.market, interval=request.interval)
        if stored is None:
            raise ValueError(
                f"expected {self._name(request)}, received none: load history first (`qraft up`, or run svc_ingest)"
            )
        return stored

    def _name(self, request: DataRequest) -> str:
        return f"{request.market} {request.interval} bars in {self.place}"
