import pytest

from qraft_quant.costs import CostModel, policy_of_horizon, round_trip_cost


@pytest.mark.parametrize(("horizon", "cost"), [("1h", 47e-4), ("4h", 47e-4), ("1d", 31e-4), ("7d", 31e-4)])
def test_round_trip_charges_fee_half_spread_and_slippage_twice(horizon, cost):
    assert round_trip_cost(horizon) == pytest.approx(cost, rel=1e-12)
    assert CostModel().round_trip_cost(horizon) == round_trip_cost(horizon)


def test_policy_follows_the_horizon_and_sets_slippage_and_participation():
    model = CostModel()

    assert [policy_of_horizon(horizon) for horizon in ("1h", "4h", "1d", "7d")] == ["short", "short", "long", "long"]
    assert (model.slippage_bps("short"), model.slippage_bps("long")) == (18.0, 10.0)
    assert (model.participation("short"), model.participation("long")) == (0.35, 0.12)


def test_free_market_costs_nothing():
    free = CostModel(fee_bps=0.0, half_spread_bps=0.0, slippage_short_bps=0.0, slippage_long_bps=0.0)

    assert round_trip_cost("1h", free) == 0.0


def test_unknown_horizon_is_refused_by_name():
    with pytest.raises(ValueError, match="'2h'"):
        round_trip_cost("2h")


@pytest.mark.parametrize("wrong", [{"fee_bps": -1.0}, {"participation_long": 0.0}, {"participation_short": 1.5}])
def test_impossible_costs_are_refused(wrong):
    with pytest.raises(ValueError, match="received"):
        CostModel(**wrong)
