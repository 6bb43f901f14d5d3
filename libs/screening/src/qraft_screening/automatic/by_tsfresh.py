"""tsfresh's calculators, a bounded choice of those that take microseconds and have a meaning on returns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final

from qraft_screening.automatic.calculators import SERIES, Calculator, PackageMissing, Window, name_of

# Name in tsfresh.feature_extraction.feature_calculators, and parameters.
_CHOSEN: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("abs_energy", {}),
    ("absolute_sum_of_changes", {}),
    ("autocorrelation", {"lag": 1}),
    ("autocorrelation", {"lag": 6}),
    ("binned_entropy", {"max_bins": 10}),
    ("c3", {"lag": 1}),
    ("cid_ce", {"normalize": True}),
    ("count_above_mean", {}),
    ("first_location_of_maximum", {}),
    ("first_location_of_minimum", {}),
    ("kurtosis", {}),
    ("last_location_of_maximum", {}),
    ("mean_second_derivative_central", {}),
    ("number_peaks", {"n": 3}),
    ("ratio_beyond_r_sigma", {"r": 2}),
    ("skewness", {}),
    ("time_reversal_asymmetry_statistic", {"lag": 1}),
)


def tsfresh_calculators() -> list[Calculator]:
    """
    Return each chosen calculator on each series.

    Raises:
        PackageMissing: if tsfresh is not installed.
    """
    try:
        from tsfresh.feature_extraction import feature_calculators as module
    except ImportError as error:
        raise PackageMissing("tsfresh") from error
    return [_calculator(module, name, parameters, series) for series in SERIES for name, parameters in _CHOSEN]


def _calculator(module: ModuleType, name: str, parameters: dict[str, Any], series: str) -> Calculator:
    said = [f"{key}_{value}" for key, value in parameters.items()]
    listed = "".join(f", {key}={value}" for key, value in parameters.items())
    compute: Callable[..., Any] = getattr(module, name)
    return Calculator(
        name_of("tsfresh", series, name, *said),
        f"tsfresh.{name}({series}{listed})",
        partial(_value, compute, series, parameters),
    )


def _value(compute: Callable[..., Any], series: str, parameters: dict[str, Any], window: Window) -> float:
    return float(compute(window[series], **parameters))
