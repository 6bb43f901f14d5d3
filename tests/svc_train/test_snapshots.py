"""What trains is what a snapshot holds: the live line's bars and the state known at each, the same bytes ever after."""

import asyncio
import dataclasses
import functools
import io
import json
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.libs.data.data_kit import put_rows
from tests.svc_train.kit import batches_of, data_of

from qraft_contracts.origin import Origin
from qraft_data.library import DataLibrary
from qraft_data.query import Query, parse_field
from qraft_data.snapshots.store import SnapshotStore
from qraft_data.state import state_of_bars
from qraft_frames.bars import BarBatch
from qraft_quant.features import FULL, compute_history
from qraft_quant.features import FeatureSet as Catalog
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables
from svc_train.adapters.lake import TrainingLake
from svc_train.app import build
from svc_train.domain.manifest import instant_of
from svc_train.domain.panel import FeatureSet, states_of
from svc_train.domain.request import DataRequest
from svc_train.settings import TrainSettings

pytestmark = pytest.mark.data

N_BARS = 6_000
STATES = ("funding_rate", "basis_frac")
REQUEST = DataRequest("crypto", "5m", "binance.perp", STATES)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, real_bars, slice_of, qraft_data):
    """A home whose lake holds 6,000 real bars of three perpetuals and their real funding."""
    home = tmp_path_factory.mktemp("home")
    lake, tables = ParquetLake(home / "lake"), ParquetTables(home / "lake")
    bars = slice_of(real_bars, 0, N_BARS)
    lake.append(list(batches_of(bars)))
    lake.close()
    frame = pl.read_parquet(qraft_data / "funding" / "funding_8h_binance_2025.parquet")
    frame = frame.filter(pl.col("symbol").is_in(bars.symbols), pl.col("funding_time") <= instant_of(bars.closed_at[-1]))
    rows = [
        {"symbol": it["symbol"], "event_at": it["funding_time"], "funding_rate": it["funding_rate"],
         "period_hours": 8.0}
        for it in frame.iter_rows(named=True)
    ]  # fmt: skip
    put_rows(DataLibrary(lake, tables), "funding", rows)
    tables.close()
    return home


@pytest.fixture
def home(stored, tmp_path):
    """A copy of that home, to change."""
    shutil.copytree(stored, tmp_path / "home")
    return tmp_path / "home"


def lake_of(home):
    lake = home / "lake"
    return TrainingLake(
        ParquetLake(lake), ParquetTables(lake), ObjectArtefactStore(home / "artefacts"), place=str(lake)
    )


def take(home, request=REQUEST):
    return asyncio.run(lake_of(home).take(request))


def read(home, snapshot_id, request=REQUEST):
    return asyncio.run(lake_of(home).read(snapshot_id, request))


def put_funding(home, *rows):
    tables = ParquetTables(home / "lake")
    put_rows(DataLibrary(ParquetLake(home / "lake"), tables), "funding", rows)
    tables.close()


def same(first, second):
    return np.array_equal(first, second, equal_nan=True)


def test_snapshot_holds_the_bars_of_the_line_and_the_state_that_its_messages_carry(stored, real_bars, slice_of):
    bars = slice_of(real_bars, 0, N_BARS)

    data = take(stored)

    names = ("closed_at", "open", "high", "low", "close", "volume")
    assert all(same(getattr(data.bars, name), getattr(bars, name)) for name in names)
    assert data.bars.symbols == bars.symbols
    live = state_of_bars(ParquetTables(stored / "lake"), bars, market="binance.perp", names=STATES)
    assert set(data.state) == set(live.values) == {"funding_rate"}
    assert same(data.state["funding_rate"], live.values["funding_rate"])
    assert np.isfinite(data.state["funding_rate"]).mean() > 0.99
    # Of the basis nothing is stored: it was asked for, and the snapshot says that there was none.
    assert data.state_fields["basis_frac"] == "basis.basis_frac@binance.perp"


def test_bars_that_were_corrected_later_train_as_first_seen(home):
    lake = ParquetLake(home / "lake")
    before = take(home)
    t = 4_000
    bars, closed_at = before.bars, instant_of(before.bars.closed_at[t])
    row = [np.array([100.0]) for _ in range(5)]
    lake.append([
        BarBatch("crypto", "5m", closed_at, closed_at + timedelta(minutes=1), 1, Origin.REPLAY, bars.symbols[:1], *row)
    ])  # fmt: skip
    lake.close()

    after = take(home)

    assert same(after.bars.close, before.bars.close)
    assert after.snapshot_id != before.snapshot_id


