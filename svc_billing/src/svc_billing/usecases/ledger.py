"""The one way to change the ledger: commands are gathered, decided in order and committed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from qraft_contracts.billing import INVALID, OVERLOADED, REFUSED, RETRY, STORE_AWAY, BillingReply
from qraft_contracts.outcomes import Refused, Transient
from qraft_runtime.clock import Clock
from svc_billing.domain.commands import Command, fingerprint
from svc_billing.domain.decide import Checked
from svc_billing.domain.events import StoredEvent
from svc_billing.domain.validate import ID_LENGTH_MAX, check
from svc_billing.ports import LedgerStore
from svc_billing.usecases.working_set import Proposal, WorkingSet

# One transaction's commands: more brings little (measured: the cost a command is nearly flat from 256 on) and makes the
# first one wait.
BATCH_MAX: Final = 512
# About half a second of work; who comes later is told at once instead of timing out.
QUEUE_MAX: Final = 8_192
# Accounts, open holds and grants that are remembered between batches, each; what is forgotten is read again. Few of
# them stay in the processor's cache: remembering every event of the last seconds doubled the cost of a command.
N_KEPT_MAX: Final = 4_096
# Commands from which a batch is decided while the one before is being written; fewer wait for it and go together.
N_AHEAD_MIN: Final = 32
# After a command turned out not to be new, so many batches look before they decide: whoever sends again sends more.
N_CAREFUL: Final = 64
# Turns of the loop after which a flight has left the process: one to make its statement, one to write it to the socket.
# The next batch is decided behind that, while the server works; else both would wait for one another.
N_TURNS_TO_LEAVE: Final = 2
# A store that is away refuses at once; the loop does not spin on it.
AWAY_PAUSE_S: Final = 0.1

T = TypeVar("T")


class _Waiting(NamedTuple):
    checked: Checked
    reply: asyncio.Future[Any]
    told_as: Callable[[BillingReply], Any]


class Ledger:
    """
    Group commit. `submit` waits for `run`, which takes what has come and commits it in one transaction.

    Several Ledgers may run on one store, in one process or several. As long as one is alone it decides a batch on what
    it remembers, without a lock, and the store writes it only if the chain still ends there; while it is written the
    next one is decided. Once another has written, batches are decided under the store's lock, which lets one in at a
    time, until it is alone again.

    committed: called with the events of every batch that is durable, in order.
    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        clock: Clock,
        batch_max: int = BATCH_MAX,
        queue_max: int = QUEUE_MAX,
        n_kept_max: int = N_KEPT_MAX,
        committed: Callable[[Sequence[StoredEvent]], None] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._committed = committed
        self._queue: deque[_Waiting] = deque()
        self._changed = asyncio.Event()  # something was queued, or the flight has ended
        self._known = WorkingSet(n_kept_max=n_kept_max)
        self._flight: asyncio.Task[None] | None = None
        self._n_flying = 0
        self._durable: deque[tuple[list[_Waiting], list[BillingReply]]] = deque()  # two batches at most
        self._is_alone = False
        self._n_careful = 0
        self._is_stopped = False

    @property
    def n_waiting(self) -> int:
        """Return how many commands wait for their answer."""
        return len(self._queue) + self._n_flying

    async def submit(self, command: Command) -> BillingReply:
        """
        Execute a command, once however often it comes, and return its answer when it is durable.

        A `retry` answer left nothing behind, or it is not known whether it did: send the same command again.
        """
        return await self.enqueue(command, told_as=_itself)

    def enqueue(self, command: Command, *, told_as: Callable[[BillingReply], T]) -> asyncio.Future[T]:
        """
        Do as `submit`, and return the answer to come. Call it in the event loop that `run` runs in.

        told_as: what is made of the answer when it comes; it must not raise.
        """
        reply: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            self._queue.append(_Waiting(self._admit(command), reply, told_as))
            self._changed.set()
        except Refused as refused:
            reply.set_result(told_as(BillingReply(REFUSED, "", refused.reason, refused.detail)))
        except Transient as later:
            reply.set_result(told_as(BillingReply(RETRY, command.operation_id, later.reason, later.detail)))
        return reply

    async def run(self) -> None:
        """Commit batches until cancelled. Whoever still waits then is told to retry."""
        flying: list[_Waiting] = []
        batch: list[_Waiting] = []
        try:
            while True:
                await self._gather()
                batch = self._take()
                proposal = await self._propose(batch)
                await self._land()
                flying, batch = batch, []
                self._n_flying = len(flying)
                if len(flying) < N_AHEAD_MIN:
                    # No task for a batch that nothing will be decided ahead of: most have one command.
                    self._tell()
                    await self._fly(flying, proposal)
                    self._n_flying = 0
                else:
                    self._flight = asyncio.create_task(self._fly(flying, proposal))
                    self._flight.add_done_callback(lambda _: self._changed.set())
                    for _ in range(N_TURNS_TO_LEAVE):
                        await asyncio.sleep(0)
                self._tell()
        finally:
            self._is_stopped = True
            if self._flight is not None:
                self._flight.cancel()
                await asyncio.wait({self._flight})
            self._tell()
            left = flying + batch + list(self._queue)
            self._queue.clear()
            _answer(left, _away(left, "the ledger has stopped"))

    def _admit(self, command: Command) -> Checked:
        """Return a command to be queued. Raises Refused if it has no storable id, Transient if there is no room."""
        operation_id = command.operation_id
        # As is_id, without the call: this runs for every command.
        if not (0 < len(operation_id) <= ID_LENGTH_MAX and operation_id.isascii() and operation_id.isprintable()):
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

    async def _gather(self) -> None:
        """Wait until a batch is worth deciding: at once if nothing is being written, else when enough has come."""
        while True:
            if self._flight is not None and self._flight.done():
                await self._land()
                self._tell()
            if len(self._queue) >= self._n_enough():
                return
            self._changed.clear()
            await self._changed.wait()

    def _n_enough(self) -> int:
        if self._flight is None:
            return 1
        if not self._can_be_ahead:
            return self._batch_max
        return min(max(N_AHEAD_MIN, self._n_flying // 2), self._batch_max)

    @property
    def _can_be_ahead(self) -> bool:
        return self._is_alone and not self._n_careful

    async def _land(self) -> None:
        """Wait until the batch before is written, or known not to be. Raises what only a bug raises."""
        flight = self._flight
        if flight is not None:
            await asyncio.wait({flight})
            self._flight, self._n_flying = None, 0
            flight.result()

    async def _propose(self, batch: list[_Waiting]) -> Proposal | None:
        """Decide a batch on what is known and can be looked up, or return None: it is decided under the lock then."""
        if not self._is_alone:
            return None
        known, commands, is_trusting = self._known, _commands(batch), self._n_careful == 0
        outlook = known.outlook(commands, is_trusting=is_trusting)
        if outlook.wanted.is_something:
            # Nothing is read beside a flight: what is read would be older than what is known.
            await self._land()
            self._tell()
            outlook = known.outlook(commands, is_trusting=is_trusting)
            try:
                found = await self._store.load(outlook.wanted)
            except Transient:
                return None  # the lock will not be had either, which tells who waits
            if found.head != known.head:
                return None
            known.add(found)
        if not is_trusting:
            self._n_careful = max(0, self._n_careful - 1)
        proposal = known.decide(commands, outlook, now=self._clock.now())
        if proposal.changes is not None:
            self._store.prepare(proposal.changes)
        return proposal

    async def _fly(self, batch: list[_Waiting], proposal: Proposal | None) -> None:
        """Write a batch. What is durable is told by `_tell`, when the next batch is on its way."""
        try:
            replies = await self._commit(batch, proposal)
        except Transient as away:
            # Perhaps it was written, perhaps not.
            self._known.forget()
            _answer(batch, _away(batch, away.detail))
            await asyncio.sleep(AWAY_PAUSE_S)
        else:
            self._durable.append((batch, replies))

    def _tell(self) -> None:
        """Answer what is durable. Whoever is answered comes again at once, so the server gets its work before."""
        while self._durable:
            _answer(*self._durable.popleft())

    async def _commit(self, batch: list[_Waiting], proposal: Proposal | None) -> list[BillingReply]:
        """Write a batch as it was proposed, or decide and write it under the lock. Raises Transient."""
        known, before = self._known, self._known.head
        if proposal is not None and proposal.generation == known.generation:
            if proposal.changes is None:
                is_done = proposal.is_certain
            else:
                is_done = await self._store.append(proposal.changes)
                self._n_careful = self._n_careful if is_done else N_CAREFUL
            if is_done:
                return self._landed(proposal)
            before = proposal.base
        async with self._store.begin() as transaction:
            known.forget()
            commands = _commands(batch)
            outlook = known.outlook(commands, is_trusting=False)
            found = await transaction.load(outlook.wanted)
            prices = known.prices
            if prices.version != found.head.price_version:
                prices = await transaction.load_prices()
            known.begin_at(found.head, prices)
            known.add(found)
            decided = known.decide(commands, outlook, now=self._clock.now())
            if decided.changes is not None:
                is_written = await transaction.append(decided.changes)
                assert is_written, "the chain moved under its lock"
        self._is_alone = found.head == before
        if not self._is_alone:
            self._n_careful = 0
        return self._landed(decided)

    def _landed(self, proposal: Proposal) -> list[BillingReply]:
        self._known.landed(proposal)
        if proposal.changes is not None and self._committed is not None:
            self._committed(proposal.changes.events)
        return proposal.replies

    def _take(self) -> list[_Waiting]:
        """Take the next batch; half of it if that can be written while the other half is decided."""
        queue = self._queue
        n_taken = min(len(queue), self._batch_max)
        if self._flight is None and self._can_be_ahead and n_taken >= 2 * N_AHEAD_MIN:
            n_taken //= 2
        return [queue.popleft() for _ in range(n_taken)]


def _commands(batch: list[_Waiting]) -> list[Checked]:
    return [waiting.checked for waiting in batch]


def _answer(batch: list[_Waiting], replies: list[BillingReply]) -> None:
    for waiting, reply in zip(batch, replies, strict=True):
        # One whose caller has gone away is done already.
        if not waiting.reply.done():
            waiting.reply.set_result(waiting.told_as(reply))


def _away(batch: list[_Waiting], detail: str) -> list[BillingReply]:
    message = f"{detail}: send the same command again"
    return [BillingReply(RETRY, waiting.checked.command.operation_id, STORE_AWAY, message) for waiting in batch]


def _itself(reply: BillingReply) -> BillingReply:
    return reply
