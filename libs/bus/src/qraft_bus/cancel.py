"""Ending tasks for sure: before Python 3.12, asyncio.wait_for (in every nats-py request) can lose a cancellation."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_REPEAT_S: Final = 0.05


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """
    Cancel tasks and wait until all have ended; what they raise stays in them.

    Repeats the cancellation, because one that arrives in the same loop turn as the awaited result is dropped
    (python/cpython#86296); seen here as a drain that hung on the watchdog.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_REPEAT_S)
