"""Our side of HTTP/1.1: answers in any pieces, of any server, and nothing beyond its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from svc_imagegen.adapters.http_wire import ERROR_BYTES_MAX, BrokenOff, NoHttp, Reply, TooLarge, request_bytes

N_BYTES_MAX = 1_000


def read(*pieces: bytes, is_closed: bool = False, error: Exception | None = None) -> Reply:
    """Feed an answer as it comes; with is_closed the connection ends behind it."""

    async def run() -> Reply:
        reply = Reply(n_bytes_max=N_BYTES_MAX, moved=lambda: None)
        for piece in pieces:
            reply.data_received(piece)
        if is_closed or error:
            reply.connection_lost(error)
        return reply

    return asyncio.run(run())


def outcome(reply: Reply) -> object:
    if not reply.whole.done():
        return "open"
    error = reply.whole.exception()
    return type(error) if error else (reply.status, bytes(reply.body))


WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: y\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"
    b"Content-Length: 5\r\n\r\nhello",
    "bare line ends": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "nothing behind it counts": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 500 No\r\n\r\n",
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_an_answer_is_the_same_in_any_pieces(name: str, size: int) -> None:
    data = WHOLE[name]

    reply = read(*(data[at : at + size] for at in range(0, len(data), size)))

    assert outcome(reply) == (200, b"hello")
    assert "x-trailer" not in reply.headers and "link" not in reply.headers
    assert reply.is_framed


def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"

    assert outcome(read(head, b"hello")) == "open"
    ended = read(head, b"hello", is_closed=True)
    assert (outcome(ended), ended.is_framed) == ((200, b"hello"), False)
    assert outcome(read(head, b"hello", error=ConnectionResetError())) is BrokenOff


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_a_connection_that_ends_too_early_is_noticed(data: bytes) -> None:
    assert outcome(read(data, is_closed=True)) is BrokenOff


@pytest.mark.parametrize(
    "data",
    [
        b"<html>hello</html>\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 16_385 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
    ],
)
def test_what_is_no_http_or_beyond_bounds_is_refused(data: bytes) -> None:
    assert outcome(read(data)) is NoHttp


def test_a_body_beyond_the_bound_is_refused_by_its_length_and_by_its_bytes() -> None:
    assert outcome(read(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")) is TooLarge
    assert outcome(read(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_001)) is TooLarge
    assert outcome(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1_001)) is TooLarge


def test_an_error_is_whole_with_whatever_came_of_it() -> None:
    head = b"HTTP/1.1 500 No\r\nContent-Length: 70000\r\n\r\n"

    assert outcome(read(head, b"why", is_closed=True)) == (500, b"why")
    assert outcome(read(b"HTTP/1.1 502 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwhy\r\nzz\r\n")) == (502, b"why")
    assert outcome(read(head, b"x" * 65_600)) == (500, b"x" * ERROR_BYTES_MAX)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8))
def test_no_bytes_raise_out_of_the_reader(pieces: Sequence[bytes]) -> None:
    assert read(b"HTTP/1.1 200 OK\r\n", *pieces, is_closed=True).whole.done()


def test_a_request_names_its_host_and_ends_its_connection() -> None:
    head = request_bytes("POST", URL("http://[::1]:8080/v1/a%2Fb?x=1"), headers={"X-A": "b"}, body=b"12")

    assert head == (
        b"POST /v1/a%2Fb?x=1 HTTP/1.1\r\nHost: [::1]:8080\r\nX-A: b\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    )
    assert b"\r\nHost: example.com\r\n" in request_bytes("GET", URL("https://example.com/"), headers={}, body=None)


@pytest.mark.parametrize("header", [{"X-A": "b\r\nEvil: c"}, {"X-A": "\x00"}, {"X A": "b"}, {"X:": "b"}, {"": "b"}])
def test_a_header_of_two_lines_is_not_sent(header: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one line"):
        request_bytes("GET", URL("http://example.com/"), headers=header, body=None)
