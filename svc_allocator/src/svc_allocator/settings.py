"""Settings of this service (prefix QRAFT_ALLOCATOR_); the shared ones are qraft_runtime.settings.CommonSettings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from qraft_quant.allocation import DEMO, STANDARD, AllocationLimits, demonstration, tightened

_ByName = dict[str, float]


class AllocatorSettings(BaseSettings):
    """
    Which limits shape the targets.

    The thresholds of the profile `standard` are fixed in qraft_quant.allocation and have no setting here: whoever
    wants others runs the profile `demo`, and every message and screen says so. The risk limits hold for both
    profiles and may only be made tighter. Maps are JSON and may name some keys only; the rest stay as shipped.
    """

    model_config = SettingsConfigDict(env_prefix="QRAFT_ALLOCATOR_", frozen=True, extra="ignore")

    profile: Literal["standard", "demo"] = "standard"
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
    # Common hourly returns, out of the week's 168, below which a pair's correlation counts as unknown.
    n_common_returns_min: Annotated[int, Field(ge=2, le=168)] = 84

    @property
    def limits(self) -> AllocationLimits:
        """Return the limits of the chosen profile."""
        base = STANDARD
        if self.profile == "demo":
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ = self.limits  # raises ValueError where the numbers do not fit together
        return self
