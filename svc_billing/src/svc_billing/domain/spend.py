"""From which grants credits are taken and where they return to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from svc_billing.domain.events import EXPIRED_CREDITS, WITHDRAWN_CREDITS
from svc_billing.domain.state import VOIDED, Account, Grant, Part, has_ended


def take(grants: Sequence[Grant], amount: int, now: datetime) -> tuple[Part, ...] | None:
    """Return the parts that make up an amount, in the order of spending, or None if the grants do not have it."""
    if grants and 0 < amount <= grants[0].remaining and not has_ended(grants[0], now):
        # The usual case, in a third of the time.
        return (Part(grants[0].grant_id, amount),)
    parts = take_at_most(grants, amount, now)
    return parts if sum([part.amount for part in parts]) == amount else None


def take_at_most(grants: Sequence[Grant], amount: int, now: datetime) -> tuple[Part, ...]:
    """Return the parts of an amount, or of what there is of it. Grants that have ended give nothing."""
    parts: list[Part] = []
    for grant in grants:
        if amount <= 0:
            break
        if grant.remaining > 0 and not has_ended(grant, now):
            taken = min(grant.remaining, amount)
            parts.append(Part(grant.grant_id, taken))
            amount -= taken
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Returned:
    """What a hold's parts become: available again, or lapsed because their grant has ended meanwhile."""

    available: tuple[Part, ...]
    n_expired: int
    n_withdrawn: int

    @property
    def lapsed_legs(self) -> tuple[tuple[str, int], ...]:
        """Return the system accounts that get the lapsed part, with their amounts."""
        legs = ((EXPIRED_CREDITS, self.n_expired), (WITHDRAWN_CREDITS, self.n_withdrawn))
        return tuple(leg for leg in legs if leg[1])


def give_back(account: Account, parts: Iterable[Part], used: int, now: datetime) -> Returned:
    """Return what happens to the parts behind the first `used` micro-credits of them."""
    available: list[Part] = []
    n_expired = n_withdrawn = 0
    for part in parts:
        back = part.amount - min(part.amount, used)
        used -= part.amount - back
        if not back:
            continue
        grant = account.grant(part.grant_id)
        assert grant is not None, f"{account.account_id}: a hold has a part of {part.grant_id}, which is gone"
        if not has_ended(grant, now):
            available.append(Part(part.grant_id, back))
        elif grant.state == VOIDED:
            n_withdrawn += back
        else:
            n_expired += back
    return Returned(tuple(available), n_expired, n_withdrawn)
