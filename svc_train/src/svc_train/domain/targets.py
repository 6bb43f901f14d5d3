"""What the heads of one horizon learn, on the panel's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qraft_quant.labels import forward_returns, net_labels, realized_volatility, trailing_returns
from svc_train.domain.samples import BoolArray, FloatArray

# A flat stretch (an outage) has volatility zero; its logarithm must stay finite. 1e-6 is the smallest volatility that
# a score divides by, so nothing below it would ever matter.
VOLATILITY_MIN = 1e-6


@dataclass(frozen=True, slots=True)
class HorizonTargets:
    """
    Labels of one horizon, (n_bars, n_symbols) each, NaN where unknown; row t uses closes t..t + n_bars_ahead only.

    net: forward - cost. log_volatility: natural logarithm. trailing: the return over the same span before t.
    """

    horizon: str
    n_bars_ahead: int
    cost: float
    known_frac_min: float
    forward: FloatArray
    net: FloatArray
    log_volatility: FloatArray
    trailing: FloatArray

    @property
    def is_known(self) -> BoolArray:
        """Return where every label is known."""
        return np.isfinite(self.forward) & np.isfinite(self.log_volatility)


def make_targets(
    close: FloatArray, *, horizon: str, n_bars_ahead: int, cost: float, known_frac_min: float
) -> HorizonTargets:
    """Return the labels of one horizon. close: (n_bars, n_symbols) on the full grid."""
    volatility = realized_volatility(close, n_bars_ahead, known_frac_min=known_frac_min)
    return HorizonTargets(
        horizon=horizon,
        n_bars_ahead=n_bars_ahead,
        cost=cost,
        known_frac_min=known_frac_min,
        forward=forward_returns(close, n_bars_ahead),
        net=net_labels(close, n_bars_ahead, cost=cost),
        log_volatility=np.log(np.maximum(volatility, VOLATILITY_MIN)),
        trailing=trailing_returns(close, n_bars_ahead),
    )
