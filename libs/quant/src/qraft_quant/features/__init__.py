"""Features of bars: expressions over operators, one compiled machine for histories and for live bars."""

from qraft_quant.features.catalog import FeatureSet, FeatureSpec
from qraft_quant.features.expression import ExpressionError
from qraft_quant.features.history import compute_history
from qraft_quant.features.online import OnlineFeatures, SnapshotError, compile_engine
from qraft_quant.features.operators import BAR_INPUTS, INPUTS, OPERATORS, STATE_INPUTS
from qraft_quant.features.sets import CORE, FULL, SETS, feature_set

__all__ = [
    "BAR_INPUTS",
    "CORE",
    "FULL",
    "INPUTS",
    "OPERATORS",
    "SETS",
    "STATE_INPUTS",
    "ExpressionError",
    "FeatureSet",
    "FeatureSpec",
    "OnlineFeatures",
    "SnapshotError",
    "compile_engine",
    "compute_history",
    "feature_set",
]
