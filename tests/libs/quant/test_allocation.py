"""Allocation: a hand-checked bar, each limit alone, and the properties that hold for every input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qraft_quant.allocation import (
    DEMO,
    STANDARD,
    Allocation,
    AllocationLimits,
    Correlations,
    HorizonRows,
    allocate,
    correlation_matrix,
    tightened,
    weekly_correlations,
)
from qraft_quant.allocation.sizing import portfolio_volatility, project_to_cap

HORIZON_S = {"1h": 3_600.0, "4h": 14_400.0, "1d": 86_400.0, "7d": 604_800.0}
BUCKETS = {"1h": "mean_reversion", "4h": "event", "1d": "trend", "7d": "trend"}
NAN = float("nan")


def rows(
    horizon: str,
    outlooks: dict[str, tuple[float, float, float]],
    *,
    cost: float = 0.003,
    bucket: str | None = None,
) -> HorizonRows:
    """One horizon; outlooks: symbol -> (expected return, confidence, volatility)."""
    columns = np.array(list(outlooks.values()), dtype=np.float64).reshape(-1, 3)
    return HorizonRows(
        horizon, HORIZON_S[horizon], bucket or BUCKETS[horizon], cost, tuple(outlooks), *columns.T.copy()
    )


def uncorrelated(symbols: Sequence[str]) -> Correlations:
    return Correlations(tuple(symbols), np.eye(len(symbols)))


def weights(allocation: Allocation) -> dict[str, float]:
    return {target.symbol: target.weight for target in allocation.targets}


def refused(allocation: Allocation) -> dict[str, tuple[str, ...]]:
    return {refusal.reason: refusal.examples for refusal in allocation.refused}


def test_standard_profile_has_exactly_the_thresholds_and_caps_that_were_fixed():
    assert STANDARD.score_min == {"1h": 0.60, "4h": 0.50, "1d": 0.35, "7d": 0.25}
    assert STANDARD.confidence_min == {"1h": 0.55, "4h": 0.55, "1d": 0.50, "7d": 0.50}
    assert STANDARD.bucket_caps == {"trend": 0.55, "event": 0.70, "mean_reversion": 0.45}
    assert (STANDARD.symbol_cap, STANDARD.gross_max, STANDARD.edge_min) == (0.20, 1.0, 0.0)
    assert (STANDARD.risk_budget, STANDARD.correlation_max) == (0.60, 0.90)
    assert (STANDARD.profile, DEMO.profile) == ("standard", "demo")


def test_one_bar_by_hand():
    # edge = .0335 - .003 = .0305; score = .0305 / .05 = .61; full at 1.2: .2 * .25 * .61 / 1.2 = .0254166...
    outlook = {"BTC": (-0.0335, 0.6, 0.05), "ETH": (0.0335, 0.549, 0.05), "SOL": (0.03, 0.9, 0.05)}

    allocation = allocate([rows("1h", outlook)], uncorrelated(outlook), STANDARD)

    (target,) = allocation.targets
    assert (target.symbol, target.weight, target.dominant) == ("BTC", -0.025416, "1h")
    (share,) = target.shares
    assert share.edge == pytest.approx(0.0305) and share.score == pytest.approx(0.61)
    assert refused(allocation) == {"confidence_below_min": ("ETH/1h",), "score_below_min": ("SOL/1h",)}
    (scores,) = allocation.scores
    assert (scores.n_rows, scores.n_passed, scores.threshold) == (3, 1, 0.60)
    assert scores.score_max == pytest.approx(0.61) and scores.distance == pytest.approx(-0.01)
    assert scores.score_min == pytest.approx(0.54) and scores.score_p50 == pytest.approx(0.61)
    # .025416 of equity at .05 an hour
    assert allocation.volatility == pytest.approx(0.025416 * 0.05 * math.sqrt(365 * 24))


def test_shares_of_the_horizons_add_up_to_the_weight_and_full_size_is_the_symbol_cap():
    outlook = {"BTC": (0.5, 0.9, 0.05)}
    calm = replace(STANDARD, risk_budget=100.0)

    allocation = allocate([rows(h, outlook) for h in ("7d", "1h", "1d", "4h")], uncorrelated(outlook), calm)

    (target,) = allocation.targets
    assert target.weight == 0.20
    assert [share.weight for share in target.shares] == [0.05, 0.05, 0.05, 0.05]
    assert [share.horizon for share in target.shares] == ["1h", "4h", "1d", "7d"]


@pytest.mark.parametrize(
    ("outlook", "reason"),
    [
        ((NAN, 0.9, 0.05), "nan_input"),
        ((0.5, NAN, 0.05), "nan_input"),
        ((0.5, 0.9, NAN), "nan_input"),
        ((math.inf, 0.9, 0.05), "nan_input"),
        ((0.5, 0.9, math.inf), "nan_input"),
        ((0.5, 0.9, 0.0), "bad_volatility"),
        ((0.5, 0.9, -0.01), "bad_volatility"),
        ((0.5, 1.01, 0.05), "bad_confidence"),
        ((0.0, 0.9, 0.05), "no_direction"),
        ((0.003, 0.9, 0.05), "edge_below_min"),
    ],
)
def test_a_bad_row_never_passes_and_says_why(outlook: tuple[float, float, float], reason: str):
    allocation = allocate([rows("1h", {"BTC": outlook})], None, STANDARD)

    assert allocation.targets == ()
    assert refused(allocation) == {reason: ("BTC/1h",)}


@pytest.mark.parametrize(
    ("cost", "bucket", "reason"),
    [(NAN, "trend", "nan_input"), (-0.001, "trend", "bad_cost"), (0.003, "momentum", "unknown_bucket")],
)
def test_a_bad_horizon_never_passes_and_says_why(cost: float, bucket: str, reason: str):
    allocation = allocate([rows("1d", {"BTC": (0.5, 0.9, 0.05)}, cost=cost, bucket=bucket)], None, STANDARD)

    assert allocation.targets == () and refused(allocation) == {reason: ("BTC/1d",)}


def test_no_candidate_gives_no_targets_and_tells_the_distance():
    allocation = allocate([rows("1h", {}), rows("7d", {"BTC": (0.013, 0.6, 0.1)})], None, STANDARD)

    assert allocation.targets == () and allocation.gross == 0.0 and allocation.volatility == 0.0
    assert allocation.scores[0].distance is None
    assert allocation.scores[1].distance == pytest.approx(0.15)


def test_correlated_symbols_of_one_side_share_one_symbol_cap_and_the_lower_score_gives_way():
    outlook = {"A": (0.5, 0.9, 0.40), "B": (0.5, 0.9, 0.45), "C": (-0.5, 0.9, 0.40)}
    matrix = np.array([[1.0, 0.95, 0.95], [0.95, 1.0, 0.95], [0.95, 0.95, 1.0]])
    shares = {"1h": 1.0, "4h": 0.0, "1d": 0.0, "7d": 0.0}
    limits = replace(STANDARD, symbol_cap=0.06, risk_budget=100.0, horizon_shares=shares)

    allocation = allocate([rows("1h", outlook)], Correlations(("A", "B", "C"), matrix), limits)

    got = weights(allocation)
    assert got["A"] + got["B"] == pytest.approx(0.06, abs=2e-6)
    assert got["A"] - got["B"] == pytest.approx(0.06 * (1.0 - 0.497 / 0.45 / 1.2), abs=2e-6)
    assert got["C"] == -0.06


def test_unknown_correlation_counts_as_full_correlation_on_the_same_side():
    outlook = dict.fromkeys("ABCDE", (0.5, 0.9, 0.05))
    calm = replace(STANDARD, risk_budget=100.0)

    known = allocate([rows("7d", outlook)], uncorrelated(outlook), calm)
    unknown = allocate([rows("7d", outlook)], None, calm)
    half_known = allocate([rows("7d", outlook)], Correlations(("A", "B"), np.eye(2)), calm)

    assert sum(weights(known).values()) == pytest.approx(0.25)
    assert sum(weights(unknown).values()) == pytest.approx(0.20)
    assert sum(weights(half_known).values()) <= 0.25


def test_unknown_hedge_is_no_hedge():
    outlook = {"A": (0.5, 0.9, 0.2), "B": (-0.5, 0.9, 0.2)}
    hedged = Correlations(("A", "B"), np.ones((2, 2)))

    assert allocate([rows("7d", outlook)], hedged, STANDARD).volatility == pytest.approx(0.0)
    assert allocate([rows("7d", outlook)], None, STANDARD).volatility == pytest.approx(0.1 * 0.2 * math.sqrt(365 / 7))


def test_bucket_caps_count_all_horizons_of_the_bucket():
    outlook = {f"S{i:02}": (0.9, 0.9, 0.05) for i in range(20)}
    calm = replace(STANDARD, risk_budget=100.0, gross_max=10.0)

    allocation = allocate([rows(h, outlook) for h in HORIZON_S], uncorrelated(outlook), calm)

    used: dict[str, float] = {}
    for target in allocation.targets:
        for share in target.shares:
            used[share.bucket] = used.get(share.bucket, 0.0) + abs(share.weight)
    assert used == {
        "mean_reversion": pytest.approx(0.45, abs=2e-5),
        "event": pytest.approx(0.70, abs=2e-5),
        "trend": pytest.approx(0.55, abs=4e-5),
    }


def test_opposite_horizons_that_cancel_out_leave_no_target_and_say_so():
    calm = replace(STANDARD, score_full=dict.fromkeys(HORIZON_S, 1.0))
    sides = [rows("1d", {"A": (0.5, 0.9, 0.1)}), rows("7d", {"A": (-0.5, 0.9, 0.1)})]

    allocation = allocate(sides, uncorrelated("A"), calm)

    assert allocation.targets == () and refused(allocation) == {"horizons_cancel": ("A/1d", "A/7d")}


def test_demo_may_trade_below_zero_edge_only_by_its_own_number():
    outlook = {"A": (0.001, 0.6, 0.05)}
    bold = replace(DEMO, edge_min=-0.01, score_min=dict.fromkeys(HORIZON_S, -1.0), size_min=0.25)

    assert allocate([rows("1h", outlook)], None, DEMO).targets == ()
    assert weights(allocate([rows("1h", outlook)], None, bold)) == {"A": 0.0125}


@pytest.mark.parametrize(
    "change",
    [
        {"symbol_cap": -0.1},
        {"symbol_cap": NAN},
        {"risk_budget": NAN},
        {"edge_min": NAN},
        {"horizon_shares": dict.fromkeys(HORIZON_S, 0.3)},
        {"score_full": dict.fromkeys(HORIZON_S, 0.0)},
        {"confidence_min": {"1h": 0.5}},
        {"correlation_max": 1.1},
    ],
)
def test_limits_out_of_range_are_refused(change: dict[str, object]):
    with pytest.raises(ValueError, match="expected"):
        replace(STANDARD, **change)


def test_risk_limits_are_tightened_and_never_loosened():
    caps = {
        "symbol_cap": 0.1, "bucket_caps": {"trend": 0.2}, "gross_max": 0.5, "risk_budget": 0.3, "correlation_max": 0.5,
    }  # fmt: skip

    tight = tightened(STANDARD, **caps)

    assert tight == replace(STANDARD, **caps | {"bucket_caps": {**STANDARD.bucket_caps, "trend": 0.2}})
    for name, value in (("symbol_cap", 0.11), ("gross_max", 0.6), ("risk_budget", NAN), ("correlation_max", 0.6)):
        with pytest.raises(ValueError, match=name):
            tightened(tight, **caps | {name: value})
    for buckets in ({"trend": 0.3}, {"momentum": 0.1}):
        with pytest.raises(ValueError, match="bucket"):
            tightened(tight, **caps | {"bucket_caps": buckets})


def test_a_horizon_twice_or_unknown_or_a_symbol_twice_is_an_error():
    outlook = {"A": (0.5, 0.9, 0.1)}
    with pytest.raises(ValueError, match="once"):
        allocate([rows("1h", outlook), rows("1h", outlook)], None, STANDARD)
    with pytest.raises(ValueError, match="horizon"):
        allocate([replace(rows("1h", outlook), horizon="2h")], None, STANDARD)
    with pytest.raises(ValueError, match="distinct"):
        HorizonRows("1h", 3600.0, "trend", 0.0, ("A", "A"), np.ones(2), np.ones(2), np.ones(2))


def test_projection_takes_the_same_amount_from_each():
    assert project_to_cap(np.array([0.5, 0.3, 0.05]), 0.6) == pytest.approx([0.4, 0.2, 0.0])
    assert project_to_cap(np.array([0.1, 0.2]), 0.6) == pytest.approx([0.1, 0.2])
    assert project_to_cap(np.array([0.1, 0.2]), 0.0) == pytest.approx([0.0, 0.0])


# --- correlation_matrix ---------------------------------------------------------------------------------------


def test_correlation_matrix_equals_numpy_where_nothing_is_missing():
    returns = np.random.default_rng(7).normal(0.0, 0.01, (100, 5)) + 0.001

    assert correlation_matrix(returns, n_common_min=2) == pytest.approx(np.corrcoef(returns.T))


def test_correlation_uses_the_common_rows_of_each_pair_and_is_unknown_below_the_minimum():
    returns = np.random.default_rng(7).normal(0.0, 0.01, (100, 3))
    returns[:30, 0] = NAN
    returns[20:, 2] = NAN
    matrix = correlation_matrix(returns, n_common_min=20)

    assert matrix[0, 1] == pytest.approx(np.corrcoef(returns[30:, 0], returns[30:, 1])[0, 1])
    assert matrix[1, 2] == pytest.approx(np.corrcoef(returns[:20, 1], returns[:20, 2])[0, 1])
    assert math.isnan(matrix[0, 2]) and math.isnan(matrix[2, 0])


def test_correlation_of_a_constant_or_empty_column_is_unknown():
    returns = np.column_stack([np.linspace(-0.01, 0.01, 50), np.full(50, 0.0003), np.full(50, NAN)])
    matrix = correlation_matrix(returns, n_common_min=2)

    assert np.isnan(matrix[1]).all() and np.isnan(matrix[2]).all() and matrix[0, 0] == 1.0


# --- properties -----------------------------------------------------------------------------------------------

SYMBOLS = tuple(f"S{i}" for i in range(7))
number = st.one_of(st.floats(-0.5, 0.5), st.just(NAN), st.just(math.inf), st.just(-math.inf), st.just(0.0), st.floats())
volatility = st.one_of(st.floats(1e-4, 0.3), st.floats())
outlook = st.tuples(number, st.one_of(st.floats(0.4, 1.0), st.floats()), volatility)


@st.composite
def bars(draw: st.DrawFn) -> tuple[list[HorizonRows], Correlations | None, AllocationLimits]:
    """Any bar: bad numbers, missing symbols and horizons, known and unknown correlations, drawn limits."""
    horizons = [
        rows(h, draw(st.dictionaries(st.sampled_from(SYMBOLS), outlook)), cost=draw(st.floats(0.0, 0.01)))
        for h in draw(st.lists(st.sampled_from(list(HORIZON_S)), unique=True))
    ]
    known = draw(st.lists(st.sampled_from(SYMBOLS), unique=True))
    seed = draw(st.integers(0, 1_000))
    common = draw(st.floats(0.0, 1.0))
    noise = np.random.default_rng(seed).normal(size=(50, len(known) + 1))
    matrix = correlation_matrix(noise[:, :-1] + 3.0 * common * noise[:, -1:], n_common_min=2)
    correlations = draw(st.one_of(st.none(), st.just(Correlations(tuple(known), matrix))))
    limits = replace(
        draw(st.sampled_from([STANDARD, DEMO])),
        symbol_cap=draw(st.sampled_from([0.0, 0.05, 0.2])),
        gross_max=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        risk_budget=draw(st.sampled_from([0.0, 0.05, 0.6])),
        bucket_caps={"trend": draw(st.sampled_from([0.05, 0.55])), "event": 0.1, "mean_reversion": 0.45},
    )
    return horizons, correlations, limits


def shares_of(allocation: Allocation) -> dict[tuple[str, str], float]:
    return {(t.symbol, s.horizon): s.weight for t in allocation.targets for s in t.shares}


@settings(max_examples=150, deadline=None)
@given(bars())
def test_no_cap_is_ever_passed(bar: tuple[list[HorizonRows], Correlations | None, AllocationLimits]):
    limits = bar[2]

    allocation = allocate(*bar)

    of_bucket = dict.fromkeys(limits.bucket_caps, 0)
    gross = 0
    for target in allocation.targets:
        units = [round(share.weight * 1e6) for share in target.shares]
        assert sum(units) == round(target.weight * 1e6) != 0
        assert sum(map(abs, units)) <= round(limits.symbol_cap * 1e6)
        gross += sum(map(abs, units))
        for share, unit in zip(target.shares, units, strict=True):
            of_bucket[share.bucket] += abs(unit)
            assert share.score >= limits.score_min[share.horizon] and share.edge > limits.edge_min
            assert share.confidence >= limits.confidence_min[share.horizon]
    assert gross <= round(limits.gross_max * 1e6)
    assert all(used <= round(limits.bucket_caps[bucket] * 1e6) for bucket, used in of_bucket.items())
    # Cutting to millionths can take a hedge's last millionth away; nothing else may pass the budget.
    assert allocation.volatility <= limits.risk_budget + 1e-4 * len(allocation.targets)


@settings(max_examples=100, deadline=None)
@given(bars(), st.randoms(use_true_random=False))
def test_the_order_of_symbols_and_horizons_changes_nothing_and_the_same_input_gives_the_same_bits(bar, random):
    horizons, correlations, limits = bar
    shuffled = []
    for one in random.sample(horizons, len(horizons)):
        order = random.sample(range(len(one.symbols)), len(one.symbols))
        columns = [column[order] for column in (one.expected_return, one.confidence, one.volatility)]
        symbols = tuple(one.symbols[i] for i in order)
        shuffled.append(HorizonRows(one.horizon, one.horizon_s, one.bucket, one.cost, symbols, *columns))

    assert repr(allocate(shuffled, correlations, limits)) == repr(allocate(horizons, correlations, limits))


@settings(max_examples=100, deadline=None)
@given(bars())
def test_limits_only_ever_shrink_a_share(bar: tuple[list[HorizonRows], Correlations | None, AllocationLimits]):
    horizons, correlations, limits = bar
    free = replace(
        limits, bucket_caps=dict.fromkeys(limits.bucket_caps, 9.0), gross_max=9.0, risk_budget=1e12, correlation_max=1.0
    )
    known = Correlations(SYMBOLS, np.eye(len(SYMBOLS)))

    unlimited = shares_of(allocate(horizons, known, free))

    for pair, weight in shares_of(allocate(horizons, correlations, limits)).items():
        # A pair that cancels out to the last millionth has no target when nothing limits it.
        asked = unlimited.get(pair)
        assert asked is None or (abs(weight) <= abs(asked) + 1e-9 and weight * asked > 0.0)


@pytest.mark.parametrize("size", [1e-200, 1e156, 1e300])
def test_portfolio_volatility_of_an_absurd_size_neither_overflows_nor_vanishes(size: float):
    found = portfolio_volatility(np.array([3.0, -4.0]), volatility=np.array([size, size]), correlations=np.eye(2))

    assert found == pytest.approx(5.0 * size)


def test_a_volatility_that_overflows_over_a_year_is_no_number():
    allocation = allocate([rows("1h", {"A": (2e306, 0.9, 3e306)})], None, STANDARD)

    assert allocation.targets == ()
    assert [(refusal.reason, refusal.n) for refusal in allocation.refused] == [("nan_input", 1)]


@settings(max_examples=100, deadline=None)
@given(bars(), st.sampled_from(["gross_max", "risk_budget"]), st.floats(0.0, 1.0))
def test_a_tighter_budget_never_raises_a_share(bar, name: str, factor: float):
    horizons, correlations, limits = bar
    tighter = replace(limits, **{name: getattr(limits, name) * factor})

    wide, tight = (shares_of(allocate(horizons, correlations, x)) for x in (limits, tighter))

    assert all(abs(weight) <= abs(wide[pair]) + 1e-9 for pair, weight in tight.items() if pair in wide)


@settings(max_examples=100, deadline=None)
@given(bars())
def test_every_pair_is_either_a_share_or_a_counted_refusal(bar):
    allocation = allocate(*bar)

    n_pairs = sum(len(one.symbols) for one in bar[0])
    assert len(shares_of(allocation)) + sum(refusal.n for refusal in allocation.refused) == n_pairs
    assert all(len(refusal.examples) == min(refusal.n, 3) for refusal in allocation.refused)


def test_weekly_correlations_use_the_hours_of_the_week_and_nothing_after_its_end():
    rng = np.random.default_rng(3)
    closed_at_s = np.arange(1_700_000_000 // 300 * 300, 1_700_000_000 + 9 * 86_400, 300, dtype=np.int64)
    close = np.exp(np.cumsum(rng.normal(0.0, 0.001, (closed_at_s.size, 3)), axis=0))
    end_s = int(closed_at_s[0] // 86_400 * 86_400 + 8 * 86_400)
    on_hour = (closed_at_s % 3_600 == 0) & (closed_at_s <= end_s) & (closed_at_s >= end_s - 604_800)
    later = close.copy()
    later[closed_at_s > end_s] = NAN

    def found(prices: np.ndarray) -> np.ndarray:
        return weekly_correlations("ABC", prices, closed_at_s=closed_at_s, end_s=end_s, n_common_min=84).matrix

    assert found(close) == pytest.approx(np.corrcoef(np.diff(np.log(close[on_hour]), axis=0).T))
    assert np.array_equal(found(later), found(close))
    assert on_hour.sum() == 169
