"""Features of one bar after the other."""

from __future__ import annotations

import hashlib
import json
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant.features.catalog import DEFAULT_INTERVAL, FeatureSet
from qraft_quant.features.history import tile_rows_for
from qraft_quant.features.inputs import Inputs, shape_of, stacked
from qraft_quant.features.machine import machine
from qraft_quant.features.memory import Memory, new_memory, recall, remembered
from qraft_quant.features.operators import BAR_INPUTS
from qraft_quant.features.sets import CORE

SNAPSHOT_FORMAT: Final = "qraft-features/2"
_DIGEST_BYTES: Final = 32


class SnapshotError(ValueError):
    """A snapshot that this engine cannot go on from; the text says why. Warm up from stored bars instead."""


class OnlineFeatures:
    """
    Feature state of a fixed set of symbols, moved on bar by bar by the machine that computes histories.

    After a warm-up of `features.warm_up_bars` bars or more, every step gives the bits that `compute_history` gives for
    that row. 85 kB a symbol for CORE, 280 kB for FULL.
    """

    def __init__(self, n_symbols: int, *, features: FeatureSet, interval: str = DEFAULT_INTERVAL) -> None:
        assert n_symbols >= 1, n_symbols
        self._n_symbols = n_symbols
        self._features = features
        self._interval = interval
        self._tables = features.program(interval)
        self._advance = machine()
        self._memory: Memory | None = None
        self._next_index = 0

    @property
    def is_valid(self) -> npt.NDArray[np.bool_]:
        """Return, (n_symbols,), whose newest row was a bar: finite positive prices within high and low, volume >= 0."""
        assert self._memory is not None, "no bar yet"
        valid: npt.NDArray[np.bool_] = self._memory.ok[: self._n_symbols] == 0.0
        return valid

    def warm_up(self, inputs: Inputs, first_index: int) -> None:
        """
        Forget everything and take a history, oldest bar first.

        Args:
            inputs: (n_bars, n_symbols) on the full grid, NaN where a bar is missing; see compute_history.
            first_index: grid index of row 0.

        Raises:
            ValueError: if inputs are absent, unknown or of different shapes.
        """
        n_bars, n_symbols = shape_of(inputs, n_dimensions=2)
        assert n_symbols == self._n_symbols and first_index >= 0, (n_symbols, first_index)
        # Tiles of many bars for the history, of one bar from now on.
        memory = new_memory(self._tables, width=n_symbols, tile_rows=tile_rows_for(n_symbols))
        no_output = np.empty((0, len(self._features.features)), np.float32)
        if n_bars:
            self._advance(self._tables, memory, stacked(inputs, self._features.inputs), first_index, no_output)
        self._recall(remembered(self._tables, memory), n_seen=n_bars)
        self._next_index = first_index + n_bars

    def step(self, inputs: Inputs, index: int) -> npt.NDArray[np.float32]:
        """
        Take the bar `index` and return its features.

        Args:
            inputs: (n_symbols,) each, NaN where a symbol has no bar; see compute_history.
            index: grid index of the bar, one more than that of the bar before.

        Returns:
            (n_symbols, n_features), float32, a new array.

        Raises:
            ValueError: if the bar is not the next one: warm up again then; or as `warm_up`.
        """
        if self._memory is None or index != self._next_index:
            expected = "a warm-up first" if self._memory is None else f"grid index {self._next_index}"
            raise ValueError(f"expected {expected}, received grid index {index}: warm up from stored bars")
        (n_symbols,) = shape_of(inputs, n_dimensions=1)
        assert n_symbols == self._n_symbols, n_symbols
        out = np.empty((n_symbols, len(self._features.features)), np.float32)
        self._advance(self._tables, self._memory, stacked(inputs, self._features.inputs), index, out)
        self._next_index = index + 1
        return out

    def snapshot(self) -> bytes:
        """Return the state after the newest bar; `restore` goes on from it with the same bits."""
        assert self._memory is not None, "no bar yet"
        header = self._header() | {"next_index": self._next_index, "n_seen": int(self._memory.shape[2])}
        values = remembered(self._tables, self._memory).astype("<f8").tobytes()
        body = json.dumps(header, sort_keys=True).encode() + b"\n" + values
        return hashlib.sha256(body).digest() + body

    def restore(self, snapshot: bytes) -> None:
        """
        Forget everything and go on from a snapshot.

        Raises:
            SnapshotError: if it is damaged, of another format, feature set, grid or number of symbols.
        """
        digest, body = snapshot[:_DIGEST_BYTES], snapshot[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            raise SnapshotError(f"expected a whole snapshot, received {len(snapshot)} bytes with another SHA-256")
        line, _, values = body.partition(b"\n")
        header = json.loads(line)
        received = {name: header.get(name) for name in self._header()}
        if received != self._header():
            raise SnapshotError(f"expected a snapshot of {self._header()}, received one of {received}")
        self._recall(np.frombuffer(values, "<f8").astype(np.float64), n_seen=int(header["n_seen"]))
        self._next_index = int(header["next_index"])

    def _header(self) -> dict[str, object]:
        return {
            "format": SNAPSHOT_FORMAT,
            "signature": self._features.signature(self._interval),
            "n_symbols": self._n_symbols,
        }

    def _recall(self, values: npt.NDArray[np.float64], *, n_seen: int) -> None:
        self._memory = new_memory(self._tables, width=self._n_symbols, tile_rows=1)
        recall(self._tables, self._memory, values, n_seen=n_seen)


def compile_engine() -> None:
    """Compile the machine, or load it from numba's disk cache: some seconds of one core once, for every feature set."""
    one = dict.fromkeys(BAR_INPUTS, np.ones(1))
    online = OnlineFeatures(1, features=CORE)
    online.warm_up({name: np.ones((1, 1)) for name in one}, 0)
    online.step(one, 1)
