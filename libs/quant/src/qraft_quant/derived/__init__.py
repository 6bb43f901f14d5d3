"""
Kinds worked out of other kinds: the state of a book, flows of trades and liquidations, where a series stands.

What cannot enter a feature as one newest value (every level of a book, single trades, sixty days of a daily series)
becomes a row at the end of an interval here. All of it counts by `known_at` and looks back through the aligner.
"""

from qraft_quant.derived.depth import Depth, DepthBook, LevelRow, depth_states
from qraft_quant.derived.flow import LiquidationFlow, TradeFlow, liquidation_flow, trade_flow
from qraft_quant.derived.quotes import BestQuotes, QuoteStates, quote_states
from qraft_quant.derived.series import N_DENSITY_HOURS, N_SCORED, event_density, mark_premium, series_state

__all__ = [
    "N_DENSITY_HOURS",
    "N_SCORED",
    "BestQuotes",
    "Depth",
    "DepthBook",
    "LevelRow",
    "LiquidationFlow",
    "QuoteStates",
    "TradeFlow",
    "depth_states",
    "event_density",
    "liquidation_flow",
    "mark_premium",
    "quote_states",
    "series_state",
    "trade_flow",
]
