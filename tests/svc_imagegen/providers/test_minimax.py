"""MiniMax: pictures one by one over server-sent events, and what a stream that breaks is worth."""

from __future__ import annotations

import pytest
from tests.svc_imagegen.providers.fault_provider import PNG, png
from tests.svc_imagegen.providers.fault_server import FaultServer, Reply, Request
from tests.svc_imagegen.providers.kit import generation, make_provider
from tests.svc_imagegen.providers.test_openai import exchange

from svc_imagegen.domain.outcome import BadPicture, ProviderAnswer, Rejected, Uncertain

PNG_2 = png(16, 16)


def _sse(*events: str) -> bytes:
    return ": keepalive\n\n".join(f"event: x\ndata: {it}\n\n" for it in events).encode()


class TestMiniMax:
    _ONE = '{"type":"image_generation.partial_succeeded","image_index":1,"url":"/b.png"}'
    _ZERO = '{"type":"image_generation.partial_succeeded","image_index":0,"url":"/a.png"}'
    _DONE = '{"type":"image_generation.completed","usage":{"generated_images":2},"request_id":"r-1"}'
    _ERROR = '{"type":"error","error":{"message":"oops","http_code":%d,"code":"%s"},"usage":{},"request_id":"r-2"}'

    async def _stream(self, body: bytes, *, n: int = 2, is_cut: bool = False) -> tuple[ProviderAnswer, Request]:
        async def handler(request: Request, reply: Reply) -> None:
            if request.method == "GET":
                await reply.send(200, PNG if request.path == "/a.png" else PNG_2)
                return
            await reply.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
            await reply.raw(f"{len(body):x}\r\n".encode() + body + b"\r\n")
            if not is_cut:
                await reply.raw(b"0\r\n\r\n")

        async with FaultServer(handler) as server:
            provider = make_provider(f"{server.origin}/v1", kind="minimax")
            try:
                result = await provider.generate(generation(n=n), (), attempt_id="a")
            finally:
                await provider.close()
            return result, server.requests[0]

    async def test_pictures_come_one_by_one_and_are_put_in_order(self) -> None:
        result, sent = await self._stream(_sse(self._ONE, self._ZERO, self._DONE))

        assert sent.json() == {"model": "m", "prompt": "a red fox", "n": 2, "response_format": "url", "stream": True}
        assert [it.data for it in result.pictures] == [PNG, PNG_2]
        assert result.usage == {"generated_images": 2}
        assert result.provider_request_id == "r-1"

    async def test_what_succeeded_before_an_error_is_kept(self) -> None:
        result, _ = await self._stream(_sse(self._ZERO, self._ERROR % (500, "x")))

        assert [it.data for it in result.pictures] == [PNG]

    @pytest.mark.parametrize(
        ("status", "code", "outcome", "cause"),
        [
            (500, "x", Uncertain, "provider_error"),
            (400, "x", Rejected, "bad_request"),
            (422, "1026", Rejected, "content_policy"),
            (402, "x", Rejected, "provider_quota"),
            (429, "x", Rejected, "bad_request"),
        ],
    )
    async def test_an_error_event_is_sorted_by_its_own_status(
        self, status: int, code: str, outcome: type[Rejected | Uncertain], cause: str
    ) -> None:
        with pytest.raises(outcome) as raised:
            await self._stream(_sse(self._ERROR % (status, code)))

        assert raised.value.cause == cause

    @pytest.mark.parametrize("is_cut", [True, False])
    async def test_a_stream_that_is_cut_delivers_what_had_come(self, is_cut: bool) -> None:
        result, _ = await self._stream(_sse(self._ZERO), is_cut=is_cut)

        assert [it.data for it in result.pictures] == [PNG]

    @pytest.mark.parametrize("is_cut", [True, False])
    async def test_a_stream_that_is_cut_before_any_picture_is_uncertain(self, is_cut: bool) -> None:
        with pytest.raises(Uncertain) as uncertain:
            await self._stream(b": keepalive\n\n", is_cut=is_cut)

        assert uncertain.value.cause == "connection_lost"

    async def test_an_answer_that_is_no_stream_is_read_too(self) -> None:
        result, _ = await exchange(generation(), kind="minimax")

        assert result.pictures[0].data == PNG

    async def test_html_is_a_bad_picture(self) -> None:
        with pytest.raises(BadPicture):
            await self._stream(b"<html>")
