"""Automatic features see one window and nothing beyond it, and the proof would find one that does."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from tests.libs.screening.market import DAY_BARS, FIRST_US, STEP_US, closes

from qraft_quant.align import windows
from qraft_screening.automatic import AutomaticFeatures, PackageMissing, automatic_features, prove_automatic
from qraft_screening.automatic.by_featuretools import featuretools_calculators
from qraft_screening.automatic.by_tsfresh import tsfresh_calculators
from qraft_screening.automatic.calculators import N_FEATURES_MAX, Calculator
from qraft_screening.automatic.compute import series_of

WINDOW, EVERY = 48, 12
N_BARS = 2 * DAY_BARS
AT = FIRST_US + STEP_US * np.arange(1, N_BARS + 1)


@pytest.fixture(scope="module")
def market():
    close = closes(2, seed=5, n_symbols=2)
    rng = np.random.default_rng(6)
    spread = np.exp(rng.exponential(1e-3, close.shape))
    bars = {"high": close * spread, "low": close / spread, "close": close, "volume": rng.lognormal(0, 1, close.shape)}
    for values in bars.values():
        values[100, 1] = np.nan
    return bars


@pytest.fixture(scope="module")
def features():
    pytest.importorskip("tsfresh", reason="TSFRESH MISSING: automatic features were not tested")
    pytest.importorskip("featuretools", reason="FEATURETOOLS MISSING: automatic features were not tested")
    return automatic_features(window_bars=WINDOW, every_bars=EVERY, interval_us=STEP_US)


@pytest.fixture(scope="module")
def values(features, market):
    return features.compute(AT, market)


def test_names_are_names_of_features_and_bounded(features):
    assert 60 < len(features.names) <= N_FEATURES_MAX and len(set(features.names)) == len(features.names)
    assert all(name.startswith(("tsfresh_", "dfs_")) and len(name) <= 64 for name in features.names)
    with pytest.raises(ValueError, match="calculators"):
        AutomaticFeatures((), WINDOW, EVERY, STEP_US)
    with pytest.raises(ValueError, match="expected a window"):
        AutomaticFeatures(features.calculators, 2, EVERY, STEP_US)


def test_value_is_what_the_package_says_of_the_window(features, market, values):
    from tsfresh.feature_extraction import feature_calculators

    row = next(t for t in range(200, N_BARS) if (AT[t] // STEP_US) % EVERY == 0)
    change = np.diff(np.log(market["close"][row - WINDOW : row + 1, 0]))

    found = dict(zip(features.names, values[row, 0], strict=True))
    assert found["tsfresh_change_skewness"] == pytest.approx(feature_calculators.skewness(change), rel=1e-5)
    assert found["dfs_mean_diff_change"] == pytest.approx(np.diff(change).mean(), rel=1e-4)
    assert found["dfs_std_change"] == pytest.approx(change.std(), rel=0.02)  # either degrees of freedom


def test_value_stands_until_the_next_window_and_no_longer(values):
    first = next(t for t in range(200, N_BARS) if (AT[t] // STEP_US) % EVERY == 0)

    held = values[first : first + EVERY, 0]
    assert np.array_equal(held, np.broadcast_to(held[0], held.shape), equal_nan=True)
    assert not np.array_equal(held[0], values[first + EVERY, 0], equal_nan=True)


def test_window_with_a_missing_bar_is_missing(features, values):
    blind = slice(100 + EVERY, 100 + WINDOW)

    assert np.isnan(values[blind, 1]).all() and np.isfinite(values[100 + WINDOW + 2 * EVERY :, 1]).any()
    assert np.isfinite(values[blind, 0]).any()
    assert np.isnan(values[: WINDOW - EVERY]).all()


def test_automatic_features_pass_the_leakage_proof(features, market):
    few = AutomaticFeatures(features.calculators[::4], WINDOW, EVERY, STEP_US)

    proof = prove_automatic(few, AT, market, seed=7)

    assert proof.passed and len(proof.columns) == len(few.names)
    assert min(column.n_checks for column in proof.columns) == 12  # three cut-offs, four corruptions
    assert min(column.n_moved for column in proof.columns) > 0
    with pytest.raises(ValueError, match="received 20"):
        prove_automatic(few, AT[:20], {name: values[:20] for name, values in market.items()}, seed=7)


@dataclass(frozen=True, slots=True)
class PeekingFeatures(AutomaticFeatures):
    """Planted: windows that end some bars later, as a batch grouped by the wrong key would give."""

    def compute(self, closed_at, bars, *, progress=lambda _: None):
        seen = windows(series_of(bars)["change"], self.window_bars)
        ahead = np.concatenate([seen[3:], seen[:3]])
        return ahead.mean(axis=-1)[:, :, None].astype(np.float32)


def test_planted_peek_into_the_next_window_is_caught(market):
    peeking = PeekingFeatures((Calculator("peek", "mean", lambda window: 0.0),), WINDOW, EVERY, STEP_US)

    assert prove_automatic(peeking, AT, market, seed=7).failed_columns == ("peek",)


@pytest.mark.parametrize(
    ("package", "calculators"), [("tsfresh", tsfresh_calculators), ("featuretools", featuretools_calculators)]
)
def test_missing_package_is_named_with_the_extra(monkeypatch, package, calculators):
    for name in [it for it in sys.modules if it == package or it.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(PackageMissing, match=rf"{package}.*qraft-screening\[automatic\]"):
        calculators()
