"""Settings of svc_imagegen, read from the environment with the prefix QRAFT_IMAGEGEN_."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

GATEWAY: Final = "gateway"
WORKER: Final = "worker"
_MIB: Final = 1 << 20


class ImagegenSettings(BaseSettings):
    """What the gateway, its sweeper and the workers need to know. Providers and their keys: see `providers`."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_IMAGEGEN_", frozen=True, extra="ignore")

    roles: Annotated[frozenset[str], NoDecode] = frozenset({GATEWAY, WORKER})  # comma separated in the environment
    providers: Path | None = None  # a TOML file; None = the simulated provider only
    default_model: str = "simulated-1"
    public_url: str = ""  # as clients reach the gateway; "" = as the request names it

    sync_window_s: float = Field(default=590.0, gt=0)  # below the stock client's 600 s
    n_waiting_max: int = Field(default=512, ge=1, le=65_536)  # open calls on the compatible path
    join_window_s: float = Field(default=900.0, gt=0)  # a client's retry joins a job of the last 15 minutes

    job_timeout_s: float = Field(default=660.0, gt=0)  # from creation to the end of the provider's call
    uncertain_deadline_s: float = Field(default=86_400.0, gt=0)  # then an uncertain job is given up, not charged
    lease_s: float = Field(default=30.0, gt=0)
    sweep_interval_s: float = Field(default=5.0, gt=0)
    ack_wait_s: float = Field(default=30.0, gt=0)  # a dead worker's messages come again after this long
    check_first_s: float = Field(default=30.0, gt=0)  # an uncertain outcome is asked for first; then it doubles
    # A call in progress is worth waiting for: cut off it is uncertain, and somebody's credits are held for a day. Where
    # pods may take their time to end, this is as long as a job.
    drain_s: float = Field(default=25.0, gt=0, le=3_600)
    orphan_after_s: float = Field(default=60.0, gt=0)  # a hold this old without a job is given back

    body_bytes_max: int = Field(default=64 * _MIB, ge=1)
    references_max: int = Field(default=16, ge=1, le=64)
    reference_bytes_max: int = Field(default=50_000_000, ge=1)
    pixels_max: int = Field(default=40_000_000, ge=1)

    @field_validator("roles", mode="before")
    @classmethod
    def _split_roles(cls, value: object) -> object:
        return frozenset(it.strip() for it in value.split(",") if it.strip()) if isinstance(value, str) else value

    @field_validator("roles")
    @classmethod
    def _check_roles(cls, value: frozenset[str]) -> frozenset[str]:
        if not value or not value <= {GATEWAY, WORKER}:
            raise ValueError("expected gateway, worker or both")
        return value

    @property
    def is_gateway(self) -> bool:
        """Return whether this process serves HTTP and sweeps."""
        return GATEWAY in self.roles

    @property
    def is_worker(self) -> bool:
        """Return whether this process calls providers."""
        return WORKER in self.roles
