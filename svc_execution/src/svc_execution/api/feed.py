"""What the process remembers for its watchers: the newest bar, hop latencies, the replay's speed, the metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from qraft_bus.port import OutMessage
from qraft_contracts import headers
from qraft_contracts.origin import Origin
from qraft_contracts.subjects import ORDERS_PAPER
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock
from qraft_telemetry import logs, metrics
from svc_execution.api.events import Broadcast
from svc_execution.domain.desk import BarEvent
from svc_execution.domain.latency import LatencyLog
from svc_execution.domain.state import BarRecord, DecisionRecord, Refusal, State
from svc_execution.ports import Headers

SERVICE: Final = "svc_execution"
_N_ARRIVALS: Final = 64
# The bus may be away for hours; the traces of that time are of no use.
_N_UNPUBLISHED_MAX: Final = 64


class DeskFeed:
    """The Told port. Nothing here is needed to trade, and nothing survives the process."""

    def __init__(self, *, clock: Clock, broadcast: Broadcast) -> None:
        self._clock = clock
        self._broadcast = broadcast
        self._arrivals_s: deque[float] = deque(maxlen=_N_ARRIVALS)
        self._is_real = True
        self._n_fills = 0
        # Traces of decisions whose orders are not yet on the stream, oldest first.
        self._unpublished: dict[datetime, list[tuple[str, int]]] = {}
        self.latency = LatencyLog()
        self._started_ns = self._now_ns()

    def bar_traded(self, state: State, record: BarRecord) -> None:
        """Take note of a marked bar."""
        account = record.mark.account
        self._is_real = record.mark.origin is Origin.REAL
        self._arrivals_s.append(self._clock.monotonic())
        self._n_fills = len(record.fills)
        metrics.EQUITY.labels(state.market).set(account.equity)
        metrics.DRAWDOWN.labels(state.market).set(account.drawdown)

    def targets_decided(self, state: State, record: DecisionRecord, *, cause: Headers) -> None:
        """Take note of a decision and tell the watchers about its bar."""
        metrics.KILL_SWITCH.set(any(refusal.reason == "kill_switch" for refusal in record.refusals))
        for open_order in record.orders:
            metrics.ORDERS.labels(state.market, open_order.order.policy).inc()
        account = state.account
        event = BarEvent(record.as_of, account.equity, account.drawdown, len(record.orders), self._n_fills)
        self._broadcast.tell("bar", msgspec.json.encode(event))
        if record.orders or record.refusals:
            logs.get().info(
                "targets.decided",
                as_of=format_instant(record.as_of),
                n_orders=len(record.orders),
                refused=[refusal.reason for refusal in record.refusals],
                equity=account.equity,
            )
        hops = headers.parse_hops(cause.get(headers.HOPS))
        if hops and hops[0][1] < self._started_ns:
            return  # it waited while we were down: that says nothing of the line's speed
        if hops and record.orders:
            self._unpublished[record.as_of] = hops
            if len(self._unpublished) > _N_UNPUBLISHED_MAX:
                del self._unpublished[next(iter(self._unpublished))]
        elif hops:
            self.latency.record([*hops, (SERVICE, self._now_ns())])

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal."""
        metrics.MESSAGES_REFUSED.labels(SERVICE, refusal.reason).inc(refusal.n)

    def published(self, messages: Sequence[OutMessage]) -> None:
        """Take note of orders that are on the stream now."""
        for as_of in {message.as_of for message in messages if message.subject == ORDERS_PAPER}:
            hops = self._unpublished.pop(as_of, None)
            if hops is not None:
                self.latency.record([*hops, (SERVICE, self._now_ns())])

    @property
    def replay_speed(self) -> float | None:
        """Return the bars a second of the last ones, None in real time or before there are two."""
        arrivals = self._arrivals_s
        if self._is_real or len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
            return None
        return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])

    def _now_ns(self) -> int:
        return round(self._clock.now().timestamp() * 1e9)
