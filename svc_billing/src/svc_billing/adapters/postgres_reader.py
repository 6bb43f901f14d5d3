"""The ledger's reading side in PostgreSQL, on connections of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import asyncpg

from qraft_contracts.billing import Hold
from qraft_store.postgres_pools import as_transient
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres_rows import (
    account_of,
    grant_of,
    hold_of,
    open_hold_of,
    prices_of,
    stored_event_of,
)
from svc_billing.adapters.postgres_sql import (
    ACCOUNT_COLUMNS,
    GRANT_COLUMNS,
    HOLD_COLUMNS,
    OPEN_HOLD_COLUMNS,
    PRICES,
)
from svc_billing.domain.events import StoredEvent
from svc_billing.domain.prices import NO_PRICES, PriceList
from svc_billing.domain.state import Account, GrantRecord
from svc_billing.ports import OPEN_HOLDS_MAX, PAGE_MAX, Head, UsageTotal

_EVENTS: Final = (
    "SELECT e.seq, e.body, e.hash, (SELECT p.hash FROM billing.events p WHERE p.seq = e.seq - 1) AS prev_hash"
    " FROM billing.events e "
)
_ACCOUNTS: Final = f"SELECT {', '.join(ACCOUNT_COLUMNS)} FROM billing.accounts "  # noqa: S608 constants
_OPEN_HOLDS: Final = f"SELECT {', '.join(OPEN_HOLD_COLUMNS)} FROM billing.holds "  # noqa: S608
_GRANTS: Final = f"SELECT {', '.join(GRANT_COLUMNS)} FROM billing.grants "  # noqa: S608
_OVERDUE_HOLDS: Final = "SELECT hold_id FROM billing.holds WHERE expires_at <= $1 ORDER BY expires_at, hold_id LIMIT $2"
_OVERDUE_GRANTS: Final = """
SELECT grant_id FROM billing.grants WHERE closed_seq IS NULL AND expires_at <= $1 ORDER BY expires_at, grant_id LIMIT $2
"""
# Of usage events only: the partial index keeps this off the other events.
_USAGE: Final = """
SELECT seq, convert_from(body, 'UTF8')::jsonb -> 'usage' AS usage FROM billing.events WHERE kind = 'usage_booked'
"""
_USAGE_TOTALS: Final = f"""
SELECT usage ->> 'column', usage ->> 'service', count(*), sum((usage ->> 'cpu_ms')::bigint)::bigint,
    sum((usage ->> 'gpu_ms')::bigint)::bigint, sum((usage ->> 'n_bytes')::bigint)::bigint,
    coalesce(sum((usage ->> 'provider_cost_microusd')::bigint), 0)::bigint,
    count(*) FILTER (WHERE usage ->> 'provider_cost_microusd' IS NULL)
FROM ({_USAGE}) booked
WHERE (usage ->> 'ended_at')::timestamptz >= $1 AND (usage ->> 'ended_at')::timestamptz < $2
GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608
_USAGE_EVENTS: Final = f"""{_EVENTS} WHERE e.seq IN (
    SELECT seq FROM ({_USAGE}) booked
    WHERE (usage ->> 'ended_at')::timestamptz >= $1 AND (usage ->> 'ended_at')::timestamptz < $2 AND seq > $3
    ORDER BY seq LIMIT $4
) ORDER BY e.seq"""  # noqa: S608


