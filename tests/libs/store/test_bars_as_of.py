"""What a bar store knew and when: revisions, last bars, the names of what is stored. One suite for every store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.libs.store.bars_kit import DAY, STEP, STORES, T0, assert_same, bar, bars, opened

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.bars.port import BarPanel, BarRevisions, BarStore

N_BARS = 600  # two days are closed, the third grows
END = T0 + (N_BARS - 1) * STEP
NAME = {"market": "crypto", "interval": "5m"}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BarStore]:
    with opened(request.param, tmp_path) as found:
        found.append(bars(N_BARS))
        yield found


def read(
    store: BarStore, *, as_of: datetime, revisions: BarRevisions = "latest", symbols: list[str] | None = None
) -> BarPanel:
    panel = store.read(**NAME, symbols=symbols, start=T0 - STEP, end=END, as_of=as_of, revisions=revisions)
    assert panel is not None
    return panel


# A row of the closed first day, and one of the day that grows.
@pytest.mark.parametrize("row", [3, N_BARS - 2])
def test_latest_shows_of_each_bar_the_highest_revision_known_by_then(store: BarStore, row: int) -> None:
    closed_at = T0 + row * STEP
    store.append([bar(closed_at, ("BTCUSDT",), base=7.0, revision=1, known_at=END + 2 * STEP)])
    store.append([bar(closed_at, ("BTCUSDT",), base=8.0, revision=2, known_at=END + 4 * STEP)])

    shown = [read(store, as_of=END + i * STEP).close[row].tolist() for i in (0, 1, 2, 3, 4)]

    first = [100.0 + row, 101.0 + row]
    assert shown == [first, first, [7.0, first[1]], [7.0, first[1]], [8.0, first[1]]]
    assert read(store, as_of=END + DAY, revisions="first").close[row].tolist() == first
    others = np.delete(read(store, as_of=END + DAY).close, row, axis=0)
    np.testing.assert_array_equal(others, np.delete(read(store, as_of=END).close, row, axis=0))


@pytest.mark.parametrize("row", [3, N_BARS - 2])
def test_higher_revision_wins_even_when_a_lower_one_was_known_later(store: BarStore, row: int) -> None:
    closed_at = T0 + row * STEP
    second, first = (
        bar(closed_at, base=base, revision=revision, known_at=known_at)
        for base, revision, known_at in ((8.0, 2, END), (7.0, 1, END + STEP))
    )
    store.append([second, first])

    assert read(store, as_of=END + STEP).close[row].tolist() == [8.0, 9.0]


@pytest.mark.parametrize("row", [3, N_BARS - 2])
def test_bar_that_came_late_is_seen_by_latest_only(store: BarStore, row: int) -> None:
    store.append([bar(T0 + row * STEP, ("SOLUSDT",), base=5.0, revision=1, known_at=END)])

    assert read(store, as_of=END, revisions="first").symbols == ("BTCUSDT", "ETHUSDT")
    latest = read(store, as_of=END)
    assert latest.symbols == ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    assert np.flatnonzero(~np.isnan(latest.close[:, 2])).tolist() == [row]
    assert store.symbols(**NAME) == ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def test_origin_is_that_of_the_revisions_that_are_shown(store: BarStore) -> None:
    store.append([bar(T0, base=7.0, revision=1, origin=Origin.SIMULATED, known_at=END)])
    store.append([bar(T0, base=8.0, revision=2, origin=Origin.REPLAY, known_at=END + STEP)])

    assert read(store, as_of=END - STEP).origin is Origin.REPLAY
    assert read(store, as_of=END).origin is Origin.SIMULATED
    assert read(store, as_of=END + STEP).origin is Origin.REPLAY
    assert read(store, as_of=END, revisions="first").origin is Origin.REPLAY


@pytest.mark.parametrize("n", [1, 20, 100, 288, 400])
@pytest.mark.parametrize("back", [0, 1, 30, 310])
def test_last_is_the_read_that_ends_with_the_newest_known_bar(store: BarStore, n: int, back: int) -> None:
    newest = END - back * STEP

    panel = store.last(**NAME, symbols=None, n=n, as_of=newest + timedelta(minutes=4))

    assert panel is not None and panel.close.shape == (n, 2)
    assert panel.closed_at[-1] == np.datetime64(newest.replace(tzinfo=None))
    assert_same(panel, store.read(**NAME, symbols=None, start=newest - n * STEP, end=newest))


def test_last_ends_with_the_newest_bar_of_the_symbols_asked_for(store: BarStore) -> None:
    store.append([bar(END + STEP, ("ETHUSDT",), base=1.0)])

    of_btc = store.last(**NAME, symbols=["BTCUSDT"], n=2, as_of=END + DAY)
    of_both = store.last(**NAME, symbols=["BTCUSDT", "ETHUSDT"], n=2, as_of=END + DAY)

    assert of_btc is not None and of_btc.close[:, 0].tolist() == [100 + N_BARS - 2, 100 + N_BARS - 1]
    assert of_both is not None and np.isnan(of_both.close).tolist() == [[False, False], [True, False]]


def test_last_passes_over_bars_that_were_not_known_yet(store: BarStore) -> None:
    store.append([bar(END + STEP, known_at=END + 5 * STEP), bar(END + STEP, base=3.0, revision=1, known_at=END + DAY)])

    before = store.last(**NAME, symbols=None, n=1, as_of=END + 4 * STEP)
    after = store.last(**NAME, symbols=None, n=1, as_of=END + 5 * STEP)
    latest = store.last(**NAME, symbols=None, n=1, as_of=END + DAY, revisions="latest")

    assert before is not None and before.close.tolist() == [[100 + N_BARS - 1, 100 + N_BARS]]
    assert after is not None and after.close.tolist() == [[100, 101]]
    assert latest is not None and latest.close.tolist() == [[3, 4]]


def test_last_finds_bars_across_a_long_gap(store: BarStore) -> None:
    panel = store.last(**NAME, symbols=None, n=1, as_of=END + 500 * DAY)

    assert panel is not None and panel.close[0, 0] == 100 + N_BARS - 1


def test_last_of_nothing_known_is_none(store: BarStore) -> None:
    assert store.last(**NAME, symbols=None, n=5, as_of=T0 - STEP) is None
    assert store.last(**NAME, symbols=["XRPUSDT"], n=5, as_of=END) is None
    assert store.last(market="fx", interval="5m", symbols=None, n=5, as_of=END) is None


@pytest.mark.parametrize("n", [0, -1])
def test_last_of_no_bars_is_refused(store: BarStore, n: int) -> None:
    with pytest.raises(ValueError, match="from one bar"):
        store.last(**NAME, symbols=None, n=n, as_of=END)


def test_markets_and_symbols_are_those_that_have_rows(store: BarStore) -> None:
    store.append([bar(T0, ("AAPL",), market="us.equities"), bar(T0, ("EURUSD",), market="fx")])
    store.append([bar(T0 + timedelta(hours=7, minutes=55), ("BTCUSDT",), market="binance.perp", interval="8h")])

    assert store.markets("5m") == ("crypto", "fx", "us.equities")
    assert store.markets("8h") == ("binance.perp",)
    assert store.markets("1h") == ()
    assert store.symbols(market="us.equities", interval="5m") == ("AAPL",)
    assert store.symbols(market="nowhere", interval="5m") == ()


def test_version_changes_with_every_row_and_with_nothing_else(store: BarStore) -> None:
    versions = [store.version(**NAME)]
    for batch in (
        bar(T0, base=7.0, revision=1, known_at=END),  # a closed day
        bar(END, base=7.0, revision=1),  # the day that grows
        bar(END + STEP, ("BTCUSDT",)),
        bar(END + DAY, ("BTCUSDT",)),  # closes it
    ):
        assert store.append([batch]) > 0
        versions.append(store.version(**NAME))
        assert store.append([batch]) == 0
        assert store.version(**NAME) == versions[-1]

    assert len(set(versions)) == 5
    assert store.version(market="fx", interval="5m") not in versions


def test_version_is_of_the_rows_and_not_of_how_they_came(store: BarStore) -> None:
    other = MemoryBarStore()
    for batch in bars(N_BARS):
        for i, symbol in reversed(list(enumerate(batch.symbols))):
            other.append([bar(batch.closed_at, (symbol,), base=float(batch.close[i]))])

    assert store.version(**NAME) == other.version(**NAME)
    other.append([bar(END, ("SOLUSDT",), base=float("nan"))])
    store.append([bar(END, ("SOLUSDT",), base=-float("nan"))])
    assert store.version(**NAME) == other.version(**NAME)


@pytest.mark.parametrize("interval", INTERVAL_SECONDS)
def test_bars_of_every_interval_come_back(store: BarStore, interval: str) -> None:
    step = timedelta(seconds=INTERVAL_SECONDS[interval])
    first = T0.replace(hour=0, minute=0) + step * 2
    batches = [bar(first + i * step, base=100.0 + i, interval=interval, market="m") for i in range(500)]
    assert store.append(batches[:450]) == 900
    for batch in batches[450:]:
        assert store.append([batch]) == 2
    end = batches[-1].closed_at

    panel = store.read(market="m", interval=interval, symbols=None, start=first - step, end=end)
    last = store.last(market="m", interval=interval, symbols=["ETHUSDT"], n=60, as_of=end)

    assert panel is not None and panel.close[:, 0].tolist() == [100.0 + i for i in range(500)]
    assert last is not None and last.close[:, 0].tolist() == [101.0 + i for i in range(440, 500)]
    assert store.range(market="m", interval=interval) == (first, end)
