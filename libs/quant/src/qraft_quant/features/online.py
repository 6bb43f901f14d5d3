"""Features of one bar after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qraft_quant.features.catalog import FEATURES
from qraft_quant.features.kernel import advance_kernel, rank_kernel
from qraft_quant.features.state import Bars, State, new_state

FloatArray = npt.NDArray[np.float64]


def compile_engine() -> None:
    """Compile the engine, or load it from numba's disk cache: about 10 s of one core once, then below a second."""
    online, row, history = OnlineFeatures(1), np.ones(1), np.ones((1, 1))
    online.warm_up(history, history, history, history, history, 0)
    online.step(row, row, row, row, row, index=1)


class OnlineFeatures:
    """
    Feature state of a fixed set of symbols, moved on bar by bar by the code that computes histories.

    After a warm-up of WARM_UP_BARS bars or more, every step gives the bits that `compute_history` gives for that row.
    """

    def __init__(self, n_symbols: int) -> None:
        self._n_symbols = n_symbols
        self._advance, self._rank = advance_kernel(), rank_kernel()
        self._state: State | None = None
        self._next_index = 0

    @property
    def is_valid(self) -> npt.NDArray[np.bool_]:
        """Return, (n_symbols,), whose newest row was a bar: finite positive prices within high and low, volume >= 0."""
        assert self._state is not None, "no bar yet"
        valid: npt.NDArray[np.bool_] = self._state.run > 0
        return valid

    def warm_up(
        self,
        open: FloatArray,  # noqa: A002  as in compute_history
        high: FloatArray,
        low: FloatArray,
        close: FloatArray,
        volume: FloatArray,
        first_index: int,
    ) -> None:
        """
        Forget everything and take a history, oldest bar first.

        Args:
            open, high, low, close, volume: (n_bars, n_symbols) on the full grid, NaN where a bar is missing.
            first_index: grid index of row 0.
        """
        bars = Bars.of(open, high, low, close, volume)
        assert bars.close.shape[1] == self._n_symbols, bars.close.shape
        assert first_index >= 0, first_index
        self._state = new_state(self._n_symbols, first_index=first_index)
        no_output = np.empty((0, self._n_symbols, len(FEATURES)), np.float32)
        self._advance(self._state, bars, 0, first_index, no_output)
        self._next_index = first_index + len(bars.close)

    def step(
        self,
        open: FloatArray,  # noqa: A002  as in compute_history
        high: FloatArray,
        low: FloatArray,
        close: FloatArray,
        volume: FloatArray,
        index: int,
    ) -> npt.NDArray[np.float32]:
        """
        Take the bar `index` and return its features.

        Args:
            open, high, low, close, volume: (n_symbols,), NaN where a symbol has no bar.
            index: grid index of the bar, one more than that of the bar before.

        Returns:
            (n_symbols, n_features), float32, a new array.

        Raises:
            ValueError: if the bar is not the next one; warm up again then.
        """
        if self._state is None or index != self._next_index:
            expected = "a warm-up first" if self._state is None else f"grid index {self._next_index}"
            raise ValueError(f"expected {expected}, received grid index {index}: warm up from stored bars")
        bars = Bars.of(*(values.reshape(1, self._n_symbols) for values in (open, high, low, close, volume)))
        out = np.empty((1, self._n_symbols, len(FEATURES)), np.float32)
        self._advance(self._state, bars, 0, index, out)
        self._rank(out)
        self._next_index = index + 1
        matrix: npt.NDArray[np.float32] = out[0]
        return matrix
