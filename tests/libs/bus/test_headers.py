"""Our parser of headers reads what nats-py's reads."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from qraft_bus.headers import parse_headers

_LINES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"A: 1", b"A:2", b"A :\t3 ", b": x", b"A B: 4", "Ä: 5".encode(), "C: ü".encode(), b"D: \xff\xc3", b"\x1cE: 6"]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_LINES, max_size=5))
def test_any_block_of_lines_is_read_as_nats_py_reads_it(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines) + b"\r\n\r\n"

    assert parse_headers(raw) == Client._parse_header_lines(raw)
