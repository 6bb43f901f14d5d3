"""What the wire contracts promise whoever writes or reads them."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from qraft_contracts.codec import decode, encode
from qraft_contracts.headers import append_hop, parse_hops
from qraft_contracts.orders import Order
from qraft_contracts.origin import Origin, worst_origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import bars_subject, dead_letter_subject, signals_subject
from qraft_contracts.times import format_instant, parse_instant

ORDER = Order(
    order_id="orders.paper/crypto/2025-09-01T00:05:00Z/BTCUSDT",
    market="crypto",
    symbol="BTCUSDT",
    side="buy",
    quantity=0.5,
    decided_at=datetime(2025, 9, 1, 0, 5, tzinfo=UTC),
    theoretical_price=108_000.5,
    target_weight=0.1,
    position_before=0.0,
    policy="long",
    reason="open",
    profile="standard",
    origin=Origin.REPLAY,
)


def test_message_survives_the_wire_and_gives_the_same_bytes_twice():
    data = encode(ORDER)

    assert decode(data, Order) == ORDER
    assert encode(decode(data, Order)) == data


def test_reader_ignores_fields_of_a_newer_writer():
    newer = msgspec.json.decode(encode(ORDER)) | {"venue": "paper-2"}

    assert decode(msgspec.json.encode(newer), Order) == ORDER


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"order_id": 1}', encode(ORDER)[:-4]])
def test_undecodable_bytes_are_malformed(data):
    with pytest.raises(Malformed, match="undecodable"):
        decode(data, Order)


def test_worst_origin_wins():
    assert worst_origin([Origin.REAL, Origin.SIMULATED, Origin.REPLAY]) is Origin.SIMULATED
    assert worst_origin([Origin.REAL, Origin.REPLAY]) is Origin.REPLAY


def test_no_origin_is_no_good_origin():
    with pytest.raises(ValueError, match="provenance must be known"):
        worst_origin([])


def test_instants_are_utc_on_the_wire():
    beijing = datetime(2025, 9, 1, 8, 5, tzinfo=timezone(timedelta(hours=8)))

    assert format_instant(beijing) == "2025-09-01T00:05:00Z"
    assert parse_instant("2025-09-01T00:05:00Z") == beijing


def test_naive_instants_are_refused():
    with pytest.raises(ValueError, match="time zone"):
        format_instant(datetime(2025, 9, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="time zone"):
        parse_instant("2025-09-01T00:05:00")


def test_hops_grow_in_order_and_survive_rubbish():
    hops = append_hop(append_hop(None, service="svc_ingest", now_ns=10), service="svc_features", now_ns=25)

    assert parse_hops(hops) == [("svc_ingest", 10), ("svc_features", 25)]
    assert parse_hops("a=x,,=3," + hops) == [("svc_ingest", 10), ("svc_features", 25)]


def test_subjects_are_the_designed_ones():
    assert (bars_subject("5m"), signals_subject("7d"), dead_letter_subject("BARS")) == (
        "bars.5m",
        "signals.7d",
        "deadletter.bars",
    )
    with pytest.raises(ValueError, match="expected a horizon"):
        signals_subject("2h")
