"""The one way in which a bus says that it can no longer serve."""

from __future__ import annotations

import asyncio

from qraft_telemetry import logs


class Fatal:
    """Keeps the first reason and wakes whoever waits for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._reason = ""

    @property
    def reason(self) -> str | None:
        """Return why the bus cannot serve, or None while it can."""
        return self._reason if self._event.is_set() else None

    def declare(self, reason: str) -> None:
        """Record a reason; later ones are consequences and only logged."""
        logs.get().error("bus.fatal", reason=reason, first=not self._event.is_set())
        if not self._event.is_set():
            self._reason = reason
            self._event.set()

    async def wait(self) -> str:
        """Wait for a reason and return it."""
        await self._event.wait()
        return self._reason
