"""The operator's commands on texts: fit, compute, prove, show. Each prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.outcomes import Malformed, Refused
from qraft_registry.proof_record import ProofRecord
from qraft_store.files import write_whole
from qraft_store.tables.port import TableStore
from qraft_text.encoder import CachedEncoder
from qraft_text.features import TextMatrix
from qraft_text.filters import FilterRules
from qraft_text.pipeline import TextFeatures, TextManifest, bucket_grid, fit_text_reduction
from qraft_text.reduction import N_COMPONENTS_MAX, Reduction
from qraft_text.sentiment import Sentiment
from qraft_text.sources import MARKET_WIDE

EXIT_NOT_PROVEN: Final = 3
KINDS: Final = ("posts", "news")


@dataclass(frozen=True, slots=True)
class TextRange:
    """What texts a command is about: markets of the tables, symbols (None = all stored), and when they were known."""

    markets: tuple[str, ...]
    symbols: tuple[str, ...] | None
    after: datetime
    until: datetime


def fit(
    tables: TableStore, encoder: CachedEncoder, asked: TextRange, *, n_components: int, n_threads: int
) -> Reduction:  # fmt: skip
    """
    Return the reduction fitted on the range.

    Raises:
        Malformed: if the components or the range are none.
        Refused: no_texts if nothing is stored of these markets, unfit_texts if too few posts count in the range, or
            there are too many.
    """
    if not 1 <= n_components <= N_COMPONENTS_MAX:
        raise Malformed("bad_components", f"expected --components 1 to {N_COMPONENTS_MAX}, received {n_components}")
    if asked.after >= asked.until:
        raise Malformed("bad_range", f"expected --until after {asked.after}, received {asked.until}")
    symbols = symbols_of(tables, asked)
    # What is left: nothing stored there, more than fits, or too few posts that count.
    with _refusing("unfit_texts"):
        return fit_text_reduction(
            tables, encoder, filters=FilterRules(), markets=asked.markets, symbols=symbols, after=asked.after,
            until=asked.until, n_components=n_components, n_threads=n_threads,
        )  # fmt: skip


def report_fit(reduction: Reduction, *, key: str, encoder: CachedEncoder, seconds: float) -> int:
    """Print what was fitted and where it lies."""
    return _say(
        "text.fitted", reduction=key, sha256=reduction.sha256, is_degraded=reduction.is_degraded,
        n_posts={tower: own.n_posts for tower, own in reduction.towers.items()},
        variance_frac={tower: round(sum(own.variance_frac), 4) for tower, own in reduction.towers.items()},
        **_speed(encoder, seconds),
    )  # fmt: skip


def compute(
    tables: TableStore, asked: TextRange, *, encoder: CachedEncoder | None, reduction: Reduction | None,
    in_sample: bool, n_threads: int, out: Path,
) -> TextManifest:  # fmt: skip
    """
    Write the bucket features of the range as Parquet (closed_at, symbol, one column a feature); return their manifest.

    Raises:
        Malformed: if the range holds no bucket, or more than one file may.
        Refused: no_texts if nothing is stored of these markets, unfit_texts if nothing or too much is in the range,
            other_encoder or before_fit if the reduction is of another encoder or was not known then.
        Transient: if the file cannot be written.
    """
    with _refusing("other_encoder"):
        features = TextFeatures(Sentiment(), FilterRules(), encoder, reduction, n_threads=n_threads)
    try:
        ends = bucket_grid(asked.after, asked.until, bucket_us=features.bucket_us)
    except ValueError as error:
        raise Malformed("bad_range", str(error)) from error
    if reduction is not None:
        with _refusing("before_fit"):
            reduction.require_later(ends, in_sample=in_sample)
    symbols = symbols_of(tables, asked)
    with _refusing("unfit_texts"):
        matrix, manifest = features.compute(
            tables, markets=asked.markets, symbols=symbols, after=asked.after, until=asked.until, in_sample=in_sample
        )
    table = _table(matrix, manifest)
    write_whole(out, lambda file: pq.write_table(table, file, compression="zstd"))
    return manifest


def report_compute(
    manifest: TextManifest, *, out: Path, key: str, proof: str | None, encoder: CachedEncoder | None, seconds: float
) -> int:  # fmt: skip
    """Print what was computed; proof: key of the one that stands for this code and these filters, None if none does."""
    n_arrived = {tower: sum(counts.values()) for tower, counts in manifest.n_by_reason.items()}
    return _say(
        "text.computed", file=str(out), manifest=key, sha256=manifest.sha256, signature=manifest.signature,
        origin=manifest.origin.value, n_buckets=manifest.n_buckets, n_symbols=len(manifest.symbols),
        n_columns=len(manifest.columns), is_degraded=manifest.spec.is_degraded, in_sample=manifest.in_sample,
        n_arrived=n_arrived, n_by_reason=manifest.n_by_reason, proof=proof,
        posts_per_s=round(sum(n_arrived.values()) / max(seconds, 1e-9), 1), **_speed(encoder, seconds),
    )  # fmt: skip


def report_proof(record: ProofRecord, *, key: str, is_new: bool, fault: str | None) -> int:
    """Print what a proof found; 3 = it does not stand."""
    _say(
        "text.proven", proof=key, is_new=is_new, fault=fault, n_columns=len(record.columns),
        n_controls=len(record.controls),
    )  # fmt: skip
    return 0 if fault is None else EXIT_NOT_PROVEN


def show(artefact: bytes | None) -> int:
    """Print a stored artefact, or the filters and columns of this version."""
    if artefact is not None:
        sys.stdout.write(artefact.decode())
        return 0
    features = TextFeatures(Sentiment(), FilterRules())
    return _say("text.shown", filters=_plain(features.spec.filters), sentiment_sha256=features.spec.sentiment_sha256,
                signature_without_encoder=features.spec.signature, columns=features.names)  # fmt: skip


def symbols_of(tables: TableStore, asked: TextRange) -> tuple[str, ...]:
    """
    Return the symbols asked for, or all that the markets hold, sorted; without the names of whole markets.

    Raises:
        Refused: if the markets hold none.
    """
    if asked.symbols:
        return tuple(dict.fromkeys(asked.symbols))
    found = {
        symbol
        for kind in KINDS
        for market in asked.markets
        if market in tables.markets(kind)
        for symbol in tables.symbols(kind, market=market)
    }
    if not found - set(MARKET_WIDE):
        what = f"expected posts or news of {', '.join(asked.markets)}, found none: collect some first"
        raise Refused("no_texts", what)
    return tuple(sorted(found - set(MARKET_WIDE)))


@contextmanager
def _refusing(reason: str) -> Iterator[None]:
    """Tell a ValueError of the texts' library by its reason."""
    try:
        yield
    except ValueError as error:
        raise Refused(reason, str(error)) from error


