"""Settings that every service shares, read from the environment with the prefix QRAFT_."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic_settings import BaseSettings, SettingsConfigDict

from qraft_contracts.subjects import INTERVAL_SECONDS


# No message here tells the value: one mistyped variable's may be another's secret.
def _known_interval(value: str) -> str:
    if value not in INTERVAL_SECONDS:
        raise ValueError(f"expected an interval out of {list(INTERVAL_SECONDS)}")
    return value


def _known_level(value: str) -> str:
    if value.upper() not in logging.getLevelNamesMapping():
        raise ValueError("expected DEBUG, INFO, WARNING or ERROR")
    return value.upper()


class CommonSettings(BaseSettings):
    """Where the servers are, and which market this line of services is about."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_", frozen=True, extra="ignore")

    nats_url: str = "nats://127.0.0.1:4222"
    postgres_dsn: str = "postgresql://127.0.0.1:5432/qraft"
    home: Path = Path(".qraft")
    lake_cold: Path | None = None  # where older parts of the lake are moved to by `qraft data tier`; None = nowhere
    lake_hot_days: int = 90  # of each series, counted back from its newest row, are not moved
    artefacts_url: str | None = None  # None = the folder `artefacts` under home; or s3://bucket/prefix
    market: str = "crypto"
    interval: Annotated[str, AfterValidator(_known_interval)] = "5m"
    state_market: str = (
        "binance.perp"  # whose tables (funding, open interest, …) are the state of the market's symbols; "" = none
    )
    features_set: str = "core"  # what svc_features publishes and svc_train trains on; see qraft_quant.features.SETS
    log_level: Annotated[str, AfterValidator(_known_level)] = "INFO"
    http_host: str = "127.0.0.1"
    http_port: int = 0  # 0 = no HTTP server

    @property
    def artefacts(self) -> str:
        """Return the artefact store's address: a URL or a folder."""
        return self.artefacts_url or str(self.home / "artefacts")

    @property
    def lake(self) -> Path:
        """Return the root of the Parquet lake."""
        return self.home / "lake"
