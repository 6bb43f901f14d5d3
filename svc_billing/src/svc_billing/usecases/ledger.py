"""The one way to change the ledger: commands are gathered, decided in order and committed together."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from qraft_contracts.billing import INVALID, OVERLOADED, REFUSED, RETRY, STORE_AWAY, BillingReply
from qraft_contracts.outcomes import Refused, Transient
from qraft_runtime.clock import Clock
from svc_billing.domain.commands import Command, ExpireGrant, GrantCredits, VoidGrant, fingerprint
from svc_billing.domain.decide import Checked
from svc_billing.domain.events import StoredEvent
from svc_billing.domain.fold import Folded, fold
from svc_billing.domain.prices import PriceList
from svc_billing.domain.state import COMPUTE, SYSTEM, State
from svc_billing.domain.validate import ID_LENGTH_MAX, check, is_id
from svc_billing.ports import Batch, Changes, Found, Head, LedgerStore, Wanted

# One transaction's commands: more brings nothing (measured: the cost a command is flat from 256 on) and makes the
# first one wait.
BATCH_MAX: Final = 512
# About a quarter of a second of work; who comes later is told at once instead of timing out.
QUEUE_MAX: Final = 8_192
# What is remembered between batches, each; what is forgotten is read again.
N_KEPT_MAX: Final = 4_096
# A store that is away refuses at once; the loop does not spin on it.
AWAY_PAUSE_S: Final = 0.1


# Commands that are decided in one turn of the event loop; between turns the batch before is sent to the store.
_TURN: Final = 64


class _Waiting(NamedTuple):
    checked: Checked
    reply: asyncio.Future[BillingReply]


@dataclass(frozen=True, slots=True)
class _Decided:
    """A batch with its outcome, which counts when it is committed on a chain that ends at `head`."""

    waiting: list[_Waiting]
    folded: Folded
    changes: Changes | None
    head: tuple[int, bytes]


class Ledger:
    """
    Group commit. `submit` waits for `run`, which takes what has come and commits it in one transaction.

    While one batch is written the next is decided already, on the state that the first will leave; if another Ledger
    writes in between, it is decided again. Several Ledgers may run on one store, in one process or several: the store
    lets one batch in at a time.
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
        # The ledger after the last batch that we decided, in part. Good as long as the chain goes on from there.
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

    async def run(self) -> None:
        """Commit batches until cancelled. Whoever still waits then is told to retry."""
        ahead: _Decided | None = None
        try:
            while True:
                if ahead is None:
                    await self._has_work.wait()
                ahead = await self._settle(ahead)
        finally:
            self._is_stopped = True
            _answer_away(self._take(len(self._queue)), "the ledger has stopped")

    async def _settle(self, ahead: _Decided | None) -> _Decided | None:
        """Commit the decided batch, or the next one, and answer it; return the one that was decided meanwhile."""
        batch = ahead.waiting if ahead is not None else self._take(self._batch_max)
        following: list[_Waiting] = []
        is_answered = False
        try:
            decided, next_decided = await self._commit(batch, ahead, following)
            for waiting, reply in zip(decided.waiting, decided.folded.replies, strict=True):
                # One whose caller has gone away is done already.
                if not waiting.reply.done():
                    waiting.reply.set_result(reply)
            is_answered = True
        except Transient as away:
            _answer_away(batch + following, away.detail)
            is_answered = True
            await asyncio.sleep(AWAY_PAUSE_S)
            return None
        finally:
            if not is_answered:
                _answer_away(batch + following, "the ledger has stopped")
        return next_decided

    async def _commit(
        self, batch: list[_Waiting], ahead: _Decided | None, following: list[_Waiting]
    ) -> tuple[_Decided, _Decided | None]:
        """Commit a batch, and decide the next meanwhile, whose commands are put into `following`."""
        is_committed = False
        next_decided: _Decided | None = None
        try:
            async with self._store.begin() as transaction:
                head = (transaction.head.seq, transaction.head.hash)
                if ahead is None or ahead.head != head:
                    await self._load(transaction, batch)
                    ahead = await self._decide(batch, head)
                if ahead.changes is not None:
                    # What we forget must be in the store, so before that nothing is decided ahead.
                    following += self._take(self._batch_max if not self._is_full() else 0)
                    if following:
                        _add(self._state, await transaction.load(_wanted(self._state, following)))
                    next_decided = await self._write(transaction, ahead.changes, following)
            is_committed = True
        finally:
            if not is_committed:
                self._state = State()
        if next_decided is None:
            self._forget()
        return ahead, next_decided

    async def _write(self, transaction: Batch, changes: Changes, following: list[_Waiting]) -> _Decided | None:
        """Write a batch and decide the next one meanwhile."""
        writing = asyncio.create_task(transaction.append(changes))
        try:
            head = (self._state.seq, self._state.hash)
            following_decided = await self._decide(following, head) if following else None
            await writing
        finally:
            if not writing.done():
                writing.cancel()
                await asyncio.wait({writing})
        return following_decided

    async def _load(self, transaction: Batch, batch: list[_Waiting]) -> None:
        """Bring the state to the end of the chain, with everything that the commands name."""
        head, state = transaction.head, self._state
        if (state.seq, state.hash) != (head.seq, head.hash):
            # Another Ledger has written since.
            state = self._state = State(seq=head.seq, hash=head.hash)
        if state.prices.version != head.price_version:
            state.prices = await transaction.load_prices()
        _add(state, await transaction.load(_wanted(state, batch)))

    async def _decide(self, batch: list[_Waiting], head: tuple[int, bytes]) -> _Decided:
        """Decide a batch on the state, which is then after it."""
        state, now = self._state, self._clock.now()
        folded = Folded([], [])
        for start in range(0, len(batch), _TURN):
            if start:
                await asyncio.sleep(0)
            fold(state, [waiting.checked for waiting in batch[start : start + _TURN]], folded, now=now)
        return _Decided(batch, folded, _changes(state, folded.events) if folded.events else None, head)

    def _is_full(self) -> bool:
        # Seldom and much at a time: a dict whose first keys are gone is slow to walk.
        return any(len(known) > 2 * self._n_kept_max for known in _parts(self._state))

    def _forget(self) -> None:
        """Forget what is oldest, if it is much. Call it when the store has everything."""
        if self._is_full():
            for known in _parts(self._state):
                for key in list(islice(known, max(0, len(known) - self._n_kept_max))):
                    del known[key]

    def _take(self, n_max: int) -> list[_Waiting]:
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), n_max))]
        if not queue:
            self._has_work.clear()
        return batch


