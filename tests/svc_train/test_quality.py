import dataclasses

import numpy as np
import pytest
from tests.svc_train.kit import data_of

from qraft_contracts.origin import Origin
from qraft_store.bars.port import BarPanel
from svc_train.domain.manifest import snapshot_of
from svc_train.domain.quality import inspect


@pytest.fixture
def bars():
    closed_at = np.datetime64("2025-01-01T00:05", "us") + np.arange(20) * np.timedelta64(300, "s")
    price = np.full((20, 2), 10.0)
    return BarPanel(
        "crypto",
        "5m",
        Origin.REPLAY,
        ("A", "B"),
        closed_at,
        price,
        price + 1,
        price - 1,
        price.copy(),
        np.ones((20, 2)),
    )


def test_whole_bars_have_nothing_to_report(bars):
    found = inspect(data_of(bars))

    assert (found.n_checks, found.n_failed) == (5, 0)
    assert found.measures["n_rows"] == 40.0
    assert [found.measures[name] for name in ("missing_frac", "invalid_frac", "n_gaps", "n_duplicates")] == [0.0] * 4


def test_gaps_empty_and_impossible_bars_are_counted(bars):
    bars.close[3:5, 0] = np.nan
    bars.close[9, 0] = np.nan
    bars.close[18:, 1] = np.nan
    bars.volume[0, 1] = 0.0
    bars.high[1, 1] = 9.5
    bars.low[2, 1] = -1.0

    found = inspect(data_of(bars))

    assert found.n_failed == 0
    assert found.measures["n_rows"] == 35.0
    assert found.measures["missing_frac"] == pytest.approx(5 / 40)
    assert (found.measures["A.n_gaps"], found.measures["B.n_gaps"]) == (2.0, 0.0)
    assert (found.measures["n_zero_volume"], found.measures["n_invalid"]) == (1.0, 2.0)
    assert found.measures["invalid_frac"] == pytest.approx(2 / 40)


def test_broken_grid_and_absent_symbol_fail(bars):
    closed_at = bars.closed_at.copy()
    closed_at[5] = closed_at[4]
    bars.close[:, 0] = np.nan

    found = inspect(data_of(dataclasses.replace(bars, closed_at=closed_at)))

    assert found.failures == (
        "A: no bar in the training range",
        "1 grid steps appear twice",
        "the time grid skips steps",
    )


def test_snapshot_names_the_values_and_not_which_nan_stands_for_missing(bars):
    bars.close[3, 0] = np.nan
    other_nan = dataclasses.replace(bars, close=bars.close.copy())
    other_nan.close[3, 0] = np.copysign(np.nan, -1.0)
    changed = dataclasses.replace(bars, volume=bars.volume * 2)

    first = snapshot_of(data_of(bars))

    assert snapshot_of(data_of(other_nan)) == first
    assert snapshot_of(data_of(changed)).sha256 != first.sha256
    assert (first.n_bars, first.n_rows) == (20, 39)
    assert first.first_closed_at.isoformat() == "2025-01-01T00:05:00+00:00"
