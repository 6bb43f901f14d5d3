"""The one way to change the ledger: commands are gathered, decided in order and committed together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

from qraft_contracts.billing import INVALID, OVERLOADED, REFUSED, RETRY, STORE_AWAY, BillingReply
from qraft_contracts.outcomes import Refused, Transient
from qraft_runtime.clock import Clock
from svc_billing.domain.commands import Command, ExpireGrant, GrantCredits, VoidGrant, fingerprint
from svc_billing.domain.decide import Checked
from svc_billing.domain.events import StoredEvent
from svc_billing.domain.fold import fold
from svc_billing.domain.prices import PriceList
from svc_billing.domain.state import COMPUTE, SYSTEM, State
from svc_billing.domain.validate import ID_LENGTH_MAX, check, is_id
from svc_billing.ports import Batch, Changes, Head, LedgerStore, Wanted

# One transaction's commands: more brings little (measured: the cost a command is nearly flat from 256 on) and makes the
# first one wait.
BATCH_MAX: Final = 512
# About half a second of work; who comes later is told at once instead of timing out.
QUEUE_MAX: Final = 8_192
# Accounts, open holds and grants that are remembered between batches, each; what is forgotten is read again. Few of
# them stay in the processor's cache: remembering every event of the last seconds doubled the cost of a command.
N_KEPT_MAX: Final = 4_096
# A store that is away refuses at once; the loop does not spin on it.
AWAY_PAUSE_S: Final = 0.1


class _Waiting(NamedTuple):
    checked: Checked
    reply: asyncio.Future[BillingReply]


class Ledger:
    """
    Group commit. `submit` waits for `run`, which takes what has come and commits it in one transaction.

    Several Ledgers may run on one store, in one process or several: the store lets one batch in at a time.
    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        clock: Clock,
        batch_max: int = BATCH_MAX,
        queue_max: int = QUEUE_MAX,
        n_kept_max: int = N_KEPT_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._n_kept_max = n_kept_max
        self._queue: deque[_Waiting] = deque()
        self._has_work = asyncio.Event()
        # The ledger after our last batch, in part. Good as long as the chain still ends there.
        self._state = State()
        self._is_stopped = False

    @property
    def n_waiting(self) -> int:
        """Return how many commands wait for a batch."""
        return len(self._queue)

    async def submit(self, command: Command) -> BillingReply:
        """
        Execute a command, once however often it comes, and return its answer when it is durable.

        A `retry` answer left nothing behind, or it is not known whether it did: send the same command again.
        """
        return await self.enqueue(command)

    def enqueue(self, command: Command) -> asyncio.Future[BillingReply]:
        """Do as `submit`, and return the answer to come. Call it in the event loop that `run` runs in."""
        reply: asyncio.Future[BillingReply] = asyncio.get_running_loop().create_future()
        try:
            self._queue.append(_Waiting(self._admit(command), reply))
            self._has_work.set()
        except Refused as refused:
            reply.set_result(BillingReply(REFUSED, "", refused.reason, refused.detail))
        except Transient as later:
            reply.set_result(BillingReply(RETRY, command.operation_id, later.reason, later.detail))
        return reply

    async def run(self) -> None:
        """Commit batches until cancelled. Whoever still waits then is told to retry."""
        try:
            while True:
                await self._has_work.wait()
                batch = self._take(self._batch_max)
                replies = _away(batch, "the ledger has stopped")
                try:
                    replies = await self._commit(batch)
                except Transient as away:
                    replies = _away(batch, away.detail)
                    await asyncio.sleep(AWAY_PAUSE_S)
                finally:
                    _answer(batch, replies)
        finally:
            self._is_stopped = True
            left = self._take(len(self._queue))
            _answer(left, _away(left, "the ledger has stopped"))

    def _admit(self, command: Command) -> Checked:
        """Return a command to be queued. Raises Refused if it has no storable id, Transient if there is no room."""
        if not is_id(command.operation_id):
            raise Refused(INVALID, f"expected an operation id of 1 to {ID_LENGTH_MAX} printable ASCII characters")
        if self._is_stopped:
            raise Transient(STORE_AWAY, "the ledger has stopped: send the same command again")
        if len(self._queue) >= self._queue_max:
            raise Transient(OVERLOADED, f"{self._queue_max} commands are waiting: send the command again, more slowly")
        identity = fingerprint(command)
        try:
            check(command)
        except Refused as refused:
            return Checked(command, identity, refused)
        return Checked(command, identity, None)

    async def _commit(self, batch: list[_Waiting]) -> list[BillingReply]:
        """Decide a batch and commit it. Raises Transient; then it may have been committed or not."""
        is_committed = False
        try:
            async with self._store.begin() as transaction:
                await self._load(transaction, batch)
                folded = fold(self._state, [waiting.checked for waiting in batch], now=self._clock.now())
                if folded.events:
                    await transaction.append(_changes(self._state, folded.events))
            is_committed = True
        finally:
            if not is_committed:
                self._state = State()
        self._forget()
        return folded.replies

    async def _load(self, transaction: Batch, batch: list[_Waiting]) -> None:
        """Bring the state to the end of the chain, with everything that the commands name."""
        head, state = transaction.head, self._state
        if (state.seq, state.hash) != (head.seq, head.hash):
            # Another Ledger has written since.
            state = self._state = State(seq=head.seq, hash=head.hash)
        if state.prices.version != head.price_version:
            state.prices = await transaction.load_prices()
        found = await transaction.load(_wanted(state, batch))
        for event in found.operations:
            state.operations[event.operation_id] = event
        state.holds.update(found.holds)
        state.accounts.update([(account.account_id, account) for account in found.accounts])
        state.grants.update([(grant.grant_id, grant) for grant in found.grants])

    def _forget(self) -> None:
        """Forget what later batches seldom name: the store has it all."""
        state = self._state
        state.operations.clear()
        state.holds = {hold_id: hold for hold_id, hold in state.holds.items() if hold.resolved_seq is None}
        parts: tuple[dict[str, Any], ...] = (state.holds, state.accounts, state.grants)
        for known in parts:
            if len(known) > self._n_kept_max:
                known.clear()

    def _take(self, n_max: int) -> list[_Waiting]:
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), n_max))]
        if not queue:
            self._has_work.clear()
        return batch


