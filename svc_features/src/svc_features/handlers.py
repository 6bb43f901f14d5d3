"""The bus edge: decode a closed bar, compute, publish its features."""

from __future__ import annotations

import asyncio
from datetime import datetime
from time import perf_counter
from typing import Final

from qraft_bus.last import last_readable
from qraft_bus.port import Bus, Delivery, OutMessage, Subscription
from qraft_contracts import headers
from qraft_contracts.arrow_schemas import BARS_SCHEMA, FEATURES_SCHEMA, features_id
from qraft_contracts.subjects import FEATURES_READY, bars_subject
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch, decode_bars
from qraft_frames.features import decode_features, encode_features
from qraft_telemetry import logs, metrics
from svc_features.usecases import ComputeFeatures

SERVICE: Final = "svc_features"
_REFUSED_NAMED_MAX: Final = 3  # symbols named in one log line


class BarsHandler:
    """Turn every first revision of a closed bar into one features message."""

    def __init__(self, bus: Bus, compute: ComputeFeatures) -> None:
        self._bus = bus
        self._compute = compute
        self._last_as_of: datetime | None = None
        self._is_resumed = False
        # Computed and not yet known to be stored: a bar that is tried again is not computed again.
        self._unstored: OutMessage | None = None

    def subscription(self) -> Subscription:
        """Return the durable on this interval's bars."""
        return Subscription(bars_subject(self._compute.interval), "features", self.handle, (BARS_SCHEMA,))

    async def handle(self, delivery: Delivery) -> None:
        """
        Return when the bar's features are on the stream.

        Raises:
            Malformed, Refused: see ComputeFeatures.
            Transient: if the features could not be stored.
        """
        bar = decode_bars(delivery.data)
        is_warm_up = self._compute.needs_warm_up(bar)
        await self._resume()
        if self._last_as_of is not None and bar.closed_at <= self._last_as_of:
            metrics.MESSAGES_REFUSED.labels(SERVICE, "already_computed").inc()
            return  # delivered again, or older than what is computed: its features never change
        if self._unstored is None or self._unstored.as_of != bar.closed_at:
            if is_warm_up:
                # In a thread: the loop keeps the message alive on the bus meanwhile.
                await asyncio.to_thread(self._compute.warm_up, bar)
                logs.get().info("features.warmed_up", as_of=format_instant(bar.closed_at))
            self._unstored = self._message(bar, delivery)
        await self._bus.publish(self._unstored)
        self._unstored = None
        self._last_as_of = bar.closed_at

    def _message(self, bar: BarBatch, cause: Delivery) -> OutMessage:
        started_s = perf_counter()
        computed = self._compute(bar)
        metrics.STAGE_SECONDS.labels("features").observe(perf_counter() - started_s)
        as_of = format_instant(bar.closed_at)
        if computed.refused:
            metrics.MESSAGES_REFUSED.labels(SERVICE, "unusable_bar").inc(len(computed.refused))
        logs.get().info(
            "features.computed",
            as_of=as_of,
            n_symbols=len(computed.batch.symbols),
            n_refused=len(computed.refused),
            refused=list(computed.refused[:_REFUSED_NAMED_MAX]),
        )
        return OutMessage(
            subject=FEATURES_READY,
            data=encode_features(computed.batch),
            message_id=features_id(bar.market, as_of),
            schema=FEATURES_SCHEMA,
            as_of=bar.closed_at,
            origin=bar.origin,
            lineage=cause.headers.get(headers.LINEAGE, ""),
            cause=cause.headers,
        )

    async def _resume(self) -> None:
        """Find out, before the first bar is judged, up to where the features are on the stream."""
        if self._is_resumed:
            return
        batch = await last_readable(self._bus, FEATURES_READY, decode_features)
        if batch is not None and (batch.market, batch.interval) == (self._compute.market, self._compute.interval):
            self._last_as_of = batch.as_of
        self._is_resumed = True
