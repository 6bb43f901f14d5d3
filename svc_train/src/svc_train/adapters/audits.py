"""Ask an audit whether the data of a line are ready, and keep it as an artefact that the manifest names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from qraft_contracts.snapshots import REQUIRED_KINDS
from qraft_data.audit.expectation import Thresholds, Window
from qraft_data.audit.findings import Audit
from qraft_data.audit.run import Auditor
from qraft_registry.artefacts import READY, Readiness, sha256_hex
from qraft_registry.provenance import AUDITS
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables


class JudgedBars(ParquetLake):
    """The lake as an audit for training sees it: one interval of one market. All of a lake takes half a minute."""

    def __init__(self, root: Path, *, market: str, interval: str, cold_root: Path | None = None) -> None:
        super().__init__(root, cold_root=cold_root)
        self._market = market
        self._interval = interval

    def markets(self, interval: str) -> tuple[str, ...]:
        """Return the judged market where it has rows of the judged interval."""
        return tuple(it for it in super().markets(interval) if interval == self._interval and it == self._market)


class JudgedTables(ParquetTables):
    """The tables as an audit for training sees them: the required kinds of one market."""

    def __init__(self, root: Path, *, market: str, cold_root: Path | None = None) -> None:
        super().__init__(root, cold_root=cold_root)
        self._market = market

    def markets(self, kind: str) -> tuple[str, ...]:
        """Return the judged market where it has rows of a required kind."""
        return tuple(it for it in super().markets(kind) if kind in REQUIRED_KINDS and it == self._market)


@dataclass(frozen=True, slots=True)
class LakeAudit:
    """
    Audits of what a line trains on: the bars of market, and the required state of its symbols in state_market ("" = in
    market itself).
    """

    lake: Path
    market: str
    interval: str
    state_market: str
    thresholds: Thresholds = field(default_factory=Thresholds)
    cold: Path | None = None  # root of the lake's older parts

    def ask(self, mode: str, window: Window) -> Audit:
        """Return the audit of a window; its verdict is that of `qraft data audit`, which lists all that is stored."""
        auditor = Auditor(
            JudgedBars(self.lake, market=self.market, interval=self.interval, cold_root=self.cold),
            JudgedTables(self.lake, market=self.state_market or self.market, cold_root=self.cold),
            self.thresholds,
            _untold,
            line_market=self.market,
            state_market=self.state_market,
        )
        return auditor.audit(mode=mode, market=self.market, interval=self.interval, window=window)


def _untold(done: int, total: int) -> None:
    """Tell nobody: a few series are judged in a second."""
    _ = done, total


async def keep_audit(artefacts: ArtefactStore, audit: Audit) -> Readiness:
    """
    Store an audit that found the data ready and return what a manifest says of it. The same audit has the same bytes.

    Raises:
        Transient: if the store is away.
    """
    assert audit.ready, "an audit that found the data wanting is no readiness"
    data = msgspec.json.format(msgspec.json.encode(audit, order="deterministic"), indent=1) + b"\n"
    sha256 = sha256_hex(data)
    key = f"{AUDITS}{sha256}.json"
    await artefacts.put(key, data)
    return Readiness(audit.mode, READY, audit.start, audit.end, key, sha256)
