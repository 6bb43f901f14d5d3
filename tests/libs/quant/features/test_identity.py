"""The same bits offline and online, for any number of threads, any start and any neighbours; never a look ahead."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.libs.quant.features import golden
from tests.libs.quant.features.market import FIRST_INDEX, columns, real_panel, rows, sha256, walk, with_state

from qraft_quant.features import (
    BAR_INPUTS,
    CORE,
    FULL,
    FeatureSet,
    OnlineFeatures,
    SnapshotError,
    compute_history,
    history,
)

WARM_UP_BARS = FULL.warm_up_bars
ACROSS = np.array(["cross_" in feature.formula for feature in FULL.features])


@pytest.fixture(scope="module", params=[("perp_5m_2025", 0), ("spot_5m_2021", 4_000)], ids=["perp 2025", "spot 2021"])
def real(request, qraft_data):
    """Real bars of several symbols with state beside them; those of 2021 hold two outages. And their features."""
    folder, first = request.param
    bars, first_index = real_panel(qraft_data / "bars" / folder, first=first, n_bars=3 * WARM_UP_BARS)
    bars = with_state(bars)
    return bars, first_index, compute_history(bars, first_index, features=FULL)


def _online(bars, first_index, *, start, warm_up_bars, n_steps):
    online = OnlineFeatures(bars["close"].shape[1], features=FULL)
    online.warm_up(rows(bars, start - warm_up_bars, start), first_index + start - warm_up_bars)
    steps = range(start, start + n_steps)
    return np.stack([online.step({k: v[i] for k, v in bars.items()}, first_index + i) for i in steps])


@pytest.mark.data
def test_what_is_compared_here_reads_state_that_is_there(real):
    _, _, whole = real
    flags = {name: whole[WARM_UP_BARS:, :, f] for f, name in enumerate(FULL.names) if name.endswith("_missing")}

    # Of each group something is known and something missing, but for what no venue publishes here.
    both = [name for name, values in flags.items() if 0.0 < np.nanmean(values) < 1.0]
    assert len(flags) >= 18 and len(both) >= len(flags) - 6


@pytest.mark.data
@pytest.mark.parametrize("more", [0, 1, 777])
def test_online_gives_the_bits_of_the_history_on_real_bars(real, more):
    bars, first_index, whole = real
    start, n_steps = 2 * WARM_UP_BARS, 900

    online = _online(bars, first_index, start=start, warm_up_bars=WARM_UP_BARS + more, n_steps=n_steps)

    assert np.isfinite(online).mean() > 0.5
    assert sha256(online) == sha256(whole[start : start + n_steps])


@pytest.mark.data
def test_a_restart_in_mid_day_goes_on_with_the_same_bits_on_real_bars(real):
    bars, first_index, whole = real
    start = 2 * WARM_UP_BARS
    online = OnlineFeatures(bars["close"].shape[1], features=FULL)
    online.warm_up(rows(bars, start - WARM_UP_BARS, start), first_index + start - WARM_UP_BARS)
    received = []
    for i in range(start, start + 60):
        received.append(online.step({k: v[i] for k, v in bars.items()}, first_index + i))
        if i % 20 == 0:
            snapshot = online.snapshot()
            online = OnlineFeatures(bars["close"].shape[1], features=FULL)
            online.restore(snapshot)
            assert online.snapshot() == snapshot

    assert sha256(np.stack(received)) == sha256(whole[start : start + 60])


@pytest.mark.data
def test_threads_do_not_change_a_bit_on_real_bars(real):
    bars, first_index, _ = real
    twice = {name: np.tile(values, (2, 1)) for name, values in bars.items()}  # long enough for three parts

    digests = {sha256(compute_history(twice, first_index, features=FULL, n_threads=n)) for n in (1, 2, 3)}

    assert len(digests) == 1


@pytest.mark.data
@pytest.mark.parametrize("cells", [40, 333, 40_000])
def test_the_size_of_a_tile_does_not_change_a_bit_on_real_bars(real, monkeypatch, cells):
    bars, first_index, whole = real
    n_bars = WARM_UP_BARS + 500
    monkeypatch.setattr(history, "TILE_CELLS", cells)

    assert sha256(compute_history(rows(bars, 0, n_bars), first_index, features=FULL)) == sha256(whole[:n_bars])


@pytest.mark.parametrize("window", [1, 2, 15, 100])
def test_threads_do_not_change_a_bit_of_a_short_history(window):
    # Parts that begin before a whole tile, or before a whole warm-up, of the first row.
    short = FeatureSet("short", tuple(feature for feature in FULL.features if feature.window <= window))

    for n_bars in (1, 2, 257, 600, 1_023):
        bars = walk(n_bars=n_bars, n_symbols=2)
        digests = {sha256(compute_history(bars, 3, features=short, n_threads=n)) for n in (1, 2, 3, 8)}

        assert len(digests) == 1


@pytest.mark.data
def test_neighbours_change_comparisons_of_symbols_alone_on_real_bars(real):
    bars, first_index, whole = real

    for where in (slice(0, 1), slice(1, 4)):
        alone = compute_history(columns(bars, where), first_index, features=FULL)

        assert sha256(alone[..., ~ACROSS]) == sha256(whole[:, where][..., ~ACROSS])
    assert sha256(alone[..., ACROSS]) != sha256(whole[:, where][..., ACROSS])


@pytest.mark.data
@pytest.mark.parametrize("start", [1, 200, 711, 2_000])
def test_any_later_start_gives_the_same_bits_where_it_gives_a_value_on_real_bars(real, start):
    bars, first_index, whole = real

    later = compute_history(rows(bars, start), first_index + start, features=FULL)

    assert sha256(later[WARM_UP_BARS:]) == sha256(whole[start + WARM_UP_BARS :])
    # What compares symbols sees fewer of them while some windows are not full.
    known = ~np.isnan(later[..., ~ACROSS])
    assert known[:WARM_UP_BARS].any()
    assert sha256(later[..., ~ACROSS][known]) == sha256(whole[start:][..., ~ACROSS][known])


@pytest.mark.data
@pytest.mark.parametrize("how", ["nan", "shuffle", "noise"])
def test_the_past_does_not_know_the_future_on_real_bars(real, how):
    bars, first_index, whole = real
    rng = np.random.default_rng(5)

    for cut in (WARM_UP_BARS + 1, 2 * WARM_UP_BARS + 97):
        order = rng.permutation(len(whole) - cut)
        later = {
            "nan": {name: values[cut:] * np.nan for name, values in bars.items()},
            "shuffle": {name: values[cut:][order] for name, values in bars.items()},
            "noise": {name: values[cut:] * 1.1 for name, values in bars.items()},
        }[how]
        dirty = {name: np.concatenate([values[:cut], later[name]]) for name, values in bars.items()}

        assert sha256(compute_history(dirty, first_index, features=FULL)[:cut]) == sha256(whole[:cut])


def test_the_bits_are_those_that_other_machines_gave():
    # The file is committed: whoever runs this compares with the machine that wrote it.
    assert golden.digests() == json.loads(golden.FILE.read_text())


def test_a_processor_without_wide_vectors_gives_the_same_bits():
    # Machine code for the smallest x86-64, in a process of its own: what another machine would run.
    code = "import json; from tests.libs.quant.features import golden; print(json.dumps(golden.digests()))"
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == json.loads(golden.FILE.read_text())


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_bar_after_a_row_never_changes_it(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n_bars = data.draw(st.integers(30, 700))
    cut = data.draw(st.integers(0, n_bars - 2))
    bars = walk(n_bars=n_bars, n_symbols=3, seed=data.draw(st.integers(0, 9)), with_state=True)
    for values in bars.values():
        values[rng.random(values.shape) < data.draw(st.sampled_from((0.0, 0.001)))] = np.nan
    odd = data.draw(st.sampled_from((np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 5e-324)))
    changed = {name: values.copy() for name, values in bars.items()}
    for values in changed.values():
        values[cut + 1 :] = np.where(rng.random(values[cut + 1 :].shape) < 0.5, odd, values[cut + 1 :] * 1.5)

    before = compute_history(bars, 77, features=FULL)[: cut + 1]
    after = compute_history(changed, 77, features=FULL)[: cut + 1]

    assert sha256(before) == sha256(after)


def _warm(features=CORE, *, n_symbols=2, n_bars=40):
    bars = walk(n_bars=n_bars, n_symbols=n_symbols)
    online = OnlineFeatures(n_symbols, features=features)
    online.warm_up(bars, FIRST_INDEX)
    return online, bars


@pytest.mark.parametrize(
    ("other", "damage"),
    [
        (lambda: OnlineFeatures(2, features=FULL), None),
        (lambda: OnlineFeatures(2, features=CORE, interval="1h"), None),
        (lambda: OnlineFeatures(3, features=CORE), None),
        (lambda: OnlineFeatures(2, features=CORE), lambda data: data[:-8]),
        (lambda: OnlineFeatures(2, features=CORE), lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        (lambda: OnlineFeatures(2, features=CORE), lambda _: b""),
    ],
    ids=["other set", "other interval", "other symbols", "cut short", "one bit", "empty"],
)
def test_a_snapshot_of_something_else_is_refused(other, damage):
    snapshot = _warm()[0].snapshot()
    target = other()

    with pytest.raises(SnapshotError, match="expected"):
        target.restore(damage(snapshot) if damage else snapshot)
    with pytest.raises(ValueError, match="warm-up first"):
        target.step({name: np.ones(target._n_symbols) for name in BAR_INPUTS}, FIRST_INDEX)


def test_a_bar_out_of_turn_is_refused():
    online, bars = _warm()
    row = {name: values[0] for name, values in bars.items()}

    for index in (FIRST_INDEX + 39, FIRST_INDEX + 41):
        with pytest.raises(ValueError, match=f"expected grid index {FIRST_INDEX + 40}"):
            online.step(row, index)


def test_online_says_which_rows_were_bars():
    online, bars = _warm()
    row = {name: values[-1].copy() for name, values in bars.items()}
    row["high"][1] = row["low"][1] / 2

    values = online.step(row, FIRST_INDEX + 40)

    assert online.is_valid.tolist() == [True, False]
    assert np.isnan(values[1]).all() and np.isfinite(values[0]).any()
