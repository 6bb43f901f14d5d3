"""
Target weights from the horizons' outlooks, under stated limits. Pure: the same values give the same bits, whatever
the order of the symbols.
"""

from qraft_quant.allocation.candidates import HorizonRows, Refusal, ScoreStatistics, edge_and_score
from qraft_quant.allocation.correlation import Correlations, correlation_matrix, weekly_correlations
from qraft_quant.allocation.limits import DEMO, STANDARD, AllocationLimits, demonstration, tightened
from qraft_quant.allocation.portfolio import Allocation, Share, TargetWeight, allocate

__all__ = [
    "DEMO",
    "STANDARD",
    "Allocation",
    "AllocationLimits",
    "Correlations",
    "HorizonRows",
    "Refusal",
    "ScoreStatistics",
    "Share",
    "TargetWeight",
    "allocate",
    "correlation_matrix",
    "demonstration",
    "edge_and_score",
    "tightened",
    "weekly_correlations",
]
