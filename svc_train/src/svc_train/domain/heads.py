"""A horizon's three trained heads, and the outputs that they make together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np

from qraft_quant.calibration import PlattScale
from svc_train.domain.samples import Float32Array, FloatArray
from svc_train.domain.trees import Tree

HeadKind = Literal["expected_return", "direction", "volatility"]
HEAD_KINDS: Final[tuple[HeadKind, ...]] = ("expected_return", "direction", "volatility")
OUTPUTS: Final = ("expected_return", "confidence", "volatility")


class FittedHead(Protocol):
    """One trained head: the sum of its trees plus an offset."""

    @property
    def trees(self) -> Sequence[Tree]: ...
    @property
    def offset(self) -> float: ...

    def raw(self, x: Float32Array) -> FloatArray:
        """Return the learner's own output, (n,) float64, offset included: net return, log-odds or log volatility."""
        ...


@dataclass(frozen=True, slots=True)
class HorizonModel:
    """The heads of a horizon and what turns them into signals. cost: round trip, fraction."""

    horizon: str
    cost: float
    bucket: str
    platt: PlattScale
    heads: Mapping[HeadKind, FittedHead]


def native_outputs(models: Sequence[HorizonModel], x: Float32Array) -> FloatArray:
    """
    Return (n, 3 * n_horizons), horizon-major in the order of OUTPUTS, float64: what the exported graph must equal.

    Gross expected return = the head's net forecast + cost.
    """
    columns: list[FloatArray] = []
    for model in models:
        gross = model.heads["expected_return"].raw(x) + model.cost
        up = model.platt.probability(model.heads["direction"].raw(x))
        columns += [gross, confidence_of(gross, up), np.exp(model.heads["volatility"].raw(x))]
    return np.stack(columns, axis=1)


def confidence_of(gross: FloatArray, probability_up: FloatArray) -> FloatArray:
    """Return the probability that the return has the sign of the gross forecast; a forecast of zero counts as up."""
    return np.where(gross >= 0.0, probability_up, 1.0 - probability_up)
