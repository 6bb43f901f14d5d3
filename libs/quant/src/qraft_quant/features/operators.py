"""
The operators of feature expressions: what each means, its parameters with their domains as JSON Schema, its version.

An operator is either made of instructions (primitives.py) or a formula over other operators. In formulas x, y, … are
series, n, k, … parameters; windows hold the last n bars, the newest included; std is the population's. Every result
is NaN where a bar that it reads is missing, except for missing() and fill(). What is divided by 0 is 0.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

Schema = dict[str, Any]
# Inputs that every bar has, and those that may be absent (NaN): qraft_contracts.kinds.STATE_INPUTS.
BAR_INPUTS: Final = ("open", "high", "low", "close", "volume")
TEXT_INPUTS: Final = (
    "text_heat", "text_heat_24h", "text_heat_surprise", "text_sentiment", "text_sentiment_24h", "text_opinion_spread",
    "text_novelty", "text_event_density", "text_comment_ratio", "news_heat", "news_sentiment", "news_event_density",
)  # fmt: skip
STATE_INPUTS: Final = (
    "funding_rate", "open_interest_usd", "basis_frac", "long_short_ratio", "taker_buy_volume", "taker_sell_volume",
    "mark_premium_frac", "book_spread_frac", "microprice_frac", "queue_imbalance", "depth_imbalance", "bid_depth",
    "ask_depth", "order_flow_imbalance", "n_trades", "n_taker_buys", "trade_notional", "taker_buy_notional",
    "n_liquidations", "liquidation_usd", "vix", "dxy", "us10y", "us2y", "fear_greed", "btc_hashrate", "vix_z", "dxy_z",
    "us10y_z", "fear_greed_z", "btc_hashrate_z", "n_events_24h",
    *TEXT_INPUTS,
)  # fmt: skip
# What made an input, where a pipeline with a signature of its own did (qraft_contracts.kinds.TEXT_SIGNATURE). Numbers
# of another pipeline mean something else under the same name: the signature of features that read them covers this.
MADE_BY: Final = dict.fromkeys(TEXT_INPUTS, "3a9113304698ba115d77e2e43bdf039591c10d6fdb28a8dad2b3753d63e60fff")
INPUTS: Final = (*BAR_INPUTS, *STATE_INPUTS)
# A week of five-minute bars is the longest look back; every symbol's memory is a multiple of it.
N_BARS_MAX: Final = 2016


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """
    One operator. series: names of its series. parameters: JSON Schema of each, in order. version: raised when the
    numbers change although the formula reads the same. is_formula: the formula is an expression and its definition.
    """

    name: str
    series: tuple[str, ...]
    formula: str
    parameters: dict[str, Schema] = field(default_factory=dict)
    version: int = 1
    is_formula: bool = False

    @property
    def content(self) -> Schema:
        """Return what a signature covers."""
        return {"name": self.name, "formula": self.formula, "parameters": self.parameters, "version": self.version}

    @property
    def schema(self) -> Schema:
        """Return the JSON Schema of the parameters, an object of them by name."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "description": self.formula,
            "type": "object",
            "properties": self.parameters,
            "required": list(self.parameters),
            "additionalProperties": False,
        }

    @property
    def signature(self) -> str:
        """Return the SHA-256 that names this operator: formula, domains of the parameters, version."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()


def _bars(low: int, high: int = N_BARS_MAX) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _by_name(*operators: Operator) -> dict[str, Operator]:
    return {operator.name: operator for operator in operators}


_ANY: Final = _number(-1e12, 1e12)
_X, _XY = ("x",), ("x", "y")
_PRIMITIVES: Final = (
    Operator("+", _XY, "x + y"),
    Operator("-", _XY, "x - y"),
    Operator("*", _XY, "x y"),
    Operator("/", _XY, "x / y, 0 where y = 0"),
    Operator(">", _XY, "1 where x > y, else 0"),
    Operator("<", _XY, "1 where x < y, else 0"),
    Operator("log", _X, "natural logarithm, missing where x <= 0"),
    Operator("abs", _X, "|x|"),
    Operator("sign", _X, "1, -1 or 0"),
    Operator("sqrt", _X, "square root, 0 where x < 0"),
    Operator("maximum", _XY, "the larger of x and y"),
    Operator("minimum", _XY, "the smaller of x and y"),
    Operator("clip", _X, "x within [low, high]", {"low": _ANY, "high": _ANY}),
    Operator("where", ("condition", "x", "y"), "x where condition > 0, else y"),
    Operator("missing", _X, "1 where x is missing, else 0"),
    Operator("fill", _X, "x, value where it is missing", {"value": _ANY}),
    Operator("lag", _X, "x of k bars ago", {"k": _bars(1)}),
    Operator("mean", _X, "mean of n bars", {"n": _bars(2)}),
    Operator("sum", _X, "n mean(x, n)", {"n": _bars(2)}),
    Operator("var", _X, "population variance of n bars, by pairwise joins", {"n": _bars(2)}),
    Operator("std", _X, "sqrt(var(x, n))", {"n": _bars(2)}),
    Operator("ema", _X, "mean of n bars with weights (1 - 2 / (span + 1))^age",
             {"span": _bars(2), "n": _bars(2)}),
    Operator("max", _X, "largest of n bars", {"n": _bars(2)}),
    Operator("min", _X, "smallest of n bars", {"n": _bars(2)}),
    Operator("argmax", _X, "bars since the largest of n, the newest of equal ones", {"n": _bars(2)}),
    Operator("argmin", _X, "bars since the smallest of n, the newest of equal ones", {"n": _bars(2)}),
    Operator("rank", _X, "(values below x + half of those equal to x, itself included) / n, among n bars",
             {"n": _bars(3, 512)}),
    Operator("quantile", _X, "quantile p of n bars, linear between order statistics",
             {"n": _bars(3, 512), "p": _number(0.0, 1.0)}),
    Operator("cov", _XY, "population covariance of n bars", {"n": _bars(3)}),
    Operator("corr", _XY, "cov(x, y, n) / sqrt(var(x, n) var(y, n)), within [-1, 1]", {"n": _bars(3)}),
    Operator("beta", _XY, "cov(x, y, n) / var(y, n)", {"n": _bars(3)}),
    Operator("slope", _X, "least-squares slope over n bars, per bar", {"n": _bars(3)}),
    Operator("fit", _X, "squared correlation with time over n bars", {"n": _bars(3)}),
    Operator("skew", _X, "third standardized moment of n bars", {"n": _bars(8)}),
    Operator("kurt", _X, "fourth standardized moment of n bars less 3, -3 where nothing moves", {"n": _bars(8)}),
    Operator("frac_diff", _X, "fractional difference of order d, n weights: w0 = 1, wk = -w(k-1) (d - k + 1) / k",
             {"d": _number(0.05, 0.95), "n": _bars(2, 64)}),
    Operator("cross_rank", _X, "(rank - 1/2) / count among the symbols of the bar, ties average"),
    Operator("cross_zscore", _X, "(x - mean) / std over the symbols of the bar"),
    Operator("cross_demean", _X, "x less its mean over the symbols of the bar"),
    Operator("hour_sin", (), "sin(2 pi t / 1 day), t = end of the bar in UTC"),
    Operator("hour_cos", (), "cos(2 pi t / 1 day), t = end of the bar in UTC"),
    Operator("week_sin", (), "sin(2 pi t / 7 days), t = end of the bar, from Monday 00:00 UTC"),
    Operator("week_cos", (), "cos(2 pi t / 7 days), t = end of the bar, from Monday 00:00 UTC"),
)  # fmt: skip


def _formula(name: str, series: str, formula: str, **parameters: Schema) -> Operator:
    return Operator(name, tuple(series.split()), formula, parameters, is_formula=True)


_RANGE: Final = "log(high) - log(low)"
_FORMULAS: Final = (
    _formula("delta", "x", "x - lag(x, k)", k=_bars(1)),
    _formula("zscore", "x", "(x - mean(x, n)) / std(x, n)", n=_bars(3)),
    _formula("median", "x", "quantile(x, n, 0.5)", n=_bars(3, 512)),
    _formula("efficiency", "x", "clip(delta(log(x), n) / sum(abs(delta(log(x), 1)), n), -1, 1)", n=_bars(2)),
    # Cutler's form: (rises - falls) / (rises + falls), within [-1, 1]; Wilder's runs from the first bar ever.
    _formula("rsi", "x", "clip(sum(delta(x, 1), n) / sum(abs(delta(x, 1)), n), -1, 1)", n=_bars(2)),
    _formula("true_range", "high low close",
             "maximum(log(high), lag(log(close), 1)) - minimum(log(low), lag(log(close), 1))"),
    _formula("atr", "high low close", "mean(true_range(high, low, close), n)", n=_bars(2)),
    # Parkinson (1980): E[range²] = 4 ln 2 σ².
    _formula("parkinson", "high low", f"sqrt(mean(({_RANGE}) * ({_RANGE}), n) / 2.772588722239781)", n=_bars(2)),
    # Garman and Klass (1980), eq. 20 without the small cross terms: 2 ln 2 - 1.
    _formula("garman_klass", "open high low close",
             f"sqrt(mean(({_RANGE}) * ({_RANGE}) / 2 - 0.3862943611198906 * (log(close) - log(open))"
             " * (log(close) - log(open)), n))", n=_bars(2)),
    # Rogers and Satchell (1991): free of drift.
    _formula("rogers_satchell", "open high low close",
             "sqrt(mean((log(high) - log(close)) * (log(high) - log(open))"
             " + (log(low) - log(close)) * (log(low) - log(open)), n))", n=_bars(2)),
    _formula("place", "x high low", "(x - (max(high, n) + min(low, n)) / 2) / (max(high, n) - min(low, n))",
             n=_bars(2)),
    _formula("body", "open high low close", f"(log(close) - log(open)) / ({_RANGE})"),
    _formula("upper_shadow", "open high low close", f"(log(high) - maximum(log(open), log(close))) / ({_RANGE})"),
    _formula("lower_shadow", "open high low close", f"(minimum(log(open), log(close)) - log(low)) / ({_RANGE})"),
    _formula("close_location", "high low close", f"(2 * log(close) - log(high) - log(low)) / ({_RANGE})"),
    _formula("imbalance", "x y", "(x - y) / (x + y)"),
    _formula("flow", "x volume", "clip(sum(x * volume, n) / sum(volume, n), -1, 1)", n=_bars(2)),
    _formula("vwap", "price volume", "sum(price * volume, n) / sum(volume, n)", n=_bars(2)),
    _formula("signed_log", "x", "sign(x) * log(1 + abs(x))"),
    # Easley, López de Prado and O'Hara (2012), over intervals of time in place of buckets of volume.
    _formula("vpin", "buys total", "sum(abs(2 * buys - total), n) / sum(total, n)", n=_bars(2)),
    # Amihud (2002): how far a unit of turnover moves the price; its log, as it spans many decades.
    _formula("amihud", "close volume",
             "log(1e-12 + mean(abs(delta(log(close), 1)) / (close * volume), n))", n=_bars(3)),
    # Roll (1984): 2 sqrt(-cov(r, r[-1])).
    _formula("roll_spread", "close",
             "2 * sqrt(-cov(delta(log(close), 1), lag(delta(log(close), 1), 1), n))", n=_bars(8)),
    # Corwin and Schultz (2012), eq. 18, alpha alone: (sqrt(2 b) - sqrt(b)) / (3 - 2 sqrt 2) - sqrt(g / (3 - 2 sqrt 2)).
    _formula("corwin_schultz", "high low",
             f"mean(maximum(0, (sqrt(2) - 1) / (3 - 2 * sqrt(2)) * sqrt(({_RANGE}) * ({_RANGE})"
             f" + lag(({_RANGE}) * ({_RANGE}), 1)) - (max(log(high), 2) - min(log(low), 2))"
             " / sqrt(3 - 2 * sqrt(2))), n)", n=_bars(2)),
    # After Kyle (1985): return for a unit of signed volume, in units of its usual size.
    _formula("kyle", "close volume",
             "corr(delta(log(close), 1), sign(delta(log(close), 1)) * volume, n)", n=_bars(8)),
)  # fmt: skip
# Words for what many features begin with; as operators without series they are part of signatures.
_ALIASES: Final = (
    _formula("r", "", "log(close) - lag(log(close), 1)"),
    _formula("q", "", "log(1 + volume * close)"),
    _formula("spread", "", "log(high) - log(low)"),
    _formula("typical", "", "(high + low + close) / 3"),
)
OPERATORS: Final = _by_name(*_PRIMITIVES, *_FORMULAS)
ALIASES: Final = _by_name(*_ALIASES)


def domain_error(operator: Operator, values: tuple[float, ...]) -> str:
    """Return what is wrong with an operator's parameters, "" if nothing is."""
    for (name, schema), value in zip(operator.parameters.items(), values, strict=True):
        low, high = schema["minimum"], schema["maximum"]
        if schema["type"] == "integer" and value != int(value):
            return f"expected a whole number for {name} of {operator.name}, received {value:g}"
        if not low <= value <= high:
            return f"expected {name} of {operator.name} within [{low:g}, {high:g}], received {value:g}"
    return ""
