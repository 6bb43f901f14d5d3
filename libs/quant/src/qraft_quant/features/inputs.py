"""Inputs as the machine takes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from qraft_quant.features.operators import BAR_INPUTS, INPUTS, STATE_INPUTS

FloatArray = npt.NDArray[np.float64]
Inputs = Mapping[str, FloatArray]


def shape_of(inputs: Inputs, *, n_dimensions: int) -> tuple[int, ...]:
    """
    Return the shape that all inputs have.

    Raises:
        ValueError: if one of a bar's five is absent, a name is unknown, or shapes differ.
    """
    absent, unknown = [name for name in BAR_INPUTS if name not in inputs], sorted(set(inputs) - set(INPUTS))
    if absent or unknown:
        raise ValueError(f"expected {', '.join(BAR_INPUTS)} and any of {', '.join(STATE_INPUTS)}; "
                         f"absent: {absent}, unknown: {unknown}")  # fmt: skip
    shapes = {name: values.shape for name, values in inputs.items()}
    shape = shapes["close"]
    if len(shape) != n_dimensions or set(shapes.values()) != {shape}:
        raise ValueError(f"expected {n_dimensions} dimensions and one shape for all inputs, received {shapes}")
    return shape


def stacked(inputs: Inputs, names: tuple[str, ...], rows: slice | tuple[()] = ()) -> FloatArray:
    """Return some rows of the named inputs one after the other, flat; an input that is absent is NaN."""
    first = inputs["close"][rows]
    out = np.empty((len(names), first.size))
    for row, name in zip(out, names, strict=True):
        row[:] = inputs[name][rows].reshape(-1) if name in inputs else np.nan
    return out.reshape(-1)