def test_a_state_known_late_is_not_seen_before_it_was_known(home):
    before = take(home)
    bars = before.bars
    event_at, known_at = (instant_of(bars.closed_at[t]) for t in (3_000, 3_020))
    late = {"symbol": "BTCUSDT", "event_at": event_at, "known_at": known_at, "funding_rate": 0.25, "period_hours": 8.0}
    after_the_end = instant_of(bars.closed_at[-1])
    unknown = late | {"event_at": after_the_end, "known_at": after_the_end + timedelta(seconds=1)}

    put_funding(home, late, unknown)
    after = take(home)

    first, second = before.state["funding_rate"], after.state["funding_rate"]
    changed = np.flatnonzero((first != second)[:, 0])
    assert changed.size and changed.min() == 3_020
    assert set(second[changed, 0]) == {0.25} and changed.max() < N_BARS - 1
    assert same(first[:, 1:], second[:, 1:])


def test_a_missing_bar_has_no_state(home, real_bars, slice_of, tmp_path):
    bars = slice_of(real_bars, 0, 400)
    gapped = dataclasses.replace(bars, close=bars.close.copy())
    gapped.close[300, 1] = np.nan
    other = tmp_path / "other"
    shutil.copytree(home / "lake" / "tables", other / "lake" / "tables")
    lake = ParquetLake(other / "lake")
    lake.append([_without_missing(batch) for batch in batches_of(gapped)])
    lake.close()

    state = take(other).state["funding_rate"]

    assert np.isnan(state[300, 1]) and np.isfinite(state[300, [0, 2]]).all() and np.isfinite(state[299, 1])


def _without_missing(batch):
    there = np.flatnonzero(np.isfinite(batch.close))
    values = {name: getattr(batch, name)[there] for name in ("open", "high", "low", "close", "volume")}
    return dataclasses.replace(batch, symbols=tuple(batch.symbols[i] for i in there), **values)


def test_state_changes_the_model_and_its_features_are_proven_on_it(stored, make_trainer):
    wanted = ("funding_rate", "funding_change_96", "funding_missing", "basis_missing")
    chosen = tuple(it for it in FULL.features if it.name in wanted) + FULL.features[:6]
    catalog = Catalog("few", chosen)
    compute = functools.partial(compute_history, features=catalog, interval="5m")
    features = FeatureSet(catalog.names, catalog.signature("5m"), compute, states_of(catalog.inputs))
    data = take(stored, dataclasses.replace(REQUEST, states=features.states))
    trainer = make_trainer(features=features, horizons=("1h",), n_trees=8)

    with_state, without = trainer.train(data), trainer.train(data_of(data.bars))

    assert features.states == STATES
    assert with_state.graph != without.graph
    assert with_state.snapshot.sha256 != without.snapshot.sha256
    quality = next(found for found in with_state.findings if found.gate == "data_quality")
    assert quality.measures["state.funding_rate.known_frac"] > 0.99
    assert quality.measures["state.basis_frac.known_frac"] == 0.0
    assert next(found for found in with_state.findings if found.gate == "leakage").n_failed == 0


def test_home_that_has_nothing_but_the_snapshot_makes_the_same_files(home, tmp_path):
    until = datetime(2025, 1, 20, 20, 0, tzinfo=UTC)
    settings = TrainSettings(
        until=until, horizons=("1h",), n_trees=4, n_folds=2, register_candidate=False, code_revision="test"
    )
    model_id = run(settings, home)
    manifest = json.loads((home / "artefacts" / "models" / model_id / "manifest.json").read_text())
    snapshot_id, bare = manifest["data"]["snapshot_id"], tmp_path / "bare"
    shutil.copytree(home / "artefacts" / "snapshots" / snapshot_id, bare / "artefacts" / "snapshots" / snapshot_id)

    again = run(settings.model_copy(update={"until": None, "snapshot": snapshot_id}), bare)

    assert again == model_id
    first, second = (files_of(folder / "artefacts" / "models" / model_id) for folder in (home, bare))
    assert first == second and {"model.onnx", "manifest.json", "oof.parquet"} <= set(first)
    proofs = [files_of(folder / "artefacts" / "proofs") for folder in (home, bare)]
    assert proofs[0] == proofs[1] != {}


