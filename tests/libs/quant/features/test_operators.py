"""Every operator against its formula in plain numpy, window by window."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.libs.quant.features.market import FIRST_INDEX, INTERVAL_S, walk, with_trouble

from qraft_quant.features import OPERATORS, FeatureSet, FeatureSpec, compute_history
from qraft_quant.features.primitives import BUILDERS

N_BARS = 400
BARS = with_trouble(walk(n_bars=N_BARS, with_state=True))
O, H, L, C, V = (BARS[name] for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
X, Y = np.log(C), V  # what the operators are tried on
R = np.diff(X, axis=0, prepend=np.nan)
EXPRESSIONS = {"X": "log(close)", "Y": "volume", "R": "delta(log(close), 1)"}


def rolled(x, n, reduce):
    """Return reduce(window) of each row; NaN where the window is not whole."""
    out = np.full(x.shape, np.nan)
    for t in range(n - 1, len(x)):
        window = x[t - n + 1 : t + 1]
        out[t] = [np.nan if np.isnan(w).any() else reduce(w) for w in window.T]
    return out


def rolled_pair(x, y, n, reduce):
    out = np.full(x.shape, np.nan)
    for t in range(n - 1, len(x)):
        for s in range(x.shape[1]):
            a, b = x[t - n + 1 : t + 1, s], y[t - n + 1 : t + 1, s]
            if not np.isnan(a + b).any():
                out[t, s] = reduce(a, b)
    return out


def over(part, whole):
    return np.where(whole == 0.0, 0.0 * part, part / np.where(whole == 0.0, 1.0, whole))


def lagged(x, k):
    return np.concatenate([np.full((k, x.shape[1]), np.nan), x[:-k]])


def moment(w, power):
    centred = w - w.mean()
    spread = (centred**2).mean()
    return 0.0 if np.ptp(w) == 0.0 else (centred**power).mean() / spread ** (power / 2)


def ranked(w):
    return ((w < w[-1]).sum() + 0.5 * (w == w[-1]).sum()) / len(w)


def decayed(span, n):
    weights = (1 - 2 / (span + 1)) ** np.arange(n)[::-1]
    return lambda w: float((w * weights).sum() / weights.sum())


def taps(d, n):
    weights = [1.0]
    for k in range(1, n):
        weights.append(-weights[-1] * (d - k + 1) / k)
    return lambda w: float((w[::-1] * weights).sum())


def correlation(a, b):
    return 0.0 if np.ptp(a) == 0.0 or np.ptp(b) == 0.0 else float(np.corrcoef(a, b)[0, 1])


def line(w):
    return 0.0 if np.ptp(w) == 0.0 else float(np.polyfit(np.arange(len(w)), w, 1)[0])


def across(x, reduce):
    out = np.full(x.shape, np.nan)
    for t, row in enumerate(x):
        known = ~np.isnan(row)
        if known.any():
            out[t, known] = reduce(row[known])
    return out


def average_ranks(row):
    row = row.astype(np.float32)
    less = (row[:, None] > row[None]).sum(axis=1)
    return (less + 0.5 * (row[:, None] == row[None]).sum(axis=1)) / len(row)


def day_phase(period_s, offset_s=0):
    seconds = (FIRST_INDEX + np.arange(N_BARS)) * INTERVAL_S + offset_s
    return np.repeat((2 * np.pi * (seconds % period_s) / period_s)[:, None], C.shape[1], axis=1)


SPREAD = np.log(H) - np.log(L)
TRUE_RANGE = np.maximum(np.log(H), lagged(X, 1)) - np.minimum(np.log(L), lagged(X, 1))
with np.errstate(all="ignore"):
    # operator → (expression, expected); windows that are powers of two, and some that are not
    CASES = {
        "+": ("{X} + {Y}", X + Y),
        "-": ("{X} - {Y}", X - Y),
        "*": ("{X} * {Y}", X * Y),
        "/": ("{X} / {Y}", over(X, Y)),
        ">": ("{R} > 0", np.where(np.isnan(R), np.nan, R > 0)),
        "<": ("{R} < 0", np.where(np.isnan(R), np.nan, R < 0)),
        "log": ("log({Y})", np.where(V > 0, np.log(np.where(V > 0, V, 1)), np.nan)),
        "abs": ("abs({R})", np.abs(R)),
        "sign": ("sign({R})", np.sign(R)),
        "sqrt": ("sqrt({R})", np.sqrt(np.where(R < 0, 0, R))),
        "maximum": ("maximum({R}, 0)", np.maximum(R, 0)),
        "minimum": ("minimum({R}, lag({R}, 2))", np.minimum(R, lagged(R, 2))),
        "clip": ("clip({R}, -0.001, 0.002)", np.clip(R, -0.001, 0.002)),
        "where": ("where({R}, {X}, {Y})", np.where(np.isnan(R), np.nan, np.where(R > 0, X, Y))),
        "missing": ("missing(log(funding_rate - 1))", np.where(BARS["funding_rate"] > 1, 0.0, 1.0)),
        "fill": ("fill(log(funding_rate - 1), 7)",
                 np.where(BARS["funding_rate"] > 1, np.log(np.maximum(BARS["funding_rate"] - 1, 1e-300)), 7.0)),
        "lag": ("lag({X}, 37)", lagged(X, 37)),
        "mean": ("mean({X}, 37)", rolled(X, 37, np.mean)),
        "sum": ("sum({Y}, 24)", rolled(Y, 24, np.sum)),
        "var": ("var({Y}, 21)", rolled(Y, 21, np.var)),
        "std": ("std({X}, 48)", rolled(X, 48, np.std)),
        "ema": ("ema({X}, 9, 50)", rolled(X, 50, decayed(9, 50))),
        "max": ("max({R}, 27)", rolled(R, 27, np.max)),
        "min": ("min({R}, 48)", rolled(R, 48, np.min)),
        "argmax": ("argmax({R}, 23)", rolled(R, 23, lambda w: np.argmax(w[::-1]))),
        "argmin": ("argmin({R}, 48)", rolled(R, 48, lambda w: np.argmin(w[::-1]))),
        "rank": ("rank({R}, 30)", rolled(R, 30, ranked)),
        "quantile": ("quantile({R}, 29, 0.2)", rolled(R, 29, lambda w: np.quantile(w, 0.2))),
        "cov": ("cov({X}, {Y}, 31)", rolled_pair(X, Y, 31, lambda a, b: np.cov(a, b, ddof=0)[0, 1])),
        "corr": ("corr({X}, {Y}, 48)", rolled_pair(X, Y, 48, correlation)),
        "beta": ("beta({R}, {Y}, 19)", rolled_pair(
            R, Y, 19, lambda a, b: 0.0 if np.ptp(b) == 0.0 else np.cov(a, b, ddof=0)[0, 1] / b.var())),
        "slope": ("slope({X}, 45)", rolled(X, 45, line)),
        "fit": ("fit({X}, 45)", rolled(X, 45, lambda w: correlation(w, np.arange(len(w), dtype=float)) ** 2)),
        "skew": ("skew({R}, 43)", rolled(R, 43, lambda w: moment(w, 3))),
        "kurt": ("kurt({R}, 43)", rolled(R, 43, lambda w: moment(w, 4) - 3)),
        "frac_diff": ("frac_diff({X}, 0.5, 6)", rolled(X, 6, taps(0.5, 6))),
        "cross_rank": ("cross_rank({R})", across(R, average_ranks)),
        "cross_zscore": ("cross_zscore({R})", across(R, lambda w: over(w - w.mean(), w.std()))),
        "cross_demean": ("cross_demean({R})", across(R, lambda w: w - w.mean())),
        "hour_sin": ("hour_sin()", np.sin(day_phase(86_400))),
        "hour_cos": ("hour_cos()", np.cos(day_phase(86_400))),
        "week_sin": ("week_sin()", np.sin(day_phase(604_800, 3 * 86_400))),
        "week_cos": ("week_cos()", np.cos(day_phase(604_800, 3 * 86_400))),
        "delta": ("delta({X}, 5)", X - lagged(X, 5)),
        "zscore": ("zscore({Y}, 40)", rolled(Y, 40, lambda w: over(w[-1] - w.mean(), w.std()))),
        "median": ("median({X}, 24)", rolled(X, 24, np.median)),
        "efficiency": ("efficiency(close, 12)", over(X - lagged(X, 12), rolled(np.abs(R), 12, np.sum))),
        "rsi": ("rsi({X}, 14)", over(2 * rolled(np.maximum(R, 0), 14, np.sum), rolled(np.abs(R), 14, np.sum))
                - np.where(rolled(np.abs(R), 14, np.sum) == 0, 0, 1)),
        "true_range": ("true_range(high, low, close)", TRUE_RANGE),
        "atr": ("atr(high, low, close, 14)", rolled(TRUE_RANGE, 14, np.mean)),
        "parkinson": ("parkinson(high, low, 20)", np.sqrt(rolled(SPREAD**2, 20, np.mean) / (4 * math.log(2)))),
        "garman_klass": ("garman_klass(open, high, low, close, 20)", np.sqrt(rolled(
            SPREAD**2 / 2 - (2 * math.log(2) - 1) * np.log(C / O) ** 2, 20, np.mean))),
        "rogers_satchell": ("rogers_satchell(open, high, low, close, 20)", np.sqrt(rolled(
            np.log(H / C) * np.log(H / O) + np.log(L / C) * np.log(L / O), 20, np.mean))),
        "place": ("place(close, high, low, 20)", over(
            C - (rolled(H, 20, np.max) + rolled(L, 20, np.min)) / 2, rolled(H, 20, np.max) - rolled(L, 20, np.min))),
        "body": ("body(open, high, low, close)", over(np.log(C) - np.log(O), SPREAD)),
        "upper_shadow": ("upper_shadow(open, high, low, close)",
                         over(np.log(H) - np.log(np.maximum(O, C)), SPREAD)),
        "lower_shadow": ("lower_shadow(open, high, low, close)",
                         over(np.log(np.minimum(O, C)) - np.log(L), SPREAD)),
        "close_location": ("close_location(high, low, close)", over(2 * X - np.log(H) - np.log(L), SPREAD)),
        "imbalance": ("imbalance(taker_buy_volume, taker_sell_volume)",
                      (BARS["taker_buy_volume"] - BARS["taker_sell_volume"])
                      / (BARS["taker_buy_volume"] + BARS["taker_sell_volume"])),
        "flow": ("flow(sign({R}), volume, 16)", over(rolled(np.sign(R) * V, 16, np.sum),
                                                     np.where(np.isnan(R), np.nan, 1) * rolled(V, 16, np.sum))),
        "vwap": ("vwap(close, volume, 16)", over(rolled(C * V, 16, np.sum), rolled(V, 16, np.sum))),
        "amihud": ("amihud(close, volume, 16)", np.log(1e-12 + rolled(over(np.abs(R), C * V), 16, np.mean))),
        "roll_spread": ("roll_spread(close, 24)", 2 * np.sqrt(np.maximum(-rolled_pair(
            R, lagged(R, 1), 24, lambda a, b: np.cov(a, b, ddof=0)[0, 1]), 0))),
        "corwin_schultz": ("corwin_schultz(high, low, 16)", rolled(np.maximum(0, (
            (math.sqrt(2) - 1) / (3 - 2 * math.sqrt(2)) * np.sqrt(SPREAD**2 + lagged(SPREAD, 1) ** 2)
            - (np.log(rolled(H, 2, np.max)) - np.log(rolled(L, 2, np.min))) / math.sqrt(3 - 2 * math.sqrt(2)))
        ), 16, np.mean)),
        "signed_log": ("signed_log({R})", np.sign(R) * np.log(1 + np.abs(R))),
        "vpin": ("vpin(taker_buy_volume, taker_sell_volume, 16)", over(
            rolled(np.abs(2 * BARS["taker_buy_volume"] - BARS["taker_sell_volume"]), 16, np.sum),
            rolled(BARS["taker_sell_volume"], 16, np.sum))),
        "kyle": ("kyle(close, volume, 24)", rolled_pair(R, np.sign(R) * V, 24, correlation)),
    }  # fmt: skip


def computed(*expressions):
    features = FeatureSet("t", tuple(FeatureSpec(f"f{i}", "t", text) for i, text in enumerate(expressions)))
    return compute_history(BARS, FIRST_INDEX, features=features), features


def test_every_operator_has_a_case_and_every_primitive_is_built():
    assert set(CASES) == set(OPERATORS)
    assert set(BUILDERS) == {name for name, operator in OPERATORS.items() if not operator.is_formula}


@pytest.fixture(scope="module")
def results():
    values, features = computed(*(text.format(**EXPRESSIONS) for text, _ in CASES.values()))
    return {name: (values[..., i], features.features[i].window) for i, name in enumerate(CASES)}


@pytest.mark.parametrize("name", CASES)
def test_operator_agrees_with_its_formula_with_gaps_halts_and_no_volume(results, name):
    ours, window = results[name]
    expected = np.where(np.isnan(C), np.nan, CASES[name][1])
    expected[: window - 1] = np.nan

    assert np.isfinite(expected).sum() > 500
    np.testing.assert_allclose(ours, expected, rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_operator_of_what_never_moves_is_exact(name):
    n = 200
    still = {k: np.full((n, 2), 3.7) for k in ("open", "high", "low", "close")}
    still |= {"volume": np.zeros((n, 2))} | {k: np.full((n, 2), 0.1) for k in BARS if k not in (*still, "volume")}
    text = CASES[name][0].format(**(EXPRESSIONS | {"Y": "open"}))

    values = compute_history(still, FIRST_INDEX, features=FeatureSet("t", (FeatureSpec("f", "t", text),)))

    settled = values[60:, 0, 0]
    if name not in ("hour_sin", "hour_cos", "week_sin", "week_cos"):
        assert len(set(settled.tolist())) == 1
    zero = {"var", "std", "slope", "fit", "skew", "corr", "cov", "beta", "zscore", "delta", "efficiency",
            "rsi", "true_range", "atr", "body", "place", "cross_zscore", "cross_demean", "roll_spread", "kyle",
            "argmax", "argmin", "parkinson", "garman_klass"}  # fmt: skip
    if name in zero:
        assert (settled == 0.0).all()


def test_a_value_of_another_size_leaves_no_trace_once_it_has_left_the_window():
    bars = {name: values.copy() for name, values in walk(n_bars=300).items()}
    spiked = {name: values.copy() for name, values in bars.items()}
    for name in ("open", "high", "low", "close"):
        spiked[name][100] *= 1e9
    spiked["volume"][100] = 1e15
    features = FeatureSet("t", tuple(
        FeatureSpec(f"f{i}", "t", CASES[name][0].format(**EXPRESSIONS))
        for i, name in enumerate(("mean", "sum", "std", "ema", "corr", "slope", "skew", "quantile", "frac_diff"))
    ))  # fmt: skip

    clean, dirty = (compute_history(values, FIRST_INDEX, features=features) for values in (bars, spiked))

    np.testing.assert_array_equal(clean[151:], dirty[151:])


def test_quantiles_of_one_window_share_its_sorting_and_all_are_right():
    quantiles = [0.0, 0.05, 0.2, 0.5, 0.75, 0.9, 1.0]  # more than one sorting can give
    values, _ = computed(*(f"quantile(log(close), 17, {q})" for q in quantiles))

    for i, q in enumerate(quantiles):
        expected = rolled(X, 17, lambda w, q=q: np.quantile(w, q))
        np.testing.assert_allclose(values[..., i], expected, rtol=1e-6)


def test_ties_share_their_average_rank_across_symbols():
    close = np.array([[1.0, 1.0, 1.0, 1.0, np.nan], [2.0, 3.0, 3.0, 1.0, 5.0]])
    bars = dict.fromkeys(("open", "high", "low", "close"), close) | {"volume": np.ones(close.shape)}

    values = compute_history(bars, 0, features=FeatureSet("t", (FeatureSpec("f", "t", "cross_rank(close)"),)))

    np.testing.assert_allclose(values[0, :, 0], [0.5, 0.5, 0.5, 0.5, np.nan])
    np.testing.assert_allclose(values[1, :, 0], [0.3, 0.6, 0.6, 0.1, 0.9])
