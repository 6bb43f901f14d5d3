"""What ccxt is kept from: passing over rows of another form as if there were none, and asking inside a ban."""

from __future__ import annotations

from collections.abc import Callable
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


def guard_requests(client: Any, check: Callable[[], None]) -> None:
    """
    Make a ccxt client call `check` right before each request, which may have waited long in ccxt's own queue.

    Its calls raise Malformed where an answer is a page or a word: most of ccxt's readers find no rows in one.
    """
    fetch = client.fetch

    async def checked(*args: Any, **named: Any) -> Any:
        check()
        found = await fetch(*args, **named)
        if not isinstance(found, dict | list):
            raise Malformed("schema_drift", f"expected JSON of names or rows, received {str(found)[:200]}")
        return found

    client.fetch = checked


def _time_of(client: Any, row: Any, market: Any) -> Any:
    read = client.parse_ohlcv(row, market)
    return read[0] if len(read) >= 6 else None
