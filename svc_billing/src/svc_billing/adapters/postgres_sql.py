"""
The statements of the ledger's store.

Sets of ids and numbers travel as one text, divided by line ends: asyncpg looks at every element of an array three times
(measured: 7 µs a command), a text is joined and split in C. Ids are printable and bodies are JSON, so no line end is in
one.
"""

from __future__ import annotations

from typing import Final

# The lock on this row is the ledger's one lock: replicas alternate, a batch at a time.
ENTER: Final = "SELECT seq FROM billing.head FOR UPDATE"

OPEN_HOLD_COLUMNS: Final = (
    "hold_id", "account_id", "purpose", "state", "amount", "made_at", "expires_at", "is_refund_failing", "parts",
    "made_seq", "last_seq",
)  # fmt: skip
# Of billing.hold_states, open or not.
HOLD_COLUMNS: Final = (
    "hold_id, account_id, purpose, state, amount, settled, refunded, made_at, expires_at, is_refund_failing, is_late,"
    " parts, made_seq, last_seq, resolved_seq"
)
ACCOUNT_COLUMNS: Final = (
    "account_id", "is_open", "seq", "available", "held", "spent", "shortfall", "granted", "lapsed", "grants",
)  # fmt: skip
GRANT_COLUMNS: Final = (
    "grant_id", "account_id", "category", "priority", "amount", "expires_at", "made_seq", "closed_seq",
)  # fmt: skip
PRICES: Final = "SELECT version, rules FROM billing.price_versions ORDER BY version DESC LIMIT 1"

# The end of the chain and what is named, at one instant. $1: operations, $2: holds, $3: accounts, $4: grants.
# The accounts of what was found come with it; an array made first keeps their look-up on the index. Of the events of a
# resolved hold the last one tells its state.
LOAD: Final = """
WITH open_holds AS MATERIALIZED (
    SELECT * FROM billing.holds WHERE hold_id = ANY(string_to_array($2, E'\\n'))
), resolved AS MATERIALIZED (
    SELECT seq, hold_id, account_id, body FROM billing.events
    WHERE hold_id = ANY(string_to_array($2, E'\\n')) AND kind IN ('hold_settled', 'hold_voided', 'hold_expired')
    UNION ALL
    SELECT seq, hold_id, account_id, body FROM billing.events
    WHERE hold_id = ANY(string_to_array($2, E'\\n')) AND kind IN ('settlement_refunded', 'late_success_recorded')
), named_grants AS MATERIALIZED (
    SELECT * FROM billing.grants WHERE grant_id = ANY(string_to_array($4, E'\\n'))
)
SELECT 'head' AS what, NULL::text AS id, NULL::text AS account_id, NULL::text AS word, NULL::text AS purpose,
    NULL::text AS more, hash AS body, seq AS n1, price_version::bigint AS n2, NULL::bigint AS n3, NULL::bigint AS n4,
    NULL::bigint AS n5, NULL::bigint AS n6, NULL::bigint AS n7, NULL::timestamptz AS at, NULL::timestamptz AS ends_at,
    NULL::boolean AS flag
FROM billing.head
UNION ALL
SELECT 'operation', NULL, NULL, NULL, NULL, NULL, body, seq, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM billing.events WHERE operation_id = ANY(string_to_array($1, E'\\n'))
UNION ALL
SELECT 'hold', hold_id, account_id, state, purpose, parts, NULL, amount, made_seq, last_seq, NULL, NULL, NULL, NULL,
    made_at, expires_at, is_refund_failing
FROM open_holds
UNION ALL
SELECT 'resolved', hold_id, NULL, NULL, NULL, NULL, body, seq, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM resolved
UNION ALL
SELECT 'account', account_id, NULL, NULL, NULL, grants, NULL, seq, available, held, spent, shortfall, granted, lapsed,
    NULL, NULL, is_open
FROM billing.accounts WHERE account_id = ANY(string_to_array($3, E'\\n') || ARRAY(
    SELECT account_id FROM open_holds UNION SELECT account_id FROM resolved UNION SELECT account_id FROM named_grants))
UNION ALL
SELECT 'grant', grant_id, account_id, category, NULL, NULL, NULL, priority, amount, made_seq, closed_seq, NULL, NULL,
    NULL, NULL, expires_at, NULL
FROM named_grants
"""

