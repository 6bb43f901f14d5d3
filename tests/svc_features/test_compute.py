"""One bar at a time gives the bits of the whole history, whatever happens in between."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.svc_features.market import FIRST, N_HISTORY, make_batches, make_market

from qraft_contracts.outcomes import Malformed, Refused
from qraft_quant.features import BAR_INPUTS, FULL, compute_history
from qraft_store.bars.memory import MemoryBarStore
from svc_features.domain.grid import grid_index
from svc_features.usecases import ComputeFeatures


@pytest.fixture(scope="module")
def market():
    values = make_market(N_HISTORY + 30)
    first_index = grid_index(FIRST, interval_s=300)
    inputs = dict(zip(BAR_INPUTS, values, strict=True))
    return make_batches(values), compute_history(inputs, first_index, features=FULL)


def _compute(store):
    return ComputeFeatures("crypto", "5m", store, 100, FULL)


def test_steps_give_the_bits_of_the_history_also_after_a_restart(market):
    bars, whole = market
    store = MemoryBarStore()
    store.append(bars[:N_HISTORY])
    service = _compute(store)
    for i in range(N_HISTORY, N_HISTORY + 20):
        if i == N_HISTORY + 9:
            service = _compute(store)  # killed and started again

        is_warm_up = service.needs_warm_up(bars[i])
        computed = service(bars[i])
        store.append([bars[i]])

        assert computed.batch.values.tobytes() == whole[i].tobytes()
        assert is_warm_up == (i in (N_HISTORY, N_HISTORY + 9))


def test_gap_in_the_grid_warms_up_again_and_shows_as_missing(market):
    bars, _ = market
    store = MemoryBarStore()
    store.append(bars[:N_HISTORY])
    service = _compute(store)
    service(bars[N_HISTORY])
    store.append([bars[N_HISTORY]])

    assert service.needs_warm_up(bars[N_HISTORY + 3])
    after_gap = service(bars[N_HISTORY + 3])

    assert np.isnan(after_gap.batch.values).any()


def test_unusable_row_is_missing_and_the_other_symbols_go_on(market):
    bars, _ = market
    store = MemoryBarStore()
    store.append(bars[:N_HISTORY])
    close = bars[N_HISTORY].close.copy()
    close[1] = np.nan

    computed = _compute(store)(replace(bars[N_HISTORY], close=close))

    assert computed.refused == ("BBB",)
    assert np.isnan(computed.batch.values[1]).all()
    own = ~np.isnan(computed.batch.values[0])
    assert own.any()


def test_rows_are_those_of_the_bar_sorted(market):
    bars, _ = market
    store = MemoryBarStore()
    store.append(bars[:N_HISTORY])
    bar = bars[N_HISTORY]
    fewer = replace(
        bar, symbols=("CCC", "AAA"), **{n: getattr(bar, n)[[2, 0]] for n in ("open", "high", "low", "close", "volume")}
    )

    computed = _compute(store)(fewer)

    assert computed.batch.symbols == ("AAA", "CCC")
    assert computed.batch.values.shape[0] == 2


@pytest.mark.parametrize(
    ("change", "outcome", "reason"),
    [
        ({"market": "stocks"}, Refused, "other_market"),
        ({"interval": "1m"}, Refused, "other_market"),
        ({"revision": 1}, Refused, "revision"),
        ({"closed_at": FIRST + timedelta(seconds=7)}, Malformed, "off_grid"),
    ],
)
def test_bar_that_is_not_ours_is_named(market, change, outcome, reason):
    bars, _ = market

    with pytest.raises(outcome) as caught:
        _compute(MemoryBarStore())(replace(bars[0], **change))

    assert caught.value.reason == reason


def test_more_symbols_than_allowed_is_malformed(market):
    bars, _ = market

    with pytest.raises(Malformed, match="too_many_symbols"):
        ComputeFeatures("crypto", "5m", MemoryBarStore(), 2, FULL)(bars[0])
