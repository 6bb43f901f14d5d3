"""A small candidate with its bars: known prices, out-of-fold forecasts and a manifest as svc_train writes them."""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.origin import Origin
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.bars.port import BarStore

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
MODEL_ID = "m00000000000000aa"
START = datetime(2025, 6, 1, 0, 5, tzinfo=UTC)
STEP = timedelta(minutes=5)
COSTS = {"1h": 0.0047, "4h": 0.0047, "1d": 0.0031, "7d": 0.0031}
BUCKETS = {"1h": "mean_reversion", "4h": "event", "1d": "trend", "7d": "trend"}


def closed_at(i: int) -> datetime:
    return START + i * STEP


def prices(n_bars: int, *, seed: int = 5) -> np.ndarray:
    """Closes (n_bars, n_symbols) of a random walk."""
    moves = np.random.default_rng(seed).normal(0.0, 0.002, (n_bars, len(SYMBOLS)))
    return np.round(100.0 * np.exp(np.cumsum(moves, axis=0)), 4)


def store_bars(store: BarStore, close: np.ndarray, *, missing: frozenset[tuple[int, int]] = frozenset()) -> None:
    """Store bars whose open is the close before; missing: (bar, symbol) pairs without a bar."""
    batches = []
    for i in range(len(close)):
        columns = [j for j in range(len(SYMBOLS)) if (i, j) not in missing]
        now, before = close[i, columns], close[max(i - 1, 0), columns]
        high, low = np.maximum(now, before), np.minimum(now, before)
        batches.append(
            BarBatch(
                "crypto",
                "5m",
                closed_at(i),
                closed_at(i),
                0,
                Origin.REPLAY,
                tuple(SYMBOLS[j] for j in columns),
                before,
                high,
                low,
                now,
                np.full(len(columns), 1e7),
            )
        )
    store.append(batches)


def forecasts(n_bars: int, first: int, *, seed: int = 9) -> list[tuple[datetime, str, str, float, float, float]]:
    """Rows (as_of, symbol, horizon, expected return, confidence, volatility) for bars first..n_bars - 1."""
    rng = np.random.default_rng(seed)
    return [
        (closed_at(i), symbol, horizon, float(rng.normal(0.0, 0.02)), float(rng.uniform(0.45, 0.7)), 0.03)
        for horizon in COSTS
        for i in range(first, n_bars)
        for symbol in SYMBOLS
    ]


def parquet(rows: list[tuple[datetime, str, str, float, float, float]]) -> bytes:
    names = ("as_of", "symbol", "horizon", "expected_return", "confidence", "volatility")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    types = [pa.timestamp("us", tz="UTC"), pa.string(), pa.string(), *[pa.float64()] * 3]
    arrays = [pa.array(columns[name], kind) for name, kind in zip(names, types, strict=True)]
    table = pa.table([a.dictionary_encode() if pa.types.is_string(a.type) else a for a in arrays], names=names)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def manifest(
    oof: bytes, *, n_bars: int, first: int, model_id: str = MODEL_ID, trained_until: datetime | None = None
) -> bytes:
    middle = (first + n_bars) // 2
    spans = [(first, middle - 1), (middle, n_bars - 1)]
    return json.dumps(
        {
            "format": "manifest/1",
            "model_id": model_id,
            "origin": "replay",
            "trained_until": format_instant(trained_until or closed_at(n_bars - 1)),
            "files": {"oof.parquet": hashlib.sha256(oof).hexdigest()},
            "data": {"market": "crypto", "interval": "5m", "symbols": SYMBOLS, "origin": "replay", "unknown": 1},
            "costs": {"fee_bps": 4.5},
            "folds": [
                {
                    "horizon": h,
                    "fold": k,
                    "test_first": format_instant(closed_at(a)),
                    "test_last": format_instant(closed_at(b)),
                }
                for h in COSTS
                for k, (a, b) in enumerate(spans)
            ],
            "reports": [{"horizon": h, "cost": cost, "bucket": BUCKETS[h], "ic": 0.01} for h, cost in COSTS.items()],
        }
    ).encode()


async def store_candidate(
    artefacts: ArtefactStore, rows: list[tuple[datetime, str, str, float, float, float]], *, n_bars: int, first: int
) -> None:
    oof = parquet(rows)
    await artefacts.put(f"models/{MODEL_ID}/oof.parquet", oof)
    await artefacts.put(f"models/{MODEL_ID}/manifest.json", manifest(oof, n_bars=n_bars, first=first))
