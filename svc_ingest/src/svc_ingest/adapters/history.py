"""A venue's past through ccxt: one request at a time, at its rate, with its bans obeyed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import ccxt.async_support as ccxt

from qraft_contracts.outcomes import Malformed, Transient
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_ingest.adapters.guard import guard_bars, guard_requests
from svc_ingest.adapters.lanes import Lane, lanes_of
from svc_ingest.adapters.waits import UNREADABLE, told_to_wait_s
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.venue_feeds import Banned, Feed, TooOld

T = TypeVar("T")
Page = list[Mapping[str, Any]]

REQUEST_TIMEOUT_MS: Final = 10_000
RETRIES_MAX: Final = 5
RETRY_FIRST_S: Final = 0.5
# A venue that asks for more than this is obeyed by ending: the next run refuses until the ban is over.
SIT_OUT_MAX_S: Final = 120.0
_CALLS: Final = {
    "funding": "fetchFundingRateHistory", "open_interest": "fetchOpenInterestHistory", "mark_price": "fetchMarkOHLCV",
    "trades": "fetchTrades", "book_snapshot": "fetchOrderBook", "bars": "fetchOHLCV",
}  # fmt: skip
# Kinds whose rows come as lists of values; those of all others have names.
_LISTED: Final = frozenset({"bars", "mark_price"})
_REFUSALS: Final = (ccxt.BadRequest, ccxt.AuthenticationError, ccxt.NotSupported, ccxt.ArgumentsRequired)


class VenueClient:
    """
    The VenueHistory of a ccxt exchange.

    pause: sleeps so many seconds (asyncio.sleep). url: replaces scheme and host of the venue's API (a mirror).
    """

    def __init__(
        self,
        exchange_id: str,
        symbols: Sequence[str],
        *,
        url: str | None,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if exchange_id not in ccxt.exchanges:
            raise Malformed("unknown_exchange", f"expected an exchange of ccxt, received {exchange_id!r}")
        self.name = exchange_id
        self._symbols, self._clock, self._pause = tuple(symbols), clock, pause
        self._unified: dict[tuple[str, str], str] = {}
        self._quiet_until_s = 0.0  # of the monotonic clock: whoever was told to wait, all wait
        self._banned_until_ms = 0
        self._lanes = lanes_of(exchange_id)
        self._client: Any = getattr(ccxt, exchange_id)(
            {"enableRateLimit": True, "timeout": REQUEST_TIMEOUT_MS, "aiohttp_trust_env": True}
        )
        guard_bars(self._client)
        guard_requests(self._client, self._check_ban)
        self._client.has["fetchCurrencies"] = False
        self._client.options["fetchMarkets"] = {"types": ["spot", "linear"]}
        if url:
            self._client.urls["api"] = _moved(self._client.urls["api"], url)

    async def open(self) -> None:
        """Load the venue's markets; see the port."""
        markets = await self._ask("markets", self._client.load_markets)
        for name, market in markets.items():
            contract = "spot" if market.get("spot") else "perp" if market.get("swap") and market.get("linear") else ""
            for known in {str(market["id"]), f"{market['base']}{market['quote']}"}:
                self._unified.setdefault((known, contract), name)
        known_symbols = {symbol for symbol, _ in self._unified}
        if missing := [symbol for symbol in self._symbols if symbol not in known_symbols]:
            raise Malformed("unknown_symbols", f"expected markets of {self.name}, it has no {missing}")

    def has(self, feed: Feed, symbol: str) -> bool:
        """Return whether the venue has this contract."""
        return (symbol, feed.contract) in self._unified and self._offers(feed)

    def _offers(self, feed: Feed) -> bool:
        """Return whether ccxt can ask this venue for a kind; the two ratios have no unified call and are Binance's."""
        if feed.kind in ("long_short", "taker_volume"):
            return hasattr(self._client, "fapiDataGetTakerlongshortRatio")
        return bool(self._client.has.get(_CALLS[feed.kind]))

    async def page(self, feed: Feed, symbol: str, *, start_ms: int, end_ms: int) -> Page:
        """Return the rows stamped start_ms to end_ms, as many as one request gives; see the port."""
        name = self._unified[symbol, feed.contract]
        until = {"until": end_ms}
        client, limit = self._client, feed.page_rows
        match feed.kind:
            case "funding":
                call = lambda: client.fetch_funding_rate_history(name, start_ms, limit, until)  # noqa: E731
            case "open_interest":
                call = lambda: client.fetch_open_interest_history(name, "5m", start_ms, limit, until)  # noqa: E731
            case "long_short":
                return await self._long_short(feed, symbol, _implicit(symbol, start_ms, end_ms, limit))
            case "taker_volume":
                request = _implicit(symbol, start_ms, end_ms, limit)
                call = lambda: client.fapiDataGetTakerlongshortRatio(request)  # noqa: E731
            case "mark_price":
                call = lambda: client.fetch_mark_ohlcv(name, "1h", start_ms, limit, until)  # noqa: E731
            case "trades":
                call = lambda: client.fetch_trades(name, start_ms, limit, until)  # noqa: E731
            case "book_snapshot":
                call = lambda: client.fetch_order_book(name, 1000)  # noqa: E731
            case _:
                call = lambda: client.fetch_ohlcv(name, feed.interval, start_ms, limit, until)  # noqa: E731
        found: Any = await self._ask(f"{feed.name} of {symbol}", call, self._lanes.get(feed.kind))
        if feed.kind == "book_snapshot":
            return [found]
        return _as_rows(feed, found)

    async def _long_short(self, feed: Feed, symbol: str, request: dict[str, Any]) -> Page:
        """Return accounts and positions of the same stamps; a stamp without positions keeps its accounts."""
        client, lane = self._client, self._lanes.get(feed.kind)
        told: Any = await self._ask(
            f"account ratio of {symbol}", lambda: client.fapiDataGetGlobalLongShortAccountRatio(request), lane
        )
        accounts = _as_rows(feed, told)
        told = await self._ask(
            f"position ratio of {symbol}", lambda: client.fapiDataGetTopLongShortPositionRatio(request), lane
        )
        top = {str(row.get("timestamp")): row.get("longShortRatio") for row in _as_rows(feed, told)}
        return [
            {
                "timestamp": row.get("timestamp"),
                "account_ratio": row.get("longShortRatio"),
                "long_account_frac": row.get("longAccount"),
                "position_ratio": top.get(str(row.get("timestamp"))),
            }
            for row in accounts
        ]

    async def _ask(self, what: str, call: Callable[[], Awaitable[T]], lane: Lane | None = None) -> T:
        """
        Call the venue; wait as long as it says after 429, stop when it bans us. lane: of each attempt.

        Raises:
            Banned: if it wants us away for longer than SIT_OUT_MAX_S, or 418 without a time; nothing is asked while a
                ban that any request met is in force.
            TooOld: if it refuses the start of the range.
            Malformed: if it refuses the request.
            Transient: if the last attempt failed too.
        """
        for attempt in range(1, RETRIES_MAX + 1):
            await self._turn(lane)
            try:
                return await call()
            except (ccxt.DDoSProtection, ccxt.RateLimitExceeded) as error:
                wait_s = self._told_to_wait(error)
                self._quiet_until_s = max(self._quiet_until_s, self._clock.monotonic() + wait_s)
                problem: ccxt.BaseError = error
                logs.get().warning("exchange.told_to_wait", what=what, wait_s=wait_s, error=str(error)[:200])
                continue
            except _REFUSALS as error:
                if "startTime" in str(error) or "start time" in str(error):
                    raise TooOld("older_than_retention", f"{what}: {error}") from error
                raise Malformed("exchange_refused", f"could not read {what}: {error}") from error
            except UNREADABLE as error:
                raise Malformed("schema_drift", f"{what}: ccxt cannot read the answer: {error!r}") from error
            except ccxt.BaseError as error:
                wait_s, problem = RETRY_FIRST_S * 2 ** (attempt - 1), error
            if attempt < RETRIES_MAX:
                logs.get().warning(
                    "exchange.retry", what=what, attempt=attempt, wait_s=wait_s, error=str(problem)[:200]
                )
                await self._pause(wait_s)
        raise Transient("exchange_away", f"could not read {what}: {problem}") from problem

    async def _turn(self, lane: Lane | None) -> None:
        """Wait until a request may leave: by its lane, then by what the venue said; raise Banned inside a ban."""
        self._check_ban()
        # The token is taken before anything is awaited, or all who wait would leave together.
        if lane is not None and (wait_s := lane.take(self._clock.monotonic())) > 0:
            await self._pause(wait_s)
        while (left_s := self._quiet_until_s - self._clock.monotonic()) > 0:
            await self._pause(left_s)

    def _check_ban(self) -> None:
        """Raise Banned where a request would be one inside a ban, which makes it longer."""
        if self._banned_until_ms > micros_of(self._clock.now()) // 1000:
            until = format_instant(instant_of(self._banned_until_ms * 1000))
            raise Banned(self._banned_until_ms, f"{self.name} wants no request before {until}")

    def _told_to_wait(self, error: Exception) -> float:
        """Return how long to wait; raise Banned where that is too long to sit through."""
        told = told_to_wait_s(self._client.last_response_headers, error)
        if told > SIT_OUT_MAX_S:
            until_ms = micros_of(self._clock.now()) // 1000 + int(told * 1000)
            self._banned_until_ms = max(self._banned_until_ms, until_ms)
            raise Banned(until_ms, f"{self.name} wants no request for {told:.0f} s: {str(error)[:200]}") from error
        return told

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _implicit(symbol: str, start_ms: int, end_ms: int, limit: int) -> dict[str, Any]:
    return {"symbol": symbol, "period": "5m", "startTime": start_ms, "endTime": end_ms, "limit": limit}


def _as_rows(feed: Feed, found: Any) -> Page:
    """Return the rows of an answer by names; raise Malformed where it has another form."""
    if not isinstance(found, list):
        raise Malformed("schema_drift", f"expected a list of rows of {feed.name}, received {str(found)[:200]}")
    return [_as_mapping(feed, row) for row in found]


def _as_mapping(feed: Feed, row: Any) -> Mapping[str, Any]:
    """Return a row by names; bars come as lists."""
    if isinstance(row, Mapping):
        return row
    if feed.kind not in _LISTED or not isinstance(row, list | tuple):
        raise Malformed("schema_drift", f"expected rows of {feed.name} by names, received {str(row)[:200]}")
    return dict(zip(("timestamp", "open", "high", "low", "close", "volume"), row, strict=False))


def _moved(urls: Any, base: str) -> Any:
    """Return ccxt's address table with scheme and host replaced."""
    if isinstance(urls, dict):
        return {key: _moved(value, base) for key, value in urls.items()}
    return base.rstrip("/") + "/" + str(urls).partition("://")[2].partition("/")[2]
