"""
Features that nobody thought of: tsfresh's calculators and featuretools' primitives, stacked, on windows of bars.

A calculator is handed one window at a time, cut by the aligner, and nothing else, so that it cannot see beyond it. The
packages are an extra (`qraft-screening[automatic]`); without them everything else works.
"""

from qraft_screening.automatic.calculators import PackageMissing
from qraft_screening.automatic.compute import AutomaticFeatures, automatic_features
from qraft_screening.automatic.prove import prove_automatic

__all__ = ["AutomaticFeatures", "PackageMissing", "automatic_features", "prove_automatic"]
