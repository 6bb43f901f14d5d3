"""
Restart nats-server where it cannot help itself.

After a write that found the disk full, nats-server 2.15 gives up the stream for good: it answers no publish, also when
there is space again, until it is restarted. Its health page says so. Measured with a full file system; see
tests/e2e/test_disk_full.py.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import httpx

from qraft_cli.console import ERRORS
from qraft_cli.stack.ports import HOST
from qraft_cli.stack.supervisor import Supervisor

_INTERVAL_S: Final = 2.0
# Between two restarts: far from what the supervisor takes for a crash loop.
_PAUSE_S: Final = 60.0
_WRITE_ERROR: Final = "write error"
# Enough for the server to write its indexes while it stops, and to start again.
FREE_BYTES_MIN: Final = 8 << 20


async def tend_nats(supervisor: Supervisor, store: Path, *, monitor_port: int) -> None:
    """Restart the server once a stream of it has failed to write and its disk has space. Runs until it is canceled."""
    is_told = False
    async with httpx.AsyncClient(timeout=_INTERVAL_S) as client:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            trouble = await _write_error(client, monitor_port)
            if trouble and not is_told:
                ERRORS.print(f"[bold red]nats-server[/] cannot write: {trouble}", highlight=False)
            is_told = bool(trouble)
            if trouble and shutil.disk_usage(store).free >= FREE_BYTES_MIN:
                ERRORS.print("its disk has space: restarting nats-server", highlight=False)
                supervisor.restart("nats-server")
                await asyncio.sleep(_PAUSE_S)


async def _write_error(client: httpx.AsyncClient, monitor_port: int) -> str:
    """Return what the server says about a failed write, or "" (also while it is away: its supervisor sees to that)."""
    try:
        response = await client.get(f"http://{HOST}:{monitor_port}/healthz")
        error = str(response.json().get("error", "")) if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else ""
    except (httpx.HTTPError, ValueError):
        return ""
    return error if _WRITE_ERROR in error else ""
