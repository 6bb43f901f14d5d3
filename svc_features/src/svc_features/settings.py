"""Settings of this service (prefix QRAFT_FEATURES_); the shared ones are qraft_runtime.settings.CommonSettings."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FeaturesSettings(BaseSettings):
    """How much this service takes on."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_FEATURES_", frozen=True, extra="ignore")

    # State is about 80 kB a symbol; more symbols than this in a market are taken for a fault of the source.
    n_symbols_max: int = Field(default=5_000, ge=1)
