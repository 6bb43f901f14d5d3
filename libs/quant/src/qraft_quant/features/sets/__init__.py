"""The sets of features that can be named in a setting."""

from typing import Final

from qraft_quant.features.catalog import FeatureSet
from qraft_quant.features.sets.core import CORE
from qraft_quant.features.sets.full import FULL

SETS: Final[dict[str, FeatureSet]] = {features.name: features for features in (CORE, FULL)}


def feature_set(name: str) -> FeatureSet:
    """
    Return the set of a name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SETS:
        raise ValueError(f"expected a feature set out of {', '.join(SETS)}, received {name!r}: see QRAFT_FEATURES_SET")
    return SETS[name]


__all__ = ["CORE", "FULL", "SETS", "feature_set"]
