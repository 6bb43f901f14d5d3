"""The allocator on a real nats-server."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.svc_allocator.kit import Desk, allocator_on, bar_at, bars_of_signals, message

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_contracts.codec import decode
from qraft_contracts.targets import Targets

pytestmark = pytest.mark.nats

QUICK = BusSettings(ack_wait_s=0.6, idle_fetch_s=0.3, drain_timeout_s=0.5)


async def test_a_bar_in_hand_survives_a_stop_and_is_decided_after_the_restart(nats_url: str):
    stream = bars_of_signals(3)
    outside = NatsBus(nats_url, name="inference", settings=QUICK)
    desk = Desk(outside)
    await outside.start()
    first = NatsBus(nats_url, name="allocator", settings=QUICK)
    allocator_on(first)
    await first.start()
    # Bar 0 whole, and half of bar 1: its handlers wait for a message that comes after the stop.
    await outside.publish_many([message(one) for one in stream[:6]])
    await desk.wait_for(1)
    await asyncio.sleep(0.2)

    began_s = time.monotonic()
    await first.drain()
    assert time.monotonic() - began_s < 5.0

    await outside.publish_many([message(one) for one in stream[6:]])
    second = NatsBus(nats_url, name="allocator", settings=QUICK)
    allocator_on(second)
    await second.start()
    received = await desk.wait_for(3)
    await second.drain()
    await outside.drain()

    targets = [decode(one.data, Targets) for one in received]
    assert [one.as_of for one in targets] == [bar_at(0), bar_at(1), bar_at(2)]
    assert not any(one.hold for one in targets)
