"""Wait for a service's own word that it can serve."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx

from qraft_cli.stack.ports import HOST

_PAUSE_S = 0.1


async def wait_until_ready(port: int, *, timeout_s: float) -> bool:
    """Return whether the service on a loopback port said that it is ready within the time."""
    async with httpx.AsyncClient(timeout=2.0) as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    with suppress(httpx.HTTPError):
                        if (await client.get(f"http://{HOST}:{port}/readyz")).status_code == httpx.codes.OK:
                            return True
                    await asyncio.sleep(_PAUSE_S)
    return False