def run(settings, home):
    return build(settings, CommonSettings(home=home), clock=SystemClock(), stdout=io.StringIO()).run()


def files_of(folder):
    """Return the bytes of every file but the run logs."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run_log.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def other_price(folder):
    table = pq.read_table(folder / "data.parquet")
    place = table.schema.get_field_index("bars.close")
    dearer = pc.multiply(table["bars.close"], pa.scalar(1.0001))
    pq.write_table(table.set_column(place, "bars.close", dearer), folder / "data.parquet")


def half_a_file(folder):
    data = (folder / "data.parquet").read_bytes()
    (folder / "data.parquet").write_bytes(data[: len(data) // 2])


def other_range(folder):
    record = json.loads((folder / "snapshot_meta.json").read_text())
    record["query"]["start"] = "2025-01-02T00:00:00Z"
    (folder / "snapshot_meta.json").write_text(json.dumps(record))


def no_record(folder):
    (folder / "snapshot_meta.json").write_text("{}")


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (other_price, "data.parquet has SHA-256 .* column bars.close differs in sha256"),
        (half_a_file, "data.parquet has SHA-256"),
        (other_range, "its query and versions"),
        (no_record, "snapshot_meta.json"),
    ],
)
def test_tampered_snapshot_is_refused_by_name(home, tamper, what):
    snapshot_id = take(home).snapshot_id
    tamper(home / "artefacts" / "snapshots" / snapshot_id)

    with pytest.raises(ValueError, match=f"snapshot {snapshot_id} is not as it was taken .*{what}"):
        read(home, snapshot_id)


def test_unknown_snapshot_is_refused_with_where_it_was_looked_for(stored):
    with pytest.raises(ValueError, match=r"snapshots/0+/snapshot_meta\.json, received nothing"):
        read(stored, "0" * 64)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"market": "other"}, r"market \(QRAFT_MARKET\): expected other, received crypto"),
        ({"interval": "1h"}, "QRAFT_INTERVAL"),
        ({"symbols": ("BTCUSDT",)}, "QRAFT_TRAIN_SYMBOLS"),
        ({"end": datetime(2025, 1, 19, tzinfo=UTC)}, "QRAFT_TRAIN_UNTIL"),
        ({"states": (*STATES, "long_short_ratio")}, "long_short_ratio: expected the field .*, received none"),
        ({"state_market": "bybit.perp"}, "funding_rate: expected the field funding.funding_rate@bybit.perp"),
    ],
)
def test_snapshot_of_another_question_is_refused_with_each_difference(stored, changes, what):
    snapshot_id = take(stored).snapshot_id

    with pytest.raises(ValueError, match=what):
        read(stored, snapshot_id, dataclasses.replace(REQUEST, **changes))


def test_snapshot_of_corrected_bars_trains_nothing(stored, real_bars):
    fields = tuple(parse_field(f"bars.{name}") for name in ("open", "high", "low", "close", "volume"))
    ends = [instant_of(real_bars.closed_at[t]) for t in (0, 500)]
    query = Query(market="crypto", symbols=("BTCUSDT",), start=ends[0], end=ends[1], fields=fields)
    lake = lake_of(stored)
    meta = asyncio.run(SnapshotStore(lake.artefacts).take(DataLibrary(lake.bars, lake.tables), query))

    with pytest.raises(ValueError, match="revisions: expected first, received latest"):
        read(stored, meta.snapshot_id, dataclasses.replace(REQUEST, states=()))


def test_simulated_bars_have_no_market_s_state(home, real_bars, slice_of):
    simulated = dataclasses.replace(slice_of(real_bars, 0, 100), market="toy", origin=Origin.SIMULATED)
    lake = ParquetLake(home / "lake")
    lake.append(list(batches_of(simulated)))
    lake.close()

    data = take(home, dataclasses.replace(REQUEST, market="toy"))

    assert data.bars.origin is Origin.SIMULATED
    assert (dict(data.state), dict(data.state_fields)) == ({}, {})


def test_simulated_state_is_never_mixed_with_the_bars_of_a_market(home):
    row = {"symbol": "BTCUSDT", "event_at": datetime(2025, 1, 10, 3, 30, tzinfo=UTC), "origin": "simulated"}
    put_funding(home, row | {"funding_rate": 0.1, "period_hours": 8.0})

    with pytest.raises(ValueError, match=r"simulated rows in the tables of binance\.perp"):
        take(home)
