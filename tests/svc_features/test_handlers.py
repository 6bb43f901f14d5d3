"""On the bus: one features message a bar, whatever is delivered again and whatever lies on the stream."""

import asyncio

from tests.svc_features.market import make_batches, make_market

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import OutMessage
from qraft_bus.settings import BusSettings
from qraft_contracts.arrow_schemas import BARS_SCHEMA, bars_id
from qraft_contracts.times import format_instant
from qraft_frames.bars import encode_bars
from qraft_frames.features import decode_features
from qraft_quant.features import CORE
from qraft_store.bars.memory import MemoryBarStore
from svc_features.handlers import BarsHandler
from svc_features.usecases import ComputeFeatures

BARS = make_batches(make_market(6))


def _message(bar, suffix=""):
    as_of = format_instant(bar.closed_at)
    name = bars_id("5m", bar.market, as_of, bar.revision) + suffix
    return OutMessage("bars.5m", encode_bars(bar), name, BARS_SCHEMA, bar.closed_at, bar.origin, "test")


async def _serve(broker, messages, *, n_expected):
    """Run the service over the broker until so many features messages are stored; return them."""
    bus = MemoryBus(broker, name="svc_features", settings=BusSettings())
    bus.subscribe(BarsHandler(bus, ComputeFeatures("crypto", "5m", MemoryBarStore(), 100, CORE)).subscription())
    await bus.start()
    for message in messages:
        await bus.publish(message)
    async with asyncio.timeout(20):
        while len(_features(broker)) < n_expected or await bus.slowest_lag("BARS"):
            await asyncio.sleep(0.01)
    await bus.drain()
    return _features(broker)


def _features(broker):
    return [decode_features(stored.data) for stored in broker.messages("FEATURES")]


async def test_each_bar_gives_one_message_and_a_repetition_none():
    broker = MemoryBroker()

    found = await _serve(
        broker, [_message(BARS[0]), _message(BARS[1]), _message(BARS[0], "/again"), _message(BARS[2])], n_expected=3
    )

    assert [batch.as_of for batch in found] == [bar.closed_at for bar in BARS[:3]]


async def test_restart_goes_on_after_the_last_message():
    broker = MemoryBroker()
    await _serve(broker, [_message(BARS[0]), _message(BARS[1])], n_expected=2)

    found = await _serve(broker, [_message(BARS[1], "/again"), _message(BARS[2])], n_expected=3)

    assert [batch.as_of for batch in found] == [bar.closed_at for bar in BARS[:3]]


async def test_rubbish_as_the_newest_message_does_not_stop_a_restart():
    broker = MemoryBroker()
    await _serve(broker, [_message(BARS[0])], n_expected=1)
    rubbish = OutMessage(
        "features.ready", b"rubbish", "rubbish/1", "features/1", BARS[0].closed_at, BARS[0].origin, "test"
    )
    other = MemoryBus(broker, name="somebody", settings=BusSettings())
    await other.start()
    await other.publish(rubbish)
    await other.drain()

    bus = MemoryBus(broker, name="svc_features", settings=BusSettings())
    bus.subscribe(BarsHandler(bus, ComputeFeatures("crypto", "5m", MemoryBarStore(), 100, CORE)).subscription())
    await bus.start()
    await bus.publish(_message(BARS[1]))
    async with asyncio.timeout(20):
        while len(broker.messages("FEATURES")) < 3:
            await asyncio.sleep(0.01)
    await bus.drain()

    assert decode_features(broker.messages("FEATURES")[-1].data).as_of == BARS[1].closed_at
    assert broker.messages("DEADLETTER") == []
