"""State in the live line: a message, a warm-up and a history give the same bits, whatever happens in between."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from prometheus_client import REGISTRY

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_data.state import read_state, state_of_bars
from qraft_frames.bars import BarBatch, decode_bars, encode_bars
from qraft_quant.features import BAR_INPUTS, CORE, FULL, compute_history
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.port import TableStore
from qraft_store.tables.schema import table_schema
from svc_features import __main__ as command_line
from svc_features.domain.grid import grid_index
from svc_features.usecases import ComputeFeatures, StateTables

STEP = timedelta(minutes=5)
PERP = "binance.perp"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
N_LIVE = 80
N_BARS = FULL.warm_up_bars + N_LIVE
FIRST = datetime(2025, 6, 9, 4, tzinfo=UTC)  # end of the first bar
FUNDING_COLUMNS = [FULL.names.index(name) for name in ("funding_rate", "funding_change_96", "funding_missing")]


def closed_at(i: int) -> datetime:
    return FIRST + i * STEP


def rows_of(kind: str, rows: list[dict]) -> pa.Table:
    plain = {"row_id": "", "revision": 0, "origin": "replay", "source": "test"}
    complete = [plain | {"known_at": row["event_at"]} | row for row in rows]
    schema = table_schema(kind)
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in complete], schema=schema)


def put(tables: TableStore, kind: str, rows: list[dict]) -> None:
    done = tables.append(kind, market=PERP, rows=rows_of(kind, rows))
    assert done.n_new == len(rows)


@pytest.fixture(scope="module")
def bars(qraft_data: Path) -> list[BarBatch]:
    """Real bars of June 2025; ETHUSDT has a hole of five."""
    first, last = closed_at(0) - STEP, closed_at(N_BARS - 1) - STEP
    columns = {}
    for symbol in SYMBOLS:
        table = pq.read_table(qraft_data / f"bars/perp_5m_2025/{symbol}.parquet")
        opened = table["open_time"].cast(pa.timestamp("us", tz="UTC"))
        inside = pc.and_(pc.greater_equal(opened, pa.scalar(first)), pc.less_equal(opened, pa.scalar(last)))
        columns[symbol] = table.filter(inside).select(BAR_INPUTS)
    batches = []
    for i in range(N_BARS):
        there = [name for name in SYMBOLS if name != "ETHUSDT" or i not in range(2050, 2055)]
        values = {it: np.array([columns[name][it][i].as_py() for name in there]) for it in BAR_INPUTS}
        at = closed_at(i)
        batches.append(BarBatch("crypto", "5m", at, at, 0, Origin.REPLAY, tuple(there), **values))
    return batches


@pytest.fixture
def tables(qraft_data: Path) -> MemoryTables:
    """Real funding and open interest of that time; open interest of another venue, under our market for the test."""
    found = MemoryTables()
    start, end = closed_at(0) - timedelta(days=1), closed_at(N_BARS)
    funding = pq.read_table(qraft_data / "funding/funding_8h_binance_2025.parquet").to_pylist()
    put(found, "funding", [
        {"symbol": row["symbol"], "event_at": row["funding_time"].replace(minute=0, second=0, microsecond=0),
         "known_at": row["funding_time"], "funding_rate": row["funding_rate"], "period_hours": 8.0}
        for row in funding if row["symbol"] in SYMBOLS and start < row["funding_time"] < end
    ])  # fmt: skip
    interest = pq.read_table(qraft_data / "open_interest/open_interest_1h_hyperliquid_2025.parquet")
    put(found, "open_interest", [
        {"symbol": row["coin"] + "USDT", "event_at": row["time"], "open_interest_usd": row["oi_usd"]}
        for row in interest.to_pylist() if row["coin"] + "USDT" in SYMBOLS and start < row["time"] < end
    ])  # fmt: skip
    return found


def message(bar: BarBatch, tables: TableStore) -> BarBatch:
    """Return a bar as svc_ingest sends it now: with what the tables hold at this moment, over the wire."""
    at_us = np.array([int(bar.closed_at.timestamp()) * 1_000_000], dtype=np.int64)
    known = read_state(tables, market=PERP, symbols=bar.symbols, at_us=at_us, as_of=bar.closed_at)
    return decode_bars(encode_bars(replace(bar, state={name: values[0] for name, values in known.values.items()})))


def service(store: BarStore, tables: TableStore) -> ComputeFeatures:
    return ComputeFeatures("crypto", "5m", store, 100, FULL, StateTables(tables, PERP))


def live(bars: list[BarBatch], tables: TableStore, *, restarts: tuple[int, ...] = ()) -> list[bytes]:
    """Return the features of the live bars one after the other."""
    store = MemoryBarStore()
    store.append(bars[: FULL.warm_up_bars])
    line, found = service(store, tables), []
    for i in range(FULL.warm_up_bars, N_BARS):
        line = service(store, tables) if i - FULL.warm_up_bars in restarts else line
        computed = line(message(bars[i], tables))
        store.append([bars[i]])
        found.append(computed.batch.values.tobytes())
    return found


def panel_of(bars: list[BarBatch]) -> BarPanel:
    store = MemoryBarStore()
    store.append(bars)
    panel = store.read(market="crypto", interval="5m", symbols=None, start=closed_at(-1), end=closed_at(N_BARS - 1))
    assert panel is not None
    return panel


def offline(bars: list[BarBatch], tables: TableStore, *, n_threads: int = 1) -> np.ndarray:
    """Return the features of the live bars from the whole history, as training does."""
    panel = panel_of(bars)
    inputs = {name: getattr(panel, name) for name in BAR_INPUTS}
    inputs |= state_of_bars(tables, panel, market=PERP).values
    first = grid_index(closed_at(0), interval_s=300)
    return compute_history(inputs, first, features=FULL, n_threads=n_threads)[FULL.warm_up_bars :]


def sha256_of(rows: list[bytes]) -> str:
    return hashlib.sha256(b"".join(rows)).hexdigest()


def rows_as_sent(bars: list[BarBatch], matrix: np.ndarray) -> list[bytes]:
    """Return the rows of those symbols that each bar has."""
    found = []
    for bar, values in zip(bars[FULL.warm_up_bars :], matrix, strict=True):
        found.append(np.ascontiguousarray(values[[SYMBOLS.index(name) for name in bar.symbols]]).tobytes())
    return found


@pytest.mark.data
def test_live_history_threads_and_restarts_give_one_sha256_with_real_state(
    bars: list[BarBatch], tables: MemoryTables
) -> None:
    expected = sha256_of(rows_as_sent(bars, offline(bars, tables)))

    assert sha256_of(live(bars, tables)) == expected
    assert sha256_of(live(bars, tables, restarts=(3, 39, 77))) == expected
    assert sha256_of(rows_as_sent(bars, offline(bars, tables, n_threads=2))) == expected


@pytest.mark.data
def test_state_reaches_the_features(bars: list[BarBatch], tables: MemoryTables) -> None:
    values = offline(bars, tables)[:, 0, FUNDING_COLUMNS]

    assert (values[:, 2] == 0.0).all() and len(np.unique(values[:, 0])) >= 2 and (values[:, 1] != 0.0).any()
    assert sha256_of(live(bars, MemoryTables())) != sha256_of(live(bars, tables))


@pytest.mark.data
def test_row_that_comes_late_changes_features_from_when_it_was_known(
    bars: list[BarBatch], tables: MemoryTables
) -> None:
    before = live(bars, tables)
    event, known = closed_at(FULL.warm_up_bars + 50), closed_at(FULL.warm_up_bars + 60)  # after the settlement of 8:00
    put(tables, "funding", [
        {"symbol": "BTCUSDT", "event_at": event, "known_at": known, "funding_rate": 0.1, "period_hours": 8.0}
    ])  # fmt: skip

    after = live(bars, tables, restarts=(40, 70))

    assert after[:60] == before[:60] and after[60] != before[60]
    assert sha256_of(after) == sha256_of(rows_as_sent(bars, offline(bars, tables)))


@pytest.mark.data
def test_row_stored_while_the_line_runs_gives_history_the_bits_that_went_out(
    bars: list[BarBatch], tables: MemoryTables
) -> None:
    """As svc_ingest stores it: known after the newest bar that went out."""
    store = MemoryBarStore()
    store.append(bars[: FULL.warm_up_bars])
    line, found, before = service(store, tables), [], live(bars, tables)
    for i in range(FULL.warm_up_bars, N_BARS):
        found.append(line(message(bars[i], tables)).batch.values.tobytes())
        store.append([bars[i]])
        if i == FULL.warm_up_bars + 50:
            put(tables, "funding", [
                {"symbol": "BTCUSDT", "event_at": closed_at(i - 1), "known_at": closed_at(i) + timedelta(seconds=1),
                 "funding_rate": -0.1, "period_hours": 8.0}
            ])  # fmt: skip

    assert found[:51] == before[:51] and found[51] != before[51]
    assert sha256_of(found) == sha256_of(rows_as_sent(bars, offline(bars, tables)))


@pytest.mark.data
def test_damaged_table_hides_its_features_and_the_bars_go_on(bars: list[BarBatch], tmp_path: Path) -> None:
    tables = ParquetTables(tmp_path)
    put(tables, "funding", [
        {"symbol": "BTCUSDT", "event_at": closed_at(2000), "funding_rate": 0.01, "period_hours": 8.0}
    ])  # fmt: skip
    tables.close()
    (file,) = (tmp_path / "tables").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    store = MemoryBarStore()
    store.append(bars[: FULL.warm_up_bars])
    labels = {"table": "tables/funding/binance.perp"}
    before = REGISTRY.get_sample_value("qraft_state_faults_total", labels) or 0.0

    computed = service(store, ParquetTables(tmp_path))(bars[FULL.warm_up_bars])

    assert np.isfinite(computed.batch.values).all()
    assert (computed.batch.values[:, FULL.names.index("funding_missing")] == 1.0).all()
    assert REGISTRY.get_sample_value("qraft_state_faults_total", labels) == before + 1


@pytest.mark.data
def test_simulated_bars_have_no_state_even_if_a_message_claims_some(bars: list[BarBatch], tables: MemoryTables) -> None:
    made_up = [replace(bar, origin=Origin.SIMULATED) for bar in bars[: FULL.warm_up_bars + 1]]
    store = MemoryBarStore()
    store.append(made_up[:-1])
    claimed = replace(made_up[-1], state={"funding_rate": np.full(len(made_up[-1].symbols), 0.01)})

    computed = service(store, tables)(claimed)

    assert (computed.batch.values[:, FULL.names.index("funding_missing")] == 1.0).all()


def test_core_reads_no_table_at_all() -> None:
    class Untouched(MemoryTables):
        def read(self, *args: object, **kwargs: object) -> pa.Table:
            raise AssertionError("core has no state to read")

    store = MemoryBarStore()
    bar = BarBatch("crypto", "5m", FIRST, FIRST, 0, Origin.REPLAY, ("A",), *(np.ones(1) for _ in range(5)))
    later = replace(bar, closed_at=FIRST + STEP, known_at=FIRST + STEP)
    store.append([bar])

    line = ComputeFeatures("crypto", "5m", store, 100, CORE, StateTables(Untouched(), PERP))

    assert line(later).batch.names == CORE.names


@pytest.mark.data
def test_compute_command_gives_the_sha256_of_the_live_line(
    bars: list[BarBatch], tables: MemoryTables, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = [bar for bar in bars if len(bar.symbols) == len(SYMBOLS)][: FULL.warm_up_bars + 30]
    lake, stored = ParquetLake(tmp_path / "lake"), ParquetTables(tmp_path / "lake")
    lake.append(whole)
    lake.close()
    for kind in ("funding", "open_interest"):
        rows = tables.read(kind, market=PERP, symbols=None, start=closed_at(-1000), end=closed_at(N_BARS))
        stored.append(kind, market=PERP, rows=rows)
    stored.close()
    store = MemoryBarStore()
    store.append(whole[: FULL.warm_up_bars])
    line = service(store, tables)
    found = [line(message(bar, tables)).batch.values.tobytes() for bar in whole[FULL.warm_up_bars :]]
    for name, value in (("HOME", str(tmp_path)), ("STATE_MARKET", PERP)):
        monkeypatch.setenv(f"QRAFT_{name}", value)
    words = ["compute", "--set", "full", "--from", whole[FULL.warm_up_bars - 1].closed_at.isoformat(),
             "--until", whole[-1].closed_at.isoformat(), "--out", str(tmp_path / "out.parquet")]  # fmt: skip

    assert command_line.main(words) == 0
    with_state = json.loads(capsys.readouterr().out.splitlines()[-1])["sha256"]
    monkeypatch.setenv("QRAFT_STATE_MARKET", "")
    assert command_line.main(words) == 0
    without = json.loads(capsys.readouterr().out.splitlines()[-1])["sha256"]

    assert with_state == sha256_of(found) != without


@pytest.mark.data
def test_compute_command_names_a_damaged_table(
    bars: list[BarBatch], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, stored = ParquetLake(tmp_path / "lake"), ParquetTables(tmp_path / "lake")
    lake.append(bars[:20])
    lake.close()
    put(stored, "funding", [{"symbol": "BTCUSDT", "event_at": FIRST, "funding_rate": 0.01, "period_hours": 8.0}])
    stored.close()
    (file,) = (tmp_path / "lake/tables").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    monkeypatch.setenv("QRAFT_HOME", str(tmp_path))
    until = closed_at(19).isoformat()

    code = command_line.main(
        ["compute", "--set", "full", "--from", closed_at(0).isoformat(), "--until", until, "--out", str(tmp_path / "o")]
    )

    said = capsys.readouterr()
    assert code == command_line.EXIT_USAGE and "damaged_lake_file" in said.out + said.err


def test_state_market_is_a_setting_of_all_services(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CommonSettings().state_market == PERP
    monkeypatch.setenv("QRAFT_STATE_MARKET", "bybit.perp")
    assert CommonSettings().state_market == "bybit.perp"


def test_history_that_cannot_be_read_is_an_error_where_nobody_serves(tmp_path: Path) -> None:
    tables = ParquetTables(tmp_path)
    put(tables, "funding", [{"symbol": "BTCUSDT", "event_at": FIRST, "funding_rate": 0.01, "period_hours": 8.0}])
    tables.close()
    (tmp_path / "tables/funding/binance.perp/manifest.json").write_text("{")

    with pytest.raises(Malformed):
        read_state(
            ParquetTables(tmp_path), market=PERP, symbols=SYMBOLS,
            at_us=np.array([int(FIRST.timestamp()) * 1_000_000]), as_of=FIRST,
        )  # fmt: skip