# Everything a batch writes, in one statement, which is its own transaction: one round trip, and the lock is held no
# longer than the server works. Nothing is written unless the chain still ends where the batch was decided ($4, $5) and
# none of the operations ($6) and holds ($7) exists that it took for new: the statement sees the chain as it is behind
# the lock, or the first condition fails.
# $8: accounts, $9 to $15 their numbers, $16 their grants, $17 which are open. $18: holds that are open no more.
# $19 to $26: the events; $27 to $37: the holds that are open now.
_NUMBERS: Final = ", ".join(f"string_to_array(${n}, ',')::bigint[]" for n in range(9, 16))
APPEND: Final = f"""
WITH moved AS (
    UPDATE billing.head SET seq = $1, hash = $2, price_version = $3
    WHERE seq = $4 AND hash = $5
        AND NOT EXISTS (SELECT FROM billing.events WHERE operation_id = ANY(string_to_array($6, E'\\n')))
        AND NOT EXISTS (SELECT FROM billing.holds WHERE hold_id = ANY(string_to_array($7, E'\\n')))
        AND NOT EXISTS (
            SELECT FROM billing.events
            WHERE hold_id = ANY(string_to_array($7, E'\\n')) AND kind IN ('hold_settled', 'hold_voided', 'hold_expired')
        )
    RETURNING 1
), balanced AS (
    INSERT INTO billing.accounts AS a
        (account_id, seq, available, held, spent, shortfall, granted, lapsed, grants, is_open)
    SELECT it.* FROM moved, unnest(
        string_to_array($8, E'\\n'), {_NUMBERS}, string_to_array($16, E'\\n'), string_to_array($17, ',')::boolean[]
    ) AS it
    ON CONFLICT (account_id) DO UPDATE SET
        is_open = EXCLUDED.is_open, seq = EXCLUDED.seq, available = EXCLUDED.available, held = EXCLUDED.held,
        spent = EXCLUDED.spent, shortfall = EXCLUDED.shortfall, granted = EXCLUDED.granted,
        lapsed = EXCLUDED.lapsed, grants = EXCLUDED.grants
), closed AS (
    DELETE FROM billing.holds USING moved WHERE hold_id = ANY(string_to_array($18, E'\\n'))
), told AS (
    INSERT INTO billing.events (seq, operation_id, kind, account_id, account_seq, hold_id, at, body, hash)
    SELECT $4 + n, operation_id, kind, account_id, account_seq, nullif(hold_id, ''), $24, convert_to(body, 'UTF8'),
        substring($26::bytea FROM (32 * (n - 1) + 1)::integer FOR 32)
    FROM moved, unnest(
        string_to_array($19, E'\\n'), string_to_array($20, E'\\n'), string_to_array($21, E'\\n'),
        string_to_array($22, ',')::bigint[], string_to_array($23, E'\\n'), string_to_array($25, E'\\n')
    ) WITH ORDINALITY AS it (operation_id, kind, account_id, account_seq, hold_id, body, n)
), held AS (
    INSERT INTO billing.holds AS h (hold_id, account_id, purpose, state, amount, made_at, expires_at,
        is_refund_failing, parts, made_seq, last_seq)
    SELECT hold_id, account_id, purpose, state, amount, timestamptz 'epoch' + made_us * interval '1 microsecond',
        timestamptz 'epoch' + expires_us * interval '1 microsecond', is_refund_failing, parts, made_seq, last_seq
    FROM moved, unnest(
        string_to_array($27, E'\\n'), string_to_array($28, E'\\n'), string_to_array($29, E'\\n'),
        string_to_array($30, E'\\n'), string_to_array($31, ',')::bigint[], string_to_array($32, ',')::bigint[],
        string_to_array($33, ',', '')::bigint[], string_to_array($34, ',')::boolean[], string_to_array($35, E'\\n'),
        string_to_array($36, ',')::bigint[], string_to_array($37, ',')::bigint[]
    ) AS it (hold_id, account_id, purpose, state, amount, made_us, expires_us, is_refund_failing, parts, made_seq,
        last_seq)
    ON CONFLICT (hold_id) DO UPDATE SET
        state = EXCLUDED.state, expires_at = EXCLUDED.expires_at, is_refund_failing = EXCLUDED.is_refund_failing,
        last_seq = EXCLUDED.last_seq
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
