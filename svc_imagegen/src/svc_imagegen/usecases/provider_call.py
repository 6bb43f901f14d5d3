"""The border to a provider's adapter: whatever happens behind it, a named outcome comes out, in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from qraft_telemetry import logs
from svc_imagegen.domain.outcome import ProviderOutcome, Uncertain

T = TypeVar("T")


async def call_provider(work: Coroutine[Any, Any, T], *, timeout_s: float, provider: str) -> T | ProviderOutcome:
    """
    Return what the adapter returned, or the outcome that it raised.

    A call that takes longer is canceled and uncertain. So is one whose adapter raised anything else: that is a bug of
    ours, but the paid call may have been made, and other calls of this process must not end with it. It runs in a task
    of its own because that is the one place where every exception can be looked at instead of caught.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        is_late = not task.done()
    finally:
        await _end(task)
    if is_late or task.cancelled():
        return Uncertain("timeout", f"no answer within {timeout_s:.0f} s")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, ProviderOutcome):
        return error
    logs.get().error("provider.adapter_failed", provider=provider, error=type(error).__name__, exc_info=error)
    return Uncertain("provider_error", f"the answer could not be read ({type(error).__name__})")


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel until the task has ended; before Python 3.12 one cancellation may be lost."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
