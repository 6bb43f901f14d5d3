"""What the service leaves on the stream: every bar once, the same bytes whatever happens in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from prometheus_client import REGISTRY

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import Delivery, OutMessage
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.arrow_schemas import BARS_SCHEMA, bars_id
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_contracts.subjects import FEATURES_READY
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch, encode_bars
from qraft_frames.features import decode_features
from qraft_quant.features import FULL, compute_history
from qraft_store.bars.memory import MemoryBarStore
from svc_features.handlers import SERVICE, BarsHandler
from svc_features.usecases import ComputeFeatures

STEP = timedelta(minutes=5)
START = datetime(2025, 3, 1, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
WARM_UP_BARS = FULL.warm_up_bars
N_BARS = WARM_UP_BARS + 12
VALUES = ("open", "high", "low", "close", "volume")


def _walk():
    rng = np.random.default_rng(8)
    close = np.array([6e4, 3e3, 150.0]) * np.exp(np.cumsum(rng.normal(0, 1e-3, (N_BARS, 3)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]])
    high, low = np.maximum(open_, close) * 1.0005, np.minimum(open_, close) * 0.9995
    return dict(zip(VALUES, (open_, high, low, close, rng.lognormal(1, 1, close.shape)), strict=True))


WALK = _walk()


def closed_at(i):
    return START + (i + 1) * STEP


def bar(i, *, symbols=SYMBOLS, market="crypto", revision=0, at=None, **changes):
    """Return bar i of the walk, with some values changed."""
    at = closed_at(i) if at is None else at
    columns = [SYMBOLS.index(symbol) for symbol in symbols]
    values = {name: WALK[name][i, columns] for name in VALUES} | changes
    return BarBatch(market=market, interval="5m", closed_at=at, known_at=at, revision=revision, origin=Origin.REPLAY,
                    symbols=symbols, **values)  # fmt: skip


def delivery(batch):
    """Return the message as svc_ingest sends it."""
    sent = {headers.MESSAGE_ID: bars_id("5m", "crypto", format_instant(batch.closed_at), batch.revision)}
    sent |= {headers.SCHEMA: BARS_SCHEMA, headers.LINEAGE: "snapshot-1"}
    return Delivery("bars.5m", encode_bars(batch), sent, "BARS", 1, 1, batch.closed_at)


class Line:
    """A store and a broker that outlive the service, and the service."""

    def __init__(self):
        self.store = MemoryBarStore()
        self.broker = MemoryBroker()

    async def start(self, *, is_bus_up=True):
        self.bus = MemoryBus(self.broker, name=SERVICE, settings=BusSettings())
        if is_bus_up:
            await self.bus.start()
        self.handler = BarsHandler(self.bus, ComputeFeatures("crypto", "5m", self.store, 10, FULL))
        return self

    async def take(self, batch):
        """Store a bar and hand its message over, as svc_ingest does; return the newest features."""
        self.store.append([batch])
        await self.handler.handle(delivery(batch))
        return await self.newest()

    async def newest(self):
        last = await self.bus.last(FEATURES_READY)
        return None if last is None else last.data


@pytest.fixture(scope="module")
def stored():
    """The warm-up bars."""
    return [bar(i) for i in range(WARM_UP_BARS)]


@pytest.fixture
async def line(stored):
    line = Line()
    line.store.append(stored)
    return await line.start()


def _refused(reason):
    labels = {"service": SERVICE, "reason": reason}
    return REGISTRY.get_sample_value("qraft_messages_refused_total", labels) or 0.0


async def test_features_are_those_of_the_history(line):
    published = [await line.take(bar(i)) for i in range(WARM_UP_BARS, N_BARS)]

    first_index = int(closed_at(0).timestamp()) // 300
    expected = compute_history(WALK, first_index, features=FULL)[WARM_UP_BARS:]
    for data, values in zip(published, expected, strict=True):
        assert decode_features(data).values.tobytes() == values.tobytes()
    batch = decode_features(published[-1])
    assert (batch.names, batch.symbols, batch.signature) == (FULL.names, SYMBOLS, FULL.signature("5m"))
    assert (batch.as_of, batch.origin) == (closed_at(N_BARS - 1), Origin.REPLAY)
    assert np.isfinite(batch.values).all()


async def test_what_a_bar_carries_beside_itself_changes_no_feature(line, stored):
    # There is no history of it to warm up from, so a restart would change the bits.
    expected = await line.take(bar(WARM_UP_BARS))
    other = Line()
    other.store.append(stored)
    await other.start()

    received = await other.take(bar(WARM_UP_BARS, state={"funding_rate": np.full(3, 1e-4)}))

    assert received == expected


async def test_a_restart_before_any_bar_gives_the_same_bytes(line, stored):
    undisturbed = [await line.take(bar(i)) for i in range(WARM_UP_BARS, N_BARS)]

    restarted = Line()
    restarted.store.append(stored)
    received = []
    for i in range(WARM_UP_BARS, N_BARS):
        await restarted.start()
        received.append(await restarted.take(bar(i)))

    assert received == undisturbed


async def test_a_start_without_history_gives_the_same_bytes_after_a_restart():
    undisturbed = await Line().start()
    expected = [await undisturbed.take(bar(i)) for i in range(60)]

    restarted = Line()
    received = []
    for i in range(60):
        if i % 7 == 0:
            await restarted.start()
        received.append(await restarted.take(bar(i)))

    assert received == expected
    assert np.isfinite(decode_features(expected[-1]).values).any()


async def test_a_bar_that_comes_again_or_late_has_no_second_effect(line):
    first = await line.take(bar(WARM_UP_BARS))
    second = await line.take(bar(WARM_UP_BARS + 1))
    before = _refused("already_computed")

    for i in (WARM_UP_BARS + 1, WARM_UP_BARS, 5):
        await line.handler.handle(delivery(bar(i)))
    third = await line.take(bar(WARM_UP_BARS + 2))

    assert _refused("already_computed") == before + 3
    assert len({first, second, third}) == 3
    assert decode_features(third).as_of == closed_at(WARM_UP_BARS + 2)


async def test_a_restarted_service_knows_what_it_had_published(line):
    data = await line.take(bar(WARM_UP_BARS))
    await line.start()
    before = _refused("already_computed")

    await line.handler.handle(delivery(bar(WARM_UP_BARS)))

    assert _refused("already_computed") == before + 1
    assert await line.newest() == data


async def test_after_a_gap_the_state_is_made_from_the_store(line):
    await line.take(bar(WARM_UP_BARS))
    line.store.append([bar(WARM_UP_BARS + 1)])  # its message is lost, its bar is not

    received = decode_features(await line.take(bar(WARM_UP_BARS + 2)))

    first_index = int(closed_at(0).timestamp()) // 300
    expected = compute_history(WALK, first_index, features=FULL)[WARM_UP_BARS + 2]
    assert received.values.tobytes() == expected.tobytes()


async def test_a_bar_that_the_store_lacks_hides_the_windows_that_need_it(line):
    await line.take(bar(WARM_UP_BARS))

    values = decode_features(await line.take(bar(WARM_UP_BARS + 2))).values

    assert np.isnan(values[:, FULL.names.index("return_1")]).all()
    assert np.isfinite(values[:, FULL.names.index("candle_body")]).all()


async def test_symbols_may_come_and_go(line):
    fewer = decode_features(await line.take(bar(WARM_UP_BARS, symbols=("ETHUSDT", "BTCUSDT"))))
    again = decode_features(await line.take(bar(WARM_UP_BARS + 1)))
    batch = bar(WARM_UP_BARS + 2)
    new = BarBatch(**{name: getattr(batch, name) for name in batch.__slots__} | {"symbols": ("AAA", *SYMBOLS[1:])})
    renamed = decode_features(await line.take(new))

    assert fewer.symbols == ("BTCUSDT", "ETHUSDT")
    assert again.symbols == SYMBOLS
    back = again.values[:, FULL.names.index("return_1")]
    assert np.isfinite(back[:2]).all() and np.isnan(back[2])
    assert renamed.symbols == ("AAA", "ETHUSDT", "SOLUSDT")
    assert np.isnan(renamed.values[0, FULL.names.index("return_1")])
    assert np.isfinite(renamed.values[0, FULL.names.index("candle_body")])


@pytest.mark.parametrize(
    "changes",
    [
        {"close": np.array([np.nan, 3e3, 150.0])},
        {"open": np.array([np.inf, 3e3, 150.0])},
        {"low": np.array([0.0, 1.0, 1.0])},
        {"low": np.array([-5.0, 1.0, 1.0])},
        {"high": np.array([1.0, 1e6, 1e6])},
        {"volume": np.array([np.nan, 1.0, 1.0])},
        {"volume": np.array([-1.0, 1.0, 1.0])},
    ],
    ids=["nan", "infinite", "zero", "negative", "high below low", "nan volume", "negative volume"],
)
async def test_a_row_that_is_no_bar_is_refused_and_the_message_is_not(line, changes):
    wide = {"open": np.array([6e4, 3e3, 150.0]), "close": np.array([6e4, 3e3, 150.0])}
    wide |= {"high": np.array([1e6, 1e6, 1e6]), "low": np.array([1.0, 1.0, 1.0]), "volume": np.ones(3)}
    before = _refused("unusable_bar")

    values = decode_features(await line.take(bar(WARM_UP_BARS, **(wide | changes)))).values

    assert _refused("unusable_bar") == before + 1
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[1:]).all()


async def test_a_broken_row_in_the_store_and_in_a_message_is_the_same_missing_bar(line):
    broken = bar(WARM_UP_BARS, high=np.array([1.0, 1e6, 1e6]))
    await line.take(broken)
    online = await line.take(bar(WARM_UP_BARS + 1))
    await line.start()  # forgets the state, not the store
    line.broker = MemoryBroker()
    await line.start()

    again = await line.take(bar(WARM_UP_BARS + 1))

    assert again == online


@pytest.mark.parametrize(
    ("batch", "outcome", "reason"),
    [
        (bar(0, market="equities"), Refused, "other_market"),
        (bar(0, revision=1), Refused, "revision"),
        (bar(0, at=closed_at(0) + timedelta(seconds=1)), Malformed, "off_grid"),
    ],
    ids=["market", "revision", "grid"],
)
async def test_messages_that_are_not_ours_are_told_so(line, batch, outcome, reason):
    with pytest.raises(outcome) as caught:
        await line.handler.handle(delivery(batch))

    assert caught.value.reason == reason
    assert await line.newest() is None


async def test_too_many_symbols_are_a_fault_of_the_source(line):
    symbols = tuple(f"S{i:02d}" for i in range(11))
    values = {name: np.ones(11) for name in VALUES}
    batch = BarBatch("crypto", "5m", closed_at(0), closed_at(0), 0, Origin.REPLAY, symbols, **values)

    with pytest.raises(Malformed, match="too_many_symbols"):
        await line.handler.handle(delivery(batch))


async def test_a_bar_whose_features_could_not_be_stored_is_tried_again(line, stored):
    expected = await line.take(bar(WARM_UP_BARS))
    away = Line()
    away.store.append(stored)
    await away.start(is_bus_up=False)
    with pytest.raises(Transient):
        await away.take(bar(WARM_UP_BARS))

    await away.bus.start()
    received = await away.take(bar(WARM_UP_BARS))

    assert received == expected


async def test_the_whole_way_over_the_bus(line):
    line.bus = MemoryBus(line.broker, name=SERVICE, settings=BusSettings())
    line.handler = BarsHandler(line.bus, ComputeFeatures("crypto", "5m", line.store, 10, FULL))
    line.bus.subscribe(line.handler.subscription())
    await line.bus.start()

    batch = bar(WARM_UP_BARS)
    await line.bus.publish(
        OutMessage(
            "bars.5m",
            encode_bars(batch),
            bars_id("5m", "crypto", format_instant(batch.closed_at), 0),
            BARS_SCHEMA,
            batch.closed_at,
            batch.origin,
            "snapshot-1",
        )
    )
    while await line.bus.lag("BARS", "features"):
        pass
    await line.bus.drain()

    last = await line.bus.last(FEATURES_READY)
    assert last.headers[headers.MESSAGE_ID] == "features.ready/crypto/2025-03-08T00:05:00Z"
    assert last.headers[headers.LINEAGE] == "snapshot-1"
    assert last.headers[headers.HOPS].count("=") == 2
