"""When a lake that a running line reads could first have known what a command brings into it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import STATE_INPUTS
from qraft_runtime.clock import Clock
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.raw import Int64Array, micros_of

# Whose series stand beside the bars of every line, such as us.macro.
_MARKETS_OF_STATE: Final = frozenset(given.market for given in STATE_INPUTS.values() if given.market)


class LiveRecord(Protocol):
    """Since when a lake is alive. Adapter: collected."""

    def polled_since(self, venue: str) -> datetime | None:
        """Return when the venue was polled into this lake for the first time, None where it never was."""
        ...

    def read_since(self) -> datetime | None:
        """Return when a living line first read this lake, or it was first polled; None where neither ever was."""
        ...


@dataclass(frozen=True, slots=True)
class KeptLive:
    """
    Since when each market of a lake is read by a running line. A lake without one keeps the times of its sources.

    What is collected or derived of a later time is known when it came here: the line did not see it before, so a model
    must not see it earlier in training.

    state_market: whose tables the line reads beside its bars, polled or not; "" = none.
    """

    clock: Clock
    record: LiveRecord
    state_market: str = ""

    def known(self, market: str, known_us: Int64Array) -> Int64Array:
        """Return when this lake could first have known rows that were knowable at these times."""
        since = self._since(market)
        if since is None:
            return known_us
        now_us = micros_of(self.clock.now())
        return np.where(known_us > micros_of(since), np.maximum(known_us, now_us), known_us)

    def stamped(self, market: str, rows: pa.Table) -> pa.Table:
        """Return rows with that time as their known_at."""
        known = np.asarray(rows["known_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        told = pa.array(self.known(market, known)).cast(US)
        return rows.set_column(rows.schema.get_field_index("known_at"), "known_at", told)

    def _since(self, market: str) -> datetime | None:
        if market in _MARKETS_OF_STATE or market == self.state_market:
            return self.record.read_since()
        return self.record.polled_since(market.partition(".")[0])