class PostgresReader:
    """The LedgerReader port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def account(self, account_id: str) -> Account | None:
        """Return one account."""
        rows = await self._fetch(_ACCOUNTS + "WHERE account_id = $1", account_id)
        return account_of(rows[0]) if rows else None

    async def accounts(self, *, after: str = "", limit: int = PAGE_MAX) -> list[Account]:
        """Return customers' accounts by id."""
        where = "WHERE account_id > $1 AND account_id NOT IN ('system', 'compute') ORDER BY account_id LIMIT $2"
        return [account_of(row) for row in await self._fetch(_ACCOUNTS + where, after, limit)]

    async def grants(self, account_id: str) -> list[GrantRecord]:
        """Return the grants of an account, oldest first."""
        rows = await self._fetch(_GRANTS + "WHERE account_id = $1 ORDER BY made_seq LIMIT $2", account_id, PAGE_MAX)
        return [grant_of(row) for row in rows]

    async def hold(self, hold_id: str) -> Hold | None:
        """Return one hold."""
        rows = await self._fetch(f"SELECT {HOLD_COLUMNS} FROM billing.hold_states WHERE hold_id = $1", hold_id)  # noqa: S608
        return hold_of(rows[0])[1].told(hold_id) if rows else None

    async def holds_of(self, account_id: str, *, limit: int = PAGE_MAX) -> list[Hold]:
        """Return an account's open holds, oldest first."""
        return await self._holds("WHERE account_id = $1 ORDER BY made_seq LIMIT $2", account_id, limit)

    async def open_holds(
        self, *, purpose_prefix: str, made_before: datetime, limit: int = OPEN_HOLDS_MAX
    ) -> list[Hold]:
        """Return open holds by purpose and age, oldest first."""
        where = "WHERE starts_with(purpose, $1) AND made_at < $2 ORDER BY made_seq LIMIT $3"
        return await self._holds(where, purpose_prefix, made_before, limit)

    async def overdue_holds(self, now: datetime, *, limit: int = OPEN_HOLDS_MAX) -> list[str]:
        """Return holds whose lease has ended, longest ended first."""
        return [row[0] for row in await self._fetch(_OVERDUE_HOLDS, now, limit)]

    async def overdue_grants(self, now: datetime, *, limit: int = OPEN_HOLDS_MAX) -> list[str]:
        """Return grants that have expired and are not closed, longest ended first."""
        return [row[0] for row in await self._fetch(_OVERDUE_GRANTS, now, limit)]

    async def events_of(
        self, account_id: str, *, after_account_seq: int = 0, limit: int = PAGE_MAX
    ) -> list[StoredEvent]:
        """Return an account's events in order."""
        where = "WHERE e.account_id = $1 AND e.account_seq > $2 ORDER BY e.account_seq LIMIT $3"
        return [
            stored_event_of(row) for row in await self._fetch(_EVENTS + where, account_id, after_account_seq, limit)
        ]

    async def events_after(self, seq: int, *, limit: int = PAGE_MAX) -> list[StoredEvent]:
        """Return the ledger's events in order."""
        rows = await self._fetch(_EVENTS + "WHERE e.seq > $1 ORDER BY e.seq LIMIT $2", seq, limit)
        return [stored_event_of(row) for row in rows]

    async def head(self) -> Head:
        """Return the end of the chain."""
        rows = await self._fetch("SELECT seq, hash, price_version FROM billing.head")
        return Head(*rows[0])

    async def prices(self) -> PriceList:
        """Return the newest price list."""
        rows = await self._fetch(PRICES)
        return prices_of(rows[0]) if rows else NO_PRICES

    async def usage(self, *, start: datetime, end: datetime) -> list[UsageTotal]:
        """Return sums a column and service."""
        return [UsageTotal(*row) for row in await self._fetch(_USAGE_TOTALS, start, end)]

    async def usage_events(
        self, *, start: datetime, end: datetime, after_seq: int = 0, limit: int = PAGE_MAX
    ) -> list[StoredEvent]:
        """Return usage events by the end of their work, in order of seq."""
        return [stored_event_of(row) for row in await self._fetch(_USAGE_EVENTS, start, end, after_seq, limit)]

    async def _holds(self, where: str, *values: Any) -> list[Hold]:
        found = [open_hold_of(row) for row in await self._fetch(_OPEN_HOLDS + where, *values)]
        return [hold.told(hold_id) for hold_id, hold in found]

    async def _fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        with as_transient():
            return await self._database.read.fetch(statement, *values)
