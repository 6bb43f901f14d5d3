"""The desk's queries. Every one is bounded, and the series is thinned out in the database."""

from __future__ import annotations

from typing import Final

# Refusals outside of events (a message for another market) show with the next event.
VERSION: Final = """
SELECT coalesce((SELECT n_events FROM execution.progress WHERE market = $1), 0) AS n_events,
       coalesce((SELECT max(seq) FROM execution.kill_switch), 0) AS kill_switch_seq
"""

LAST_MARK: Final = "SELECT * FROM execution.marks WHERE market = $1 ORDER BY closed_at DESC LIMIT 1"
LAST_TARGETS: Final = "SELECT * FROM execution.targets WHERE market = $1 ORDER BY as_of DESC LIMIT 1"
SUMMARY: Final = "SELECT profile, summary FROM execution.targets_latest WHERE market = $1"

# Every k-th mark and the last one: at most $2 points.
SERIES: Final = """
SELECT extract(epoch FROM closed_at)::bigint AS at, equity, drawdown
FROM (SELECT closed_at, equity, drawdown, row_number() OVER (ORDER BY closed_at) - 1 AS i, count(*) OVER () AS n
      FROM execution.marks WHERE market = $1) AS numbered
WHERE i % greatest(1, ceil(n::float8 / ($2::int - 1))::bigint) = 0 OR i = n - 1
ORDER BY at
"""

ORDERS: Final = """
SELECT o.order_id, o.symbol, o.side, o.quantity, o.decided_at, o.theoretical_price, o.target_weight, o.policy, o.reason,
       e.reason AS expiry_reason, f.quantity AS filled, f.fill_price, f.fee, f.slippage, f.impact, f.half_spread,
       f.drift, f.filled_at
FROM execution.orders o
LEFT JOIN execution.fills f ON f.order_id = o.order_id
LEFT JOIN execution.expiries e ON e.order_id = o.order_id
WHERE o.market = $1 ORDER BY o.decided_at DESC, o.symbol LIMIT $2
"""

REFUSALS: Final = """
SELECT as_of, reason, n, examples FROM execution.refusals WHERE market = $1 ORDER BY as_of DESC, reason LIMIT $2
"""

FILLS_OF_SYMBOL: Final = """
SELECT filled_at, side, fill_price, quantity, order_id FROM execution.fills
WHERE market = $1 AND symbol = $2 AND filled_at > $3 AND filled_at <= $4 ORDER BY filled_at
"""

LAST_BAR_AT: Final = "SELECT last_bar_at FROM execution.progress WHERE market = $1"
