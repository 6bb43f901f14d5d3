"""Settings of this service, from the environment: QRAFT_INGEST_… and, for where the data lies, QRAFT_DATA."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from qraft_contracts.subjects import INTERVAL_SECONDS

DEFAULT_SYMBOLS = ("BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")


class IngestSettings(BaseSettings):
    """Which bars to take, from where to where, and how fast."""

    model_config = SettingsConfigDict(env_prefix="QRAFT_INGEST_", frozen=True, extra="ignore", populate_by_name=True)

    source: Literal["auto", "files", "exchange", "simulated"] = "auto"
    data: Path = Field(default=Path("../shared/data"), validation_alias="QRAFT_DATA")
    dataset: Path | None = None  # None = bars/perp_5m_2025 under QRAFT_DATA
    symbols: Annotated[
        tuple[str, ...], NoDecode
    ] = ()  # comma separated; empty = all of the dataset, or DEFAULT_SYMBOLS
    history_from: AwareDatetime | None = None  # bars of files closed up to here are left out; None = take all
    replay_from: AwareDatetime | None = None  # bars up to here are history; None = the newest bar of the lake
    replay_until: AwareDatetime | None = None  # None = to the end of the source
    speed: float = Field(default=0.0, ge=0.0)  # bars a second; 0 = as fast as the consumers follow
    max_bars_ahead: int = Field(default=64, ge=1)  # of the slowest durable consumer of the bars
    exchange: str = "binance"  # an id of ccxt
    exchange_url: str | None = None  # a mirror of its public API, such as https://data-api.binance.vision
    history_days: int = Field(default=30, ge=1)  # an exchange's backfill into an empty lake
    catalogue: Path | None = None  # of data sets for `collect`; None = the one that comes with the service
    collect_intervals: Annotated[tuple[str, ...], NoDecode] = ("1m", "5m", "1h")  # bars of `collect --source exchange`
    # Other kinds of the venue (funding, open interest, …) beside its live bars; None = where the bars are live.
    poll: bool | None = None
    # Symbols of which trades and books are polled too, comma separated; None = all where at most 10, "" = none.
    poll_flow: Annotated[tuple[str, ...] | None, NoDecode] = None
    poll_keeps_trades: bool = False  # store single trades too, not only their flow; see the README for the memory
    seed: int = 7  # of the simulator
    simulated_days: int = Field(default=270, ge=1)
    simulated_replay_days: int = Field(default=29, ge=0)  # of them, left out of the history and played

    @field_validator("symbols", "collect_intervals", "poll_flow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("collect_intervals")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= set(INTERVAL_SECONDS):
            raise ValueError(f"expected intervals out of {sorted(INTERVAL_SECONDS)}")
        return value

    @property
    def dataset_folder(self) -> Path:
        """Return the folder of the dataset."""
        return self.dataset or self.data / "bars" / "perp_5m_2025"

    @property
    def named_symbols(self) -> tuple[str, ...]:
        """Return the symbols for sources that have no list of their own."""
        return self.symbols or DEFAULT_SYMBOLS

    @property
    def history(self) -> timedelta:
        """Return how far back an exchange's backfill reaches."""
        return timedelta(days=self.history_days)
