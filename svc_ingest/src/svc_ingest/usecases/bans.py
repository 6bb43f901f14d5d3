"""A venue's bans: met by one feed, obeyed by all of them and by later processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from qraft_contracts.outcomes import Outcome
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_ingest.domain.raw import instant_of
from svc_ingest.domain.venue_feeds import Banned
from svc_ingest.ports import PollRecord

# A ban that is kept but cannot be read is sat out so long: Binance's begin with two minutes and grow to three days.
BAN_UNREADABLE: Final = timedelta(hours=1)
# The longest sleep before the clock is looked at again; a machine may have been suspended meanwhile.
_NAP_S: Final = 5.0


@dataclass(slots=True)
class Bans:
    """What one venue wants of us. note: tells the operator; pause: sleeps so many seconds."""

    venue: str
    record: PollRecord
    clock: Clock
    note: Callable[[str], None]
    pause: Callable[[float], Awaitable[None]]
    away_until: datetime | None = None
    _has_told_unreadable: bool = False

    @property
    def in_force(self) -> datetime | None:
        """Return until when the venue wants no request, None where it wants some."""
        return self.away_until if self.away_until is not None and self.away_until > self.clock.now() else None

    def met(self, error: Outcome) -> None:
        """Remember an outcome if it is a ban, for all feeds and for later processes."""
        if isinstance(error, Banned):
            self._keep(instant_of(error.until_ms * 1000))

    async def sit_out(self) -> None:
        """Wait until no ban is in force, ours or one that an earlier process met; one that is met meanwhile too."""
        has_waited = False
        while (until := self._until()) is not None and until > self.clock.now():
            has_waited, self.away_until = True, until
            self.note(f"not polled: {self.venue} wants no request before {format_instant(until)}")
            logs.get().warning("feeds.banned", venue=self.venue, until=format_instant(until))
            await wait_until(self.clock, self.pause, until)
        if has_waited:
            self.note("polled")

    def _keep(self, until: datetime) -> None:
        """Obey a ban in this process, and in later ones where it can be written."""
        self.away_until = until if self.away_until is None else max(until, self.away_until)
        try:
            self.record.set_ban(self.venue, until)
        except Outcome as error:
            logs.get().warning(
                "feeds.ban_not_kept", venue=self.venue, until=format_instant(until), why=str(error)[:300]
            )

    def _until(self) -> datetime | None:
        """Return until when not to ask, by this process or an earlier one; see BAN_UNREADABLE."""
        try:
            kept = self.record.banned_until(self.venue)
        except Outcome as error:
            kept = None
            if not self._has_told_unreadable:
                self._has_told_unreadable = True
                logs.get().warning("feeds.ban_unreadable", venue=self.venue, why=str(error)[:300])
                self._keep(self.clock.now() + BAN_UNREADABLE)
        return max((it for it in (kept, self.away_until) if it is not None), default=None)


async def wait_until(clock: Clock, pause: Callable[[float], Awaitable[None]], due: datetime) -> None:
    """Return when the clock says so, however it moves."""
    while (left_s := (due - clock.now()).total_seconds()) > 0:
        await pause(min(left_s, _NAP_S))
