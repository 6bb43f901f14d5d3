"""What a process remembers of the ledger between batches, and how a batch is decided on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from qraft_contracts.billing import BillingReply, ReserveCredits
from svc_billing.domain.commands import ExpireGrant, GrantCredits, VoidGrant
from svc_billing.domain.decide import Checked
from svc_billing.domain.events import StoredEvent
from svc_billing.domain.fold import fold
from svc_billing.domain.prices import NO_PRICES, PriceList
from svc_billing.domain.state import RESERVED_ACCOUNTS, State, new_account
from svc_billing.ports import Changes, Found, Head, Wanted

# Here and not where it is used: a union made anew for every command costs as much as a look-up.
_OF_A_GRANT: Final = (GrantCredits, VoidGrant, ExpireGrant)


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    A batch as it was decided at `base`. changes: None if no event came of it.

    is_certain: nothing was taken for new without looking, so that answers without an event need no second look.
    """

    base: Head
    replies: list[BillingReply]
    changes: Changes | None
    is_certain: bool
    generation: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a batch names that is not known: what is to be looked up, and what is taken for new without looking."""

    wanted: Wanted
    absent_operation_ids: list[str]
    absent_hold_ids: list[str]


class WorkingSet:
    """
    The ledger behind the last batch that was decided here, in part; whoever writes the batch may still fail to.

    It is true as long as the chain ends where it says, which is checked when a batch is written. generation: changes
    when all is forgotten; a proposal of another generation stands on nothing.
    """

    def __init__(self, *, n_kept_max: int) -> None:
        self._n_kept_max = n_kept_max
        self.generation = 0
        self._prices = NO_PRICES  # of the newest version that is known to be stored
        self.state = State()

    @property
    def head(self) -> Head:
        """Return where the chain ends when everything that was decided is written."""
        return Head(self.state.seq, self.state.hash, self.state.prices.version)

    def forget(self) -> None:
        """Forget everything but the price list, which is looked at again."""
        self.generation += 1
        self.state = State(prices=self._prices)

    @property
    def prices(self) -> PriceList:
        """Return the newest price list that is known to be stored."""
        return self._prices

    def begin_at(self, head: Head, prices: PriceList) -> None:
        """Begin anew at the end of the chain."""
        self._prices = prices
        self.state = State(seq=head.seq, hash=head.hash, prices=prices)

    def outlook(self, commands: Sequence[Checked], *, is_trusting: bool) -> Outlook:
        """
        Return what the commands name that is not known.

        is_trusting: operations and the holds of reserves are taken for new; else they are looked up like the rest.
        """
        state = self.state
        operations, holds, accounts, grants = state.operations, state.holds, state.accounts, state.grants
        # Dictionaries for sets that keep their order.
        operation_ids: dict[str, None] = {}
        hold_ids: dict[str, None] = {}
        new_hold_ids: dict[str, None] = {} if is_trusting else hold_ids
        account_ids: dict[str, None] = dict.fromkeys([name for name in RESERVED_ACCOUNTS if name not in accounts])
        grant_ids: dict[str, None] = {}
        for checked in commands:
            command = checked.command
            if command.operation_id not in operations:
                operation_ids[command.operation_id] = None
            if checked.refusal is not None:
                continue
            hold_id = getattr(command, "hold_id", None)
            if hold_id is not None:
                hold = holds.get(hold_id)
                if hold is None:
                    (new_hold_ids if type(command) is ReserveCredits else hold_ids)[hold_id] = None
                elif hold.account_id not in accounts:
                    account_ids[hold.account_id] = None
            account_id = getattr(command, "account_id", None)
            if account_id is not None and account_id not in accounts:
                account_ids[account_id] = None
            if isinstance(command, _OF_A_GRANT):
                grant = grants.get(command.grant_id)
                if grant is None:
                    grant_ids[command.grant_id] = None
                elif grant.account_id not in accounts:
                    account_ids[grant.account_id] = None
        if is_trusting:
            return Outlook(
                Wanted((), list(hold_ids), list(account_ids), list(grant_ids)), list(operation_ids), list(new_hold_ids)
            )
        return Outlook(Wanted(list(operation_ids), list(hold_ids), list(account_ids), list(grant_ids)), [], [])

    def add(self, found: Found) -> None:
        """Take in what was looked up at the end of the chain as it is known here."""
        state = self.state
        state.operations.update([(event.operation_id, event) for event in found.operations])
        state.holds.update(found.holds)
        state.accounts.update([(account.account_id, account) for account in found.accounts])
        state.grants.update([(grant.grant_id, grant) for grant in found.grants])
        for name in RESERVED_ACCOUNTS:
            # Looked for with every batch: that there is none yet is worth knowing.
            state.accounts.setdefault(name, new_account(name, is_open=False))

    def decide(self, commands: Sequence[Checked], outlook: Outlook, *, now: datetime) -> Proposal:
        """Decide commands in order, and move behind them. What their outlook wants must have been added."""
        state, base = self.state, self.head
        folded = fold(state, commands, now=now)
        changes = _changes(base, self.head, state, folded.events, outlook) if folded.events else None
        is_certain = not outlook.absent_operation_ids and not outlook.absent_hold_ids
        return Proposal(base, folded.replies, changes, is_certain, self.generation)

    def landed(self, proposal: Proposal) -> None:
        """
        Forget what later batches seldom name of a batch that is written: the store has it all.

        What a batch behind it changed may go too: whoever misses it looks it up when that batch is written as well.
        """
        state, changes = self.state, proposal.changes
        if changes is None:
            state.operations.clear()
            return
        if changes.prices:
            self._prices = changes.prices[-1]
        for stored in changes.events:
            state.operations.pop(stored.event.operation_id, None)
        for hold_id, hold in changes.holds:
            if hold.resolved_seq is not None:
                state.holds.pop(hold_id, None)
        parts: tuple[dict[str, Any], ...] = (state.holds, state.accounts, state.grants, state.operations)
        for known in parts:
            if len(known) > self._n_kept_max:
                # What came first goes first.
                for key in list(islice(known, len(known) - self._n_kept_max // 2)):
                    del known[key]


def _changes(base: Head, head: Head, state: State, new: list[StoredEvent], outlook: Outlook) -> Changes:
    """Return the new events and the things they touched, as they are after the last."""
    touched_holds: dict[str, None] = {}
    touched_accounts: dict[str, None] = {}
    touched_grants: dict[str, None] = {}
    prices: list[PriceList] = []
    for stored in new:
        event = stored.event
        touched_accounts[event.account_id] = None
        if event.hold is not None and event.hold_id is not None:
            touched_holds[event.hold_id] = None
        if event.grant is not None:
            touched_grants[event.grant.grant_id] = None
        if event.rules:
            prices.append(PriceList.of(event.price_version, event.rules))
    return Changes(
        base=base,
        head=head,
        absent_operation_ids=outlook.absent_operation_ids,
        absent_hold_ids=outlook.absent_hold_ids,
        events=new,
        holds=[(hold_id, state.holds[hold_id]) for hold_id in touched_holds],
        accounts=[state.accounts[account_id] for account_id in touched_accounts],
        grants=[state.grants[grant_id] for grant_id in touched_grants],
        prices=prices,
    )
