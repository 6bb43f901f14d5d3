"""A real Chromium on a real HTTP server, for tests of pages."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Browser, Page, async_playwright
from starlette.types import ASGIApp

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_STOP_TIMEOUT_S = 10.0


def _chromium_path() -> str:
    found = shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(found).exists():
        pytest.skip("CHROMIUM MISSING: no page was tested; install the package chromium to run the page tests")
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield a headless Chromium of the system; skip loudly where there is none."""
    path = _chromium_path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def serve(app: ASGIApp, *, port: int = 0) -> AsyncIterator[str]:
    """Yield the address under which the application is served, in this event loop."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done(), "the server stopped before it had started"
        await asyncio.sleep(0.01)
    address = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{address[0]}:{address[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(running, _STOP_TIMEOUT_S)


@dataclass(slots=True)
class Complaints:
    """What a page complained about: console errors and warnings, uncaught exceptions, policy violations."""

    found: list[str] = field(default_factory=list)


@asynccontextmanager
async def open_page(browser: Browser, **context: Any) -> AsyncIterator[tuple[Page, Complaints]]:
    """Yield a page in a fresh context, and the list of what it complains about."""
    opened = await browser.new_context(**context)
    page = await opened.new_page()
    complaints = Complaints()
    page.on(
        "console", lambda m: complaints.found.append(f"{m.type}: {m.text}") if m.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda error: complaints.found.append(f"exception: {error}"))
    try:
        yield page, complaints
    finally:
        await opened.close()
