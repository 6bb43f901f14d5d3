"""Settings of svc_inference alone, prefix QRAFT_INFERENCE_. The shared ones are qraft_runtime's."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class InferenceSettings(BaseSettings):
    """How models are run, followed and refused input."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_INFERENCE_", frozen=True, extra="ignore")

    # Part of the name of the consumer on models.*: every replica must hear of every decision, so give each its own.
    instance_id: str = Field(default="0", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    symbol_group: str = "all"
    # One: with more, onnxruntime splits trees over threads by batch size and the last bits of a row depend on its
    # neighbors, so a replayed day would not be the same bytes.
    n_threads: int = Field(default=1, ge=1, le=64)
    # Origin `real` only: features older than two 5-minute bars are refused as stale.
    input_age_max_s: float = Field(default=600.0, gt=0)
    # The net under models.*: the registry is read this often whether or not a message came.
    refresh_s: float = Field(default=30.0, gt=0)
