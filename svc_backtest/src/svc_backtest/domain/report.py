"""report.html: the result for people, in English and Chinese, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.times import format_instant
from qraft_quant.measures import drawdowns
from svc_backtest.domain.charts import Series, histogram, line_chart
from svc_backtest.domain.market import Market
from svc_backtest.domain.result import BacktestResult, Span
from svc_backtest.domain.simulate import Simulation

_STYLE: Final = """
:root{--ink:#1b2733;--dim:#5b6b7b;--line:#d9e0e7;--paper:#fff;--soft:#f4f6f8;--blue:#1f5fbf;--red:#b3382c;--amber:#9a6400}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--dim:#9aa8b5;--line:#2c3944;--paper:#12181e;--soft:#1a222a;--blue:#6aa5f8;
--red:#ef8579;--amber:#e0ac4c}}
body{margin:0 auto;max-width:1000px;padding:24px 16px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif}
h1{font-size:1.5rem;margin:0 0 4px}h2{font-size:1.1rem;margin:32px 0 8px}small,.dim{color:var(--dim)}
.badge{display:inline-block;border:1px solid var(--dim);border-radius:4px;padding:1px 8px;margin-right:6px;
font-size:.85rem}
.badge.warn{border-color:var(--amber);color:var(--amber)}.badge.bad{border-color:var(--red);color:var(--red)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:4px 8px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:110px}td code{white-space:normal}
svg{display:block;width:100%;min-width:640px;height:auto;background:var(--soft);border-radius:6px}
.grid{stroke:var(--line)}.mark{stroke:var(--dim);stroke-dasharray:2 4}.tick{fill:var(--dim);font-size:11px}
polyline{fill:none;stroke-width:1.5}.equity,.gross{stroke:var(--blue)}.drawdown,.net{stroke:var(--red)}
.key{display:inline-block;width:12px;height:3px;margin:0 4px 3px 12px}.key.gross{background:var(--blue)}
.key.net{background:var(--red)}.bar{fill:var(--blue);opacity:.75}.threshold{stroke:var(--red);stroke-width:2}code{font-size:.85em;word-break:break-all}
"""

_KEY: Final = (
    '<small><span class="key gross"></span>gross · 总敞口<span class="key net"></span>net · 净敞口, '
    "fractions of equity at the close</small>"
)
_ORIGINS: Final = {Origin.REAL: ("", "真实"), Origin.REPLAY: ("warn", "回放"), Origin.SIMULATED: ("bad", "模拟")}

# (English, Chinese, what a span shows)
_ROWS: Final[tuple[tuple[str, str, Callable[[Span], str]], ...]] = (
    ("Return", "收益", lambda s: _percent(s.total_return)),
    ("Return before costs", "扣除成本前收益", lambda s: _percent(s.return_before_costs)),
    ("Market, buy and hold", "市场买入持有", lambda s: _percent(s.market_return)),
    ("Sharpe ± s.e.", "夏普比率 ± 标准误", lambda s: _sharpe(s)),
    ("Daily observations", "日观测数", lambda s: f"{s.n_observations:,}"),
    ("Max drawdown", "最大回撤", lambda s: _percent(s.max_drawdown)),
    ("Turnover (per day)", "换手（每日）", lambda s: f"{s.turnover:,.1f} ({s.turnover_per_day:.2f})"),
    ("Orders: full / partial / expired", "订单：全部 / 部分 / 过期", lambda s: _orders(s)),
    ("Fees", "手续费", lambda s: _money(s.fee)),
    ("Half spread", "半价差", lambda s: _money(s.half_spread)),
    ("Slippage", "滑点", lambda s: _money(s.slippage)),
    ("Impact", "冲击", lambda s: _money(s.impact)),
    ("Drift to the fill (+ against us)", "成交前漂移（正为不利）", lambda s: _money(s.drift)),
    (
        "Gross exposure, mean / max",
        "总敞口，均值 / 最大",
        lambda s: f"{_percent(s.gross_mean)} / {_percent(s.gross_max)}",
    ),
    ("Net exposure, mean", "净敞口均值", lambda s: _percent(s.net_mean)),
    ("Bars (of them held)", "K 线数（其中未决策）", lambda s: f"{s.n_bars:,} ({s.n_bars_held:,})"),
)


def render_report(result: BacktestResult, market: Market, run: Simulation, *, fold_starts_s: Sequence[int]) -> str:
    """Return the page. Every number in it stands in the result too."""
    at_s = market.closed_at_s[run.first : run.first + run.equity.size]
    fell = -drawdowns(np.concatenate([[result.terms.start_cash], run.equity]))[1:]
    equity = line_chart(at_s, [Series("Equity", "equity", run.equity)], unit="money", marks_s=fold_starts_s)
    drawdown = line_chart(at_s, [Series("Drawdown", "drawdown", fell)], unit="percent", marks_s=fold_starts_s)
    exposures = [Series("Gross exposure", "gross", run.gross), Series("Net exposure", "net", run.net)]
    sections = [
        _section("What this is, and what it is not", "这是什么，不是什么", _notes(result)),
        _section("Equity", "净值", _wide(equity) + "<small>Dotted: first bar of a fold · 虚线：各折起点</small>"),
        _section("Drawdown", "回撤", _wide(drawdown)),
        _section("Exposure", "敞口", _wide(line_chart(at_s, exposures, unit="percent", marks_s=fold_starts_s)) + _KEY),
        _section("Results by fold", "各折结果", _spans([result.whole, *result.folds])),
        _section("Scores and thresholds", "得分分布与阈值", _scores(result)),
        _section("Turned away", "拒绝原因", _pairs(result.refused)),
        _section("Limits, costs, inputs", "限额、成本、输入", _inputs(result)),
    ]
    title = f"Backtest {result.model_id}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)} <small>回测</small></h1>{_badges(result)}"
        f"{''.join(sections)}</body></html>\n"
    )


def _badges(result: BacktestResult) -> str:
    css, chinese = _ORIGINS[result.origin]
    profile = "" if result.profile == "standard" else "warn"
    label = "profile" if result.profile == "standard" else "demonstration profile · 演示参数"
    return (
        f'<p><span class="badge {css}">{result.origin.value} · {chinese}</span>'
        f'<span class="badge {profile}">{label}: {escape(result.profile)}</span>'
        f'<span class="dim">{escape(result.market)} {escape(result.interval)} · {len(result.symbols)} symbols · '
        f"{format_instant(result.whole.first_at)} – {format_instant(result.whole.last_at)}</span></p>"
    )


def _notes(result: BacktestResult) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in result.what_it_is_not)
    return (
        f"<p>{escape(result.what_it_is)}</p><ul>{items}</ul>"
        "<p>对未参与训练的 K 线做的首次诚实评估（滚动前推、计入成本、与实时线路同一执行内核）。"
        "它不是准入门槛，也不代表未来收益。</p>"
        f"<p class='dim'>{escape(result.annualization)}</p>"
    )


def _spans(spans: Sequence[Span]) -> str:
    head = "".join(f"<th>{escape(span.name)}</th>" for span in spans)
    rows = [
        f"<tr><td>{english} <small>{chinese}</small></td>{''.join(f'<td>{show(span)}</td>' for span in spans)}</tr>"
        for english, chinese, show in _ROWS
    ]
    return _wide(f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>")


def _scores(result: BacktestResult) -> str:
    parts = []
    for one in result.scores:
        distance = "no score · 无得分" if one.distance is None else f"{one.distance:+.3f}"
        parts.append(
            f"<p><b>{one.horizon}</b> ({escape(one.bucket)}, cost {1e4 * one.cost:.0f} bps): {one.n_above:,} of "
            f"{one.n_rows:,} scores at or above {one.threshold:g}; threshold minus best · 阈值减最高分: {distance}</p>"
        )
        if one.histogram:
            chart = histogram(one.edges, one.histogram, threshold=one.threshold, label=f"Scores {one.horizon}")
            parts.append(_wide(chart))
    return "".join(parts)


def _inputs(result: BacktestResult) -> str:
    limits, costs, terms = result.limits, result.costs, result.terms
    shown = {
        "score_min": limits.score_min,
        "confidence_min": limits.confidence_min,
        "edge_min": limits.edge_min,
        "symbol_cap": limits.symbol_cap,
        "bucket_caps": limits.bucket_caps,
        "gross_max": limits.gross_max,
        "risk_budget": limits.risk_budget,
        "correlation_max": limits.correlation_max,
        "fee_bps, half_spread_bps": f"{costs.fee_bps}, {costs.half_spread_bps}",
        "slippage_bps short, long": f"{costs.slippage_short_bps}, {costs.slippage_long_bps}",
        "participation short, long": f"{costs.participation_short}, {costs.participation_long}",
        "impact eta, beta": f"{costs.impact_eta}, {costs.impact_beta}",
        "start_cash, band, min_notional": f"{terms.start_cash:,.0f}, {terms.band}, {terms.min_notional}",
        "symbols": ", ".join(result.symbols),
        **{f"sha256 {name}": value for name, value in result.inputs.items()},
        "sha256 orders.csv": result.order_list_sha256,
    }
    return _pairs(shown)


def _pairs(values: dict[str, int] | dict[str, object]) -> str:
    if not values:
        return "<p class='dim'>nothing · 无</p>"
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(str(value))}</code></td></tr>" for name, value in values.items()
    )
    return _wide(f"<table>{rows}</table>")


def _wide(body: str) -> str:
    """Return a part that scrolls sideways on a narrow screen instead of shrinking."""
    return f'<div class="wide">{body}</div>'


def _section(english: str, chinese: str, body: str) -> str:
    return f"<section><h2>{english} <small>{chinese}</small></h2>{body}</section>"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100.0 * value:.2f} %"


def _money(value: float) -> str:
    return f"{value:,.0f}"


def _sharpe(span: Span) -> str:
    if span.sharpe is None or span.sharpe_standard_error is None:
        return "–"
    return f"{span.sharpe:.2f} ± {span.sharpe_standard_error:.2f}"


def _orders(span: Span) -> str:
    return f"{span.n_orders_full:,} / {span.n_orders_partial:,} / {span.n_orders_expired:,}"
