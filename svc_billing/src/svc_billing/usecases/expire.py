"""Expiry: holds whose lease has ended and grants whose time has ended are given back, by commands like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from qraft_contracts.billing import OK, BillingReply
from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_billing.domain.commands import ExpireGrant, ExpireHold, expire_grant, expire_hold
from svc_billing.ports import LedgerReader
from svc_billing.usecases.ledger import Ledger


class Expiry:
    """Expires what is due, a bounded number at a time; what is left over is found again in the next round."""

    def __init__(self, ledger: Ledger, reader: LedgerReader, *, clock: Clock, interval_s: float) -> None:
        self._ledger = ledger
        self._reader = reader
        self._clock = clock
        self._interval_s = interval_s

    async def once(self) -> int:
        """Expire what is due now and return how many holds and grants that were. Raises Transient."""
        now = self._clock.now()
        commands: list[ExpireHold | ExpireGrant] = [expire_hold(it) for it in await self._reader.overdue_holds(now)]
        commands += [expire_grant(it) for it in await self._reader.overdue_grants(now)]
        replies: Sequence[BillingReply] = await asyncio.gather(*[self._ledger.submit(command) for command in commands])
        return sum(reply.outcome == OK and not reply.is_replay for reply in replies)

    async def run(self) -> None:
        """Expire until cancelled, also after the store was away."""
        while True:
            try:
                n_expired = await self.once()
            except Transient as away:
                logs.get().warning("expiry.failed", reason=away.reason, detail=away.detail)
            else:
                if n_expired:
                    logs.get().info("expiry.done", n_expired=n_expired)
            await asyncio.sleep(self._interval_s)
