"""The name of stored content: a SHA-256 of the rows themselves, the same in every adapter and after every rewrite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from qraft_store.bars.rows import VALUES, closed_micros, encode_texts, floats_of, known_micros


def sort_rows(rows: pa.Table) -> pa.Table:
    """Return rows in the order in which they are stored and named: by closed_at, symbol, revision."""
    return rows.sort_by([("closed_at", "ascending"), ("symbol", "ascending"), ("revision", "ascending")])


def rows_sha256(ordered: pa.Table) -> str:
    """
    Return the SHA-256 of one partition's rows.

    ordered: as sort_rows gives them, each once. NaN is one value, whatever its bits.
    """
    digest = hashlib.sha256()
    for name in ("symbol", "origin"):
        names, codes = encode_texts(ordered[name])
        sorted_names = sorted(names)
        places = np.array([sorted_names.index(text) for text in names], dtype="<i8")
        digest.update(json.dumps([name, len(ordered), sorted_names]).encode())
        digest.update(places[codes].tobytes())
    digest.update(closed_micros(ordered).astype("<i8").tobytes())
    digest.update(known_micros(ordered).astype("<i8").tobytes())
    digest.update(np.asarray(ordered["revision"]).astype("<i8").tobytes())
    for name in VALUES:
        values = floats_of(ordered, name)
        digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return digest.hexdigest()


def series_version(market: str, interval: str, partitions: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of a series from its partitions' names and rows_sha256, in order."""
    return hashlib.sha256(json.dumps([market, interval, list(partitions)]).encode()).hexdigest()
