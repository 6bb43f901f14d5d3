"""Any message of the bus becomes readable rows."""

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from nats.aio.msg import Msg

from qraft_cli.rows import credits_text, decode_rows, format_row, matches
from qraft_cli.view import sparkline
from qraft_contracts.codec import encode
from qraft_contracts.imagejobs import ImageJobEvent
from qraft_contracts.ledger import LedgerEntry, Posting
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.usage import TRAINING, ComputeUsage
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


def test_bars_show_the_state_that_is_known_of_each_symbol_and_no_other():
    column, nan = np.array([1.0, 2.0]), np.nan
    state = {"funding_rate": np.array([0.0001, nan]), "open_interest_usd": np.array([3.2e9, 1e6]),
             "vix": np.array([nan, nan])}  # fmt: skip
    batch = BarBatch("crypto", "5m", AT, AT, 0, Origin.REPLAY, ("AAA", "BBB"), *([column] * 5), state=state)

    rows = decode_rows(_message("bars.5m", encode_bars(batch), "bars/1"))

    assert list(rows[0])[-3:] == ["revision", "funding_rate", "open_interest_usd"]
    assert list(rows[1])[-2:] == ["revision", "open_interest_usd"]
    assert format_row(rows[0]).endswith("revision=0 funding_rate=0.0001 open_interest_usd=3.2e+09")
    assert b'"revision":0,"funding_rate":0.0001,"open_interest_usd":3200000000.0}' in msgspec.json.encode(rows[0])
    assert matches(rows[1], [("open_interest_usd", "1e+06")]) and not matches(rows[1], [("funding_rate", "nan")])


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


def test_ledger_entry_reads_as_its_postings_in_credits():
    entry = LedgerEntry(
        7, "settle:job/x", "hold_settled", "acme", 3, AT,
        (Posting("acme/held", "microcredit", -4_500_000), Posting("compute/demo", "cpu_ms", 1200)),
        "job/x", {"model": "simulated/simulated-1"}, "0" * 64, "abcdef" * 10,
    )  # fmt: skip

    row = decode_rows(_message("ledger.entries.acme", encode(entry), LedgerEntry.SCHEMA))[0]

    text = format_row(row)
    assert text.startswith("ledger.entries.acme 2025-09-01T00:05:00Z acme         hold_settled seq=7")
    assert "[acme/held -4.5] [compute/demo +1,200 cpu_ms] hold_id=job/x model=simulated/simulated-1" in text
    assert text.endswith("hash=abcdefabcdef")
    assert row["prev_hash"] == "0" * 64  # for programs everything stays


def test_image_job_reads_as_its_state_and_money():
    event = ImageJobEvent(
        "j1", "acme", "simulated", "simulated-1", "generation", "succeeded", "succeeded", "settled",
        4_000_000, 4_000_000, 1, AT, Origin.SIMULATED, asset_ids=("a1",),
    )  # fmt: skip

    row = decode_rows(_message("imagejob.succeeded", encode(event), ImageJobEvent.SCHEMA))[0]

    assert format_row(row).split()[:5] == ["imagejob.succeeded", "2025-09-01T00:05:00Z", "j1", "acme", "succeeded"]
    assert "money=settled held=4 charged=4" in format_row(row)
    assert "origin=simulated" in format_row(row)
    assert "cause" not in format_row(row)


def test_usage_reads_as_its_column_and_figures():
    usage = ComputeUsage(
        "svc_train/t1", TRAINING, "svc_train", "first model", "24 trees a head", AT, AT, 61_000, 0, 5, Origin.REPLAY
    )

    text = format_row(decode_rows(_message("usage.compute", encode(usage), ComputeUsage.SCHEMA))[0])

    assert text.split()[:2] == ["usage.compute", "training"]
    assert "cpu_ms=61000 gpu_ms=0 n_bytes=5 origin=replay provider_cost_microusd=-" in text


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (4_500_000, "4.5"), (-1, "-0.000001"), (1_000_000_000_000, "1,000,000")]
)
def test_credits_are_exact(amount, text):
    assert credits_text(amount) == text


def test_sparkline_spans_low_to_high_and_knows_the_flat_line():
    assert sparkline([1.0, 2.0, 3.0], width=10) == "▁▅█"
    assert sparkline([5.0, 5.0], width=10) == "▄▄"
    assert sparkline([], width=10) == ""
