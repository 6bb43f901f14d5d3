"""Messages in, use cases, messages out. One handler a subject."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from qraft_bus.last import last_readable
from qraft_bus.port import Bus, Delivery, OutMessage
from qraft_contracts import headers
from qraft_contracts.codec import decode, encode
from qraft_contracts.models import ModelDecision
from qraft_contracts.outcomes import Refused
from qraft_contracts.signals import Signals, signals_id
from qraft_contracts.subjects import HORIZONS, signals_subject
from qraft_contracts.times import format_instant
from qraft_frames.features import decode_features
from qraft_runtime.clock import Clock
from qraft_telemetry import logs, metrics
from svc_inference.usecases.follow import FollowRegistry
from svc_inference.usecases.infer import infer, refusals

SERVICE: Final = "svc_inference"


class FeaturesHandler:
    """
    Answers every bar's features with four signals messages, in the order of HORIZONS.

    A bar at or before the last answered one has no second effect. After a restart the last answered bar is read
    from the stream: the last horizon's newest message, so a bar of which only some horizons went out is answered
    again (their ids keep the stream from storing those twice).
    """

    def __init__(
        self, *, bus: Bus, follow: FollowRegistry, clock: Clock, market: str, interval: str, age_max: timedelta
    ) -> None:
        self._bus = bus
        self._follow = follow
        self._clock = clock
        self._market = market
        self._interval = interval
        self._age_max = age_max
        self._answered_to: datetime | None = None
        self._is_resumed = False

    async def __call__(self, delivery: Delivery) -> None:
        """Handle one `features.ready` message."""
        batch = decode_features(delivery.data)
        if (batch.market, batch.interval) != (self._market, self._interval):
            _count({"other_market": 1})
            raise Refused(
                "other_market", f"expected {self._market} {self._interval}, received {batch.market} {batch.interval}"
            )
        await self._resume()
        if self._answered_to is not None and batch.as_of <= self._answered_to:
            _count({"already_answered": 1})
            raise Refused("already_answered", f"as_of {batch.as_of}, answered up to {self._answered_to}")
        # Read once: a swap while this bar is published concerns the next one.
        board = self._follow.board
        began = time.perf_counter()
        # In the loop, not in a thread: README, "Threads".
        signals = infer(batch, board, now=self._clock.now(), age_max=self._age_max)
        metrics.STAGE_SECONDS.labels("inference").observe(time.perf_counter() - began)
        _count(refusals(signals))
        await self._bus.publish_many(_messages(signals, cause=delivery.headers))
        self._answered_to = batch.as_of
        logs.get().debug("bar.inferred", as_of=format_instant(batch.as_of), n_rows=[len(s.rows) for s in signals])

    async def _resume(self) -> None:
        if self._is_resumed:
            return
        found = await last_readable(self._bus, signals_subject(HORIZONS[-1]), partial(decode, kind=Signals))
        if found is not None and (found.market, found.interval) == (self._market, self._interval):
            self._answered_to = found.as_of
        self._is_resumed = True


class ModelsHandler:
    """Takes every registry decision as a hint to read the registry, which is the truth."""

    def __init__(self, follow: FollowRegistry) -> None:
        self._follow = follow

    async def __call__(self, delivery: Delivery) -> None:
        """Handle one `models.*` message."""
        decode(delivery.data, ModelDecision)
        self._follow.ask()


def tell(event: str, fields: Mapping[str, object]) -> None:
    """Log and measure what FollowRegistry has to say; what went wrong as a warning."""
    log = logs.get()
    if event != "models.swapped":
        log.warning(event, **fields)
        return
    log.info(event, **fields)
    models = fields["models"]
    assert isinstance(models, dict), models
    metrics.MODEL_ACTIVE.clear()
    for horizon, model_id in models.items():
        metrics.MODEL_ACTIVE.labels(horizon, model_id).set(1)


def _messages(signals: Sequence[Signals], *, cause: Mapping[str, str]) -> list[OutMessage]:
    return [
        OutMessage(
            subject=signals_subject(message.horizon),
            data=encode(message),
            message_id=signals_id(message.market, format_instant(message.as_of), message.horizon),
            schema=Signals.SCHEMA,
            as_of=message.as_of,
            origin=message.origin,
            lineage=cause[headers.LINEAGE],
            cause=cause,
        )
        for message in signals
    ]


def _count(reasons: Mapping[str, int]) -> None:
    for reason, n in reasons.items():
        metrics.MESSAGES_REFUSED.labels(SERVICE, reason).inc(n)