def clock() -> float:
    """Return seconds of a clock for durations."""
    return time.monotonic()


def _table(matrix: TextMatrix, manifest: TextManifest) -> pa.Table:
    n_buckets, n_symbols, _ = matrix.values.shape
    times = pa.array(np.repeat(matrix.ends, n_symbols).astype("datetime64[us]")).cast(pa.timestamp("us", tz="UTC"))
    columns = {"closed_at": times, "symbol": pa.array(list(matrix.symbols) * n_buckets)}
    columns |= {name: pa.array(matrix.values[:, :, i].ravel()) for i, name in enumerate(matrix.names)}
    about = {b"qraft.origin": manifest.origin.value.encode(), b"qraft.signature": manifest.signature.encode(),
             b"qraft.manifest": manifest.encode()}  # fmt: skip
    return pa.table(columns).replace_schema_metadata(about)


def _plain(rules: FilterRules) -> Mapping[str, float]:
    return {name: getattr(rules, name) for name in rules.__struct_fields__}


def _speed(encoder: CachedEncoder | None, seconds: float) -> dict[str, float]:
    if encoder is None:
        return {"seconds": round(seconds, 2)}
    return {"seconds": round(seconds, 2), "n_encoded": encoder.n_encoded, "n_from_cache": encoder.n_found}


def _say(event: str, **fields: Any) -> int:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    return 0
