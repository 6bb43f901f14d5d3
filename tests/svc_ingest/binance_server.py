"""The part of Binance's spot API that bars need, over real HTTP: exchangeInfo and klines in the venue's format."""

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

    def klines(self, symbol: str, start_ms: int, limit: int) -> list[list[Any]]:
        rows = []
        for i, close in enumerate(self.closes[symbol]):
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    venue: Venue

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.venue.requests.append(url.path)
        if self.venue.fail_next > 0:
            self.venue.fail_next -= 1
            self._answer(503, {"code": -1, "msg": "service unavailable"})
        elif url.path == "/api/v3/exchangeInfo":
            self._answer(200, {"symbols": [_market(symbol) for symbol in self.venue.closes]})
        elif url.path == "/api/v3/klines":
            self._answer(
                200,
                self.venue.klines(query["symbol"], int(query.get("startTime", 0)), int(query.get("limit", 500))),
            )
        else:
            self._answer(404, {"code": -1, "msg": f"no {url.path}"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
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
