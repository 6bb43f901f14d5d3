"""
In which order bars and targets take effect: strictly by event time, whatever the order of their arrival.

For bar t: fill and mark on bar t, then the targets of t, then bar t+1. Both streams are ordered, so a later targets
message says that the targets of t never come, and a later bar says that bar t never comes.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto


class Step(Enum):
    """What to do next with the bar and the targets at hand."""

    WAIT = auto()
    BAR = auto()  # trade and mark on the bar
    KNOWN_BAR = auto()  # the bar was handled before
    TARGETS = auto()  # decide orders
    KNOWN_TARGETS = auto()  # the time of these targets is past
    TARGETS_WITHOUT_BAR = auto()  # the bar of these targets never comes
    HOLD_MISSING = auto()  # the targets of the last bar never come
    HOLD_LATE = auto()  # the targets of the last bar did not come before the deadline


def next_step(
    *,
    last_bar_at: datetime | None,
    last_targets_at: datetime | None,
    bar_at: datetime | None,
    targets_at: datetime | None,
    is_late: bool,
) -> Step:
    """
    Return what to do next.

    Args:
        last_bar_at: end of the last bar in the journal.
        last_targets_at: the last bar for which targets (or a hold) are in the journal.
        bar_at: end of the bar at hand, if there is one.
        targets_at: as_of of the targets at hand, if there are some.
        is_late: the deadline for the targets of last_bar_at has passed; only real time has one.
    """
    if bar_at is not None and last_bar_at is not None and bar_at <= last_bar_at:
        return Step.KNOWN_BAR
    if last_bar_at is not None and last_targets_at != last_bar_at:
        return _awaiting_targets(last_bar_at, targets_at, is_late=is_late)
    if targets_at is not None and last_bar_at is not None and targets_at <= last_bar_at:
        return Step.KNOWN_TARGETS
    if bar_at is None:
        return Step.WAIT
    return Step.TARGETS_WITHOUT_BAR if targets_at is not None and targets_at < bar_at else Step.BAR


def _awaiting_targets(last_bar_at: datetime, targets_at: datetime | None, *, is_late: bool) -> Step:
    if targets_at is None:
        return Step.HOLD_LATE if is_late else Step.WAIT
    if targets_at == last_bar_at:
        return Step.TARGETS
    return Step.KNOWN_TARGETS if targets_at < last_bar_at else Step.HOLD_MISSING
