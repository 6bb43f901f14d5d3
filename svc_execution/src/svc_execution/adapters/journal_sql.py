"""The statements of the journal: one a transaction for all rows of an event, arrays in, so 50 rows cost one trip."""

from __future__ import annotations

from typing import Final

COMMIT_BAR: Final = """
WITH fill AS (
    INSERT INTO execution.fills (fill_id, order_id, symbol, side, quantity, theoretical_price, fill_price, drift,
        half_spread, slippage, impact, fee, participation, position_after, origin, market, filled_at)
    SELECT u.*, $1::text, $3::timestamptz
    FROM unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::float8[], $11::float8[], $12::float8[],
        $13::float8[], $14::float8[], $15::float8[], $16::float8[], $17::float8[], $18::float8[], $19::float8[],
        $20::text[]) AS u
), expiry AS (
    INSERT INTO execution.expiries (order_id, symbol, quantity, reason, market, expired_at)
    SELECT u.*, $1::text, $3::timestamptz FROM unnest($21::text[], $22::text[], $23::float8[], $24::text[]) AS u
), mark AS (
    INSERT INTO execution.marks (market, closed_at, cash, equity, peak, drawdown, drawdown_max, fee, half_spread,
        slippage, impact, drift, held_symbols, held_quantities, held_average_prices, held_closes, origin, sha256)
    VALUES ($1::text, $3::timestamptz,
        $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $5::text, $39)
)
UPDATE execution.progress
SET last_bar_at = coalesce($3::timestamptz, last_bar_at), last_targets_at = coalesce($4::timestamptz, last_targets_at),
    origin = $5, n_events = n_events + 1
WHERE market = $1 AND n_events = $2
RETURNING n_events
"""

COMMIT_DECISION: Final = """
WITH placed AS (
    INSERT INTO execution.orders (order_id, symbol, side, quantity, theoretical_price, target_weight,
        position_before, policy, reason, profile, origin, sigma_bar, market, decided_at)
    SELECT u.*, $1::text, $4::timestamptz
    FROM unnest($6::text[], $7::text[], $8::text[], $9::float8[], $10::float8[], $11::float8[], $12::float8[],
        $13::text[], $14::text[], $15::text[], $16::text[], $17::float8[]) AS u
), refusal AS (
    INSERT INTO execution.refusals (market, as_of, reason, sha256, n, examples)
    SELECT $1::text, $4::timestamptz, u.reason, u.sha256, u.n, string_to_array(u.examples, chr(31))
    FROM unnest($18::text[], $19::text[], $20::int[], $21::text[]) AS u (reason, sha256, n, examples)
), decided AS (
    INSERT INTO execution.targets (market, as_of, sha256, profile, hold, hold_reason, n_orders, origin)
    VALUES ($1::text, $4::timestamptz, $22, $23, $24, $25, cardinality($6::text[]), $5::text)
), latest AS (
    INSERT INTO execution.targets_latest (market, as_of, profile, summary)
    SELECT $1::text, $4::timestamptz, $23, $26::bytea WHERE $26::bytea IS NOT NULL
    ON CONFLICT (market) DO UPDATE SET as_of = excluded.as_of, profile = excluded.profile, summary = excluded.summary
)
UPDATE execution.progress
SET last_bar_at = coalesce($3::timestamptz, last_bar_at), last_targets_at = coalesce($4::timestamptz, last_targets_at),
    origin = $5, n_events = n_events + 1
WHERE market = $1 AND n_events = $2
RETURNING n_events
"""

RECORD_REFUSAL: Final = """
INSERT INTO execution.refusals (market, as_of, reason, sha256, n, examples)
VALUES ($1, $2, $3, $4, $5, $6::text[])
ON CONFLICT DO NOTHING
"""

KILL_SWITCH: Final = "SELECT engaged, actor, reason, at FROM execution.kill_switch ORDER BY seq DESC LIMIT 1"

BAR_SHA256: Final = "SELECT sha256 FROM execution.marks WHERE market = $1 AND closed_at = $2"
TARGETS_SHA256: Final = "SELECT sha256 FROM execution.targets WHERE market = $1 AND as_of = $2"

OPEN_ACCOUNT: Final = """
INSERT INTO execution.progress (market, interval, start_cash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
PROGRESS: Final = "SELECT * FROM execution.progress WHERE market = $1"
MARKS: Final = "SELECT * FROM execution.marks WHERE market = $1 ORDER BY closed_at"
FILLS: Final = 'SELECT * FROM execution.fills WHERE market = $1 ORDER BY filled_at, symbol COLLATE "C"'
# Orders of the last decision that no bar has answered yet; symbols sort by code point, as in Python.
OPEN_ORDERS: Final = """
SELECT o.* FROM execution.orders o
WHERE o.market = $1 AND o.decided_at = $2
  AND NOT EXISTS (SELECT FROM execution.fills f WHERE f.order_id = o.order_id)
  AND NOT EXISTS (SELECT FROM execution.expiries e WHERE e.order_id = o.order_id)
ORDER BY o.symbol COLLATE "C"
"""
