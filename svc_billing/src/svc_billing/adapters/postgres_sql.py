"""
The statements of the ledger's store.

Sets of ids and numbers travel as one text, divided by line ends: asyncpg looks at every element of an array three times
(measured: 7 µs a command), a text is joined and split in C. Ids are printable, so no line end is in one.
"""

from __future__ import annotations

from typing import Final

_IDS = "string_to_array($1, E'\\n')"

# The lock on this row is the ledger's one lock: replicas alternate, a batch at a time.
ENTER: Final = "SELECT seq, hash, price_version FROM billing.head FOR UPDATE"

OPERATIONS: Final = f"SELECT body FROM billing.events WHERE operation_id = ANY({_IDS})"  # noqa: S608

OPEN_HOLD_COLUMNS: Final = (
    "hold_id", "account_id", "purpose", "state", "amount", "made_at", "expires_at", "is_refund_failing", "parts",
    "made_seq", "last_seq",
)  # fmt: skip
HOLDS: Final = f"SELECT {', '.join(OPEN_HOLD_COLUMNS)} FROM billing.holds WHERE hold_id = ANY({_IDS})"  # noqa: S608
# Of billing.hold_states, open or not.
HOLD_COLUMNS: Final = (
    "hold_id, account_id, purpose, state, amount, settled, refunded, made_at, expires_at, is_refund_failing, is_late,"
    " parts, made_seq, last_seq, resolved_seq"
)
# In order of seq: of the events of one hold the last one tells its state.
RESOLVED_HOLDS: Final = f"""
SELECT seq, hold_id, body FROM billing.events
WHERE hold_id = ANY({_IDS}) AND kind IN ('hold_settled', 'hold_voided', 'hold_expired')
UNION ALL
SELECT seq, hold_id, body FROM billing.events
WHERE hold_id = ANY({_IDS}) AND kind IN ('settlement_refunded', 'late_success_recorded')
ORDER BY seq
"""  # noqa: S608

ACCOUNT_COLUMNS: Final = (
    "account_id", "is_open", "seq", "available", "held", "spent", "shortfall", "granted", "lapsed", "grants",
)  # fmt: skip
ACCOUNTS: Final = f"SELECT {', '.join(ACCOUNT_COLUMNS)} FROM billing.accounts WHERE account_id = ANY({_IDS})"  # noqa: S608

GRANT_COLUMNS: Final = (
    "grant_id", "account_id", "category", "priority", "amount", "expires_at", "made_seq", "closed_seq",
)  # fmt: skip
GRANTS: Final = f"SELECT {', '.join(GRANT_COLUMNS)} FROM billing.grants WHERE grant_id = ANY({_IDS})"  # noqa: S608

PRICES: Final = "SELECT version, rules FROM billing.price_versions ORDER BY version DESC LIMIT 1"

EVENT_COLUMNS: Final = (
    "seq", "operation_id", "kind", "account_id", "account_seq", "hold_id", "at", "body", "hash",
)  # fmt: skip

_NUMBERS = ", ".join(f"unnest(string_to_array(${n}, ',')::bigint[])" for n in range(6, 13))
# $4: the head that the batch was decided on; nothing is written on another. $5: accounts, $6 to $12 their numbers, $13
# their grants, $14 which of them are open, $15: holds that are open no more, or whose row is written again.
MOVE: Final = f"""
WITH moved AS (
    UPDATE billing.head SET seq = $1, hash = $2, price_version = $3 WHERE seq = $4 RETURNING 1
), balanced AS (
    INSERT INTO billing.accounts AS a
        (account_id, seq, available, held, spent, shortfall, granted, lapsed, grants, is_open)
    SELECT unnest(string_to_array($5, E'\\n')), {_NUMBERS}, unnest(string_to_array($13, E'\\n')),
        unnest(string_to_array($14, ',')::boolean[])
    ON CONFLICT (account_id) DO UPDATE SET
        is_open = EXCLUDED.is_open, seq = EXCLUDED.seq, available = EXCLUDED.available, held = EXCLUDED.held,
        spent = EXCLUDED.spent, shortfall = EXCLUDED.shortfall, granted = EXCLUDED.granted,
        lapsed = EXCLUDED.lapsed, grants = EXCLUDED.grants
), closed AS (
    DELETE FROM billing.holds WHERE hold_id = ANY(string_to_array($15, E'\\n'))
)
SELECT count(*) FROM moved
"""  # noqa: S608

WRITE_GRANTS: Final = """
INSERT INTO billing.grants (grant_id, account_id, category, priority, amount, expires_at, made_seq, closed_seq)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::timestamptz[], $7::bigint[], $8::bigint[])
ON CONFLICT (grant_id) DO UPDATE SET closed_seq = EXCLUDED.closed_seq
"""

WRITE_PRICES: Final = "INSERT INTO billing.price_versions (version, seq, rules) VALUES ($1, $2, $3)"
