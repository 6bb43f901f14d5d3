from __future__ import annotations

from dataclasses import replace

from tests.libs.bus.test_decisions import HEADERS, delivery

from qraft_bus import dead_letter as dead
from qraft_bus.settings import BusSettings

SETTINGS = BusSettings(dead_letter_window=40, dead_letter_min=20, dead_letter_frac_max=0.5)


def test_servers_own_headers_do_not_become_commands_to_the_dead_letter_stream() -> None:
    found = delivery(headers={**HEADERS, "Nats-Expected-Stream": "BARS", "nats-ttl": "1"})

    letter = dead.dead_letter(found, durable="reader", reason="poison", detail="x")

    assert {name for name in letter.headers if name.lower().startswith("nats-")} == {"Nats-Msg-Id"}
    assert letter.headers["Nats-Msg-Id"] == "deadletter/BARS/reader/1"
    assert letter.headers[dead.MESSAGE_ID] == "bars.5m/1"
    assert letter.headers["Qraft-Origin"] == "real"


def test_detail_is_one_bounded_ascii_line() -> None:
    letter = dead.dead_letter(delivery(), durable="d", reason="r", detail="é\r\n" + "x" * 10_000)

    detail = letter.headers[dead.DETAIL]
    assert detail.isascii() and detail.isprintable() and len(detail) < 600


def test_same_delivery_gives_the_same_id_whenever_it_is_buried() -> None:
    first = dead.dead_letter(delivery(), durable="d", reason="r", detail="")
    again = dead.dead_letter(replace(delivery(), n_delivered=3), durable="d", reason="r", detail="")

    assert first.headers["Nats-Msg-Id"] == again.headers["Nats-Msg-Id"]


def test_few_messages_are_not_judged() -> None:
    ratio = dead.DeadLetterRatio(SETTINGS)
    for _ in range(18):
        ratio.record(is_dead=True)

    assert not ratio.would_exceed()
    ratio.record(is_dead=True)
    assert ratio.would_exceed()


def test_half_dead_letters_are_borne_and_more_are_not() -> None:
    ratio = dead.DeadLetterRatio(SETTINGS)
    for is_dead in [True, False] * 20:
        ratio.record(is_dead=is_dead)

    assert not ratio.would_exceed()  # the oldest, a dead one, leaves the window
    ratio.record(is_dead=True)
    assert ratio.would_exceed()


def test_good_messages_leave_the_window_in_time() -> None:
    ratio = dead.DeadLetterRatio(SETTINGS)
    for _ in range(1_000):
        ratio.record(is_dead=False)
    for _ in range(20):
        assert not ratio.would_exceed()
        ratio.record(is_dead=True)

    assert ratio.would_exceed()
