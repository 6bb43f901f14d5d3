"""
Settings of the job. It evaluates what the line runs, so it reads the line's own variables: the limits from
QRAFT_ALLOCATOR_*, the account from QRAFT_EXECUTION_*. Its own are QRAFT_BACKTEST_*.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from qraft_quant.allocation import DEMO, STANDARD, AllocationLimits, demonstration, tightened
from svc_backtest.domain.simulate import AccountTerms

Profile = Literal["standard", "demo"]
_ByName = dict[str, float]


class BacktestSettings(BaseSettings):
    """days: evaluate only the last so many days of the out-of-fold period; None = all of it."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_BACKTEST_", frozen=True, extra="ignore")

    days: Annotated[int | None, Field(ge=1)] = None


class LimitSettings(BaseSettings):
    """The variables of svc_allocator (its README tells them); both services read them alike, as a test checks."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_ALLOCATOR_", frozen=True, extra="ignore")

    profile: Profile = "standard"
    demo_score_min: _ByName = {}
    demo_score_full: _ByName = {}
    demo_confidence_min: _ByName = {}
    demo_edge_min: float = DEMO.edge_min
    demo_size_min: float = DEMO.size_min
    symbol_cap: Annotated[float, Field(gt=0.0)] = STANDARD.symbol_cap
    bucket_caps: _ByName = {}
    gross_max: Annotated[float, Field(gt=0.0)] = STANDARD.gross_max
    risk_budget: Annotated[float, Field(gt=0.0)] = STANDARD.risk_budget
    correlation_max: Annotated[float, Field(ge=0.0)] = STANDARD.correlation_max
    n_common_returns_min: Annotated[int, Field(ge=2, le=168)] = 84

    def limits(self, profile: Profile | None) -> AllocationLimits:
        """
        Return the limits of a profile, None = of the one set in the environment.

        Raises:
            ValueError: if the numbers do not fit together or a risk limit is looser than the standard one.
        """
        base = STANDARD
        if (profile or self.profile) == "demo":
            base = demonstration(
                score_min=self.demo_score_min,
                score_full=self.demo_score_full,
                confidence_min=self.demo_confidence_min,
                edge_min=self.demo_edge_min,
                size_min=self.demo_size_min,
            )
        return tightened(
            base,
            symbol_cap=self.symbol_cap,
            bucket_caps=self.bucket_caps,
            gross_max=self.gross_max,
            risk_budget=self.risk_budget,
            correlation_max=self.correlation_max,
        )


class AccountSettings(BaseSettings):
    """The paper account's variables, as in svc_execution."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_EXECUTION_", frozen=True, extra="ignore")

    start_cash: Annotated[float, Field(gt=0)] = 1_000_000.0  # quote currency
    rebalance_band: Annotated[float, Field(ge=0, lt=1)] = 0.01  # fraction of equity
    min_notional: Annotated[float, Field(ge=0)] = 10.0  # quote currency

    def terms(self, *, n_common_returns_min: int) -> AccountTerms:
        """Return the account's terms."""
        return AccountTerms(self.start_cash, self.rebalance_band, self.min_notional, n_common_returns_min)
