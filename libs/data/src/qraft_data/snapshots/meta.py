"""What a snapshot says about itself: `snapshot_meta.json`. Nothing in it comes from a clock or a machine."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from qraft_data.continuous.rolls import RollPoint

DATA_FILE: Final = "data.parquet"
META_FILE: Final = "snapshot_meta.json"
_JSON: Final = msgspec.json.Encoder(order="deterministic")


class ColumnMeta(msgspec.Struct, frozen=True, kw_only=True):
    """
    One column. sha256: of its values, whatever the file that holds them. missing_frac: of its rows, 0 without rows.

    mean, std (population), low, high: of the finite numbers, None where there is none or the column holds no numbers;
    sums are exactly rounded, so every machine writes the same digits. n_infinite: numbers that are left out of them.
    """

    type: str
    unit: str
    sha256: str
    n_missing: int
    missing_frac: float
    n_infinite: int = 0
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None


class SnapshotMeta(msgspec.Struct, frozen=True, kw_only=True):
    """
    The record of one snapshot.

    query: every choice that made the data, the range among them. versions: of each source, as it was read. lineage: of
    everything made from it, the value of the header Qraft-Lineage. counts: what was left out or is missing. files: name
    to SHA-256 of the bytes.
    """

    format: str
    snapshot_id: str
    lineage: str
    query: dict[str, Any]
    versions: dict[str, str]
    origin: Origin
    n_rows: int
    columns: dict[str, ColumnMeta]
    counts: dict[str, int]
    roll_points: tuple[RollPoint, ...]
    files: dict[str, str]


def lineage_of(snapshot_id: str) -> str:
    """Return the value of the header Qraft-Lineage for what is made from a snapshot."""
    return f"snapshot:{snapshot_id}"


def key_of(snapshot_id: str, name: str) -> str:
    """Return the artefact key of one of a snapshot's files."""
    return f"snapshots/{snapshot_id}/{name}"


def encode_meta(meta: SnapshotMeta) -> bytes:
    """Return the bytes of snapshot_meta.json; equal records give equal bytes."""
    return msgspec.json.format(_JSON.encode(meta), indent=2) + b"\n"


def describe_columns(table: pa.Table) -> dict[str, ColumnMeta]:
    """Return what a snapshot says of each column."""
    return {name: _describe(table[name], name) for name in table.column_names}


def _describe(column: Any, name: str) -> ColumnMeta:
    whole = column.combine_chunks()
    n_rows, n_missing = len(whole), whole.null_count
    measures: dict[str, float | None] = {}
    n_infinite = 0
    if pa.types.is_floating(whole.type):
        numbers = whole.drop_null().to_numpy(zero_copy_only=False)
        n_infinite = int(np.isinf(numbers).sum())
        measures = _measures(numbers[np.isfinite(numbers)])
    return ColumnMeta(
        type=str(whole.type),
        unit=_unit(name),
        sha256=column_sha256(whole),
        n_missing=n_missing,
        missing_frac=n_missing / n_rows if n_rows else 0.0,
        n_infinite=n_infinite,
        **measures,
    )


def column_sha256(column: Any) -> str:
    """Return the SHA-256 of a column's type, its pattern of nulls and its values; a NaN is any NaN."""
    digest = hashlib.sha256(str(column.type).encode())
    is_null = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
    digest.update(len(column).to_bytes(8, "little") + np.packbits(is_null).tobytes())
    if pa.types.is_string(column.type):
        texts = [b"" if text is None else str(text).encode() for text in column.to_pylist()]
        digest.update(np.array([len(text) for text in texts], dtype="<i8").tobytes() + b"".join(texts))
    elif pa.types.is_floating(column.type):
        numbers = np.asarray(column.to_numpy(zero_copy_only=False), dtype="<f8")
        digest.update(np.where(np.isnan(numbers), np.nan, numbers).astype("<f8").tobytes())
    else:
        integers = column.cast(pa.int64()).fill_null(0)
        digest.update(np.asarray(integers.to_numpy(zero_copy_only=False), dtype="<i8").tobytes())
    return digest.hexdigest()


def _measures(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float | None]:
    if not numbers.size:
        return {}
    mean = math.fsum(numbers) / numbers.size
    variance = math.fsum(np.square(numbers - mean)) / numbers.size
    return {"mean": mean, "std": math.sqrt(variance), "low": float(numbers.min()), "high": float(numbers.max())}


def _unit(name: str) -> str:
    """Return the dictionary's unit of a column named after a metric, "" for others."""
    kind_name, _, rest = name.partition(".")
    field_name = rest.partition("@")[0].partition("~")[0]
    kind = KINDS.get(kind_name)
    return next((field.unit for field in kind.fields if field.name == field_name), "") if kind else ""
