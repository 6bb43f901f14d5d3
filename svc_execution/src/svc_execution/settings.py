"""Settings of svc_execution, read from the environment with the prefix QRAFT_EXECUTION_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ExecutionSettings(BaseSettings):
    """The paper account's own terms. Costs and participation are those of qraft_quant.costs, for every service."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_EXECUTION_", frozen=True, extra="ignore")

    start_cash: float = Field(default=1_000_000.0, gt=0)  # quote currency, of a new account
    rebalance_band: float = Field(default=0.01, ge=0, lt=1)  # fraction of equity
    min_notional: float = Field(default=10.0, ge=0)  # quote currency
    symbol_cap: float = Field(default=0.20, gt=0, le=1)  # |weight|; a message may be stricter, never looser
    gross_max: float = Field(default=1.0, gt=0, le=2)  # sum of |weight|
    targets_deadline_s: float = Field(default=60.0, gt=0)  # real time only
    n_event_clients_max: int = Field(default=32, ge=1, le=1024)
