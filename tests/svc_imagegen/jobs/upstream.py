"""A paid provider outside of every process that is killed: it answers as the prompt says and counts the calls."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from tests.svc_imagegen.jobs.line import png


class Upstream:
    """
    Speaks OpenAI's images interface. The prompt's first word is what happens, the whole prompt names the job.

    paid: pictures that were made, by prompt. hold_back: calls of `wait` are answered once it is set.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.release = asyncio.Event()
        self.waiting = asyncio.Event()
        self.url = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Upstream]:
        """Serve on a free port while the block runs."""
        app = web.Application()
        app.router.add_post("/v1/images/generations", self._generate)
        app.router.add_get("/v1/tasks/{id}", self._task)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            self.release.set()
            await runner.cleanup()

    async def _generate(self, request: web.Request) -> web.Response:
        prompt = (await request.json())["prompt"]
        self.asked[prompt] += 1
        match prompt.split()[0]:
            case "reject":
                return web.json_response({"error": {"message": "no", "code": "content_policy_violation"}}, status=400)
            case "throttle" if self.asked[prompt] == 1:
                return web.Response(status=429, headers={"Retry-After": "1"})
            case "fail":
                self.paid[prompt] += 1
                return web.Response(status=502)
            case "task":
                self.paid[prompt] += 1
                return web.json_response({"task_id": prompt.split()[1], "status": "processing"}, status=202)
            case "wait":
                self.waiting.set()
                await self.release.wait()
        self.paid[prompt] += 1
        return web.json_response(_pictures())

    async def _task(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "completed", **_pictures()})


def _pictures() -> dict[str, object]:
    return {"created": 1, "data": [{"b64_json": base64.b64encode(png(7)).decode()}]}
