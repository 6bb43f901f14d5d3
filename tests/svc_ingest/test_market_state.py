"""The state of the market beside each published bar: what was known at its end, the same after any restart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import REGISTRY
from tests.svc_ingest.binance_server import STEP_MS, Futures, Venue, serve_binance
from tests.svc_ingest.collect_kit import FUNDING, Bench, dataset, funding_columns
from tests.svc_ingest.ingest_kit import T0, at, make_run, recording_bus, run_to_the_end, write_symbol
from tests.svc_ingest.test_backfill import H8, NOW_MS, funding, statistics
from tests.svc_ingest.test_live import live_run
from tests.svc_ingest.test_poll import bench_at

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import OutMessage, PublishAck
from qraft_bus.settings import BusSettings
from qraft_contracts.kinds import KINDS, STATE_INPUTS
from qraft_contracts.outcomes import Transient
from qraft_frames.bars import BarBatch, encode_bars
from qraft_quant.features.operators import STATE_INPUTS as ENGINE_STATE
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.port import Pieces, TableStore
from qraft_store.tables.schema import table_schema
from svc_ingest.adapters import market_state
from svc_ingest.adapters.files import FileSource
from svc_ingest.adapters.late_rows import LateRows, ReadMark
from svc_ingest.adapters.market_state import LakeState
from svc_ingest.adapters.simulator import MarketSimulator
from svc_ingest.adapters.state_files import StateFiles
from svc_ingest.app import has_state, load_state
from svc_ingest.domain.market_state import KnownState, derivable, state_tables, with_sources
from svc_ingest.domain.raw import Int64Array
from svc_ingest.settings import IngestSettings
from svc_ingest.usecases import join_state, poll
from svc_ingest.usecases.load_state import LoadState

PERP = "binance.perp"
N = 12


def put_funding(tables: TableStore, *rows: tuple[str, datetime, float], known_at: datetime | None = None) -> None:
    """Store funding of symbols, known at once unless said otherwise."""
    given = [
        {"symbol": symbol, "event_at": event, "known_at": known_at or event, "row_id": "", "revision": 0,
         "origin": "replay", "source": "test", "funding_rate": rate, "period_hours": 8.0}
        for symbol, event, rate in rows
    ]  # fmt: skip
    done = tables.append("funding", market=PERP, rows=pa.Table.from_pylist(given, schema=table_schema("funding")))
    assert done.n_new == len(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "dataset"
    write_symbol(found, "BTCUSDT", range(N))
    write_symbol(found, "ETHUSDT", [i for i in range(N) if i != 4])
    return found


async def publish_all(folder: Path, home: Path, tables: TableStore | None, **settings) -> list[BarBatch]:
    """Play the folder through to a recorder and return what it received."""
    state = None if tables is None else LakeState(tables, PERP)
    async with recording_bus(MemoryBroker()) as (bus, received):
        run = make_run(FileSource(folder, interval="5m"), MemoryBarStore(), bus, home, state=state, **settings)
        await run_to_the_end(run)
        async with asyncio.timeout(5):
            while await bus.slowest_lag("BARS"):
                await asyncio.sleep(0.002)
    return received


def funding_of(batches: Sequence[BarBatch], symbol: str) -> list[float | None]:
    """Return the funding that each message carries for a symbol, None where it has none."""
    found: list[float | None] = []
    for batch in batches:
        values = batch.state.get("funding_rate")
        value = np.nan if values is None or symbol not in batch.symbols else values[batch.symbols.index(symbol)]
        found.append(None if np.isnan(value) else float(value))
    return found


async def test_message_carries_what_was_known_at_its_bar_and_nothing_newer(folder: Path, tmp_path: Path) -> None:
    tables = MemoryTables()
    put_funding(tables, ("BTCUSDT", at(2), 0.01), ("ETHUSDT", at(3), 0.02))
    put_funding(tables, ("BTCUSDT", at(5), 0.05), known_at=at(7) + timedelta(seconds=1))

    received = await publish_all(folder, tmp_path, tables)

    assert funding_of(received, "BTCUSDT") == [None, None, *[0.01] * 6, *[0.05] * 4]
    assert funding_of(received, "ETHUSDT") == [None] * 3 + [0.02, None] + [0.02] * 7
    assert set(received[-1].state) == {"funding_rate"} and not received[1].state


async def test_bars_without_a_state_market_carry_none(folder: Path, tmp_path: Path) -> None:
    assert [dict(batch.state) for batch in await publish_all(folder, tmp_path, None)] == [{}] * N


async def test_stretches_of_any_length_give_the_same_messages(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = MemoryTables()
    put_funding(tables, *(("BTCUSDT", at(i) - timedelta(minutes=1), i / 1000) for i in range(0, N, 3)))
    whole = await publish_all(folder, tmp_path, tables)

    for n_bars in (1, 5):
        monkeypatch.setattr(join_state, "STRETCH_BARS", n_bars)
        received = await publish_all(folder, tmp_path, tables)
        assert [encode_bars(batch) for batch in received] == [encode_bars(batch) for batch in whole]


@pytest.mark.parametrize("n_before", [0, 1, 5, 11])
async def test_restart_in_mid_day_gives_the_undisturbed_messages(folder: Path, tmp_path: Path, n_before: int) -> None:
    tables, store, broker = MemoryTables(), MemoryBarStore(), MemoryBroker()
    put_funding(tables, *(("BTCUSDT", at(i), i / 1000) for i in range(0, N, 2)))
    undisturbed = await publish_all(folder, tmp_path, tables, replay_from=T0)

    class DyingBus(MemoryBus):
        n_published = 0

        async def publish(self, message: OutMessage) -> PublishAck:
            if self.n_published == n_before:
                raise asyncio.CancelledError
            self.n_published += 1
            return await super().publish(message)

    dying = DyingBus(broker, name="svc_ingest", settings=BusSettings())
    await dying.start()
    first = FileSource(folder, interval="5m")
    with pytest.raises(asyncio.CancelledError):
        await run_to_the_end(make_run(first, store, dying, tmp_path, state=LakeState(tables, PERP), replay_from=T0))
    async with recording_bus(broker) as (bus, received):
        again = FileSource(folder, interval="5m")
        await run_to_the_end(make_run(again, store, bus, tmp_path, state=LakeState(tables, PERP), replay_from=T0))
        async with asyncio.timeout(5):
            while await bus.slowest_lag("BARS"):
                await asyncio.sleep(0.002)

    assert [encode_bars(batch) for batch in received] == [encode_bars(batch) for batch in undisturbed]


async def test_revision_of_a_bar_carries_the_state_of_the_bar(tmp_path: Path) -> None:
    folder, tables = tmp_path / "dataset", MemoryTables()
    write_symbol(folder, "BTCUSDT", [0, 1, 1, 2], [100, 101, 101.5, 102])
    put_funding(tables, ("BTCUSDT", at(1), 0.01), ("BTCUSDT", at(2), 0.02))

    received = await publish_all(folder, tmp_path, tables)

    assert [(batch.closed_at, batch.revision) for batch in received][1:3] == [(at(1), 0), (at(1), 1)]
    assert funding_of(received, "BTCUSDT") == [None, 0.01, 0.01, 0.02]


async def test_simulated_bars_never_carry_the_state_of_a_real_market(tmp_path: Path) -> None:
    source, tables = MarketSimulator(interval="5m", symbols=("BTCUSDT",), seed=7, n_days=1), MemoryTables()
    await source.open()
    assert source.last_closed_at is not None
    first = source.last_closed_at - timedelta(hours=3)
    put_funding(tables, ("BTCUSDT", first, 0.01))

    async with recording_bus(MemoryBroker()) as (bus, received):
        run = make_run(source, MemoryBarStore(), bus, tmp_path, state=LakeState(tables, PERP), replay_from=first)
        await run_to_the_end(run)
        async with asyncio.timeout(5):
            while await bus.slowest_lag("BARS"):
                await asyncio.sleep(0.002)

    assert len(received) == 36 and not any(batch.state for batch in received)
    assert not has_state(CommonSettings(home=tmp_path), source)


def _n_faults(table: str) -> float:
    return REGISTRY.get_sample_value("qraft_state_faults_total", {"table": table}) or 0.0


async def test_damaged_table_is_told_and_the_bars_and_the_other_state_go_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_state, "STRETCH_BARS", 5)
    tables = ParquetTables(tmp_path / "lake")
    put_funding(tables, ("BTCUSDT", at(0), 0.01))
    vix = {"symbol": "VIX", "event_at": at(0), "known_at": at(0), "row_id": "", "revision": 0, "origin": "replay",
           "source": "test", "value": 18.5}  # fmt: skip
    tables.append("macro", market="us.macro", rows=pa.Table.from_pylist([vix], schema=table_schema("macro")))
    tables.close()
    (file,) = (tmp_path / "lake/tables/funding").rglob("*.parquet")
    file.write_bytes(b"PAR1" + file.read_bytes()[4:-20])
    before = _n_faults("tables/funding/binance.perp")

    received = await publish_all(folder, tmp_path, ParquetTables(tmp_path / "lake"))

    assert len(received) == N and funding_of(received, "BTCUSDT") == [None] * N
    assert [batch.state["vix"].tolist()[0] for batch in received] == [18.5] * N
    assert _n_faults("tables/funding/binance.perp") == before + 3
    said = capsys.readouterr()
    assert (said.out + said.err).count("state.unavailable") == 1


async def test_state_that_is_away_altogether_stops_no_bar(folder: Path, tmp_path: Path) -> None:
    class Away:
        def read(self, *, symbols: Sequence[str], at_us: Int64Array) -> KnownState:
            raise Transient("lake_away", f"{len(symbols)} symbols at {at_us.size} times")

    async with recording_bus(MemoryBroker()) as (bus, received):
        run = make_run(FileSource(folder, interval="5m"), MemoryBarStore(), bus, tmp_path, state=Away())
        await run_to_the_end(run)
        async with asyncio.timeout(5):
            while await bus.slowest_lag("BARS"):
                await asyncio.sleep(0.002)

    assert len(received) == N and not any(batch.state for batch in received)


def test_row_stored_after_its_bar_went_out_is_known_right_after_that_bar() -> None:
    tables, mark = MemoryTables(), ReadMark()
    state, store = LakeState(tables, PERP, mark), LateRows(tables, mark)
    put_funding(store, ("BTCUSDT", at(0), 0.01))
    times = [np.array([int(at(i).timestamp()) * 1_000_000], dtype=np.int64) for i in range(4)]
    sent = [state.read(symbols=("BTCUSDT",), at_us=at_us) for at_us in times[:3]]

    put_funding(store, ("BTCUSDT", at(1), 0.02), known_at=at(2))  # received before bar 2 ended, stored after it
    put_funding(store, ("BTCUSDT", at(0) - timedelta(hours=16), 0.03))  # stale by the first bar
    sent.append(state.read(symbols=("BTCUSDT",), at_us=times[3]))
    history = LakeState(tables, PERP).read(symbols=("BTCUSDT",), at_us=np.concatenate(times))

    online = [float(known.values["funding_rate"][0, 0]) for known in sent]
    assert online == [0.01, 0.01, 0.01, 0.02] == history.values["funding_rate"][:, 0].tolist()
    rows = tables.read("funding", market=PERP, symbols=None, start=at(-1000), end=at(N), as_of=at(N)).to_pylist()
    assert rows[0]["known_at"] == at(0) - timedelta(hours=16)
    assert rows[-1]["known_at"] == at(2) + timedelta(microseconds=1)


async def test_rows_that_came_between_two_bars_are_in_memory_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(ParquetTables):
        n_read = 0

        def pieces(self, kind: str, **options: Any) -> Pieces:
            found = super().pieces(kind, **options)
            self.n_read += len(found.rows)
            return found

    monkeypatch.setattr(market_state, "REFRESH_S", 0.01)
    tables = Seen(tmp_path)
    state = LakeState(tables, PERP)
    put_funding(tables, ("BTCUSDT", at(0), 0.01))
    times = [np.array([int(at(i).timestamp()) * 1_000_000], dtype=np.int64) for i in range(2)]
    state.read(symbols=("BTCUSDT",), at_us=times[0])
    put_funding(tables, ("BTCUSDT", at(1), 0.02))

    keeping = asyncio.create_task(state.keep_fresh())
    async with asyncio.timeout(5):
        while tables.n_read < 2:
            await asyncio.sleep(0.005)
    await cancel_and_wait(keeping)

    assert state.read(symbols=("BTCUSDT",), at_us=times[1]).values["funding_rate"][0, 0] == 0.02
    assert tables.n_read == 2


def test_row_received_before_the_first_bar_and_stored_after_it_is_known_right_after_it() -> None:
    tables, mark = MemoryTables(), ReadMark()
    state, store = LakeState(tables, PERP, mark), LateRows(tables, mark)
    times = [np.array([int(at(i).timestamp()) * 1_000_000], dtype=np.int64) for i in range(2)]
    sent = [state.read(symbols=("BTCUSDT",), at_us=times[0])]

    put_funding(store, ("BTCUSDT", at(-1), 0.02), known_at=at(0) - timedelta(seconds=0.5))
    put_funding(store, ("BTCUSDT", at(-100), 0.03))  # what a venue told of a new lake, later than the first bar
    sent.append(state.read(symbols=("BTCUSDT",), at_us=times[1]))
    history = LakeState(tables, PERP).read(symbols=("BTCUSDT",), at_us=np.concatenate(times))

    assert "funding_rate" not in sent[0].values
    assert np.isnan(history.values["funding_rate"][0, 0])
    assert sent[1].values["funding_rate"][0, 0] == history.values["funding_rate"][1, 0] == 0.02


def test_state_is_loaded_from_the_tables_of_the_market_only_and_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, dataset("funding", "funding.parquet", FUNDING))
    columns = funding_columns([0.01, 0.02, 0.03])
    bench.write("funding.parquet", **columns | {"venue": pa.array(["binance", "bybit", "binance"])})

    first = bench.collect(tables=state_tables(PERP))
    again = bench.collect(tables=state_tables(PERP))

    assert first.total().n_new == 2 and bench.tables.markets("funding") == (PERP,)
    assert again.before == ["funding"]
    whole = bench.collect()
    assert (whole.total().n_new, whole.total().n_repeated) == (1, 2)
    assert bench.collect(tables=state_tables(PERP)).before == ["funding"]


def test_file_that_cannot_be_read_stops_neither_the_others_nor_the_bars(tmp_path: Path) -> None:
    torn = dataset("torn", "torn.parquet", FUNDING)
    bench = Bench(tmp_path, torn, dataset("funding", "funding.parquet", FUNDING))
    bench.write("funding.parquet", **funding_columns([0.01, 0.02]))
    (bench.data / "torn.parquet").write_bytes(b"PAR1 and no more")
    before = _n_faults("torn")
    job = LoadState(bench.collector(), lambda _selection, _tally: None, PERP)

    tally = job()

    assert [it.where for it in tally.failures] == ["torn"] and tally.total().n_new == 2
    assert _n_faults("torn") == before + 1


def test_what_is_derived_is_derived_again_only_of_other_rows(tmp_path: Path) -> None:
    bench, asked = Bench(tmp_path, dataset("funding", "funding.parquet", FUNDING)), []
    bench.write("funding.parquet", **funding_columns([0.01, 0.02]))
    job = LoadState(bench.collector(), lambda selection, _tally: asked.append(selection.kinds), PERP)

    job(), job()
    vix = {"symbol": "VIX", "event_at": at(0), "known_at": at(0), "row_id": "", "revision": 0, "origin": "replay",
           "source": "test", "value": 18.5}  # fmt: skip
    bench.tables.append("macro", market="us.macro", rows=pa.Table.from_pylist([vix], schema=table_schema("macro")))
    job()

    assert asked == [("event_density", "series_state")] * 2


def test_tables_of_a_state_are_those_of_its_inputs_and_what_small_ones_derive_from() -> None:
    wanted = state_tables(PERP)

    assert ("funding", PERP) in wanted and ("macro", "us.macro") in wanted
    assert ("events", "us.macro") in with_sources(wanted) - wanted
    assert {kind for kind, _ in derivable(wanted)} == {"series_state", "event_density"}
    assert not {kind for kind, _ in with_sources(wanted)} & {"bars", "trades", "book_update"}
    assert state_tables("") == frozenset()


def test_engine_and_contract_name_the_same_inputs() -> None:
    assert tuple(STATE_INPUTS) == ENGINE_STATE
    assert {it.kind for it in STATE_INPUTS.values()} <= KINDS.keys()


@pytest.mark.parametrize(
    ("changes", "is_loaded"),
    [({}, True), ({"dataset": "elsewhere"}, False), ({"state_market": ""}, False)],
    ids=["data set of QRAFT_DATA", "a folder of one's own", "no state market"],
)
async def test_state_is_loaded_beside_bars_of_the_data_folder_only(
    folder: Path, tmp_path: Path, changes: dict[str, str], is_loaded: bool
) -> None:
    bench = Bench(tmp_path)
    bench.write("funding.parquet", **funding_columns([0.01, 0.02]))
    (tmp_path / "catalogue.toml").write_text(CATALOGUE.replace("funding/funding_8h_binance_2025", "funding"))
    common = CommonSettings(home=tmp_path, **{k: v for k, v in changes.items() if k == "state_market"})
    own = {k: tmp_path / v for k, v in changes.items() if k == "dataset"}
    settings = IngestSettings(data=bench.data, catalogue=tmp_path / "catalogue.toml", **own)

    await load_state(common, settings, FileSource(folder, interval="5m"), clock=SystemClock())

    assert (ParquetTables(tmp_path / "lake").markets("funding") == (PERP,)) == is_loaded


async def test_first_bar_waits_for_the_state_that_is_being_loaded(folder: Path, tmp_path: Path) -> None:
    tables = MemoryTables()

    async def bring() -> None:
        await asyncio.sleep(0.05)
        put_funding(tables, ("BTCUSDT", T0, 0.01))

    async with recording_bus(MemoryBroker()) as (bus, received):
        source, store = FileSource(folder, interval="5m"), MemoryBarStore()
        run = make_run(source, store, bus, tmp_path, state=LakeState(tables, PERP), replay_from=T0)
        await run_to_the_end(replace(run, load_state=bring))
        async with asyncio.timeout(5):
            while await bus.slowest_lag("BARS"):
                await asyncio.sleep(0.002)

    assert funding_of(received, "BTCUSDT") == [0.01] * N


async def test_line_that_is_stopped_while_it_waits_for_state_ends_at_once(folder: Path, tmp_path: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def bring() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with recording_bus(MemoryBroker()) as (bus, _):
        run = make_run(FileSource(folder, interval="5m"), MemoryBarStore(), bus, tmp_path, replay_from=at(9))
        serving = asyncio.create_task(replace(run, load_state=bring).serve())
        await began.wait()
        serving.cancel()
        _, pending = await asyncio.wait([serving], timeout=2)

    assert not pending and serving.cancelled() and ended.is_set()


async def test_living_line_begins_when_every_feed_was_asked_once(tmp_path: Path) -> None:
    statistics_rows = statistics(600) | {"/fapi/v1/fundingRate": funding([NOW_MS - i * H8 for i in range(10)][::-1])}
    closes = {"BTCUSDT": [100.0 + i for i in range(288)]}
    with serve_binance(Venue(NOW_MS - 288 * STEP_MS, closes, futures=Futures(statistics_rows, NOW_MS))) as venue:
        async with bench_at(venue, tmp_path) as bench:
            polling = asyncio.create_task(bench.poller.serve())
            assert not bench.rows("funding")
            async with asyncio.timeout(20):
                await bench.poller.first_pass()
            stored = {kind: len(bench.rows(kind)) for kind in ("funding", "open_interest", "taker_volume")}
            polling.cancel()

    assert all(stored.values()), stored


async def test_stored_bar_that_nobody_heard_of_goes_out_with_its_state(tmp_path: Path) -> None:
    tables, store = MemoryTables(), MemoryBarStore()
    put_funding(tables, ("BTCUSDT", at(20), 0.01), ("BTCUSDT", at(22), 0.02), ("BTCUSDT", at(24), 0.03))
    closes = {name: [100.0 + i for i in range(40)] for name in ("BTCUSDT", "ETHUSDT")}
    with serve_binance(Venue(int(T0.timestamp() * 1000), closes)) as venue:
        state = LakeState(tables, PERP)
        _, first = await live_run(venue, store, MemoryBroker(), tmp_path, start=20, until=22, state=state)
        _, again = await live_run(venue, store, MemoryBroker(), tmp_path, start=23, until=24, state=state)

    assert [(batch.closed_at, value) for batch, value in zip(first, funding_of(first, "BTCUSDT"), strict=True)] == [
        (at(20), 0.01), (at(21), 0.01), (at(22), 0.02)
    ]  # fmt: skip
    assert encode_bars(again[0]) == encode_bars(first[-1])
    assert funding_of(again, "BTCUSDT") == [0.02, 0.02, 0.03]


async def test_living_line_does_not_wait_for_a_venue_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "FIRST_PASS_S", 0.05)
    with serve_binance(Venue(NOW_MS, {"BTCUSDT": [100.0]}, futures=Futures({}, NOW_MS))) as venue:
        async with bench_at(venue, tmp_path) as bench, asyncio.timeout(5):
            await bench.poller.first_pass()  # nobody polls


CATALOGUE = """
[[dataset]]
name = "funding_2025"
files = "funding/funding_8h_binance_2025.parquet"
reader = "parquet"
[[dataset.tables]]
kind = "funding"
market = "{venue}.perp"
symbol = "{symbol}"
time = {column = "funding_time", floor_s = 3600}
known = {rule = "column", column = "funding_time"}
fields = {funding_rate = {column = "funding_rate", low = -0.05, high = 0.05}, period_hours = {value = 8.0}}
"""


@pytest.mark.data
async def test_real_bars_go_out_with_the_funding_of_their_time(qraft_data: Path, tmp_path: Path) -> None:
    (tmp_path / "catalogue.toml").write_text(CATALOGUE)
    files = StateFiles(tmp_path / "catalogue.toml", qraft_data, tmp_path / "lake", PERP, SystemClock())
    tables, store, first = ParquetTables(tmp_path / "lake"), MemoryBarStore(), datetime(2025, 6, 1, tzinfo=UTC)
    symbols = ("BTCUSDT", "XRPUSDT")
    source = FileSource(
        qraft_data / "bars/perp_5m_2025", interval="5m", symbols=symbols, history_from=first - timedelta(hours=1)
    )
    async with recording_bus(MemoryBroker()) as (bus, received):
        run = make_run(
            source, store, bus, tmp_path, state=LakeState(tables, PERP),
            replay_from=first, replay_until=first + timedelta(days=2),
        )  # fmt: skip
        await asyncio.to_thread(files.load, store, ParquetTables(tmp_path / "lake"))
        await run_to_the_end(run)
        async with asyncio.timeout(5):
            while await bus.slowest_lag("BARS"):
                await asyncio.sleep(0.002)

    raw = pq.read_table(qraft_data / "funding/funding_8h_binance_2025.parquet").to_pylist()
    assert len(received) == 576
    for batch in received:
        for symbol, value in zip(batch.symbols, batch.state["funding_rate"].tolist(), strict=True):
            known = [row for row in raw if row["symbol"] == symbol and row["funding_time"] <= batch.closed_at]
            assert value == max(known, key=lambda row: row["funding_time"])["funding_rate"]
    assert len({tuple(batch.state["funding_rate"].tolist()) for batch in received}) >= 6
