"""Settings of svc_billing, read from the environment with the prefix QRAFT_BILLING_."""

from __future__ import annotations

import os

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from svc_billing.usecases.report import Machine


class BillingSettings(BaseSettings):
    """The ledger's own terms, and what the weekly report needs to know of the machine."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_BILLING_", frozen=True, extra="ignore")

    # Of the HTTP API. None = every route answers 503 and says what to set.
    admin_token: SecretStr | None = Field(default=None, min_length=16, max_length=512)
    # Commands that wait for the next transaction; one more is answered retry/overloaded. Eight full batches.
    n_waiting_max: int = Field(default=4_096, ge=1, le=65_536)
    expire_interval_s: float = Field(default=1.0, gt=0, le=60)  # between two looks for leases and grants that ended
    # Of the weekly report. None = the cores of the machine that makes it; say it where jobs run elsewhere.
    n_cores: int | None = Field(default=None, ge=1, le=100_000)
    n_gpus: int = Field(default=0, ge=0, le=10_000)
    heavy_job_s: float = Field(default=60.0, ge=0)  # processor plus GPU seconds from which a job is listed by name

    def machine(self) -> Machine:
        """Return what utilization is measured against."""
        n_cores = self.n_cores if self.n_cores is not None else os.cpu_count() or 1
        return Machine(n_cores=n_cores, n_gpus=self.n_gpus, heavy_job_s=self.heavy_job_s)
