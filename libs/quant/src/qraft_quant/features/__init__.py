"""Factors of bars: one compiled engine for histories and for live bars, with a signed contract."""

from qraft_quant.features.catalog import FEATURE_NAMES, FEATURES, WARM_UP_BARS, Feature, feature_signature
from qraft_quant.features.history import compute_history
from qraft_quant.features.online import OnlineFeatures, compile_engine

__all__ = [
    "FEATURES",
    "FEATURE_NAMES",
    "WARM_UP_BARS",
    "Feature",
    "OnlineFeatures",
    "compile_engine",
    "compute_history",
    "feature_signature",
]
