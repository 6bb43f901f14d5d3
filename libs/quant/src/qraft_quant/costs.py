"""Trading costs of the paper venue: what a label, a score and a fill charge. Rates are fractions unless named bps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Policy = Literal["short", "long"]

BPS: Final = 1e-4

_POLICIES: Final[Mapping[str, Policy]] = {"1h": "short", "4h": "short", "1d": "long", "7d": "long"}


def policy_of_horizon(horizon: str) -> Policy:
    """
    Return the execution policy that trades a horizon.

    Raises:
        ValueError: if the horizon has no policy.
    """
    policy = _POLICIES.get(horizon)
    if policy is None:
        raise ValueError(f"unknown horizon: expected one of {', '.join(_POLICIES)}, received {horizon!r}")
    return policy


@dataclass(frozen=True, slots=True)
class CostModel:
    """
    Hold the cost assumptions of the paper venue.

    Rates are per side, in basis points of notional; a participation is the largest fraction of a bar's volume that
    one order may take. Impact is eta * sigma * (q / V) ** beta, added to spread and slippage at the fill.

    Source:
        Almgren, Thum, Hauptmann and Li, Direct Estimation of Equity Market Impact (2005): eta and beta.
    """

    fee_bps: float = 4.5
    half_spread_bps: float = 1.0
    slippage_short_bps: float = 18.0
    slippage_long_bps: float = 10.0
    participation_short: float = 0.35
    participation_long: float = 0.12
    impact_eta: float = 0.142
    impact_beta: float = 0.6

    def __post_init__(self) -> None:
        rates = (self.fee_bps, self.half_spread_bps, self.slippage_short_bps, self.slippage_long_bps)
        if min(rates) < 0.0 or self.impact_eta < 0.0 or self.impact_beta <= 0.0:
            raise ValueError(f"cost rates must be >= 0 and impact_beta > 0, received {self}")
        if not all(0.0 < p <= 1.0 for p in (self.participation_short, self.participation_long)):
            raise ValueError(f"a participation must be in (0, 1], received {self}")

    def slippage_bps(self, policy: Policy) -> float:
        """Return the slippage of one side under a policy, in bps."""
        return self.slippage_short_bps if policy == "short" else self.slippage_long_bps

    def participation(self, policy: Policy) -> float:
        """Return the largest fraction of a bar's volume that one order may take under a policy."""
        return self.participation_short if policy == "short" else self.participation_long

    def round_trip_cost(self, horizon: str) -> float:
        """
        Return the cost of entering and leaving a position held for a horizon, as a fraction of notional.

        Impact is left out: it depends on the order, not on the horizon.

        Raises:
            ValueError: if the horizon is unknown.
        """
        slippage_bps = self.slippage_bps(policy_of_horizon(horizon))
        return 2.0 * (self.fee_bps + self.half_spread_bps + slippage_bps) * BPS


def round_trip_cost(horizon: str, model: CostModel | None = None) -> float:
    """
    Return the round-trip cost of a horizon under a cost model (the standard one unless given), as a fraction.

    Raises:
        ValueError: if the horizon is unknown.
    """
    return (model or CostModel()).round_trip_cost(horizon)
