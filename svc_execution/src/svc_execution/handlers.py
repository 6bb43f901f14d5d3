"""The bus edge: two ordered streams, handled strictly by event time; a message is acknowledged after its commit."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime

from qraft_bus.port import Delivery
from qraft_contracts.codec import decode
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused, Transient
from qraft_contracts.targets import Targets
from qraft_frames.bars import BarBatch, decode_bars
from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_execution.domain.sequencer import Step, next_step
from svc_execution.domain.state import State
from svc_execution.usecases import PaperAccount

# How often the deadline is looked at; it is a minute or so, and nothing else waits for this.
_WATCH_INTERVAL_S = 0.25


class EventMerge:
    """
    Handlers of both subscriptions. Each brings one message at a time and returns when it has taken effect; a handler
    whose turn has not come waits, its message unacknowledged.

    targets_deadline_s: in real time only, how long after its bar a targets message may come. Replayed and simulated
    bars wait for theirs without end: their clock is the data's.
    """

    def __init__(self, account: PaperAccount, *, clock: Clock, targets_deadline_s: float) -> None:
        self._account = account
        self._clock = clock
        self._targets_deadline_s = targets_deadline_s
        self._turn = asyncio.Condition()
        self._bar_at: datetime | None = None
        self._targets_at: datetime | None = None
        self._bar_origin: Origin | None = None
        # The bar whose targets are awaited in real time, and when that wait began.
        self._awaited: tuple[datetime, float] | None = None

    async def on_bars(self, delivery: Delivery) -> None:
        """Handle one `bars.<interval>` message."""
        bar = decode_bars(delivery.data)
        if not self._account.is_ours(bar) or bar.revision > 0:
            return  # another account's bar, or a correction: what was traded was traded on the first revision
        sha256 = hashlib.sha256(delivery.data).hexdigest()
        async with self._turn:
            self._bar_at = bar.closed_at
            try:
                await self._trade_in_turn(bar, sha256, delivery)
            finally:
                self._bar_at = None
                self._turn.notify_all()

    async def on_targets(self, delivery: Delivery) -> None:
        """Handle one `targets.paper` message."""
        targets = decode(delivery.data, Targets)
        sha256 = hashlib.sha256(delivery.data).hexdigest()
        async with self._turn:
            reason = self._account.misaddressed(targets)
            if reason is not None:
                await self._account.turn_away_targets(targets, sha256=sha256, reason=reason)
                raise Refused(reason, f"targets of {targets.market} {targets.interval}")
            self._targets_at = targets.as_of
            try:
                await self._decide_in_turn(targets, sha256, delivery)
            finally:
                self._targets_at = None
                self._turn.notify_all()

    async def watch_deadline(self) -> None:
        """Hold the bars whose targets are late. Runs until it is canceled."""
        task = asyncio.current_task()
        # asyncio.wait_for, inside the database's client, may lose a cancellation (Python 3.11): asked for is enough.
        while task is not None and not task.cancelling():
            await asyncio.sleep(_WATCH_INTERVAL_S)
            await self._hold_if_late()

    async def _hold_if_late(self) -> None:
        async with self._turn:
            try:
                if await self._next_step() is Step.HOLD_LATE:
                    await self._account.hold(reason="targets_late")
                    self._turn.notify_all()
            except Transient as error:
                logs.get().warning("deadline.retried", reason=error.reason)

    async def _trade_in_turn(self, bar: BarBatch, sha256: str, delivery: Delivery) -> None:
        self._turn.notify_all()
        while True:
            step = await self._next_step()
            if step is Step.KNOWN_BAR:
                return await self._account.examine_known_bar(bar.closed_at, sha256=sha256)
            if step is Step.BAR:
                self._bar_origin = bar.origin
                return await self._account.trade_bar(bar, sha256=sha256, cause=delivery.headers)
            await self._turn.wait()

    async def _decide_in_turn(self, targets: Targets, sha256: str, delivery: Delivery) -> None:
        self._turn.notify_all()
        while True:
            step = await self._next_step()
            if step is Step.TARGETS:
                return await self._account.decide(targets, sha256=sha256, cause=delivery.headers)
            if step is Step.KNOWN_TARGETS:
                return await self._account.examine_known_targets(targets, sha256=sha256)
            if step is Step.TARGETS_WITHOUT_BAR:
                return await self._account.turn_away_targets(targets, sha256=sha256, reason="no_bar")
            if step is Step.HOLD_MISSING:
                await self._account.hold(reason="targets_missing")
                self._turn.notify_all()
            else:
                await self._turn.wait()

    async def _next_step(self) -> Step:
        state = await self._account.recover()
        return next_step(
            last_bar_at=state.last_bar_at,
            last_targets_at=state.last_targets_at,
            bar_at=self._bar_at,
            targets_at=self._targets_at,
            is_late=self._is_late(state),
        )

    def _is_late(self, state: State) -> bool:
        """Return whether the awaited targets are overdue; the wait begins when their bar is first seen as the last."""
        bar_at = state.last_bar_at
        if bar_at is None or bar_at == state.last_targets_at or (self._bar_origin or state.origin) is not Origin.REAL:
            self._awaited = None
            return False
        if self._awaited is None or self._awaited[0] != bar_at:
            self._awaited = (bar_at, self._clock.monotonic())
        return self._clock.monotonic() - self._awaited[1] > self._targets_deadline_s
