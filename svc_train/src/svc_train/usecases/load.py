"""Bring the rows of a run: audited where the mode asks for it, out of a snapshot in every mode."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

from qraft_contracts.outcomes import Transient
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_data.audit.expectation import window_of
from qraft_data.audit.findings import Audit
from svc_train.domain.manifest import instant_of
from svc_train.domain.panel import TrainingData
from svc_train.domain.readiness import moved, refusal
from svc_train.domain.request import LINE, DataRequest
from svc_train.ports import Audits, DataSource


@dataclass(frozen=True, slots=True)
class DataLoader:
    """Brings the rows of a run from their source, and the audit that let them through."""

    source: DataSource
    audits: Audits

    async def load(self, request: DataRequest) -> tuple[TrainingData, Audit | None]:
        """
        Return what to train on, and the audit of it; None in mode `line`, in which nobody asks.

        Raises:
            ValueError: if there is nothing to train on, the snapshot is not as asked for, or the audit says no.
            Transient: if the lake changed between audit and snapshot, or a store is away.
        """
        if request.mode == LINE:
            return await self._rows(request), None
        if request.start is not None:
            raise ValueError(
                f"mode {request.mode} trains on the whole window of its audit; received QRAFT_TRAIN_START="
                f"{format_instant(request.start)}: leave it out, or use QRAFT_TRAIN_MODE=line"
            )
        return await (self._audit_then_take(request) if request.snapshot_id is None else self._read_then_audit(request))

    async def _audit_then_take(self, request: DataRequest) -> tuple[TrainingData, Audit]:
        _, end = self.source.range_of(request)
        window = window_of(request.mode, end=end)
        audit = await asyncio.to_thread(self.audits.ask, request.mode, window)
        _check(audit, request)
        data = await self.source.take(replace(request, start=window.start, end=window.end))
        if sources := moved(audit, data.versions):
            raise Transient("sources_moving", f"{sources} changed between the audit and the snapshot; run again")
        return data, audit

    async def _read_then_audit(self, request: DataRequest) -> tuple[TrainingData, Audit]:
        data = await self._rows(request)
        bars = data.bars
        window = window_of(request.mode, end=instant_of(bars.closed_at[-1]))
        start = instant_of(bars.closed_at[0]) - timedelta(seconds=INTERVAL_SECONDS[bars.interval])
        if start != window.start:
            raise ValueError(
                f"mode {request.mode} trains from {format_instant(window.start)} on, snapshot {data.snapshot_id} "
                f"begins at {format_instant(start)}: use QRAFT_TRAIN_MODE=line, or take a new snapshot"
            )
        audit = await asyncio.to_thread(self.audits.ask, request.mode, window)
        _check(audit, request)
        if sources := moved(audit, data.versions):
            raise ValueError(
                f"{sources} changed since snapshot {data.snapshot_id} was taken, so an audit of today says nothing of "
                "it: use QRAFT_TRAIN_MODE=line, or take a new snapshot"
            )
        return data, audit

    async def _rows(self, request: DataRequest) -> TrainingData:
        if request.snapshot_id is None:
            return await self.source.take(request)
        return await self.source.read(request.snapshot_id, request)


def _check(audit: Audit, request: DataRequest) -> None:
    if fault := refusal(audit, interval=request.interval):
        raise ValueError(fault)
