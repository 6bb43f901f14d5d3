"""What a calculator is, and the error where the packages are not installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
# One window by series: "change" log returns, "range" log(high / low), "volume" log(1 + volume); each (n_bars,), known.
Window = Mapping[str, FloatArray]
SERIES: Final = ("change", "range", "volume")
# A catalogue of features that nobody named is for screening, not for keeping: enough to choose from.
N_FEATURES_MAX: Final = 200
_NAME_MAX: Final = 64


class PackageMissing(ImportError):
    """An optional package is not installed; the message names the extra."""

    def __init__(self, package: str) -> None:
        super().__init__(f"expected {package} for automatic features: pip install 'qraft-screening[automatic]'")


@dataclass(frozen=True, slots=True)
class Calculator:
    """One automatic feature. value: of one window; the formula says in words what the package computes."""

    name: str
    formula: str
    value: Callable[[Window], float]


def name_of(*words: str) -> str:
    """Return words as the name of a feature: lower case, digits and underscores, at most 64 characters."""
    whole = re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")
    return whole[:_NAME_MAX].rstrip("_")
