"""ccxt passes over rows that it cannot read, so that another form looks like no bars at all: here it is named."""

from __future__ import annotations

from typing import Any

from qraft_contracts.outcomes import Malformed


def guard_bars(client: Any) -> None:
    """
    Make a ccxt client refuse an answer of bars whose first row has no time when it is read.

    Its own calls raise Malformed then.
    """
    parse = client.parse_ohlcvs

    def checked(answer: Any, market: Any = None, *rest: Any, **named: Any) -> Any:
        if not isinstance(answer, list) or (answer and _time_of(client, answer[0], market) is None):
            raise Malformed("schema_drift", f"expected rows of bars, received {str(answer)[:200]}")
        return parse(answer, market, *rest, **named)

    client.parse_ohlcvs = checked


def _time_of(client: Any, row: Any, market: Any) -> Any:
    read = client.parse_ohlcv(row, market)
    return read[0] if len(read) >= 6 else None
