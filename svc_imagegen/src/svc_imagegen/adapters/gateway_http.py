"""The gateway's own HTTP API as its client sees it, with one key; for the operator's commands."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import aiohttp

from svc_imagegen.domain.acceptance import Cell, ModelUnderTest
from svc_imagegen.usecases.acceptance import JobRecord, Refusal

_TIMEOUT: Final = aiohttp.ClientTimeout(total=120, sock_connect=10)
_FINAL_STATES: Final = ("succeeded", "failed", "canceled")
_OPEN_ENDS: Final = ("uncertain", "refund_failed")  # resolved in hours, and no success whatever comes
_FINAL_MONEY: Final = ("settled", "voided")
_JSON_BYTES_MAX: Final = 16 << 20
_PICTURE_BYTES_MAX: Final = 256 << 20
_READ_BYTES: Final = 1 << 18


class HttpGateway:
    """The Gateway port of the acceptance use case, and the probes. Use as an async context."""

    def __init__(self, url: str, *, key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpGateway:
        # No cookies, no proxy from the environment: the key goes to the address that was given and nowhere else.
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None, "left before it was entered"
        await self._session.close()

    async def check_key(self) -> None:
        """Raise Refusal unless the key is valid."""
        await self._json("GET", "/api/account")

    async def models(self) -> Sequence[ModelUnderTest]:
        """Return the models, in the order of the configuration."""
        found = await self._json("GET", "/v1/models")
        return [
            ModelUnderTest(
                provider=it["qraft"]["provider"],
                model=it["qraft"]["explicit_id"].partition("/")[2],
                is_simulated=it["qraft"]["is_simulated"],
            )
            for it in found["data"]
        ]

    async def estimate(self, model: str, cell: Cell) -> str:
        """Return the price of a cell in credits."""
        asked = {
            "model": model,
            "operation": "edit" if cell.n_references else "generation",
            "n": 1,
            "size": cell.size,
            "quality": cell.quality,
            "n_references": cell.n_references,
        }
        found = await self._json("POST", "/api/estimate", asked)
        return str(found["expected_credits"])

    async def submit(
        self, model: str, cell: Cell, *, prompt: str, pictures: Sequence[bytes], mask: bytes | None
    ) -> str:
        """Make the job of a cell and return its id."""
        asked: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            "n": 1,
            "size": cell.size,
            "quality": cell.quality,
            "output_format": cell.output_format,
        }
        if pictures:
            asked["images"] = [{"image_url": _data_url(it)} for it in pictures]
        if mask is not None:
            asked["mask"] = {"image_url": _data_url(mask)}
        found = await self._json("POST", "/api/jobs", asked)
        return str(found["id"])

    async def job(self, job_id: str) -> JobRecord:
        """Return a job as it is now."""
        found = await self._json("GET", f"/api/jobs/{job_id}")
        money = found["money"]
        return JobRecord(
            job_id=found["id"],
            state=found["state"],
            message=found["message"],
            is_final=found["state"] in _OPEN_ENDS
            or (found["state"] in _FINAL_STATES and money["state"] in _FINAL_MONEY),
            is_simulated=found["is_simulated"],
            money_state=money["state"],
            charged_credits=money["charged_credits"],
            assets=tuple((it["id"], it["sha256"], it["n_bytes"], it["is_simulated"]) for it in found["assets"]),
        )

    async def content(self, asset_id: str) -> bytes:
        """Return a picture's bytes."""
        _, data = await self._call("GET", f"/api/assets/{asset_id}/content", None, n_bytes_max=_PICTURE_BYTES_MAX)
        return data

    async def probe(self, provider: str, *, model: str | None, feature: str | None, spend: bool) -> dict[str, Any]:
        """Return what is unknown of a provider, with prices; with spend the jobs that find out are made."""
        asked: dict[str, Any] = {"provider": provider, "spend": spend}
        asked |= {name: value for name, value in (("model", model), ("feature", feature)) if value is not None}
        return await self._json("POST", "/api/probes", asked)

    async def findings(self) -> list[dict[str, Any]]:
        """Return the newest finding of each feature."""
        found = await self._json("GET", "/api/capabilities")
        return list(found["data"])

    async def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer, data = await self._call(method, path, body, n_bytes_max=_JSON_BYTES_MAX)
        return _decoded(data, status=answer.status)

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, *, n_bytes_max: int
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        assert self._session is not None, "used before it was entered"
        try:
            async with self._session.request(method, self._url + path, json=body, allow_redirects=False) as answer:
                data = await _read(answer, n_bytes_max)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise Refusal("gateway_away", f"{method} {path}: {type(error).__name__}: {error}") from error
        if answer.status >= 300:
            error_body = _decoded(data, status=answer.status).get("error") or {}
            raise Refusal(error_body.get("code") or f"http_{answer.status}", error_body.get("message") or path)
        return answer, data


async def _read(answer: aiohttp.ClientResponse, n_bytes_max: int) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_chunked(_READ_BYTES):
        data += chunk
        if len(data) > n_bytes_max:
            raise Refusal("too_much", f"expected an answer of at most {n_bytes_max} bytes")
    return bytes(data)


def _decoded(data: bytes, *, status: int) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise Refusal(f"http_{status}", "the answer is no JSON; is this the gateway's address?") from error
    if not isinstance(found, dict):
        raise Refusal(f"http_{status}", "the answer is no JSON object; is this the gateway's address?")
    return found


def _data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
