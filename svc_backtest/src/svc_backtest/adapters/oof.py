"""oof.parquet as arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from svc_backtest.domain.market import FloatArray, IntArray

_VALUES = ("expected_return", "confidence", "volatility")


class OutOfFold:
    """
    The out-of-fold forecasts of a candidate, long: one row a bar, symbol and horizon.

    Raises:
        ValueError: if the bytes are no Parquet or a column is missing or of another kind.
    """

    def __init__(self, data: bytes) -> None:
        try:
            table = pq.read_table(io.BytesIO(data), columns=["as_of", "symbol", "horizon", *_VALUES])
            self._as_of_s: IntArray = _numbers(table["as_of"].cast(pa.timestamp("us", tz="UTC"))).astype(np.int64)
            self._symbol = _texts(table["symbol"])
            self._horizon = _texts(table["horizon"])
            self._values: FloatArray = np.stack([_numbers(table[name].cast(pa.float64())) for name in _VALUES], axis=1)
        except (pa.ArrowException, KeyError) as error:
            raise ValueError(f"expected oof.parquet with as_of, symbol, horizon and {_VALUES}: {error}") from error
        self._as_of_s //= 1_000_000
        if self._as_of_s.size == 0:
            raise ValueError("expected out-of-fold forecasts, received a table without rows")

    @property
    def first_s(self) -> int:
        """Return the first as_of, unix seconds."""
        return int(self._as_of_s.min())

    @property
    def last_s(self) -> int:
        """Return the last as_of, unix seconds."""
        return int(self._as_of_s.max())

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols with a forecast, sorted."""
        return tuple(sorted(set(self._symbol.tolist())))

    @property
    def horizons(self) -> tuple[str, ...]:
        """Return the horizons with a forecast, sorted."""
        return tuple(sorted(set(self._horizon.tolist())))

    def of(self, horizon: str, *, columns: Sequence[str], from_s: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Return as_of (n,), the symbols' places in `columns` (n,), values (n, 3) of one horizon from an instant on."""
        rows = (self._horizon == horizon) & (self._as_of_s >= from_s)
        place = {symbol: i for i, symbol in enumerate(columns)}
        names, which = np.unique(self._symbol[rows], return_inverse=True)
        places = np.array([place[name] for name in names.tolist()], dtype=np.int64)
        return self._as_of_s[rows], places[which] if places.size else np.empty(0, np.int64), self._values[rows]


def _numbers(column: pa.ChunkedArray[Any]) -> FloatArray:
    numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    return np.asarray(numbers.to_numpy(zero_copy_only=False))


def _texts(column: pa.ChunkedArray[Any]) -> np.typing.NDArray[np.str_]:
    plain = column.cast(pa.string())
    if pc.any(pc.is_null(plain)).as_py():
        raise ValueError("expected no empty names in oof.parquet")
    return np.asarray(plain.to_numpy(zero_copy_only=False), dtype=np.str_)
