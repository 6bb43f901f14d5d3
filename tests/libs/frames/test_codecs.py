"""Bars and features to Arrow bytes and back; every damaged payload is Malformed, never a crash."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_frames.bars import BarBatch, decode_bars, encode_bars
from qraft_frames.features import FeatureBatch, decode_features, encode_features
from qraft_frames.ipc import MAX_PAYLOAD_BYTES

T0 = datetime(2025, 6, 1, 0, 5, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def bars(n: int = 2) -> BarBatch:
    close = np.arange(1.0, n + 1)
    symbols = tuple(f"S{i}" for i in range(n))
    return BarBatch("crypto", "5m", T0, T0, 0, Origin.REPLAY, symbols, close, close + 1, close - 0.5, close, close * 9)


def features(n: int = 2) -> FeatureBatch:
    values = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    values[0, 0] = np.nan
    return FeatureBatch(
        "crypto", "5m", T0, Origin.REAL, "abc123", ("f1", "f2", "f3"), tuple(f"S{i}" for i in range(n)), values
    )


def reschemed(data: bytes, metadata: dict[bytes, bytes] | None = None, **columns: pa.Array | None) -> bytes:
    """Return the payload with other metadata and columns."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    for name, column in columns.items():
        i = table.schema.get_field_index(name)
        table = table.remove_column(i) if column is None else table.set_column(i, name, column)
    table = table.replace_schema_metadata((table.schema.metadata or {}) | (metadata or {}))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("n", [1, 2, 500])
def test_bars_come_back(n: int) -> None:
    batch = replace(bars(n), revision=2, known_at=T0.replace(hour=1))

    back = decode_bars(encode_bars(batch))

    for name in ("market", "interval", "closed_at", "known_at", "revision", "origin", "symbols"):
        assert getattr(back, name) == getattr(batch, name)
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name))
    assert back.opened_at == datetime(2025, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize("n", [1, 2, 500])
def test_features_come_back_with_their_bits(n: int) -> None:
    batch = features(n)

    back = decode_features(encode_features(batch))

    assert (back.market, back.as_of, back.origin, back.signature) == ("crypto", T0, Origin.REAL, "abc123")
    assert back.names == batch.names and back.symbols == batch.symbols
    assert back.values.dtype == np.float32 and back.values.tobytes() == batch.values.tobytes()


def test_equal_batches_give_equal_bytes() -> None:
    assert encode_bars(bars()) == encode_bars(bars())
    assert encode_features(features()) == encode_features(features())


def test_state_of_a_bar_comes_back_and_what_is_absent_stays_absent() -> None:
    batch = replace(bars(3), state={"basis_frac": np.array([0.001, np.nan, -0.002])})

    back = decode_bars(encode_bars(batch))

    assert list(back.state) == ["basis_frac"]
    np.testing.assert_array_equal(back.state["basis_frac"], batch.state["basis_frac"])
    assert decode_bars(encode_bars(bars())).state == {}


def test_column_that_a_newer_writer_added_is_ignored() -> None:
    with pa.ipc.open_stream(encode_bars(bars())) as reader:
        table = reader.read_all().append_column("of_a_newer_writer", pa.array([1, 2]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)

    assert decode_bars(sink.getvalue().to_pybytes()).symbols == ("S0", "S1")


@pytest.mark.parametrize(
    ("metadata", "columns", "reason"),
    [
        ({b"closed_at": b"soon"}, {}, "bad_metadata"),
        ({b"closed_at": b"2025-06-01T00:05:00"}, {}, "bad_metadata"),
        ({b"origin": b"heaven"}, {}, "bad_metadata"),
        ({b"revision": b"-1"}, {}, "bad_metadata"),
        ({b"market": b"\xff\xfe"}, {}, "bad_metadata"),
        ({b"interval": b"7m"}, {}, "bad_interval"),
        ({}, {"symbol": pa.array(["A", "A"])}, "bad_symbols"),
        ({}, {"symbol": pa.array(["A", None])}, "bad_symbols"),
        ({}, {"close": pa.array(["1", "2"])}, "wrong_schema"),
        ({}, {"volume": None}, "wrong_schema"),
    ],
)
def test_bars_that_break_their_schema_are_malformed(metadata, columns, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode_bars(reschemed(encode_bars(bars()), metadata, **columns))

    assert caught.value.reason == reason


def test_missing_metadata_is_malformed() -> None:
    with pa.ipc.open_stream(encode_bars(bars())) as reader:
        table = reader.read_all().replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)

    with pytest.raises(Malformed, match="bad_metadata"):
        decode_bars(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("metadata", "values", "reason"),
    [
        ({b"names": b"f1,f2"}, None, "wrong_schema"),
        ({b"as_of": b"soon"}, None, "bad_metadata"),
        ({b"signature": b"\xff"}, None, "bad_metadata"),
        ({}, [[1.0, 2.0, None], [1.0, 2.0, 3.0]], "null_values"),
        ({}, [[1.0, 2.0, 3.0], None], "null_values"),
    ],
)
def test_features_that_break_their_schema_are_malformed(metadata, values, reason: str) -> None:
    columns = {} if values is None else {"values": pa.array(values, pa.list_(pa.float32(), 3))}

    with pytest.raises(Malformed) as caught:
        decode_features(reschemed(encode_features(features()), metadata, **columns))

    assert caught.value.reason == reason


@pytest.mark.parametrize("decode", [decode_bars, decode_features])
@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff" * 64, b"\x00" * 64, b"ARROW1\x00\x00", bytes(MAX_PAYLOAD_BYTES + 1)]
)
def test_bytes_that_are_no_payload_are_malformed(decode, data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)


def test_bars_are_no_features_and_the_other_way_round() -> None:
    with pytest.raises(Malformed):
        decode_features(encode_bars(bars()))
    with pytest.raises(Malformed):
        decode_bars(encode_features(features()))


@pytest.mark.parametrize(
    ("payload", "decode"), [(encode_bars(bars()), decode_bars), (encode_features(features()), decode_features)]
)
def test_truncated_payload_is_malformed_or_whole(payload: bytes, decode) -> None:
    with pytest.raises(Malformed):
        decode(payload[: len(payload) // 2])
    for cut in range(0, len(payload), 3):
        decoded_or_malformed(decode, payload[:cut])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flipped_bytes_are_malformed_or_still_a_batch(data: st.DataObject) -> None:
    encoded, decode = data.draw(
        st.sampled_from([(encode_bars(bars()), decode_bars), (encode_features(features()), decode_features)])
    )
    damaged = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    decoded_or_malformed(decode, bytes(damaged))


def decoded_or_malformed(decode, data: bytes) -> None:
    try:
        decode(data)
    except Malformed:
        return
