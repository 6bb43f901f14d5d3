"""Posts for tests: rows of the three tables in a real lake, and columns without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from qraft_store.tables.schema import table_schema
from qraft_text.posts import LANGUAGE_UNKNOWN, NO_AUTHOR, Posts

START = datetime(2021, 1, 10, tzinfo=UTC)
MINUTE_US = 60_000_000
START_US = int(START.timestamp()) * 1_000_000


def at(minutes: float) -> datetime:
    """Return an instant so many minutes after START."""
    return START + timedelta(minutes=minutes)


def post(minutes: float, text: str, *, row_id: str, known: float | None = None, **other) -> dict:
    """Return one row of `posts`, known when it was written unless said otherwise."""
    return {
        "symbol": "BTCUSDT", "event_at": at(minutes), "known_at": at(minutes if known is None else known),
        "row_id": row_id, "revision": 0, "origin": "replay", "source": "test", "platform": "x", "author_hash": row_id,
        "text": text, "language": None, "is_comment": False, **other,
    }  # fmt: skip


def news(minutes: float, title: str, *, row_id: str, **other) -> dict:
    """Return one row of `news`."""
    return {
        "symbol": "BTCUSDT", "event_at": at(minutes), "known_at": at(minutes), "row_id": row_id, "revision": 0,
        "origin": "replay", "source": "test", "publisher": "wire", "category": "other", "title": title, "text": None,
        "url": None, **other,
    }  # fmt: skip


def counted(minutes: float, *, row_id: str, known: float, likes: int) -> dict:
    """Return one row of `post_engagement`."""
    return {
        "symbol": "BTCUSDT", "event_at": at(minutes), "known_at": at(known), "row_id": row_id, "revision": 0,
        "origin": "replay", "source": "test", "replies": 0, "reposts": 0, "likes": likes, "followers": None,
    }  # fmt: skip


def store(tables, kind: str, rows: list[dict], *, market: str = "twitter") -> None:
    """Append rows; none may be refused."""
    added = tables.append(kind, market=market, rows=pa.Table.from_pylist(rows, schema=table_schema(kind)))
    assert added.n_quarantined == 0
    assert added.n_new == len(rows)


def columns(rows: list[tuple], *, symbols: tuple[str, ...] = ("BTCUSDT",)) -> Posts:
    """Return posts out of (minute, text) or (minute, text, {column: value}); minutes ascend."""
    texts = tuple(dict.fromkeys(row[1] for row in rows))
    known = [START_US + round(row[0] * MINUTE_US) for row in rows]
    made = {
        "known_at": list(known), "event_at": list(known), "post": list(range(len(rows))), "symbol": [0] * len(rows),
        "tower": [0] * len(rows), "author": [NO_AUTHOR] * len(rows), "text": [texts.index(row[1]) for row in rows],
        "language": [LANGUAGE_UNKNOWN] * len(rows),
    }  # fmt: skip
    for i, row in enumerate(rows):
        for name, value in (row[2] if len(row) > 2 else {}).items():
            made[name][i] = value
    return Posts(**{name: np.array(v, np.int64) for name, v in made.items()}, texts=texts, symbols=symbols)
