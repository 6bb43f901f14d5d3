"""`qraft ledger verify`: replay everything and compare it with what is stored, in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from svc_billing.domain.events import CREDITS_RESERVED
from svc_billing.domain.prices import PriceList
from svc_billing.domain.replay import EventRow, Replay, Violation
from svc_billing.domain.state import Account, GrantRecord, HoldState
from svc_billing.ports import Snapshot, SnapshotStore

# Rows a page: some megabytes.
PAGE: Final = 2_000
# More would say the same again.
N_VIOLATIONS_MAX: Final = 100
_ROW = TypeVar("_ROW")


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found. is_complete: it went to the end, and was not given up for too many violations."""

    n_events: int
    n_accounts: int
    n_open_holds: int
    head_hash: str
    violations: tuple[Violation, ...]
    is_complete: bool

    @property
    def holds(self) -> bool:
        """Return whether every invariant holds."""
        return self.is_complete and not self.violations


class Verify:
    """Checks one consistent snapshot; the ledger goes on meanwhile."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store

    async def __call__(self, *, progress: Callable[[int], None] = lambda _: None) -> Report:
        """
        Return what holds and what does not.

        Args:
            progress: called with the number of events behind us, a page at a time.

        Raises:
            Transient: if the store is away.
        """
        found: list[Violation] = []
        replay = Replay()
        is_complete = True
        async with self._store.snapshot() as snapshot:
            async for violation in _violations(snapshot, replay, progress):
                found.append(violation)
                if len(found) >= N_VIOLATIONS_MAX:
                    is_complete = False
                    break
        return Report(
            n_events=replay.n_events,
            n_accounts=len(replay.state.accounts),
            n_open_holds=len(replay.state.holds),
            head_hash=replay.state.hash.hex(),
            violations=tuple(found),
            is_complete=is_complete,
        )


async def _violations(snapshot: Snapshot, replay: Replay, progress: Callable[[int], None]) -> AsyncIterator[Violation]:
    price_versions: dict[int, PriceList] = {}
    async for page in _pages(lambda row: snapshot.events(after=row.seq if row else 0, limit=PAGE)):
        for violation in await _reused_holds(snapshot, page):
            yield violation
        for row in page:
            for violation in replay.feed(row):
                yield violation
            price_versions.setdefault(replay.state.prices.version, replay.state.prices)
        progress(replay.n_events)
    for violation in replay.end():
        yield violation
    for operation_id in await snapshot.repeated_operations(limit=N_VIOLATIONS_MAX):
        yield Violation("operation_repeated", f"operation {operation_id}", "expected one event an operation")
    head = await snapshot.head()
    told = (replay.state.seq, replay.state.hash, replay.state.prices.version)
    if (head.seq, head.hash, head.price_version) != told:
        yield Violation("head_differs", f"event {head.seq}", f"the chain ends at event {replay.state.seq}")
    async for violation in _projections(snapshot, replay):
        yield violation
    stored = {prices.version: prices for prices in await snapshot.price_versions()}
    price_versions.pop(0, None)
    for version in sorted(stored.keys() | price_versions.keys()):
        if stored.get(version) != price_versions.get(version):
            yield Violation("prices_differ", f"price list {version}", "the stored rules are not those of its event")


async def _reused_holds(snapshot: Snapshot, page: Sequence[EventRow]) -> list[Violation]:
    """Return the holds that are reserved again after they were resolved."""
    reserved = {row.hold_id: row.seq for row in page if row.kind == CREDITS_RESERVED and row.hold_id is not None}
    resolved = await snapshot.resolutions(list(reserved))
    return [
        Violation("hold_reserved_twice", f"hold {hold_id}", f"event {seq} resolved it, {reserved[hold_id]} reserves it")
        for hold_id, seq in resolved
        if seq < reserved[hold_id]
    ]


async def _projections(snapshot: Snapshot, replay: Replay) -> AsyncIterator[Violation]:
    state = replay.state
    accounts, holds, grants = dict(state.accounts), dict(state.holds), dict(state.grants)
    async for account_page in _pages(lambda row: snapshot.accounts(after=row.account_id if row else "", limit=PAGE)):
        for account in account_page:
            for violation in _compare("account", account.account_id, account, accounts.pop(account.account_id, None)):
                yield violation
    async for hold_page in _pages(lambda row: snapshot.holds(after=row[0] if row else "", limit=PAGE)):
        for hold_id, hold in hold_page:
            for violation in _compare("hold", hold_id, hold, holds.pop(hold_id, None)):
                yield violation
    async for grant_page in _pages(lambda row: snapshot.grants(after=row.grant_id if row else "", limit=PAGE)):
        for grant in grant_page:
            for violation in _compare("grant", grant.grant_id, grant, grants.pop(grant.grant_id, None)):
                yield violation
    for what, left in (("account", accounts), ("hold", holds), ("grant", grants)):
        for name in left:
            yield Violation(f"{what}_missing", f"{what} {name}", "its events say that it is there, it is not stored")


def _compare(
    what: str,
    name: str,
    stored: Account | HoldState | GrantRecord,
    replayed: Account | HoldState | GrantRecord | None,
) -> list[Violation]:
    if stored == replayed:
        return []
    kind = f"{what}_differs" if replayed is not None else f"{what}_unfounded"
    detail = f"stored {_text(stored)}, its events say {_text(replayed) if replayed is not None else 'nothing'}"
    return [Violation(kind, f"{what} {name}", detail)]


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()[:300]


async def _pages(read: Callable[[_ROW | None], Awaitable[Sequence[_ROW]]]) -> AsyncIterator[Sequence[_ROW]]:
    """Yield pages, each read from behind the last row of the one before."""
    last: _ROW | None = None
    while page := await read(last):
        yield page
        last = page[-1]
