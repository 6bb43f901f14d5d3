"""Open the lake that the settings name: one place that knows of hot and cold, for every service."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables


class LakePlaces(Protocol):
    """Where a lake lies; CommonSettings says it. lake_cold: root of its older parts, None = there is none."""

    @property
    def lake(self) -> Path:
        """Return the root under which rows are written."""
        ...

    @property
    def lake_cold(self) -> Path | None:
        """Return the root to which older parts are moved, and from which they are read."""
        ...


def open_bars(places: LakePlaces) -> ParquetLake:
    """Return the store of bars."""
    return ParquetLake(places.lake, cold_root=places.lake_cold)


def open_tables(places: LakePlaces) -> ParquetTables:
    """Return the store of every other kind."""
    return ParquetTables(places.lake, cold_root=places.lake_cold)
