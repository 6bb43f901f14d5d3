"""Raw rows of the stores as posts: what was known by the end, as it was first known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute

from qraft_contracts.origin import Origin, worst_origin
from qraft_store.tables.port import TableStore
from qraft_text.posts import (
    LANGUAGE_KNOWN,
    LANGUAGE_OTHER,
    LANGUAGE_UNKNOWN,
    NEWS,
    NO_AUTHOR,
    TOWERS,
    Engagement,
    IntArray,
    Posts,
    no_engagement,
)
from qraft_text.traits import N_CHARS_MAX

# Its stubs know no scalars beside columns.
pc: Final[Any] = pyarrow.compute
_LANGUAGES: Final = frozenset({"en"})
# Rows about a whole market count for each of its symbols: the name, and the endings of these symbols.
MARKET_WIDE: Final = {"CRYPTO": ("USDT", "USDC")}
# Every text is held in memory: about 1.3 million tweets, and a range that needs more is asked for in parts. Beside it
# a machine of 16 GB has room for the matrix (see pipeline.N_BUCKETS_MAX).
BYTES_MAX: Final = 8_000_000_000
# Measured from 33,000 to 70,000 tweets of 150 letters: 6.0 kB each, traits and what reading leaves behind; 18 and 40
# words tell what is a letter's. A row that only counts (engagement, news of a market once more) is numbers and names.
_BYTES_A_TEXT: Final = 3_000
_BYTES_A_LETTER: Final = 20
_BYTES_A_COUNT: Final = 1_000


class NoTexts(ValueError):
    """No market holds a text in the range."""


class TooManyTexts(ValueError):
    """The texts of the range do not fit the memory."""


class Source(msgspec.Struct, frozen=True):
    """One table that was read: kind, market, and the version of its content."""

    kind: str
    market: str
    version: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the stores hold of a request. n_rows: of each kind, before anything is left out."""

    posts: Posts
    engagement: Engagement
    sources: tuple[Source, ...]
    n_rows: dict[str, int]
    origin: Origin


def read_posts(
    tables: TableStore, *, markets: Sequence[str], symbols: Sequence[str], after: datetime, until: datetime,
    lag: timedelta, bytes_max: int = BYTES_MAX,
) -> Found:  # fmt: skip
    """
    Return what became known in (after, until] about the symbols: posts, comments, news and engagement.

    A post is taken as it was first known (revision 0): what was edited later is no news of then. Rows written more
    than `lag` before `after` are not looked for.

    Args:
        markets: of the tables, such as twitter; each may hold posts, news or both.
        symbols: their order numbers them.
        bytes_max: of the memory that all of it may take in the end, as estimated from its rows.

    Raises:
        NoTexts: if no market holds a row in the range.
        TooManyTexts: if they need more than bytes_max.
    """
    asked = [*symbols, *(name for name in MARKET_WIDE if name not in symbols)]
    read: dict[str, list[pa.Table]] = {"posts": [], "news": [], "post_engagement": []}
    sources, n_bytes = [], 0
    for kind, found in read.items():
        for market in sorted(set(markets)):
            if market not in tables.markets(kind):
                continue
            # Before the rows: what is appended meanwhile gives a version too old, never one too new.
            version = tables.version(kind, market=market)
            revisions: Any = "first" if kind != "post_engagement" else "all"
            rows = tables.read(
                kind, market=market, symbols=asked, start=after - lag, end=until, as_of=until, revisions=revisions
            )
            rows = rows.filter(pc.greater(rows["known_at"], pa.scalar(after, rows.schema.field("known_at").type)))
            n_bytes += _bytes_needed(rows, symbols)
            if n_bytes > bytes_max:
                raise TooManyTexts(
                    f"expected rows that need at most {bytes_max / 1e9:.2f} GB of memory, received {n_bytes / 1e9:.2f} "
                    f"GB with {rows.num_rows} {kind} of {market} known in ({after.isoformat()}, {until.isoformat()}]: "
                    "ask for fewer days at a time (each bucket comes out the same) or for fewer symbols"
                )
            sources.append(Source(kind, market, version))
            found.append(rows.append_column("market", pa.array([market] * rows.num_rows, pa.string())))
    n_rows = {kind: sum(rows.num_rows for rows in found) for kind, found in read.items()}
    if n_rows["posts"] + n_rows["news"] == 0:
        raise NoTexts(
            f"expected posts and news of {sorted(set(markets))} about {', '.join(symbols)} known in "
            f"({after.isoformat()}, {until.isoformat()}], received {n_rows}"
        )
    origins = {
        Origin(str(name)) for found in read.values() for rows in found for name in rows["origin"].unique().to_pylist()
    }
    return Found(
        _posts(read["posts"], read["news"], tuple(symbols)),
        _engagement(read["post_engagement"], tuple(symbols)),
        tuple(sources),
        n_rows,
        worst_origin(origins),
    )


