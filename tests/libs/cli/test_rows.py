"""Any message of the bus becomes readable rows."""

from datetime import UTC, datetime

import numpy as np
import pytest
from nats.aio.msg import Msg

from qraft_cli.rows import decode_rows, format_row, matches
from qraft_cli.view import sparkline
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_frames.bars import BarBatch, encode_bars
from qraft_frames.features import FeatureBatch, encode_features

AT = datetime(2025, 9, 1, 0, 5, tzinfo=UTC)


def _message(subject, data, schema):
    return Msg(_client=None, subject=subject, data=data, headers={"Qraft-Schema": schema})


def _bars():
    column = np.array([1.0, 2.0])
    batch = BarBatch("crypto", "5m", AT, AT, 0, Origin.REPLAY, ("AAA", "BBB"), *([column] * 5))
    return _message("bars.5m", encode_bars(batch), "bars/1")


def test_arrow_bars_become_a_row_a_symbol():
    rows = decode_rows(_bars())

    assert [(row["symbol"], row["close"], row["as_of"]) for row in rows] == [
        ("AAA", 1.0, "2025-09-01T00:05:00Z"),
        ("BBB", 2.0, "2025-09-01T00:05:00Z"),
    ]
    assert matches(rows[1], [("symbol", "BBB"), ("close", "2")])
    assert not matches(rows[1], [("nothing", "2")])


def test_arrow_features_become_named_columns():
    batch = FeatureBatch("crypto", "5m", AT, Origin.REPLAY, "sig", ("f1", "f2"), ("AAA",), np.float32([[0.5, np.nan]]))

    rows = decode_rows(_message("features.ready", encode_features(batch), "features/1"))

    assert rows[0]["f1"] == 0.5
    assert np.isnan(rows[0]["f2"])


def test_signals_become_a_row_a_symbol_and_an_empty_message_tells_why():
    full = (
        b'{"horizon":"1h","as_of":"t","rows":[{"symbol":"AAA","expected_return":0.1}],'
        b'"refused":[{"symbol":"B","reason":"nan_input"}]}'
    )
    empty = b'{"horizon":"1h","as_of":"t","rows":[],"reason":"no_active_model"}'

    assert [row["symbol"] for row in decode_rows(_message("signals.1h", full, "signals/1"))] == ["AAA", "B"]
    assert decode_rows(_message("signals.1h", empty, "signals/1"))[0]["reason"] == "no_active_model"


def test_rubbish_is_malformed_not_a_trace():
    with pytest.raises(Malformed):
        decode_rows(_message("orders.paper", b"\x00rubbish", "orders/1"))
    with pytest.raises(Malformed):
        decode_rows(_message("bars.5m", b"rubbish", "bars/1"))


def test_dead_letter_shows_its_headers_whatever_the_bytes_are():
    row = decode_rows(_message("deadletter.bars", b"\x00", "bars/1"))[0]

    assert row["n_bytes"] == 1


def test_row_begins_with_what_it_is_about():
    text = format_row({"volume": 3.0, "symbol": "AAA", "subject": "bars.5m", "reason": None})

    assert text.split() == ["bars.5m", "AAA", "volume=3", "reason=-"]


def test_sparkline_spans_low_to_high_and_knows_the_flat_line():
    assert sparkline([1.0, 2.0, 3.0], width=10) == "▁▅█"
    assert sparkline([5.0, 5.0], width=10) == "▄▄"
    assert sparkline([], width=10) == ""
