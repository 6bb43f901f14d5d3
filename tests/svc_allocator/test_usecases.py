"""One bar's decision: attribution, hold reasons, limits in the message."""

from __future__ import annotations

import msgspec
import pytest
from tests.svc_allocator.kit import bar_at, signals

from qraft_contracts.codec import decode, encode
from qraft_contracts.origin import Origin
from qraft_contracts.subjects import HORIZONS
from qraft_contracts.targets import Targets
from qraft_quant.allocation import DEMO, STANDARD
from svc_allocator.domain.join import JoinedBar, join
from svc_allocator.usecases import decide_targets

NAN = float("nan")


def bar(**by_horizon: dict[str, object]) -> JoinedBar:
    """Return bar 0; by_horizon: changes to the signals of h1h, h4h, h1d, h7d."""
    joined = join({h: msgspec.structs.replace(signals(h, 0), **by_horizon.get(f"h{h}", {})) for h in HORIZONS})
    assert joined is not None
    return joined


def test_targets_carry_profile_limits_scores_and_the_share_of_each_horizon():
    targets = decide_targets(bar(), None, DEMO)

    assert (targets.market, targets.interval, targets.as_of, targets.profile) == ("crypto", "5m", bar_at(0), "demo")
    assert targets.limits.score_min == dict(DEMO.score_min) and targets.limits.bucket_caps == dict(DEMO.bucket_caps)
    assert [scores.horizon for scores in targets.scores] == list(HORIZONS)
    btc, eth = targets.targets
    # The same score is a larger part of the long horizons' full score.
    assert (btc.symbol, btc.policy) == ("BTCUSDT", "long")
    assert {share.model_id for share in btc.horizons} == {"m0123456789abcdef"}
    assert sum(share.weight for share in eth.horizons) == pytest.approx(eth.weight)
    assert [(one.reason, one.n, one.examples) for one in targets.refused] == [
        ("no_direction", 4, ("SOLUSDT/1d", "SOLUSDT/1h", "SOLUSDT/4h"))
    ]
    assert decode(encode(targets), Targets) == targets


def test_standard_lets_the_same_bar_through_only_where_the_scores_reach():
    targets = decide_targets(bar(), None, STANDARD)

    # Edge .017 and .027 at a volatility of .05: scores .34 and .54.
    by_horizon = {scores.horizon: (scores.n_passed, round(scores.distance or 0.0, 6)) for scores in targets.scores}
    assert by_horizon == {"1h": (0, 0.06), "4h": (1, -0.04), "1d": (1, -0.19), "7d": (2, -0.29)}
    assert not targets.hold and [target.symbol for target in targets.targets] == ["BTCUSDT", "ETHUSDT"]


def test_short_policy_when_a_short_horizon_has_the_largest_share():
    flat = {"rows": ()}
    targets = decide_targets(bar(h1d=flat, h7d=flat), None, DEMO)

    assert {target.policy for target in targets.targets} == {"short"}


def test_nothing_passed_is_not_hold_the_positions_are_to_be_closed():
    weak = {"rows": signals("1h", 0, {"BTCUSDT": (0.001, 0.5, 0.05)}).rows}
    targets = decide_targets(bar(h1h=weak, h4h=weak, h1d=weak, h7d=weak), None, STANDARD)

    assert not targets.hold and targets.targets == () and targets.reason is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": (), "reason": "no_active_model", "model_id": None}, "no_active_model"),
        ({"rows": ()}, "no_signals"),
        ({"rows": signals("1h", 0, {"BTCUSDT": (NAN, 0.7, 0.05)}).rows}, "no_usable_signals"),
        ({"cost": NAN}, "no_usable_signals"),
    ],
)
def test_hold_with_a_reason_where_nothing_could_be_decided(changes: dict[str, object], reason: str):
    targets = decide_targets(bar(h1h=changes, h4h=changes, h1d=changes, h7d=changes), None, DEMO)

    assert targets.hold and targets.reason == reason and targets.targets == ()


def test_different_reasons_of_empty_horizons_are_told_with_their_scores():
    targets = decide_targets(
        bar(
            h1h={"rows": (), "reason": "no_active_model"},
            h4h={"rows": (), "reason": "stale_input"},
            h1d={"rows": (), "reason": "stale_input"},
            h7d={"rows": (), "reason": "stale_input"},
        ),
        None,
        DEMO,
    )

    assert targets.reason == "no_signals"
    assert [scores.reason for scores in targets.scores] == ["no_active_model", *["stale_input"] * 3]


def test_the_worst_origin_of_the_signals_wins():
    assert decide_targets(bar(h7d={"origin": Origin.SIMULATED}), None, DEMO).origin is Origin.SIMULATED


def test_join_waits_for_all_horizons_and_takes_the_oldest_bar():
    in_hand = {"1h": signals("1h", 1), "4h": signals("4h", 0), "7d": signals("7d", 1)}
    assert join(in_hand) is None

    joined = join({**in_hand, "1d": signals("1d", 0)})

    assert joined is not None and not joined.is_complete and joined.as_of == bar_at(0)
    assert [one.horizon for one in joined.signals] == ["4h", "1d"]
    held = decide_targets(joined, None, DEMO)
    assert held.hold and held.reason == "incomplete_signals" and held.as_of == bar_at(0)
