"""The part of Binance's spot and futures APIs that we read, over real HTTP: the venue's formats, limits and errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

STEP_MS = 300_000


@dataclass
class Futures:
    """
    Rows of the futures API by path, each with the name of its time; the time now; how far back statistics reach.

    page_max: the most rows of one answer. book: best levels of every book, book_id: their number.
    """

    rows: dict[str, list[dict[str, Any]]]
    now_ms: int
    retention_ms: int = 30 * 86_400_000
    page_max: int = 500
    asked: list[tuple[str, int, int]] = field(default_factory=list)  # path, startTime, endTime
    book: dict[str, list[list[str]]] = field(
        default_factory=lambda: {"bids": [["99.50", "2.0"], ["99.40", "1.0"]], "asks": [["100.50", "3.0"]]}
    )
    book_id: int = 4711

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, object]:
        """Return status and body as fapi does."""
        start, end = int(query.get("startTime", 0)), int(query.get("endTime", self.now_ms))
        self.asked.append((path, start, end))
        if path.startswith("/futures/data/") and start < self.now_ms - self.retention_ms:
            return 400, {"code": -1130, "msg": "parameter 'startTime' is invalid."}
        if path.endswith("aggTrades") and end - start > 3_600_000:
            return 400, {"code": -4166, "msg": "Search window is restricted to recent 1 hour"}
        name = _TIME_OF[path.rpartition("/")[2]]
        found = [row for row in self.rows.get(path, []) if start <= int(row[name]) <= end]
        return 200, found[: min(int(query.get("limit", 500)), self.page_max)]


_TIME_OF = {"fundingRate": "fundingTime", "aggTrades": "T", "openInterestHist": "timestamp",
            "globalLongShortAccountRatio": "timestamp", "topLongShortPositionRatio": "timestamp",
            "takerlongshortRatio": "timestamp"}  # fmt: skip


@dataclass
class Venue:
    """What the venue knows: closes by symbol and bar number, and what it is to do wrong."""

    first_open_ms: int
    closes: dict[str, list[float]]
    now: datetime | None = None  # None = every bar is there; else bars that opened by now, the last one forming
    page_max: int = 1000
    fail_next: int = 0  # answer so many requests with 503
    hidden: set[tuple[str, int]] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    futures: Futures | None = None
    # Answers to give instead, one a request: (status, headers, body); status 0 = die in the middle of the answer.
    answers: list[tuple[int, dict[str, str], object]] = field(default_factory=list)
    # Paths that answer only once the event is set.
    held: dict[str, threading.Event] = field(default_factory=dict)
    perp_shift: float = 0.0  # of the perpetual's prices

    def klines(self, symbol: str, start_ms: int, limit: int, shift: float = 0.0) -> list[list[Any]]:
        rows = []
        for i, spot in enumerate(self.closes[symbol]):
            close = spot + shift
            opened = self.first_open_ms + i * STEP_MS
            is_there = self.now is None or opened <= self.now.timestamp() * 1000
            if opened >= start_ms and is_there and (symbol, i) not in self.hidden:
                texts = [f"{v:.8f}" for v in (close, close + 1, close - 1, close, close * 10)]
                rows.append([opened, *texts, opened + STEP_MS - 1, "0", 1, "0", "0", "0"])
        return rows[: min(limit, self.page_max)]


def _market(symbol: str) -> dict[str, Any]:
    return {
        "symbol": symbol, "status": "TRADING", "baseAsset": symbol[:-4], "quoteAsset": "USDT",
        "baseAssetPrecision": 8, "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT"],
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "permissions": ["SPOT"], "filters": [],
    }  # fmt: skip


def _contract(symbol: str) -> dict[str, Any]:
    return {
        "symbol": symbol, "pair": symbol, "contractType": "PERPETUAL", "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000, "status": "TRADING", "baseAsset": symbol[:-4], "quoteAsset": "USDT",
        "marginAsset": "USDT", "pricePrecision": 2, "quantityPrecision": 3, "baseAssetPrecision": 8,
        "quotePrecision": 8, "underlyingType": "COIN", "orderTypes": ["LIMIT"], "filters": [],
    }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    venue: Venue

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.venue.requests.append(url.path)
        if url.path in self.venue.held:
            self.venue.held[url.path].wait(30)
        if self.venue.answers:
            status, headers, body = self.venue.answers.pop(0)
            if status == 0:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{")
                self.close_connection = True
                return
            self._answer(status, body, headers)
        elif self.venue.fail_next > 0:
            self.venue.fail_next -= 1
            self._answer(503, {"code": -1, "msg": "service unavailable"})
        elif url.path == "/api/v3/exchangeInfo":
            self._answer(200, {"symbols": [_market(symbol) for symbol in self.venue.closes]})
        elif url.path == "/api/v3/klines":
            self._answer(
                200,
                self.venue.klines(query["symbol"], int(query.get("startTime", 0)), int(query.get("limit", 500))),
            )
        elif self.venue.futures is not None and self._futures(url.path, query):
            pass
        else:
            self._answer(404, {"code": -1, "msg": f"no {url.path}"})

    def _futures(self, path: str, query: dict[str, str]) -> bool:
        """Answer a request to the futures API; return whether it was one."""
        futures = self.venue.futures
        assert futures is not None
        if path == "/fapi/v1/exchangeInfo":
            self._answer(200, {"symbols": [_contract(symbol) for symbol in self.venue.closes]})
        elif path in ("/fapi/v1/klines", "/fapi/v1/markPriceKlines"):
            start, limit = int(query.get("startTime", 0)), int(query.get("limit", 500))
            shift = self.venue.perp_shift if path == "/fapi/v1/klines" else 0.0
            rows = self.venue.klines(query["symbol"], start, limit, shift)
            self._answer(200, [row for row in rows if query["interval"] != "1h" or row[0] % 3_600_000 == 0])
        elif path in ("/fapi/v1/depth", "/api/v3/depth"):
            times = {"E": futures.now_ms, "T": futures.now_ms - 7} if "fapi" in path else {}
            self._answer(200, {"lastUpdateId": futures.book_id} | times | futures.book)
        elif path.startswith(("/fapi/", "/futures/data/")) and path.rpartition("/")[2] in _TIME_OF:
            self._answer(*futures.answer(path, query))
        else:
            return False
        return True

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def serve_binance(venue: Venue) -> Iterator[Venue]:
    """Serve the venue; its address stands in `url` while the block runs."""
    handler = type("Handler", (_Handler,), {"venue": venue})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        venue.url = f"http://127.0.0.1:{server.server_port}"
        yield venue
        server.shutdown()
        thread.join()
