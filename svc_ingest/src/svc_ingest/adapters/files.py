"""Bars from a dataset folder: one Parquet file a symbol, named `<symbol>.parquet`."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS
from svc_ingest.adapters.parquet import FileFacts, read_rows, scan_file
from svc_ingest.domain.raw import RawChunk, instant_of, micros_of

_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,31}")
# Rows held at once (40 bytes each), and the longest stretch of time, so that loading shows its progress.
CHUNK_ROWS: Final = 1_000_000
CHUNK_MAX: Final = timedelta(days=10)


class FileSource:
    """
    A dataset on disk, origin `replay`. closed_at = open_time + interval; known when the bar closed.

    The files are read in windows of time, so memory does not grow with their length.
    """

    def __init__(
        self, folder: Path, *, interval: str, symbols: Sequence[str] = (), history_from: datetime | None = None
    ) -> None:
        """Take bars closed after history_from only; None = all."""
        self._folder, self._interval, self._wanted = folder, interval, tuple(symbols)
        self._history_from = history_from
        self._facts: dict[str, FileFacts] = {}
        self._lineage = f"files:{folder.name}"
        self._step = timedelta(seconds=INTERVAL_SECONDS[interval])

    @property
    def origin(self) -> Origin:
        """Return `replay`: recorded market data, played again."""
        return Origin.REPLAY

    @property
    def description(self) -> str:
        """Return the dataset's name."""
        return f"files {self._folder.name}"

    @property
    def lineage(self) -> str:
        """Return the dataset's name with a fingerprint of its files' names, sizes and ranges."""
        return self._lineage

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have rows, sorted."""
        return tuple(sorted(self._facts))

    @property
    def is_live(self) -> bool:
        """Return False: the bars are recorded."""
        return False

    @property
    def last_closed_at(self) -> datetime | None:
        """Return the end of the dataset's last bar."""
        return instant_of(max(facts.last_closed_at for facts in self._facts.values()))

    async def open(self) -> Mapping[str, int]:
        """Read every file's times; see the port."""
        found = await asyncio.to_thread(lambda: {name: scan_file(path, self._step) for name, path in self._paths()})
        self._facts = {symbol: facts for symbol, facts in found.items() if facts.n_rows}
        if not self._facts:
            raise Malformed("empty_dataset", f"expected rows in {self._folder}, every file has none")
        text = ";".join(f"{symbol}:{facts}" for symbol, facts in sorted(self._facts.items()))
        self._lineage = f"files:{self._folder.name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        return {symbol: facts.n_out_of_order for symbol, facts in self._facts.items()}

    def _paths(self) -> list[tuple[str, Path]]:
        paths = {path.stem: path for path in sorted(self._folder.glob("*.parquet"))}
        if not paths:
            raise Malformed(
                "no_dataset",
                f"expected <symbol>.parquet files in {self._folder}, found none; set QRAFT_DATA or "
                "QRAFT_INGEST_DATASET, or choose QRAFT_INGEST_SOURCE=exchange or simulated",
            )
        missing = sorted(set(self._wanted) - paths.keys())
        if missing:
            raise Malformed("unknown_symbols", f"expected symbols out of {sorted(paths)}, asked for {missing}")
        odd = [name for name in paths if not _SYMBOL.fullmatch(name)]
        if odd:
            raise Malformed("bad_symbol", f"expected files named like BTCUSDT.parquet, found {odd[:3]}")
        return [(name, path) for name, path in paths.items() if not self._wanted or name in self._wanted]

    async def chunks(self, *, after: datetime | None, until: datetime | None) -> AsyncIterator[RawChunk]:
        """Yield the rows window by window; see the port."""
        start = instant_of(min(facts.first_closed_at for facts in self._facts.values())) - self._step
        last = self.last_closed_at
        assert last is not None, "a dataset ends"
        start = max(start, after or start, self._history_from or start)
        end = last if until is None else min(last, until)
        width = min(CHUNK_MAX, max(1, CHUNK_ROWS // len(self._facts)) * self._step)
        while start < end:
            stop = min(start + width, end)
            yield await asyncio.to_thread(self._read, start, stop)
            start = stop

    def _read(self, start: datetime, stop: datetime) -> RawChunk:
        window = (micros_of(start), micros_of(stop))
        rows = {
            symbol: read_rows(self._folder / f"{symbol}.parquet", self._step, window)
            for symbol, facts in self._facts.items()
            if facts.first_closed_at <= window[1] and facts.last_closed_at > window[0]
        }
        return RawChunk(rows, until=stop)

    async def close(self) -> None:
        """Nothing is held open."""
