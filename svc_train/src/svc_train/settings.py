"""Settings of the training job, prefix QRAFT_TRAIN_; the shared ones (QRAFT_HOME, …) are in CommonSettings."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field
from pydantic.functional_validators import AfterValidator, BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from qraft_contracts.subjects import HORIZON_SECONDS, HORIZONS
from qraft_runtime.settings import CommonSettings
from svc_train.domain.config import TrainConfig
from svc_train.domain.request import LINE, DataRequest, Mode


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _known_horizons(value: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [horizon for horizon in value if horizon not in HORIZON_SECONDS]
    if unknown or not value or len(set(value)) != len(value):
        raise ValueError(f"expected distinct horizons out of {list(HORIZONS)}")
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class TrainSettings(BaseSettings):
    """What one run trains on, how, and who asked for it. Lists are comma-separated."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_TRAIN_", frozen=True, extra="ignore")

    mode: Mode = LINE  # production, full = the window of that audit, refused unless it finds the data ready
    snapshot: str | None = None  # id of a snapshot to train on again; None = take a new one
    until: AwareDatetime | None = None  # last closed_at used, inclusive; None = all stored bars
    start: AwareDatetime | None = None  # bars closed after this; None = from the first stored bar
    symbols: Names = ()  # none = every symbol in the range
    horizons: Annotated[Names, AfterValidator(_known_horizons)] = HORIZONS
    symbol_group: str = "all"
    seed: int = 7
    n_folds: int = Field(default=3, ge=1, le=20)
    embargo_bars: int = Field(default=288, ge=0)
    row_stride: int = Field(default=3, ge=1)
    n_trees: int = Field(default=24, ge=1, le=2_000)
    n_leaves: int = Field(default=31, ge=2, le=255)
    learning_rate: float = Field(default=0.12, gt=0.0, le=1.0)
    n_rows_min: int = Field(default=1_000, ge=2)
    n_threads: int = Field(default=2, ge=1)
    register_candidate: bool = True  # False = store the artefacts and leave the registry alone
    actor: str = "svc_train"  # who asks for the registration; the demonstration says `demo`
    reason: str = "trained"
    code_revision: str | None = None  # None = ask git

    def request(self, common: CommonSettings, *, states: tuple[str, ...]) -> DataRequest:
        """Return what to train on. states: names of STATE_INPUTS that the features read."""
        return DataRequest(
            market=common.market,
            interval=common.interval,
            state_market=common.state_market,
            states=states,
            mode=self.mode,
            symbols=self.symbols,
            start=self.start,
            end=self.until,
            snapshot_id=self.snapshot,
        )

    def config(self) -> TrainConfig:
        """Return the recipe."""
        return TrainConfig(
            seed=self.seed,
            horizons=self.horizons,
            symbol_group=self.symbol_group,
            n_folds=self.n_folds,
            embargo_bars=self.embargo_bars,
            row_stride=self.row_stride,
            n_rows_min=self.n_rows_min,
            n_trees=self.n_trees,
            n_leaves=self.n_leaves,
            learning_rate=self.learning_rate,
            n_threads=self.n_threads,
        )
