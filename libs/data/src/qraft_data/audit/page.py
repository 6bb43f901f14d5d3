"""The audit as one HTML page without scripts: verdict, coverage map, gaps and the commands that mend them."""

from __future__ import annotations

import html
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from qraft_data.audit.findings import Audit, SeriesAudit, Verdict
from qraft_data.audit.mending import merged_commands

_WORDS: Final = {
    "title": ("Data audit", "数据审计"),
    "ready": ("ready", "就绪"),
    "not_ready": ("not ready", "未就绪"),
    "unjudged": ("no schedule", "无固定频率"),
    "of": ("required series are ready", "个必需序列就绪"),
    "required": ("These decide", "决定就绪的序列"),
    "window": ("window", "时间窗口"),
    "coverage": ("coverage over the window", "窗口内覆盖率"),
    "rows": ("rows", "行数"),
    "complete": ("complete", "完整度"),
    "gaps": ("gaps", "缺口"),
    "revised": ("revised", "修订"),
    "bad_ticks": ("bad ticks", "异常报价"),
    "mend": ("mend with", "修复命令"),
    "ok": ("whole", "完整"),
    "some": ("in part", "部分"),
    "bad": ("missing", "缺失"),
    "none": ("nothing is owed", "无应有数据"),
    "elsewhere": ("stored, but nothing of it known in this window", "已存储，但此窗口内没有已知数据"),
    "refused": ("quarantined rows", "隔离的行"),
    "thresholds": ("thresholds", "阈值"),
}
_STYLE: Final = """
:root{color-scheme:light dark;--ok:#1a7f4b;--bad:#b3261e;--some:#b7791f;--none:#8884;--line:#8883}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:84rem;padding:1.5rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .4rem}
.verdict{font-weight:600}.ready{color:var(--ok)}.not_ready{color:var(--bad)}.unjudged{color:inherit;opacity:.65}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;white-space:nowrap}
td.n{text-align:right}td.why{white-space:normal;padding-top:0;font-size:.9em}tr:has(+tr>.why)>td{border-bottom:0}
svg{display:block;width:100%;max-width:15rem;margin-top:.25rem}code{font-size:.85em;overflow-wrap:anywhere}
small{opacity:.7}th{white-space:normal}th small{display:block;font-weight:400}th.n{text-align:right}
p.legend i{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .9em}td.text{white-space:normal}
.commands{margin:.6rem 0 0;padding-left:1.2rem}.commands li{margin:.2rem 0}
@media(max-width:48rem){body{padding:1rem}.series,.series tbody{display:block}.series tr:has(th){display:none}
.series tr{display:flex;flex-wrap:wrap;border-bottom:1px solid var(--line);padding:.3rem 0}
.series td{border:0;padding:.1rem .9rem .1rem 0;white-space:normal}.series td:first-child{flex:1}
.series td:nth-child(3),.series td.why{flex:0 0 100%}.series svg{max-width:none}.series td.n{font-size:.9em}
.series td.n::before{content:attr(data-label) " ";opacity:.7}.series tr:has(+tr>.why){border-bottom:0}
.plain td{padding:.3rem .8rem .3rem 0}}
"""
_BAR_W: Final = 4
_NUMBERS: Final = ("rows", "complete", "gaps", "revised", "bad_ticks")


