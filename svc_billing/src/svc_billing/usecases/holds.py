"""Looking for holds: all open ones, those whose outcome is uncertain, those whose refund does not work."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from qraft_contracts.billing import Hold

# What holds are looked for by: `open` is held or disputed, `refund_failing` may be both.
HOLD_FILTERS: Final = ("open", "held", "disputed", "refund_failing", "settled", "voided", "expired")


class FoundHold(msgspec.Struct, frozen=True):
    """A hold and the number of the event by which it is ordered: that made it if it is open, else that resolved it."""

    hold: Hold
    seq: int


class HoldsReader(Protocol):
    """Reads holds. Raises Transient when the database is away."""

    async def holds(self, *, filter_by: str, account_id: str | None, after: int, limit: int) -> list[FoundHold]:
        """
        Return holds in the order of their events: open ones as they were made, others as they were resolved.

        Args:
            filter_by: one of HOLD_FILTERS.
            account_id: None = of all accounts.
            after: seq of the last one that is known; 0 = from the beginning.
            limit: at most so many.
        """
        ...
