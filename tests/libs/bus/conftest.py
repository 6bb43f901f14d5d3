"""The buses that a behaviour suite runs on: the real one and its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.libs.bus.harness import QUICK, OpenBus

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.nats import NatsBus
from qraft_bus.port import Bus
from qraft_bus.settings import BusSettings


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def open_bus(request: pytest.FixtureRequest) -> AsyncIterator[OpenBus]:
    """Make buses on one server (or broker); all are drained at the end."""
    broker = MemoryBroker()
    url = request.getfixturevalue("nats_url") if request.param == "nats" else None
    opened: list[Bus] = []

    def open_one(name: str = "test", settings: BusSettings = QUICK) -> Bus:
        bus = NatsBus(url, name=name, settings=settings) if url else MemoryBus(broker, name=name, settings=settings)
        opened.append(bus)
        return bus

    yield open_one
    for bus in opened:
        await bus.drain()
