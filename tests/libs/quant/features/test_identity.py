"""The same bits offline and online, for any number of threads, any start and any neighbours; never a look ahead."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qraft_quant.features import FEATURE_NAMES, WARM_UP_BARS, OnlineFeatures, compute_history
from qraft_quant.features.layout import FIRST_RANK
from qraft_quant.proof import prove_no_look_ahead, prove_start_independence

INTERVAL_S = 300
VALUES = ("open", "high", "low", "close", "volume")


def sha256(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _panel(folder: Path, *, first: int, n_bars: int):
    """Return real bars on the full grid, NaN where one is missing, and the grid index of row 0."""
    frames = [
        pl.read_parquet(path).with_columns(pl.lit(path.stem).alias("symbol")).unique(("symbol", "open_time"))
        for path in sorted(folder.glob("*.parquet"))
    ]
    rows = pl.concat(frames).with_columns((pl.col("open_time").dt.epoch("s") // INTERVAL_S + 1).alias("index"))
    first_index = int(rows["index"].min()) + first
    symbols = sorted(rows["symbol"].unique())
    panel = np.full((len(VALUES), n_bars, len(symbols)), np.nan)
    rows = rows.filter(pl.col("index").is_between(first_index, first_index + n_bars - 1))
    columns = [symbols.index(symbol) for symbol in rows["symbol"]]
    for k, name in enumerate(VALUES):
        panel[k, rows["index"].to_numpy() - first_index, columns] = rows[name].to_numpy()
    return list(panel), first_index


@pytest.fixture(scope="module", params=[("perp_5m_2025", 0), ("spot_5m_2021", 4_000)], ids=["perp 2025", "spot 2021"])
def real(request, qraft_data):
    """Real bars of several symbols; those of 2021 hold two outages and bars without volume."""
    folder, first = request.param
    return _panel(qraft_data / "bars" / folder, first=first, n_bars=3 * WARM_UP_BARS)


def _online(bars, first_index, *, start, warm_up_bars):
    n_symbols = bars[0].shape[1]
    online = OnlineFeatures(n_symbols)
    online.warm_up(*(values[start - warm_up_bars : start] for values in bars), first_index + start - warm_up_bars)
    steps = range(start, len(bars[0]))
    return np.stack([online.step(*(values[i] for values in bars), index=first_index + i) for i in steps])


@pytest.mark.data
def test_online_gives_the_bits_of_the_history_on_real_bars(real):
    bars, first_index = real
    history = compute_history(*bars, first_index)
    assert np.isfinite(history[WARM_UP_BARS:]).mean() > 0.2

    for warm_up_bars in (WARM_UP_BARS, WARM_UP_BARS + 1, WARM_UP_BARS + 777):
        online = _online(bars, first_index, start=2 * WARM_UP_BARS, warm_up_bars=warm_up_bars)

        assert sha256(online) == sha256(history[2 * WARM_UP_BARS :])


@pytest.mark.data
def test_threads_do_not_change_a_bit_on_real_bars(real):
    bars, first_index = real
    tiled = [np.tile(values, (5, 1)) for values in bars]  # long enough for seven parts

    digests = {sha256(compute_history(*tiled, first_index, n_threads=n)) for n in (1, 2, 3, 7)}

    assert len(digests) == 1


@pytest.mark.data
def test_neighbours_change_ranks_alone_on_real_bars(real):
    bars, first_index = real
    together = compute_history(*bars, first_index)

    for s in range(bars[0].shape[1]):
        alone = compute_history(*(values[:, s : s + 1] for values in bars), first_index)

        assert sha256(alone[:, 0, :FIRST_RANK]) == sha256(together[:, s, :FIRST_RANK])


@pytest.mark.data
def test_the_past_does_not_know_the_future_on_real_bars(real):
    bars, first_index = real
    cut_offs = (WARM_UP_BARS, 2 * WARM_UP_BARS + 97, 3 * WARM_UP_BARS - 50)

    proof = prove_no_look_ahead(_columns, bars, first_index=first_index, cut_offs=cut_offs, seed=5)

    assert proof.passed, proof.failed_columns
    # In 2021 the longest windows are whole in the last stretch only: 3 ways of corruption at 1 cut-off at least.
    assert all(column.n_checks >= 3 for column in proof.columns)


@pytest.mark.data
def test_any_start_before_the_warm_up_gives_the_same_bits_on_real_bars(real):
    bars, first_index = real

    proof = prove_start_independence(
        _columns, bars, first_index=first_index, starts=(1, 200, 711, 1_999, 2_305), warm_up_bars=WARM_UP_BARS
    )

    assert proof.passed, proof.failed_columns


@pytest.mark.data
def test_a_value_is_final_as_soon_as_it_is_there(real):
    # Within the warm-up too: later starts may leave NaN, never another number.
    bars, first_index = real
    whole = compute_history(*bars, first_index)

    for start in (200, 1_033):
        later = compute_history(*(values[start:] for values in bars), first_index + start)[:, :, :FIRST_RANK]

        known = ~np.isnan(later)
        assert known.any()
        assert sha256(later[known]) == sha256(whole[start:, :, :FIRST_RANK][known])


def test_an_anchor_left_out_is_noticed():
    # Without the absolute anchor the bits depend on the start: the identity tests can fail.
    rng = np.random.default_rng(2)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, (3 * WARM_UP_BARS, 2)), axis=0))
    bars = [close, close, close, close, np.ones(close.shape)]

    whole = compute_history(*bars, 1_000)[WARM_UP_BARS + 500 :]
    shifted = compute_history(*bars, 1_001)[WARM_UP_BARS + 500 :]  # other anchors, same bars

    assert sha256(whole) != sha256(shifted)
    np.testing.assert_allclose(whole[..., :FIRST_RANK], shifted[..., :FIRST_RANK], rtol=1e-5, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_bar_after_a_row_never_changes_it(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n_bars = data.draw(st.integers(30, 700))
    cut = data.draw(st.integers(0, n_bars - 2))
    bars = [rng.uniform(1, 2, (n_bars, 3)) for _ in range(5)]
    bars[1], bars[2] = np.maximum.reduce(bars[:4]), np.minimum.reduce(bars[:4])
    for values in bars:
        values[rng.random(values.shape) < data.draw(st.sampled_from((0.0, 0.001)))] = np.nan
    odd = data.draw(st.sampled_from((np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 5e-324)))
    changed = [values.copy() for values in bars]
    for values in changed:
        values[cut + 1 :] = np.where(rng.random(values[cut + 1 :].shape) < 0.5, odd, values[cut + 1 :] * 1.5)

    before = compute_history(*bars, 77)[: cut + 1]
    after = compute_history(*changed, 77)[: cut + 1]

    assert sha256(before) == sha256(after)


def _columns(values, first_index):
    matrix = compute_history(*values, first_index)
    return {name: matrix[:, :, f] for f, name in enumerate(FEATURE_NAMES)}
