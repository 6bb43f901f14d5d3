"""
The bus edge: four ordered subscriptions, one per horizon, joined into one Targets message a bar.

A handler keeps its message unacknowledged until the targets of that bar are stored. So the join needs no state of
its own: after kill -9 the bus delivers again every message whose targets were not published, and those published but
not yet acknowledged are recognized by the last targets on the stream. One subscription for all horizons could not do
this: it must acknowledge a bar's first horizon to see its second, and a crash in between would lose the first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import perf_counter

from qraft_bus.last import last_readable
from qraft_bus.port import Bus, Delivery, OutMessage, Subscription
from qraft_contracts import headers
from qraft_contracts.codec import decode, encode
from qraft_contracts.outcomes import Malformed, Outcome, Refused
from qraft_contracts.signals import Signals
from qraft_contracts.subjects import HORIZONS, TARGETS_PAPER, signals_subject
from qraft_contracts.targets import Targets, targets_id
from qraft_contracts.times import format_instant
from qraft_quant.allocation import AllocationLimits
from qraft_telemetry import logs, metrics
from svc_allocator.domain.join import JoinedBar, join
from svc_allocator.ports import CorrelationSource
from svc_allocator.usecases import decide_targets


@dataclass(eq=False, slots=True)
class _InHand:
    """One horizon's message whose handler waits for its bar to be decided."""

    signals: Signals
    delivery: Delivery
    decided: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class SignalsHandler:
    """Join the horizons of each bar and publish its targets."""

    def __init__(
        self,
        bus: Bus,
        *,
        market: str,
        interval: str,
        limits: AllocationLimits,
        correlations: CorrelationSource,
    ) -> None:
        self._bus = bus
        self._market = market
        self._interval = interval
        self._limits = limits
        self._correlations = correlations
        self._in_hand: dict[str, _InHand] = {}
        self._resuming = asyncio.Lock()
        self._is_resumed = False
        self._last_as_of: datetime | None = None

    def subscriptions(self) -> list[Subscription]:
        """Return one durable for each horizon."""
        return [
            Subscription(signals_subject(horizon), f"allocator-{horizon}", self.handle, (Signals.SCHEMA,))
            for horizon in HORIZONS
        ]

    async def handle(self, delivery: Delivery) -> None:
        """
        Return when the targets of the message's bar are stored.

        Raises:
            Malformed: if the bytes are no Signals or belong to another subject.
            Refused: if the signals are of another market or interval.
            Transient: if the targets could not be stored.
        """
        signals = decode(delivery.data, Signals)
        if signals.horizon not in HORIZONS or delivery.subject != signals_subject(signals.horizon):
            raise Malformed("wrong_horizon", f"expected {delivery.subject}, received horizon {signals.horizon!r}")
        if (signals.market, signals.interval) != (self._market, self._interval):
            raise Refused("other_market", f"expected {self._market} {self._interval}, received {signals.market}")
        await self._resume()
        if self._last_as_of is not None and signals.as_of <= self._last_as_of:
            return  # its targets are on the stream: delivered again, or too late for a bar that was held
        await self._wait_for_bar(_InHand(signals, delivery))

    async def _wait_for_bar(self, mine: _InHand) -> None:
        horizon = mine.signals.horizon
        assert horizon not in self._in_hand, f"two messages of {horizon} in hand"
        self._in_hand[horizon] = mine
        try:
            bar = join({name: waiting.signals for name, waiting in self._in_hand.items()})
            if bar is not None:
                await self._decide(bar)
            await mine.decided
        finally:
            if self._in_hand.get(horizon) is mine:
                del self._in_hand[horizon]

    async def _decide(self, bar: JoinedBar) -> None:
        members = [self._in_hand[signals.horizon] for signals in bar.signals]
        failure: Outcome | None = None
        try:
            await self._publish(bar, members[-1].delivery)
            self._last_as_of = bar.as_of
        except Outcome as error:
            failure = error
        for waiting in members:
            # Let go here and not in its own handler, which may run after the next message of its horizon came.
            del self._in_hand[waiting.signals.horizon]
            _settle(waiting, failure)

    async def _publish(self, bar: JoinedBar, cause: Delivery) -> None:
        correlations = await self._correlations.at(bar.as_of)
        started_s = perf_counter()
        targets = decide_targets(bar, correlations, self._limits)
        metrics.STAGE_SECONDS.labels("allocate").observe(perf_counter() - started_s)
        as_of = format_instant(bar.as_of)
        ack = await self._bus.publish(
            OutMessage(
                subject=TARGETS_PAPER,
                data=encode(targets),
                message_id=targets_id(targets.market, as_of),
                schema=Targets.SCHEMA,
                as_of=bar.as_of,
                origin=targets.origin,
                lineage=cause.headers.get(headers.LINEAGE, ""),
                cause=cause.headers,
            )
        )
        _tell(targets, is_duplicate=ack.is_duplicate)

    async def _resume(self) -> None:
        """Find out, before the first message is judged, up to which bar the targets are on the stream."""
        async with self._resuming:  # four handlers may come at once
            if self._is_resumed:
                return
            targets = await last_readable(self._bus, TARGETS_PAPER, partial(decode, kind=Targets))
            if targets is not None and (targets.market, targets.interval) == (self._market, self._interval):
                self._last_as_of = targets.as_of
            self._is_resumed = True


def _settle(waiting: _InHand, failure: Outcome | None) -> None:
    if waiting.decided.done():
        return
    if failure is None:
        waiting.decided.set_result(None)
    else:
        waiting.decided.set_exception(failure)


def _tell(targets: Targets, *, is_duplicate: bool) -> None:
    for refusal in targets.refused:
        metrics.MESSAGES_REFUSED.labels("allocator", refusal.reason).inc(refusal.n)
    logs.get().info(
        "targets.published",
        as_of=format_instant(targets.as_of),
        profile=targets.profile,
        n_targets=len(targets.targets),
        hold_reason=targets.reason,
        is_duplicate=is_duplicate,
    )