def _wanted(state: State, batch: list[_Waiting]) -> Wanted:
    holds, accounts, grants = state.holds, state.accounts, state.grants
    # dict.fromkeys keeps the order and drops repeats.
    operation_ids: dict[str, None] = {}
    hold_ids: dict[str, None] = {}
    account_ids: dict[str, None] = dict.fromkeys(name for name in (SYSTEM, COMPUTE) if name not in accounts)
    grant_ids: dict[str, None] = {}
    for checked, _ in batch:
        command = checked.command
        operation_ids[command.operation_id] = None
        if checked.refusal is not None:
            continue
        hold_id = getattr(command, "hold_id", None)
        account_id = getattr(command, "account_id", None)
        if hold_id is not None:
            hold = holds.get(hold_id)
            if hold is None:
                hold_ids[hold_id] = None
            elif hold.account_id not in accounts:
                account_ids[hold.account_id] = None
        if account_id is not None and account_id not in accounts:
            account_ids[account_id] = None
        if isinstance(command, GrantCredits | VoidGrant | ExpireGrant):
            grant = grants.get(command.grant_id)
            if grant is None:
                grant_ids[command.grant_id] = None
            elif grant.account_id not in accounts:
                account_ids[grant.account_id] = None
    return Wanted(list(operation_ids), list(hold_ids), list(account_ids), list(grant_ids))


def _changes(state: State, new: list[StoredEvent]) -> Changes:
    """Return the new events and the things they touched, as they are after the last."""
    hold_ids: dict[str, None] = {}
    account_ids: dict[str, None] = {}
    grant_ids: dict[str, None] = {}
    prices: list[PriceList] = []
    for stored in new:
        event = stored.event
        account_ids[event.account_id] = None
        if event.hold is not None and event.hold_id is not None:
            hold_ids[event.hold_id] = None
        if event.grant is not None:
            grant_ids[event.grant.grant_id] = None
        if event.rules:
            prices.append(PriceList.of(event.price_version, event.rules))
    return Changes(
        head=Head(state.seq, state.hash, state.prices.version),
        events=new,
        holds=[(hold_id, state.holds[hold_id]) for hold_id in hold_ids],
        accounts=[state.accounts[account_id] for account_id in account_ids],
        grants=[state.grants[grant_id] for grant_id in grant_ids],
        prices=prices,
    )


def _answer(batch: list[_Waiting], replies: list[BillingReply]) -> None:
    for waiting, reply in zip(batch, replies, strict=True):
        # One whose caller has gone away is done already.
        if not waiting.reply.done():
            waiting.reply.set_result(reply)


def _away(batch: list[_Waiting], detail: str) -> list[BillingReply]:
    message = f"{detail}: send the same command again"
    return [BillingReply(RETRY, waiting.checked.command.operation_id, STORE_AWAY, message) for waiting in batch]