def _parts(state: State) -> tuple[dict[str, Any], ...]:
    return (state.operations, state.holds, state.accounts, state.grants)


def _wanted(state: State, batch: list[_Waiting]) -> Wanted:
    operations, holds, accounts, grants = state.operations, state.holds, state.accounts, state.grants
    # dict.fromkeys keeps the order and drops repeats.
    operation_ids: dict[str, None] = {}
    hold_ids: dict[str, None] = {}
    account_ids: dict[str, None] = dict.fromkeys(name for name in (SYSTEM, COMPUTE) if name not in accounts)
    grant_ids: dict[str, None] = {}
    for checked, _ in batch:
        command = checked.command
        if command.operation_id not in operations:
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


def _add(state: State, found: Found) -> None:
    for event in found.operations:
        state.operations[event.operation_id] = event
    state.holds.update(found.holds)
    for account in found.accounts:
        # An account of a hold that was found may be known already, and newer: its batch is not written yet.
        state.accounts.setdefault(account.account_id, account)
    for grant in found.grants:
        state.grants[grant.grant_id] = grant


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


def _answer_away(batch: list[_Waiting], detail: str) -> None:
    for waiting in batch:
        if not waiting.reply.done():
            waiting.reply.set_result(_away(waiting.checked.command.operation_id, detail))


def _away(operation_id: str, detail: str) -> BillingReply:
    return BillingReply(RETRY, operation_id, STORE_AWAY, f"{detail}: send the same command again")
