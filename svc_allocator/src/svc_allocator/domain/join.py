"""
Which bar is decided next, from the one message per horizon that is in hand. Nothing is remembered here that is not
in an unacknowledged message, so a crash loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from qraft_contracts.signals import Signals
from qraft_contracts.subjects import HORIZONS


@dataclass(frozen=True, slots=True)
class JoinedBar:
    """The oldest bar in hand. signals: by HORIZONS order; is_complete: every horizon is among them."""

    as_of: datetime
    signals: tuple[Signals, ...]

    @property
    def is_complete(self) -> bool:
        """Return whether every horizon has spoken."""
        return len(self.signals) == len(HORIZONS)


def join(in_hand: Mapping[str, Signals]) -> JoinedBar | None:
    """
    Return the oldest bar once every horizon has a message in hand, else None.

    Each horizon's messages come in order of as_of. A horizon whose message in hand is of a later bar will therefore
    never speak for the oldest one, which is then incomplete for good. Waiting until all horizons have one makes the
    answer depend on the messages alone, not on which came first.
    """
    if len(in_hand) < len(HORIZONS):
        return None
    as_of = min(signals.as_of for signals in in_hand.values())
    return JoinedBar(as_of, tuple(in_hand[h] for h in HORIZONS if in_hand[h].as_of == as_of))
