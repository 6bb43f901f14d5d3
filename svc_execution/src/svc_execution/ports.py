"""What execution needs of the world. The journal is the truth; history and the desk's reads stand beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qraft_contracts.origin import Origin
from svc_execution.domain.account import Mark
from svc_execution.domain.decide import TargetsSummary
from svc_execution.domain.desk import OrderView, PricesView, RefusalView
from svc_execution.domain.state import BarRecord, DecisionRecord, KillSwitch, Refusal, State

FloatArray = npt.NDArray[np.float64]
Headers = Mapping[str, str]


class Journal(Protocol):
    """
    The account's append-only journal. Every method raises Transient when the database is away.

    A commit stores its record, the messages about it and the progress in one transaction, or nothing.
    """

    async def load(self, *, market: str, interval: str, start_cash: float) -> State:
        """
        Return the state rebuilt from the journal alone, checked against every figure stored in it.

        Raises:
            JournalMismatch: if a stored figure is not what the fills give, or the interval is another.
        """
        ...

    async def commit_bar(self, after: State, record: BarRecord, *, cause: Headers) -> None:
        """Store one bar. Raises Transient(journal_moved) when another process wrote in between."""
        ...

    async def commit_decision(self, after: State, record: DecisionRecord, *, cause: Headers) -> None:
        """Store one decision. Raises as commit_bar."""
        ...

    async def record_refusal(self, market: str, refusal: Refusal) -> None:
        """Store a refusal that decides nothing; the same one again changes nothing."""
        ...

    async def kill_switch(self) -> KillSwitch:
        """Return the newest row of the kill switch."""
        ...

    async def bar_sha256(self, market: str, closed_at: datetime) -> str | None:
        """Return the hash of the bars message that was handled for an instant, None if there was none."""
        ...

    async def targets_sha256(self, market: str, as_of: datetime) -> str | None:
        """Return the hash of the targets message that was decided on, None if there was none."""
        ...


@dataclass(frozen=True, slots=True)
class CloseHistory:
    """closes: (n_bars, n_symbols) on the full grid, NaN where a symbol has no usable bar; the newest row is last."""

    symbols: tuple[str, ...]
    closes: FloatArray


class History(Protocol):
    """Bars that were stored before they were told of."""

    async def closes(self, *, end: datetime, n_bars: int) -> CloseHistory:
        """Return the last n_bars grid steps up to `end`, inclusive, as known at `end`. Raises Transient."""
        ...


class Told(Protocol):
    """Whoever wants to know that an event took effect: the desk, the metrics. Never slows or fails the event."""

    def bar_traded(self, state: State, record: BarRecord) -> None: ...

    def targets_decided(self, state: State, record: DecisionRecord, *, cause: Headers) -> None: ...

    def refused(self, refusal: Refusal) -> None: ...


class JournalMismatch(Exception):
    """The journal contradicts itself. Nothing is traded on it until a person has looked."""


@dataclass(frozen=True, slots=True)
class DeskSnapshot:
    """
    The journal as the desk shows it, one consistent read.

    mark, as_of, hold: None or False before the first bar or targets. series, orders, refusals: as in DeskView.
    """

    start_cash: float
    origin: Origin | None
    n_events: int
    mark: Mark | None
    profile: str | None
    hold: bool
    hold_reason: str | None
    summary: TargetsSummary | None
    kill_switch: KillSwitch
    series: list[tuple[int, float, float]]
    orders: list[OrderView]
    refusals: list[RefusalView]


class DeskReader(Protocol):
    """Reads for the desk, beside the hot path. Every method raises Transient when a store is away."""

    async def version(self) -> tuple[int, int]:
        """Return numbers that change whenever the snapshot does; cheap."""
        ...

    async def snapshot(self) -> DeskSnapshot:
        """Return what the desk shows."""
        ...

    async def prices(self, symbol: str, *, limit: int) -> PricesView | None:
        """Return the last bars of a symbol with its fills, None when it has none."""
        ...