def _bytes_needed(rows: pa.Table, symbols: Sequence[str]) -> int:
    """Return about how much memory the rows of a table will take, with all that is made of their texts."""
    texts = [name for name in ("title", "text") if name in rows.column_names]
    lengths: IntArray = np.zeros(rows.num_rows, np.int64)
    for name in texts:
        lengths += np.asarray(pc.fill_null(pc.binary_length(rows[name]), 0).combine_chunks(), np.int64)
    n_letters = int(np.minimum(lengths, N_CHARS_MAX).sum())
    n_counts = 0 if texts else rows.num_rows
    for whole_market, endings in MARKET_WIDE.items():
        n_wide = pc.sum(pc.equal(rows["symbol"], whole_market)).as_py() or 0
        n_counts += n_wide * sum(symbol.endswith(endings) for symbol in symbols)
    n_texts = rows.num_rows if texts else 0
    return n_texts * _BYTES_A_TEXT + n_letters * _BYTES_A_LETTER + n_counts * _BYTES_A_COUNT


def _posts(posts: Sequence[pa.Table], news: Sequence[pa.Table], symbols: tuple[str, ...]) -> Posts:
    columns = ("market", "symbol", "row_id", "known_at", "event_at", "author", "text", "language", "tower")
    parts = [_plain(rows).select(columns) for rows in posts] + [_plain_news(rows).select(columns) for rows in news]
    whole = _linked(pa.concat_tables(parts), symbols)
    # The order of rows known at one instant is that of their names: the same whatever is read around them.
    whole = whole.sort_by([(name, "ascending") for name in ("known_at", "tower", "market", "row_id", "symbol")])
    text, texts = _numbered(whole["text"])
    names = pc.binary_join_element_wise(whole["market"], whole["row_id"], "\0")
    author, _ = _numbered(whole["author"])
    place = {symbol: i for i, symbol in enumerate(symbols)}
    return Posts(
        known_at=_micros(whole["known_at"]),
        event_at=_micros(whole["event_at"]),
        post=_numbered(names)[0],
        symbol=np.array([place[str(symbol)] for symbol in whole["symbol"].to_pylist()], np.int64),
        tower=np.asarray(whole["tower"].combine_chunks(), np.int64),
        author=author,
        text=text,
        language=np.asarray(whole["language"].combine_chunks(), np.int64),
        texts=texts,
        symbols=symbols,
    )


def _plain(rows: pa.Table) -> pa.Table:
    is_comment = np.asarray(rows["is_comment"].combine_chunks().cast(pa.int8()), np.int64)
    codes = [_language(name) for name in rows["language"].to_pylist()]
    return rows.append_column("author", rows["author_hash"]).append_column(
        "tower", pa.array(np.where(is_comment > 0, TOWERS.index("comments"), TOWERS.index("posts")))
    ).set_column(rows.schema.get_field_index("language"), "language", pa.array(codes, pa.int64()))  # fmt: skip


def _plain_news(rows: pa.Table) -> pa.Table:
    n = rows.num_rows
    text = pc.binary_join_element_wise(rows["title"], rows["text"], ". ", null_handling="skip")
    language = pa.array(np.full(n, LANGUAGE_UNKNOWN), pa.int64())
    made = rows.set_column(rows.schema.get_field_index("text"), "text", text)
    return made.append_column("author", rows["publisher"]).append_column("language", language).append_column(
        "tower", pa.array(np.full(n, NEWS), pa.int64())
    )  # fmt: skip


def _language(name: str | None) -> int:
    if not name or name == "und":
        return LANGUAGE_UNKNOWN
    return LANGUAGE_KNOWN if name.lower().split("-")[0] in _LANGUAGES else LANGUAGE_OTHER


def _linked(rows: pa.Table, symbols: tuple[str, ...]) -> pa.Table:
    """Return the rows of the asked symbols, those about a whole market once for each of its symbols."""
    column = rows["symbol"]
    parts = [rows.filter(pc.is_in(column, pa.array(symbols, pa.string())))]
    for name, endings in MARKET_WIDE.items():
        wide = rows.filter(pc.equal(column, name))
        for symbol in symbols:
            if wide.num_rows and symbol != name and symbol.endswith(endings):
                own = pa.array([symbol] * wide.num_rows, pa.string())
                parts.append(wide.set_column(wide.schema.get_field_index("symbol"), "symbol", own))
    return pa.concat_tables(parts)


def _engagement(found: Sequence[pa.Table], symbols: tuple[str, ...]) -> Engagement:
    if not any(rows.num_rows for rows in found):
        return no_engagement()
    whole = _linked(pa.concat_tables(found), symbols)
    whole = whole.sort_by(
        [(name, "ascending") for name in ("known_at", "event_at", "market", "row_id", "symbol", "revision")]
    )
    counts = [
        np.clip(np.asarray(pc.fill_null(whole[name], 0).combine_chunks(), np.float64), 0, None)
        for name in ("replies", "reposts", "likes")
    ]
    place = {symbol: i for i, symbol in enumerate(symbols)}
    return Engagement(
        _micros(whole["known_at"]),
        _micros(whole["event_at"]),
        np.array([place[str(symbol)] for symbol in whole["symbol"].to_pylist()], np.int64),
        np.log1p(counts[0] + counts[1] + counts[2]),
    )


def _numbered(column: Any) -> tuple[IntArray, tuple[str, ...]]:
    """Return numbers for equal values, empty ones as NO_AUTHOR, and the values."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    numbers = np.asarray(pc.fill_null(encoded.indices.cast(pa.int64()), NO_AUTHOR), np.int64)
    return numbers, tuple(encoded.dictionary.to_pylist())


def _micros(column: Any) -> IntArray:
    return np.asarray(column.combine_chunks().cast(pa.int64()), np.int64)
