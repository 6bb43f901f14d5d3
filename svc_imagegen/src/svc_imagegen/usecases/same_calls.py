"""Repetitions of one call, one after another within a process; across processes the job store decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SameCalls:
    """One lock a call in progress. Its size is bounded by the calls in progress."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def one_at_a_time(self, name: str) -> AsyncIterator[None]:
        """Hold the call's lock for the block."""
        lock, n_users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, n_users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, n_users = self._locks[name]
            if n_users == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, n_users - 1)
