"""The last day of closes of every symbol: what decisions see of the market. Rebuilt from the bar store at any time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qraft_quant.execution import N_BARS_VOLATILITY

FloatArray = npt.NDArray[np.float64]

N_ROWS = N_BARS_VOLATILITY + 1
# Rows are appended to a buffer of this height and moved to its start when it is full: one move in 577 bars.
_BUFFER_ROWS = 3 * N_ROWS
# Symbols that come and go may not fill the memory; the largest venue lists about 3,000.
N_SYMBOLS_MAX = 8192


def valid_closes(open_: FloatArray, close: FloatArray, volume: FloatArray) -> FloatArray:
    """Return the closes, NaN where the bar cannot be used: a price not positive and finite, or a volume not finite."""
    usable = np.isfinite(open_) & (open_ > 0.0) & np.isfinite(close) & (close > 0.0) & np.isfinite(volume)
    return np.where(usable, close, np.nan)


class CloseWindow:
    """
    Closes on the time grid, (N_ROWS, n_symbols), ending at the last bar; NaN where a symbol has no usable bar.

    The content is a function of the bars of the last N_ROWS grid steps alone, however it was reached.
    """

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}
        self._buffer = np.full((_BUFFER_ROWS, 0), np.nan)
        self._end = N_ROWS
        self.last_index: int | None = None

    def load(self, symbols: Sequence[str], closes: FloatArray, *, last_index: int) -> None:
        """Start over from closes (n_rows, n_symbols) on the grid, the newest at last_index; older rows are NaN."""
        rows = closes[-N_ROWS:]
        self._columns = {symbol: i for i, symbol in enumerate(symbols)}
        self._buffer = np.full((_BUFFER_ROWS, len(symbols)), np.nan)
        self._end = N_ROWS
        self._buffer[self._end - len(rows) : self._end] = rows
        self.last_index = last_index

    def follows(self, index: int) -> bool:
        """Return whether `push(index)` is the next grid step; if not, `load` first."""
        return self.last_index is not None and index == self.last_index + 1

    def push(self, index: int, symbols: Sequence[str], closes: FloatArray) -> None:
        """Append the next grid step: closes (n_symbols,) of the symbols that have a bar."""
        assert self.follows(index), f"expected the step after {self.last_index}, received {index}"
        new = [symbol for symbol in symbols if symbol not in self._columns]
        if new:
            assert len(self._columns) + len(new) <= N_SYMBOLS_MAX, f"more than {N_SYMBOLS_MAX} symbols in one day"
            self._columns |= {symbol: len(self._columns) + i for i, symbol in enumerate(new)}
            self._buffer = np.hstack([self._buffer, np.full((_BUFFER_ROWS, len(new)), np.nan)])
        if self._end == _BUFFER_ROWS:
            self._buffer[: N_ROWS - 1] = self._buffer[self._end - N_ROWS + 1 :].copy()
            self._end = N_ROWS - 1
        self._buffer[self._end] = np.nan
        self._buffer[self._end, [self._columns[symbol] for symbol in symbols]] = closes
        self._end += 1
        self.last_index = index

    def rows(self, symbols: Sequence[str]) -> FloatArray:
        """Return (N_ROWS, n_symbols) of the symbols asked for, NaN for those never seen; C order."""
        window = self._buffer[self._end - N_ROWS : self._end]
        columns = [self._columns.get(symbol, -1) for symbol in symbols]
        found = np.full((N_ROWS, len(symbols)), np.nan)
        known = [j for j, column in enumerate(columns) if column >= 0]
        found[:, known] = window[:, [columns[j] for j in known]]
        return found

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols with a usable bar in the window, sorted."""
        seen = np.isfinite(self._buffer[self._end - N_ROWS : self._end]).any(axis=0)
        return tuple(sorted(symbol for symbol, column in self._columns.items() if seen[column]))
