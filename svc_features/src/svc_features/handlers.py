"""The bus edge: decode a closed bar, compute, publish its features."""

from __future__ import annotations

from datetime import datetime
from time import perf_counter

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


class BarsHandler:
    """Turn every first revision of a closed bar into one features message."""

    def __init__(self, bus: Bus, compute: ComputeFeatures) -> None:
        self._bus = bus
        self._compute = compute
        self._last_as_of: datetime | None = None
        self._is_resumed = False

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
        await self._resume()
        if bar.revision == 0 and self._last_as_of is not None and bar.closed_at <= self._last_as_of:
            metrics.MESSAGES_REFUSED.labels("features", "already_computed").inc()
            return  # delivered again, or older than what is computed: its features never change
        started_s = perf_counter()
        computed = self._compute(bar)
        metrics.STAGE_SECONDS.labels("features").observe(perf_counter() - started_s)
        await self._bus.publish(self._message(bar, encode_features(computed.batch), delivery))
        self._last_as_of = bar.closed_at
        if computed.n_unusable:
            metrics.MESSAGES_REFUSED.labels("features", "unusable_bar").inc(computed.n_unusable)
        logs.get().info(
            "features.published",
            as_of=format_instant(bar.closed_at),
            n_symbols=len(computed.batch.symbols),
            n_unusable=computed.n_unusable,
            is_warmed_up=computed.is_warmed_up,
        )

    def _message(self, bar: BarBatch, data: bytes, cause: Delivery) -> OutMessage:
        return OutMessage(
            subject=FEATURES_READY,
            data=data,
            message_id=features_id(bar.market, format_instant(bar.closed_at)),
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
