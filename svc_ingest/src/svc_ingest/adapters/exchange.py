"""Bars from an exchange's public API through ccxt: backfill in windows, then each bar as it closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import ccxt.async_support as ccxt
import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Transient
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_ingest.adapters.guard import guard_bars
from svc_ingest.adapters.waits import UNREADABLE, told_to_wait_s
from svc_ingest.domain.raw import RawChunk, RawRows, instant_of, micros_of

T = TypeVar("T")

BARS_A_REQUEST: Final = 1000  # the most that Binance gives; others give fewer and are asked again
REQUEST_TIMEOUT_MS: Final = 10_000
# Bars that are read again at each close, to see corrections of the venue.
OVERLAP_BARS: Final = 3
# A row counts as closed when a newer one stands behind it, or so long after its end in a market without trades:
# our clock may be ahead of the venue's.
_QUIET: Final = timedelta(seconds=10)
# The venue understood and will not. Any other error may be its own trouble: an outage can be a bare ExchangeError.
_REFUSALS: Final = (ccxt.BadRequest, ccxt.AuthenticationError, ccxt.NotSupported, ccxt.ArgumentsRequired)


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """
    Which venue, and how patiently.

    url: replaces scheme and host of the venue's public API (a mirror). history: how far back the backfill reaches
    when nothing is stored. settle_s: wait after a close before the first poll. poll_s: between polls for the same
    bar. polls_max: then the bar is given out with the symbols that have it. retries_max: attempts of one request.
    nap_s: longest sleep before the clock is looked at again; a machine may have been suspended meanwhile.
    """

    exchange_id: str
    symbols: tuple[str, ...]
    history: timedelta
    url: str | None = None
    settle_s: float = 1.0
    poll_s: float = 2.0
    polls_max: int = 10
    retries_max: int = 5
    retry_first_s: float = 0.5
    nap_s: float = 5.0


class ExchangeSource:
    """
    A venue's closed bars, origin `real`. Requests keep ccxt's rate limit; the forming bar is never given out.

    A bar is known when it closes; late rows and corrections are known when they were read.
    """

    def __init__(self, settings: ExchangeSettings, *, interval: str, clock: Clock) -> None:
        self._settings, self._interval, self._clock = settings, interval, clock
        self._step = timedelta(seconds=INTERVAL_SECONDS[interval])
        self._unified: dict[str, str] = {}  # our symbol → ccxt's
        if settings.exchange_id not in ccxt.exchanges:
            raise Malformed("unknown_exchange", f"expected an exchange of ccxt, received {settings.exchange_id!r}")
        self._client: Any = getattr(ccxt, settings.exchange_id)(
            {"enableRateLimit": True, "timeout": REQUEST_TIMEOUT_MS, "aiohttp_trust_env": True}
        )
        guard_bars(self._client)
        # Currencies need a key; other market types are further requests that nobody asked for.
        self._client.has["fetchCurrencies"] = False
        self._client.options["fetchMarkets"] = {"types": ["spot"]}
        if settings.url:
            self._client.urls["api"] = _moved(self._client.urls["api"], settings.url)

    @property
    def origin(self) -> Origin:
        """Return `real`."""
        return Origin.REAL

    @property
    def description(self) -> str:
        """Return the venue."""
        return f"exchange {self._settings.exchange_id}"

    @property
    def lineage(self) -> str:
        """Return the venue."""
        return f"exchange:{self._settings.exchange_id}"

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols, sorted."""
        return tuple(sorted(self._settings.symbols))

    @property
    def is_live(self) -> bool:
        """Return True."""
        return True

    @property
    def last_closed_at(self) -> datetime | None:
        """Return None: bars go on arriving."""
        return None

    async def open(self) -> Mapping[str, int]:
        """Load the venue's list of markets; see the port."""
        markets = await self._ask("markets", self._client.load_markets)
        known = {str(market["id"]): name for name, market in markets.items()}
        known |= {name.replace("/", ""): name for name in markets if ":" not in name}
        missing = [symbol for symbol in self.symbols if symbol not in known]
        if missing:
            raise Malformed(
                "unknown_symbols",
                f"expected markets of {self._settings.exchange_id} such as {sorted(known)[:3]}, it has no {missing}",
            )
        self._unified = {symbol: known[symbol] for symbol in self.symbols}
        return dict.fromkeys(self.symbols, 0)

    async def chunks(self, *, after: datetime | None, until: datetime | None) -> AsyncIterator[RawChunk]:
        """Yield the backfill, then each bar as it closes; see the port."""
        position = self._floor(self._clock.now() - self._settings.history) if after is None else after
        while (closed := self._floor(self._clock.now() - _QUIET)) > position and (until is None or position < until):
            stop = min(closed, position + BARS_A_REQUEST * self._step, until or closed)
            yield await self._window(position, stop)
            position = stop
        while until is None or position + self._step <= until:
            position += self._step
            async for chunk in self._poll(position):
                yield chunk

    def _floor(self, instant: datetime) -> datetime:
        step = self._step // timedelta(microseconds=1)
        return instant_of(micros_of(instant) // step * step)

    async def _window(self, start: datetime, stop: datetime) -> RawChunk:
        """Read the bars of all symbols with start < closed_at <= stop."""
        rows = await asyncio.gather(*(self._read(symbol, start, stop) for symbol in self.symbols))
        return RawChunk(dict(zip(self.symbols, rows, strict=True)), until=stop, known_at=self._clock.now())

    async def _read(self, symbol: str, start: datetime, stop: datetime) -> RawRows:
        """Ask until the window is covered; a venue may give fewer bars at once than it was asked for."""
        found: list[list[float]] = []
        since = micros_of(start) // 1000
        for _ in range(BARS_A_REQUEST):
            page = await self._fetch(symbol, since)
            new = [row for row in page if int(row[0]) >= since]
            found += new
            step_ms = int(self._step.total_seconds() * 1000)
            if not new or int(new[-1][0]) + step_ms >= micros_of(stop) // 1000:
                break
            since = int(new[-1][0]) + step_ms
        return self._rows(found, stop)

    async def _fetch(self, symbol: str, since_ms: int) -> list[list[float]]:
        name = self._unified[symbol]
        return await self._ask(
            f"bars of {symbol}",
            lambda: self._client.fetch_ohlcv(name, self._interval, since_ms, BARS_A_REQUEST),
        )

    def _rows(self, page: Sequence[Sequence[float | None]], stop: datetime) -> RawRows:
        """Return the closed rows up to `stop`; an empty value becomes NaN and is judged with the others."""
        table = np.array([row[:6] for row in page], dtype=np.float64).reshape(len(page), 6)
        closed_at = table[:, 0].astype(np.int64) * 1000 + self._step // timedelta(microseconds=1)
        newest = int(closed_at.max(initial=0))
        quiet = micros_of(self._clock.now() - _QUIET)
        keep = (closed_at <= micros_of(stop)) & ((closed_at < newest) | (closed_at <= quiet))
        return RawRows(closed_at[keep], np.ascontiguousarray(table[keep, 1:]))

    async def _poll(self, closed_at: datetime) -> AsyncIterator[RawChunk]:
        """Yield the bar that ends at closed_at, once every symbol has it or the polls are used up."""
        due = closed_at + timedelta(seconds=self._settings.settle_s)
        while (left_s := (due - self._clock.now()).total_seconds()) > 0:  # noqa: ASYNC110 - time is no event
            await asyncio.sleep(min(left_s, self._settings.nap_s))
        start = closed_at - (OVERLAP_BARS + 1) * self._step
        for attempt in range(1, self._settings.polls_max + 1):
            rows = await asyncio.gather(*(self._read(symbol, start, closed_at) for symbol in self.symbols))
            found = dict(zip(self.symbols, rows, strict=True))
            missing = [s for s, r in found.items() if not r.closed_at.size or r.closed_at[-1] < micros_of(closed_at)]
            if not missing or attempt == self._settings.polls_max:
                break
            await asyncio.sleep(self._settings.poll_s)
        if missing:
            logs.get().warning("bars.missing", closed_at=closed_at.isoformat(), symbols=missing[:10], n=len(missing))
        yield RawChunk(found, until=closed_at, known_at=self._clock.now())

    async def _ask(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """
        Call the venue, again after a growing pause while it fails.

        Raises:
            Transient: if the last attempt failed too.
            Malformed: if the venue refuses the request.
        """
        for attempt in range(1, self._settings.retries_max + 1):
            try:
                return await call()
            except _REFUSALS as error:
                raise Malformed("exchange_refused", f"could not read {what}: {error}") from error
            except UNREADABLE as error:
                raise Malformed("schema_drift", f"{what}: ccxt cannot read the answer: {error!r}") from error
            except (ccxt.DDoSProtection, ccxt.RateLimitExceeded) as error:
                # Asking on would make a ban longer; a live source has nothing to do but to wait it out.
                wait_s = told_to_wait_s(self._client.last_response_headers, error)
                if attempt == self._settings.retries_max:
                    raise Transient("exchange_away", f"could not read {what}: {error}") from error
                logs.get().warning("exchange.told_to_wait", what=what, wait_s=wait_s, error=str(error)[:200])
                await asyncio.sleep(wait_s)
            except ccxt.BaseError as error:
                if attempt == self._settings.retries_max:
                    raise Transient("exchange_away", f"could not read {what}: {error}") from error
                logs.get().warning("exchange.retry", what=what, attempt=attempt, error=str(error)[:200])
                await asyncio.sleep(self._settings.retry_first_s * 2 ** (attempt - 1))
        raise AssertionError("retries_max is at least 1")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _moved(urls: Any, base: str) -> Any:
    """Return ccxt's address table with scheme and host replaced."""
    if isinstance(urls, dict):
        return {key: _moved(value, base) for key, value in urls.items()}
    return base.rstrip("/") + "/" + str(urls).partition("://")[2].partition("/")[2]
