"""One behaviour suite for every BarStore: the twin and the Parquet lake."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.libs.store.bars_kit import DAY, STEP, STORES, T0, assert_same, bar, bars, opened

from qraft_contracts.origin import Origin
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.bars.port import BarPanel, BarRevisions, BarStore


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BarStore]:
    with opened(request.param, tmp_path) as found:
        yield found


def read_all(store: BarStore, *, symbols: list[str] | None = None) -> BarPanel:
    panel = store.read(market="crypto", interval="5m", symbols=symbols, start=T0 - STEP, end=T0 + 3 * DAY)
    assert panel is not None
    return panel


def test_bars_come_back_on_the_grid_with_their_values(store: BarStore) -> None:
    assert store.append(bars(3)) == 6

    panel = store.read(market="crypto", interval="5m", symbols=None, start=T0 - STEP, end=T0 + 2 * STEP)

    assert panel is not None
    assert (panel.market, panel.interval, panel.origin) == ("crypto", "5m", Origin.REPLAY)
    assert panel.symbols == ("BTCUSDT", "ETHUSDT")
    assert panel.closed_at.dtype == np.dtype("datetime64[us]")
    assert [str(t)[:16] for t in panel.closed_at] == ["2025-06-01T00:05", "2025-06-01T00:10", "2025-06-01T00:15"]
    assert panel.close.tolist() == [[100, 101], [101, 102], [102, 103]]
    assert panel.open.tolist() == [[99, 100], [100, 101], [101, 102]]
    assert panel.high.tolist() == [[102, 103], [103, 104], [104, 105]]
    assert panel.low.tolist() == [[98, 99], [99, 100], [100, 101]]
    assert panel.volume.tolist() == [[1000, 1010], [1010, 1020], [1020, 1030]]


def test_range_excludes_start_and_includes_end(store: BarStore) -> None:
    store.append(bars(10))

    panel = store.read(market="crypto", interval="5m", symbols=None, start=T0, end=T0 + 2 * STEP)

    assert panel is not None
    assert panel.close[:, 0].tolist() == [101, 102]


def test_missing_bars_are_nan_and_never_filled(store: BarStore) -> None:
    store.append([bar(T0), bar(T0 + 2 * STEP, ("ETHUSDT",))])

    panel = store.read(market="crypto", interval="5m", symbols=None, start=T0 - STEP, end=T0 + 3 * STEP)

    assert panel is not None
    assert np.isnan(panel.close).tolist() == [[False, False], [True, True], [True, False], [True, True]]


def test_symbols_are_returned_as_asked_for(store: BarStore) -> None:
    store.append(bars(1, symbols=("BTCUSDT", "ETHUSDT", "SOLUSDT")))

    panel = read_all(store, symbols=["SOLUSDT", "DOGEUSDT", "BTCUSDT"])

    assert panel.symbols == ("SOLUSDT", "DOGEUSDT", "BTCUSDT")
    assert panel.close[0, [0, 2]].tolist() == [102, 100]
    assert np.isnan(panel.close[:, 1]).all()


def test_nothing_in_range_is_none(store: BarStore) -> None:
    assert store.read(market="crypto", interval="5m", symbols=None, start=T0, end=T0 + DAY) is None
    assert store.range(market="crypto", interval="5m") is None

    store.append(bars(3))

    assert store.read(market="crypto", interval="5m", symbols=None, start=T0 + DAY, end=T0 + 2 * DAY) is None
    assert store.read(market="crypto", interval="5m", symbols=["XRPUSDT"], start=T0 - STEP, end=T0 + DAY) is None
    assert store.read(market="fx", interval="5m", symbols=None, start=T0 - STEP, end=T0 + DAY) is None


def test_range_spans_days(store: BarStore) -> None:
    store.append(bars(600))

    assert store.range(market="crypto", interval="5m") == (T0, T0 + 599 * STEP)


def test_bulk_and_bar_by_bar_give_the_same_panel(store: BarStore) -> None:
    batches = bars(700)
    store.append(batches[:300])
    for batch in batches[300:]:
        store.append([batch])
    twin = MemoryBarStore()
    twin.append(batches)

    for name in ("open", "high", "low", "close", "volume", "closed_at"):
        np.testing.assert_array_equal(getattr(read_all(store), name), getattr(read_all(twin), name))


def test_same_rows_again_add_nothing(store: BarStore) -> None:
    batches = bars(400)
    store.append(batches)

    assert store.append(batches) == 0
    assert store.append([batches[3]]) == 0
    assert store.append([batches[-1]]) == 0


def test_second_half_of_a_bar_is_added(store: BarStore) -> None:
    store.append([bar(T0, ("BTCUSDT",))])

    assert store.append([bar(T0, ("BTCUSDT", "ETHUSDT"))]) == 1
    assert read_all(store).symbols == ("BTCUSDT", "ETHUSDT")


@pytest.mark.parametrize("n_bars", [5, 400])
def test_stored_row_with_other_values_is_refused(store: BarStore, n_bars: int) -> None:
    store.append(bars(n_bars))

    with pytest.raises(ValueError, match="expected the stored values again"):
        store.append([bar(T0, base=7.0)])

    assert read_all(store).close[0].tolist() == [100, 101]


def test_nan_is_a_value_and_equal_to_itself(store: BarStore) -> None:
    batch = bar(T0, base=float("nan"))
    store.append([batch])

    assert store.append([batch]) == 0
    with pytest.raises(ValueError, match="stored values"):
        store.append([bar(T0)])


def test_late_row_of_revision_0_is_refused_and_as_revision_accepted(store: BarStore) -> None:
    store.append([bar(T0, ("BTCUSDT",)), bar(T0 + STEP)])

    with pytest.raises(ValueError, match="expected closed_at from"):
        store.append([bar(T0, ("ETHUSDT",))])
    assert store.append([bar(T0, ("ETHUSDT",), revision=1)]) == 1

    assert np.isnan(read_all(store, symbols=["ETHUSDT"]).close[0, 0])


def test_revisions_are_kept_and_the_first_is_read(store: BarStore) -> None:
    store.append(bars(600))

    assert store.append([bar(T0, base=7.0, revision=1), bar(T0, base=8.0, revision=2)]) == 4
    assert store.append([bar(T0, base=7.0, revision=1)]) == 0
    with pytest.raises(ValueError, match="stored values"):
        store.append([bar(T0, base=9.0, revision=1)])
    assert read_all(store).close[0].tolist() == [100, 101]
    assert store.range(market="crypto", interval="5m") == (T0, T0 + 599 * STEP)


def test_batches_that_go_back_within_a_call_are_refused(store: BarStore) -> None:
    with pytest.raises(ValueError, match="increasing closed_at"):
        store.append([bar(T0 + STEP), bar(T0)])


def test_closed_at_off_the_grid_is_refused(store: BarStore) -> None:
    with pytest.raises(ValueError, match="grid"):
        store.append([bar(T0 + timedelta(seconds=1))])


def test_rows_known_after_as_of_are_not_read(store: BarStore) -> None:
    store.append([bar(T0), bar(T0 + STEP, known_at=T0 + 4 * STEP)])

    early = store.read(market="crypto", interval="5m", symbols=None, start=T0 - STEP, end=T0 + 2 * STEP)
    later = store.read(
        market="crypto", interval="5m", symbols=None, start=T0 - STEP, end=T0 + 2 * STEP, as_of=T0 + 4 * STEP
    )

    assert early is not None and later is not None
    assert np.isnan(early.close[1]).all()
    assert later.close[1].tolist() == [100, 101]


def test_worst_origin_wins(store: BarStore) -> None:
    store.append([bar(T0, origin=Origin.REAL), bar(T0 + STEP, origin=Origin.SIMULATED)])

    real = store.read(market="crypto", interval="5m", symbols=None, start=T0 - STEP, end=T0)
    both = store.read(market="crypto", interval="5m", symbols=None, start=T0 - STEP, end=T0 + STEP)

    assert real is not None and real.origin is Origin.REAL
    assert both is not None and both.origin is Origin.SIMULATED


def test_empty_call_adds_nothing(store: BarStore) -> None:
    assert store.append([]) == 0


def test_bar_known_before_it_ended_is_refused(store: BarStore) -> None:
    store.append(bars(2))

    for known_at in (T0, T0 + 2 * STEP - timedelta(microseconds=1)):
        with pytest.raises(ValueError, match="known_at from"):
            store.append([bar(T0 + 2 * STEP, known_at=known_at)])


def test_symbol_asked_for_twice_is_refused(store: BarStore) -> None:
    store.append(bars(2))

    with pytest.raises(ValueError, match="each symbol once"):
        read_all(store, symbols=["BTCUSDT", "BTCUSDT"])


def test_batch_with_one_wrong_row_is_refused_whole(store: BarStore) -> None:
    store.append([bar(T0, ("BTCUSDT", "ETHUSDT"))])

    with pytest.raises(ValueError, match="stored values"):
        store.append([bar(T0, ("ADAUSDT", "BTCUSDT", "ETHUSDT"))])  # values go by place: the known two have others

    assert read_all(store).symbols == ("BTCUSDT", "ETHUSDT")


OPERATION = st.tuples(
    st.one_of(st.integers(0, 700), st.integers(280, 300)),  # steps; many near midnight
    st.sets(st.sampled_from(["A", "B", "C"]), min_size=1),
    st.integers(0, 2),  # revision
    st.integers(0, 30),  # steps until it was known
    st.sampled_from(list(Origin)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(OPERATION, max_size=25), st.integers(-5, 720), st.integers(1, 400))
def test_lake_and_twin_agree_on_any_sequence(tmp_path_factory, operations, as_of_step: int, n: int) -> None:
    folder = tmp_path_factory.mktemp("lake")
    lake, reader, twin = ParquetLake(folder), ParquetLake(folder), MemoryBarStore()
    for i, (step, symbols, revision, lag, origin) in enumerate(operations):
        closed_at = T0 + step * STEP
        known_at = closed_at + lag * STEP
        base = 100.0 + step + 1_000 * revision
        batch = bar(closed_at, sorted(symbols), base=base, revision=revision, known_at=known_at, origin=origin)
        assert outcome(lake, batch) == outcome(twin, batch)
        if i % 5 == 4:
            lake.close()
            lake = ParquetLake(folder)
            compare(reader, twin, as_of=T0 + as_of_step * STEP, n=n)  # what it remembers must not mislead it
    lake.close()

    compare(reader, twin, as_of=T0 + as_of_step * STEP, n=n)
    compare(ParquetLake(folder), twin, as_of=T0 + 4 * DAY, n=n)


def outcome(store: BarStore, batch) -> int | str:
    try:
        return store.append([batch])
    except ValueError:
        return "refused"


def compare(lake: BarStore, twin: BarStore, *, as_of: datetime, n: int) -> None:
    """Compare everything that two stores say of the market "crypto"."""
    series = {"market": "crypto", "interval": "5m"}
    assert lake.range(**series) == twin.range(**series)
    assert lake.symbols(**series) == twin.symbols(**series)
    assert lake.version(**series) == twin.version(**series)
    assert lake.markets("5m") == twin.markets("5m")
    for revisions in get_args(BarRevisions):
        for symbols in (None, ["C", "A"]):
            asked = {**series, "symbols": symbols, "as_of": as_of, "revisions": revisions}
            window = {"start": T0 - STEP, "end": T0 + 3 * DAY}
            assert_same(lake.read(**asked, **window), twin.read(**asked, **window))
            assert_same(lake.last(**asked, n=n), twin.last(**asked, n=n))
