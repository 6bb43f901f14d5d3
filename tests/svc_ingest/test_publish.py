"""Store first, then publish; every restart goes on where it stopped; never too far ahead of a consumer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.svc_ingest.ingest_kit import STEP, T0, at, make_run, recording_bus, run_to_the_end, shown, write_symbol

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import OutMessage, PublishAck, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.arrow_schemas import BARS_SCHEMA
from qraft_contracts.outcomes import Malformed, Transient
from qraft_frames.bars import encode_bars
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from svc_ingest.adapters.files import FileSource
from svc_ingest.adapters.simulator import MarketSimulator
from svc_ingest.domain.faults import FaultKind

N = 12


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    write_symbol(folder, "BTCUSDT", [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11], [100 + i for i in range(13)])
    write_symbol(folder, "ETHUSDT", [0, 1, 3, 4, 5, 6, 7, 8])
    return folder


def files(dataset: Path) -> FileSource:
    return FileSource(dataset, interval="5m")


async def publish_all(dataset: Path, store, broker: MemoryBroker, home: Path, **settings):
    async with recording_bus(broker) as (bus, received):
        run = make_run(files(dataset), store, bus, home, **settings)
        await run_to_the_end(run)
        async with asyncio.timeout(5):
            while await bus.slowest_lag("BARS"):
                await asyncio.sleep(0.002)
    return run, received


async def test_every_bar_is_one_message_in_order_with_its_headers(dataset: Path, tmp_path: Path) -> None:
    broker, store = MemoryBroker(), MemoryBarStore()

    run, received = await publish_all(dataset, store, broker, tmp_path)

    found = shown(received)
    assert [(i, r) for i, r, _ in found] == [(i, 0) for i in range(6)] + [(5, 1)] + [(i, 0) for i in range(6, N)]
    assert found[2] == (2, 0, {"BTCUSDT": 102.0})
    assert store.range(market="crypto", interval="5m") == (at(0), at(N - 1))
    assert run.publisher.state.n_bars == 13 and run.publisher.state.as_of == at(N - 1)
    last = await MemoryBus(broker, name="t", settings=BusSettings()).last("bars.5m")
    assert last is not None
    assert last.headers[headers.MESSAGE_ID] == "bars.5m/crypto/2025-06-01T01:00:00Z/r0"
    assert last.headers[headers.ORIGIN] == "replay"
    assert last.headers[headers.AS_OF] == "2025-06-01T01:00:00Z"
    assert last.headers[headers.LINEAGE].startswith("files:dataset@")


async def test_bar_is_in_the_store_before_anyone_hears_of_it(dataset: Path, tmp_path: Path) -> None:
    store, heard = MemoryBarStore(), []

    class WatchedBus(MemoryBus):
        async def publish(self, message: OutMessage) -> PublishAck:
            found = store.range(market="crypto", interval="5m")
            heard.append(found is not None and found[1] >= message.as_of)
            return await super().publish(message)

    bus = WatchedBus(MemoryBroker(), name="svc_ingest", settings=BusSettings())
    await bus.start()

    await run_to_the_end(make_run(files(dataset), store, bus, tmp_path))

    assert len(heard) == 13 and all(heard)


async def test_replay_from_makes_the_bars_before_it_history(dataset: Path, tmp_path: Path) -> None:
    store = MemoryBarStore()

    _, received = await publish_all(dataset, store, MemoryBroker(), tmp_path, replay_from=at(7), replay_until=at(9))

    assert [i for i, _, _ in shown(received)] == [8, 9]
    assert store.range(market="crypto", interval="5m") == (at(0), at(9))


@pytest.mark.parametrize("n_before", range(14))
async def test_restart_after_any_publish_gives_the_undisturbed_stream(
    dataset: Path, tmp_path: Path, n_before: int
) -> None:
    _, undisturbed = await publish_all(dataset, MemoryBarStore(), MemoryBroker(), tmp_path, replay_from=T0)
    broker, store = MemoryBroker(), ParquetLake(tmp_path / "lake")

    class DyingBus(MemoryBus):
        """Stops taking bars after n_before of them, as a killed process does: stored, not published."""

        n_published = 0

        async def publish(self, message: OutMessage) -> PublishAck:
            if self.n_published == n_before:
                raise asyncio.CancelledError
            self.n_published += 1
            return await super().publish(message)

    bus = DyingBus(broker, name="svc_ingest", settings=BusSettings())
    await bus.start()
    run = make_run(files(dataset), store, bus, tmp_path, replay_from=T0)
    if n_before < 13:
        with pytest.raises(asyncio.CancelledError):
            await run_to_the_end(run)
    store.close()

    _, received = await publish_all(dataset, store, broker, tmp_path, replay_from=T0)

    assert [encode_bars(batch) for batch in received] == [encode_bars(batch) for batch in undisturbed]
    store.close()


async def test_lake_that_lost_bars_is_filled_again_without_publishing_twice(dataset: Path, tmp_path: Path) -> None:
    broker = MemoryBroker()
    await publish_all(dataset, MemoryBarStore(), broker, tmp_path, replay_until=at(8))
    store = MemoryBarStore()

    _, received = await publish_all(dataset, store, broker, tmp_path)

    assert [i for i, _, _ in shown(received)] == [9, 10, 11]
    assert store.range(market="crypto", interval="5m") == (at(0), at(11))


async def test_service_after_load_goes_on_from_the_newest_stored_bar(dataset: Path, tmp_path: Path) -> None:
    broker, store = MemoryBroker(), MemoryBarStore()
    loader = make_run(files(dataset), store, MemoryBus(broker, name="t", settings=BusSettings()), tmp_path)
    done = await loader.load(until=at(6))

    assert done is not None and (done.n_bars, done.done_frac) == (7, 1.0)
    assert await loader.load(until=at(6)) is None
    _, received = await publish_all(dataset, store, broker, tmp_path)

    assert [i for i, _, _ in shown(received)] == [6, 7, 8, 9, 10, 11]


async def test_gap_across_a_restart_is_counted_once(dataset: Path, tmp_path: Path) -> None:
    store, broker = MemoryBarStore(), MemoryBroker()
    first, _ = await publish_all(dataset, store, broker, tmp_path, replay_until=at(2))
    second, _ = await publish_all(dataset, store, broker, tmp_path)

    gaps = [run.publisher.line.check.report.count(FaultKind.GAP, "ETHUSDT") for run in (first, second)]
    assert gaps == [0, 1]


async def test_at_most_the_allowed_bars_go_out_ahead_of_the_slowest_consumer(dataset: Path, tmp_path: Path) -> None:
    bus = MemoryBus(MemoryBroker(), name="svc_ingest", settings=BusSettings())
    gate, lags = asyncio.Semaphore(0), []

    async def slow(_delivery) -> None:
        await gate.acquire()

    bus.subscribe(Subscription("bars.5m", "slow", slow, (BARS_SCHEMA,)))
    await bus.start()
    run = make_run(files(dataset), MemoryBarStore(), bus, tmp_path, max_bars_ahead=3)
    task = asyncio.create_task(run_to_the_end(run))
    while not task.done():
        await asyncio.sleep(0.01)
        lags.append(await bus.slowest_lag("BARS"))
        gate.release()
    await task
    for _ in range(N + 5):
        gate.release()
    await bus.drain()

    assert max(lags) == 3
    assert run.publisher.flow.n_waits > 0


async def test_bus_that_is_away_is_waited_for_and_nothing_is_skipped(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svc_ingest.usecases.publish.RETRY_PAUSE_S", 0.0)

    class FlakyBus(MemoryBus):
        n_calls = 0

        async def publish(self, message: OutMessage) -> PublishAck:
            self.n_calls += 1
            if self.n_calls % 3:
                raise Transient("bus_away", "no answer")
            return await super().publish(message)

        async def slowest_lag(self, stream: str) -> int:
            raise Transient("bus_away", "no answer")

    broker = MemoryBroker()
    bus = FlakyBus(broker, name="svc_ingest", settings=BusSettings())
    await bus.start()
    run = make_run(files(dataset), MemoryBarStore(), bus, tmp_path)

    await run_to_the_end(run)

    assert run.publisher.state.n_bars == 13
    async with recording_bus(broker) as (_, received):
        while len(received) < 13:
            await asyncio.sleep(0.002)
    assert [i for i, _, _ in shown(received)] == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11]


async def test_speed_is_a_limit_and_can_be_changed_while_running(dataset: Path, tmp_path: Path) -> None:
    async with recording_bus(MemoryBroker()) as (bus, _):
        run = make_run(files(dataset), MemoryBarStore(), bus, tmp_path, speed=0.001)
        task = asyncio.create_task(run_to_the_end(run))
        while run.publisher.state.n_bars < 1:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert run.publisher.state.n_bars == 1

        run.publisher.pace.set_speed(0)
        async with asyncio.timeout(5):
            await task

    assert run.publisher.state.n_bars == 13


async def test_simulated_and_recorded_bars_never_mix(dataset: Path, tmp_path: Path) -> None:
    store, broker = MemoryBarStore(), MemoryBroker()
    await publish_all(dataset, store, broker, tmp_path)
    simulator = MarketSimulator(interval="5m", symbols=("BTCUSDT",), seed=1, n_days=300)

    with pytest.raises(Malformed, match=r"origin_conflict.*QRAFT_HOME"):
        await make_run(
            simulator, store, MemoryBus(broker, name="t", settings=BusSettings()), tmp_path, replay_from=at(20)
        ).load(until=at(20) + STEP)


async def test_changed_dataset_is_named_instead_of_mixed_in(dataset: Path, tmp_path: Path) -> None:
    store, broker = MemoryBarStore(), MemoryBroker()
    await publish_all(dataset, store, broker, tmp_path, replay_until=at(8))
    write_symbol(dataset, "ETHUSDT", [0, 1, 3, 4, 5, 6, 7, 8], [7.0] * 8)

    with pytest.raises(Malformed, match=r"lake_conflict.*QRAFT_HOME"):
        await publish_all(dataset, store, broker, tmp_path)


async def test_report_is_written_at_the_end(dataset: Path, tmp_path: Path) -> None:
    async with recording_bus(MemoryBroker()) as (bus, _):
        task = asyncio.create_task(make_run(files(dataset), MemoryBarStore(), bus, tmp_path).serve())
        path = tmp_path / "reports/ingest/serve.crypto.5m.json"
        async with asyncio.timeout(5):
            while not path.exists():
                await asyncio.sleep(0.005)
        task.cancel()

    text = path.read_text()
    assert '"origin": "replay"' in text and '"revision": 1' in text and '"missing_bars": 1' in text
