"""Snapshots: named by their question, the same bytes again, and what was changed is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.libs.data.data_kit import T0, at, memory_library, put_bars, put_rows

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_data.continuous.rolls import RollRule
from qraft_data.library import DataLibrary
from qraft_data.options.quotes import OptionModel, OptionRange, option_greeks
from qraft_data.query import Query, parse_field
from qraft_data.snapshots.content import content_of
from qraft_data.snapshots.meta import DATA_FILE, META_FILE, SnapshotMeta, column_sha256, encode_meta, key_of
from qraft_data.snapshots.panels import bar_panel_of, grid_of, inputs_of
from qraft_data.snapshots.store import SnapshotStore, evidence_inputs
from qraft_data.times import instant_of
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables

_FIELDS = ("bars.open", "bars.high", "bars.low", "bars.close", "bars.volume", "funding.funding_rate")


def _query(**choice: object) -> Query:
    given = {"market": "binance.perp", "symbols": ("BTCUSDT", "ETHUSDT"), "start": T0, "end": at(6)}
    return Query(fields=tuple(parse_field(name) for name in _FIELDS), **(given | choice))  # type: ignore[arg-type]


def _fill(library: DataLibrary) -> None:
    put_bars(library, {"BTCUSDT": [100.0, 101.0, np.nan, 103.0, 104.0, 105.0], "ETHUSDT": [10.0] * 6})
    funding = {"symbol": "BTCUSDT", "event_at": at(2), "funding_rate": 1e-4, "period_hours": 8.0}
    put_rows(library, "funding", [funding])


def _memory() -> DataLibrary:
    library = memory_library()
    _fill(library)
    return library


async def test_two_runs_over_two_stores_write_the_same_bytes(tmp_path: Path) -> None:
    on_disk = DataLibrary(ParquetLake(tmp_path / "lake"), ParquetTables(tmp_path / "lake"))
    _fill(on_disk)
    folder = ObjectArtefactStore(tmp_path / "artefacts")
    memory = MemoryArtefactStore()

    first = await SnapshotStore(folder).take(on_disk, _query())
    second = await SnapshotStore(memory).take(_memory(), _query())

    assert first.snapshot_id == second.snapshot_id
    for name in (DATA_FILE, META_FILE):
        key = key_of(first.snapshot_id, name)
        assert await folder.get(key) == await memory.get(key)


async def test_same_question_again_is_the_same_snapshot_and_another_is_another() -> None:
    store, library = SnapshotStore(MemoryArtefactStore()), _memory()

    first, again = await store.take(library, _query()), await store.take(library, _query())
    shorter = await store.take(library, _query(end=at(5)))

    assert first == again
    assert set(await store.ids()) == {first.snapshot_id, shorter.snapshot_id}


async def test_new_row_in_a_source_is_a_new_snapshot() -> None:
    store, library = SnapshotStore(MemoryArtefactStore()), _memory()
    before = await store.take(library, _query())

    put_bars(library, {"BTCUSDT": [99.0]}, closed_at=[at(3)], revision=1)
    after = await store.take(library, _query())

    assert before.snapshot_id != after.snapshot_id
    assert before.versions["tables/funding/binance.perp"] == after.versions["tables/funding/binance.perp"]
    assert before.versions["bars/5m/binance.perp"] != after.versions["bars/5m/binance.perp"]
    assert (await store.verify(before.snapshot_id)).is_intact


async def test_record_says_what_is_in_the_data() -> None:
    meta = await SnapshotStore(MemoryArtefactStore()).take(_memory(), _query())

    close, funding = meta.columns["bars.close"], meta.columns["funding.funding_rate"]
    assert (meta.n_rows, meta.origin, meta.lineage) == (12, Origin.REPLAY, f"snapshot:{meta.snapshot_id}")
    assert (close.n_missing, close.missing_frac, close.low, close.high) == (1, 1 / 12, 10.0, 105.0)
    assert close.mean == pytest.approx((513.0 + 60.0) / 11)
    assert funding.unit == "fraction of notional for the period"
    assert funding.n_missing == 7  # ETH has none, and BTC none in its first row
    assert meta.query["as_of"] == "2025-06-01T00:30:00Z"
    assert meta.counts["n_missing bars.close"] == 1
    assert evidence_inputs(meta) == {f"snapshots/{meta.snapshot_id}": Origin.REPLAY}


async def test_data_comes_back_as_it_was_read() -> None:
    store, library = SnapshotStore(MemoryArtefactStore()), _memory()

    meta = await store.take(library, _query())
    read, table = await store.read(meta.snapshot_id)

    assert read == meta
    assert table.equals(library.run(_query()).table())
    panel = msgspec.convert(meta.query, Query, strict=False)
    assert panel.canonical() == _query().canonical()


async def test_bars_of_a_snapshot_are_the_panel_that_training_takes() -> None:
    store, library = SnapshotStore(MemoryArtefactStore()), _memory()
    meta, table = await store.read((await store.take(library, _query())).snapshot_id)

    panel = bar_panel_of(meta, table)

    expected = library.run(_query()).bars()
    assert (panel.symbols, panel.origin, panel.market) == (expected.symbols, expected.origin, expected.market)
    for name in ("closed_at", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(panel, name), getattr(expected, name))
    inputs, asked = inputs_of(meta, table), library.run(_query()).inputs()
    assert set(inputs) == {"open", "high", "low", "close", "volume", "funding_rate"}
    for name, values in inputs.items():
        np.testing.assert_array_equal(values, asked[name])
    funding = grid_of(meta, table, "funding.funding_rate")
    np.testing.assert_array_equal(funding, library.run(_query()).values["funding.funding_rate"])


async def test_bars_of_a_snapshot_with_dropped_cells_are_refused() -> None:
    store = SnapshotStore(MemoryArtefactStore())
    meta, table = await store.read((await store.take(_memory(), _query(missing="drop"))).snapshot_id)

    with pytest.raises(ValueError, match="dropped cells"):
        bar_panel_of(meta, table)


async def test_changed_value_is_named_by_its_column(tmp_path: Path) -> None:
    store = SnapshotStore(ObjectArtefactStore(tmp_path))
    meta = await store.take(_memory(), _query())
    path = tmp_path / key_of(meta.snapshot_id, DATA_FILE)
    table = pq.read_table(path)
    position = table.column_names.index("bars.close")
    values = table["bars.close"].to_numpy(zero_copy_only=False).copy()
    values[0] += 1e-9
    pq.write_table(table.set_column(position, "bars.close", [pa.array(values, mask=np.isnan(values))]), path)

    found = await store.verify(meta.snapshot_id)

    assert not found.is_intact
    assert any(line.startswith("column bars.close differs in sha256, mean") for line in found.differences)
    assert any(line.startswith("data.parquet has SHA-256") for line in found.differences)
    assert not any("bars.open" in line for line in found.differences)
    with pytest.raises(ValueError, match="the artefact was changed"):
        await store.read(meta.snapshot_id)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([1.0, 2.0]), pa.array([2.0, 1.0])),
        (pa.array(["a", None]), pa.array(["a", ""])),
        (pa.array(["ab", "c"]), pa.array(["a", "bc"])),
        (pa.array([0, 1]), pa.array([None, 1])),
        (pa.array([True, False]), pa.array([1, 0])),
        (pa.array([1.0, None]), pa.array([1.0])),
    ],
)
def test_hash_of_a_column_tells_apart_what_differs(left: pa.Array, right: pa.Array) -> None:
    assert column_sha256(left) != column_sha256(right)


def test_hash_of_a_column_does_not_see_which_nan_it_is() -> None:
    odd = np.array([0x7FF8000000000001], dtype="<u8").view("<f8")

    assert column_sha256(pa.array(odd)) == column_sha256(pa.array([float("nan")]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"n_rows": 13}, "there are 12 rows, the record says 13"),
        ({"versions": {"bars/5m/binance.perp": "0" * 64}}, "its query and versions"),
        ({"lineage": "snapshot:none"}, "the lineage is snapshot:none"),
        ({"columns": {}}, "column bars.close is unknown to the record"),
    ],
)
async def test_changed_record_is_named(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    store = SnapshotStore(ObjectArtefactStore(tmp_path))
    meta = await store.take(_memory(), _query())
    forged = msgspec.structs.replace(meta, **change)
    (tmp_path / key_of(meta.snapshot_id, META_FILE)).write_bytes(encode_meta(forged))

    found = await store.verify(meta.snapshot_id)

    assert any(expected in line for line in found.differences), found.differences


@pytest.mark.parametrize(("name", "expected"), [(DATA_FILE, "expected Parquet"), (META_FILE, "bad_snapshot")])
async def test_torn_file_is_named(tmp_path: Path, name: str, expected: str) -> None:
    store = SnapshotStore(ObjectArtefactStore(tmp_path))
    meta = await store.take(_memory(), _query())
    path = tmp_path / key_of(meta.snapshot_id, name)
    path.write_bytes(path.read_bytes()[:-100])

    found = await store.verify(meta.snapshot_id)

    assert any(expected in line for line in found.differences), found.differences


async def test_missing_data_file_is_named_and_a_missing_snapshot_is_unknown(tmp_path: Path) -> None:
    store = SnapshotStore(ObjectArtefactStore(tmp_path))
    meta = await store.take(_memory(), _query())
    (tmp_path / key_of(meta.snapshot_id, DATA_FILE)).unlink()

    assert (await store.verify(meta.snapshot_id)).differences == ("data.parquet is missing",)
    with pytest.raises(KeyError):
        await store.verify("0" * 64)


async def test_other_data_under_the_same_id_is_refused_and_what_stands_is_kept() -> None:
    store, library = SnapshotStore(MemoryArtefactStore()), _memory()
    content = content_of(library.run(_query(), has_versions=True))
    meta = await store.write(content)
    column = content.table.column_names.index("bars.close")
    other = content.table.set_column(column, "bars.close", content.table["bars.open"].combine_chunks())
    zeros = other.set_column(column, "bars.close", [np.zeros(other.num_rows)])

    with pytest.raises(ValueError, match=r"other data under the same id \(columns \['bars.close'\]\)"):
        await store.write(_replaced(content, zeros))

    assert (await store.verify(meta.snapshot_id)).is_intact


async def test_answer_without_versions_is_not_kept() -> None:
    with pytest.raises(ValueError, match="has_versions=True"):
        await SnapshotStore(MemoryArtefactStore()).write(content_of(_memory().run(_query())))


async def test_source_that_never_stands_still_is_not_kept() -> None:
    library = _memory()
    restless = _Restless(library.bars)

    with pytest.raises(Transient, match="sources_moving"):
        await SnapshotStore(MemoryArtefactStore()).take(DataLibrary(restless, library.tables), _query())  # type: ignore[arg-type]

    assert restless.n_versions >= 6


class _Restless:
    """A real bar store into which something is written before every look at its version."""

    def __init__(self, bars: object) -> None:
        self._bars = bars
        self.n_versions = 0

    def version(self, *, market: str, interval: str) -> str:
        self.n_versions += 1
        put_bars(
            DataLibrary(self._bars, memory_library().tables), {"SOLUSDT": [1.0]}, closed_at=[at(self.n_versions + 9)]
        )  # type: ignore[arg-type]
        return self._bars.version(market=market, interval=interval)  # type: ignore[attr-defined, no-any-return]

    def read(self, **asked: object) -> object:
        return self._bars.read(**asked)  # type: ignore[attr-defined]


async def test_roll_points_are_in_the_record() -> None:
    library = memory_library()
    put_bars(library, {"A": [1.0] * 4, "B": [2.0] * 4}, volume={"A": [9.0, 1.0, 1.0, 1.0], "B": [1.0, 9.0, 9.0, 9.0]})
    listing = {"root": "ZZ", "multiplier": 1.0, "tick_size": 0.1, "event_at": T0 - timedelta(days=9)}
    expiries = {"A": 9, "B": 90}
    rows = [
        {"symbol": name, "expires_at_us": int(at(step).timestamp()) * 1_000_000, **listing}
        for name, step in expiries.items()
    ]
    put_rows(library, "futures_contracts", rows)
    query = Query(
        market="binance.perp", symbols=("ZZ",), start=T0, end=at(4), fields=(parse_field("bars.close"),),
        continuous=RollRule(by="volume", persist_bars=1, back_adjust="ratio"),
    )  # fmt: skip
    artefacts = MemoryArtefactStore()

    meta = await SnapshotStore(artefacts).take(library, query)

    record = json.loads(await artefacts.get(key_of(meta.snapshot_id, META_FILE)))
    (point,) = record["roll_points"]
    assert (point["from_contract"], point["to_contract"], point["gap"]) == ("A", "B", 1.0)
    assert msgspec.convert(record, SnapshotMeta, strict=False) == meta


async def test_option_table_is_a_snapshot_whose_id_holds_its_method() -> None:
    library = memory_library()
    quote = {
        "symbol": "BTC", "row_id": "C110", "event_at": at(1), "expires_at_us": int(at(9_000).timestamp()) * 1_000_000,
        "strike": 110.0, "is_call": True, "bid": 2.0, "ask": 2.2, "underlying_price": 100.0,
    }  # fmt: skip
    put_rows(library, "option_quotes", [quote], market="made.up.options")
    asked = OptionRange(market="made.up.options", underlying="BTC", start=T0, end=at(5), as_of=at(5))
    store = SnapshotStore(MemoryArtefactStore())

    metas = [
        await store.write(
            content_of(option_greeks(library.tables, asked, model=OptionModel(rate=rate), has_versions=True))
        )
        for rate in (0.0, 0.05)
    ]

    assert metas[0].snapshot_id != metas[1].snapshot_id
    assert "rate=0.05" in metas[1].query["signature"]
    assert (await store.verify(metas[1].snapshot_id)).is_intact
    meta, table = await store.read(metas[1].snapshot_id)
    assert table["status"].to_pylist() == ["ok"]
    with pytest.raises(ValueError, match="snapshot of get_data"):
        bar_panel_of(meta, table)


@pytest.mark.data
async def test_real_bars_and_funding_of_a_month_make_one_intact_snapshot(qraft_data: Path, tmp_path: Path) -> None:
    library = DataLibrary(ParquetLake(tmp_path / "lake"), ParquetTables(tmp_path / "lake"))
    start, end = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 6, 8, tzinfo=UTC)
    for symbol in ("BTCUSDT",):
        table = pq.read_table(qraft_data / "bars" / "perp_5m_2025" / f"{symbol}.parquet")
        opened = table["open_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
        inside = np.flatnonzero((opened >= _us(start)) & (opened < _us(end)))
        ends = [instant_of(int(opened[i])) + timedelta(minutes=5) for i in inside]
        put_bars(library, {symbol: table["close"].to_numpy()[inside].tolist()}, closed_at=ends)
    funding = pq.read_table(qraft_data / "funding" / "funding_8h_binance_2025.parquet").to_pylist()
    rows = [
        {
            "symbol": row["symbol"],
            "event_at": row["funding_time"],
            "funding_rate": row["funding_rate"],
            "period_hours": 8.0,
        }
        for row in funding
        if row["symbol"] == "BTCUSDT" and start <= row["funding_time"] <= end
    ]
    put_rows(library, "funding", rows)
    store = SnapshotStore(ObjectArtefactStore(tmp_path / "artefacts"))

    meta = await store.take(library, _query(symbols=("BTCUSDT",), start=start, end=end))

    assert meta.n_rows == 7 * 288
    assert meta.columns["bars.close"].n_missing == 0
    assert meta.columns["funding.funding_rate"].n_missing == 0
    assert (await store.verify(meta.snapshot_id)).is_intact


def _us(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000


def _replaced(content: object, table: object) -> object:
    from dataclasses import replace

    return replace(content, table=table)  # type: ignore[type-var]
