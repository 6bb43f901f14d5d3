"""How fast bars go out: the replay speed, and no further ahead than the slowest consumer allows."""

from __future__ import annotations

import asyncio

from qraft_contracts.outcomes import Transient
from svc_ingest.ports import BarsBus

# The longest nap before the speed is looked at again.
_NAP_S = 0.2
# Asking the server for its lag costs about as much as a publish; while consumers work, the next answer is that far off.
_LAG_POLL_S = 0.005
_LAG_POLL_MAX_S = 0.02


class ReplayPace:
    """Bars a second, adjustable while running; 0 = no waiting. A living source ignores it."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._next_at: float | None = None

    @property
    def speed(self) -> float:
        """Return bars a second; 0 = as fast as the consumers follow."""
        return self._speed

    def set_speed(self, speed: float) -> None:
        """Change the speed from the next bar on."""
        self._speed = speed
        self._next_at = None

    async def wait(self) -> None:
        """Wait until the next bar is due. A bar that is late is not made up for: the speed is a limit."""
        now = asyncio.get_running_loop().time
        while self._speed > 0:
            if self._next_at is None:
                self._next_at = now()
            left_s = self._next_at - now()
            if left_s <= 0:
                self._next_at = max(self._next_at, now() - 1 / self._speed) + 1 / self._speed
                return
            await asyncio.sleep(min(left_s, _NAP_S))


class FlowControl:
    """Lets at most `max_bars_ahead` bars go out beyond what the slowest durable consumer has finished."""

    def __init__(self, bus: BarsBus, *, stream: str, max_bars_ahead: int) -> None:
        self._bus, self._stream, self._max = bus, stream, max_bars_ahead
        self._budget = 0
        self.n_waits = 0

    async def wait(self) -> None:
        """
        Wait until one more bar may go out. The server is asked once for as many bars as its answer leaves room for;
        at the limit we wait for half of it, so that the consumers keep working and we do not ask for every bar.

        While the bus is away nothing goes out; the publish that follows says so if it lasts.
        """
        nap_s = _LAG_POLL_S
        while self._budget <= 0:
            try:
                room = self._max - await self._bus.slowest_lag(self._stream)
            except Transient:
                self._budget = 1
                break
            if room >= max(1, self._max // 2):
                self._budget = room
                break
            self.n_waits += 1
            await asyncio.sleep(nap_s)
            nap_s = min(2 * nap_s, _LAG_POLL_MAX_S)
        self._budget -= 1
