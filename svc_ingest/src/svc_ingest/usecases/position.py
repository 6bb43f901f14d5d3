"""Where publishing goes on: from the newest published bar and from what the store holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import bars_subject
from qraft_frames.bars import decode_bars
from svc_ingest.ports import BarsBus
from svc_ingest.usecases.line import Line


@dataclass(frozen=True, slots=True)
class Position:
    """
    Publish bars after `after`, but for what is published: of the bar `published_at` the revisions up to `revision`.

    after None = from the beginning of the source.
    """

    after: datetime | None
    published_at: datetime | None = None
    revision: int = -1

    def is_published(self, closed_at: datetime, revision: int) -> bool:
        """Return whether a batch went out before the restart."""
        return closed_at == self.published_at and revision <= self.revision


async def find_position(line: Line, bus: BarsBus, *, replay_from: datetime | None) -> Position:
    """
    Return where to go on.

    The store is ahead of the bus by one bar at most when we were killed between the two, so with nothing published
    the newest stored bar goes out (again): nobody has seen it. The same holds after a revision, which does not say
    which bar was the newest, and after a message that is no batch of bars; the id keeps a second copy harmless.

    Raises:
        Malformed: if the newest message is of another market or interval.
    """
    stored = line.stored_until
    last = await bus.last(bars_subject(line.interval))
    if last is None:
        first = replay_from if replay_from is not None else stored and stored - line.step
        return Position(first)
    try:
        batch = decode_bars(last.data)
    except Malformed:
        # Somebody else's rubbish on our subject says nothing about us: go on from what the store holds.
        after = stored and stored - line.step
        return Position(max(filter(None, (after, replay_from)), default=None))
    if batch.market != line.market:
        raise Malformed(
            "other_market", f"the stream holds bars of {batch.market}, this service is for {line.market}: one a bus"
        )
    if batch.revision > 0 and stored is not None and stored > batch.closed_at:
        return Position(stored - line.step)
    return Position(batch.closed_at - line.step, batch.closed_at, batch.revision)
