"""
The future, corrupted: what is known after an instant becomes NaN, changes places, is blurred, or is not there.

If what a computation says of an instant and before is, bit for bit, what it said of the whole history, then it read
nothing that was known later. That is all that is assumed: tables of rows with the time at which each became known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qraft_quant.align.times import MicrosArray

AnyArray = npt.NDArray[Any]
EVENT_AT: Final = "event_at"
# Blurred events move into the past by up to so many of the median steps between rows: far enough to meet others.
_STEPS_BACK: Final = 20
_BLUR: Final = 0.1  # standard deviation of the logarithm of the factor


@dataclass(frozen=True, slots=True)
class Table:
    """
    Rows in the order in which they became known.

    known_at: (n,), ascending. columns: rows along the first axis; floats are values, integers are keys, and int64
    `event_at` is what a row is about, <= known_at.
    """

    known_at: MicrosArray
    columns: Mapping[str, AnyArray]

    def __len__(self) -> int:
        return int(self.known_at.size)

    def __getitem__(self, name: str) -> AnyArray:
        return self.columns[name]


Tables = Mapping[str, Table]


@dataclass(frozen=True, slots=True)
class Output:
    """What a computation says, at which times: at (n,), ascending; values (n, ..., n_names), float32 or float64."""

    at: MicrosArray
    names: tuple[str, ...]
    values: npt.NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.values.shape[0] != self.at.size or self.values.shape[-1] != len(self.names):
            raise ValueError(f"expected values ({self.at.size}, ..., {len(self.names)}), received {self.values.shape}")


Compute = Callable[[Tables], Output]
Corrupt = Callable[[Table, int, np.random.Generator], Table]


def corrupt(tables: Tables, cut_at: int, *, how: str, seed: int) -> Tables:
    """Return the tables with everything known after cut_at corrupted; how: out of CORRUPTIONS."""
    change = CORRUPTIONS[how]
    return {
        name: change(table, int(np.searchsorted(table.known_at, cut_at, side="right")), _random(seed, cut_at, i))
        for i, (name, table) in enumerate(sorted(tables.items()))
    }


def _random(seed: int, cut_at: int, table: int) -> np.random.Generator:
    return np.random.default_rng([seed, cut_at, table])


def _to_nan(table: Table, first: int, _: np.random.Generator) -> Table:
    """Floats become NaN, and events as new as can be: a row that must not count would win every comparison."""
    return _changed(table, first, lambda rows: np.full(rows.shape, np.nan, rows.dtype), lambda _, known_at: known_at)


def _shuffled(table: Table, first: int, rng: np.random.Generator) -> Table:
    """Whole rows change places, so that each stays possible; times of knowing stay where they are."""
    order = rng.permutation(len(table) - first)
    moved = _changed(table, first, lambda rows: rows[order], lambda event_at, known: np.minimum(event_at[order], known))
    keys = {
        name: np.concatenate([values[:first], values[first:][order]])
        for name, values in table.columns.items()
        if name != EVENT_AT and not np.issubdtype(values.dtype, np.floating)
    }
    return Table(table.known_at, {**moved.columns, **keys})


def _noisy(table: Table, first: int, rng: np.random.Generator) -> Table:
    """One factor a row and symbol for all columns: a bar stays a bar, for a refused one would hide a leak."""
    factors: dict[tuple[int, ...], AnyArray] = {}

    def blur(rows: AnyArray) -> AnyArray:
        if rows.shape not in factors:
            factors[rows.shape] = np.exp(rng.normal(0.0, _BLUR, rows.shape))
        blurred: AnyArray = (rows * factors[rows.shape]).astype(rows.dtype)
        return blurred

    step = int(np.median(np.diff(table.known_at))) if len(table) > 1 else 1
    back = rng.integers(0, _STEPS_BACK * max(step, 1), len(table) - first)
    return _changed(table, first, blur, lambda event_at, _: np.maximum(event_at - back, 0))


def _ended(table: Table, first: int, _: np.random.Generator) -> Table:
    """The history ends here: finds what counts rows, or reads how long the history is."""
    return Table(table.known_at[:first], {name: values[:first] for name, values in table.columns.items()})


def _changed(
    table: Table,
    first: int,
    change: Callable[[AnyArray], AnyArray],
    move: Callable[[MicrosArray, MicrosArray], MicrosArray],
) -> Table:
    columns = dict(table.columns)
    for name, values in table.columns.items():
        if name == EVENT_AT:
            columns[name] = np.concatenate([values[:first], move(values[first:], table.known_at[first:])])
        elif np.issubdtype(values.dtype, np.floating):
            columns[name] = np.concatenate([values[:first], change(values[first:])])
    return Table(table.known_at, columns)


CORRUPTIONS: Final[dict[str, Corrupt]] = {"nan": _to_nan, "shuffle": _shuffled, "noise": _noisy, "end": _ended}