def audit_page(audit: Audit) -> str:
    """Return the page; equal audits give equal pages."""
    others = [it for it in audit.series if it.n_rows and not it.is_required]
    elsewhere = [it for it in audit.series if not it.n_rows and not it.is_required]
    state = "ready" if audit.ready else "not_ready"
    body = [
        f"<h1>{_word('title')}: {html.escape(audit.market)}, {html.escape(audit.mode)}</h1>",
        f'<p><span class="verdict {state}">{_word(state)}</span> · {audit.n_ready} / {audit.n_required} {_word("of")}'
        f"<br>{_word('window')} {audit.start} … {audit.end}<br><small>{_word('thresholds')}: "
        f"{html.escape(', '.join(f'{name} {value:g}' for name, value in audit.thresholds.items()))}</small></p>",
        _legend(),
        _section(_word("required"), list(audit.required)),
        *(_section(html.escape(kind), list(rows)) for kind, rows in groupby(others, key=lambda it: it.kind)),
        _quarantine(audit),
        _elsewhere(elsewhere),
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Qraft · data audit</title><style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _section(title: str, rows: list[SeriesAudit]) -> str:
    head = f"<th></th><th></th><th>{_word('coverage')}</th>"
    head += "".join(f'<th class="n">{_word(name)}</th>' for name in _NUMBERS)
    body = "".join(map(_row, rows))
    table = f'<div class="scroll"><table class="series"><tr>{head}</tr>{body}</table></div>'
    return f"<h2>{title}</h2>{table}{_commands(rows)}"


def _commands(rows: list[SeriesAudit]) -> str:
    """Return the commands that would bring what the rows miss, those of one kind and market as one."""
    lines = [f"<li><code>{html.escape(it)}</code></li>" for it in merged_commands([it.mend for it in rows if it.mend])]
    return f'<p>{_word("mend")}</p><ul class="commands">{"".join(lines)}</ul>' if lines else ""


def _legend() -> str:
    names = ("ok", "some", "bad", "none")
    return '<p class="legend">' + "".join(f'<i style="background:var(--{it})"></i>{_word(it)}' for it in names) + "</p>"


def _row(it: SeriesAudit) -> str:
    kind = f"{it.kind} · " if it.is_required else ""
    name = f"{kind}{it.market}{' ' + it.interval if it.interval else ''} <b>{html.escape(it.symbol)}</b>"
    complete = "–" if it.completeness is None else f"{it.completeness:.2%}"
    numbers = (f"{it.n_rows:,}", complete, it.n_gaps, it.n_revised, it.n_outliers)
    cells = (
        f"<td>{name}</td>",
        f'<td class="verdict {it.verdict}">{_word(it.verdict.value)}</td>',
        f"<td>{_strip(it)}</td>",
        *(
            f'<td class="n" data-label="{_WORDS[name][0]}">{cell}</td>'
            for name, cell in zip(_NUMBERS, numbers, strict=True)
        ),
    )
    return f"<tr>{''.join(cells)}</tr>{_why(it)}"


def _why(it: SeriesAudit) -> str:
    """Return the row below: what is wrong; nothing where nothing is."""
    said = [html.escape(reason) for reason in it.reasons]
    return f'<tr><td class="why" colspan="8">{"<br>".join(said)}</td></tr>' if said else ""


def _strip(it: SeriesAudit) -> str:
    """Return the coverage as a strip of bars, with its numbers for whoever cannot see it."""
    parts = "".join(
        f'<rect x="{i * _BAR_W}" y="0" width="{_BAR_W}" height="14" fill="{_color(part)}"/>'
        for i, part in enumerate(it.coverage)
    )
    n_whole = sum(part >= 1.0 for part in it.coverage)
    label = f"{n_whole} of {len(it.coverage)} parts whole" if it.verdict is not Verdict.UNJUDGED else "rows by time"
    if not it.coverage:
        return ""
    width = _BAR_W * len(it.coverage)
    shape = f'viewBox="0 0 {width} 14" height="14" preserveAspectRatio="none" shape-rendering="crispEdges"'
    return f'<svg {shape} role="img" aria-label="{label}"><title>{label}</title>{parts}</svg>'


def _color(part: float) -> str:
    if part < 0.0:
        return "var(--none)"
    return "var(--ok)" if part >= 1.0 else "var(--bad)" if part <= 0.0 else "var(--some)"


def _quarantine(audit: Audit) -> str:
    if not audit.quarantined:
        return ""
    rows = "".join(
        f'<tr><td>{html.escape(it.kind)}</td><td>{html.escape(it.market)}</td><td class="n">{it.n:,}</td>'
        f'<td class="text">{html.escape(it.reason)}</td></tr>'
        for it in audit.quarantined
    )
    return f'<h2>{_word("refused")}</h2><div class="scroll"><table class="plain">{rows}</table></div>'


def _elsewhere(rows: Iterable[SeriesAudit]) -> str:
    names = [
        f"<li>{html.escape(kind)} {html.escape(market)}: {html.escape(', '.join(it.symbol for it in found))}</li>"
        for (kind, market), found in groupby(rows, key=lambda it: (it.kind, f"{it.market} {it.interval}".strip()))
    ]
    return f"<h2>{_word('elsewhere')}</h2><ul>{''.join(names)}</ul>" if names else ""


def _word(name: str) -> str:
    english, chinese = _WORDS[name]
    return f'{english} <small lang="zh">{chinese}</small>'
