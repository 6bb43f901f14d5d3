"""The audit as one HTML page without scripts: verdict, coverage map, gaps and the commands that mend them."""

from __future__ import annotations

import html
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from qraft_data.audit.findings import Audit, SeriesAudit, Verdict

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
    "elsewhere": ("stored, but without a row in this window", "已存储，但此窗口内没有数据"),
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
svg{display:block}code{font-size:.85em;white-space:normal}small{opacity:.7}
"""
_BAR_W: Final = 4


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
    head = "".join(
        f"<th>{cell}</th>"
        for cell in ("", "", _word("coverage"), _word("rows"), _word("complete"), _word("gaps"), _word("revised"),
                     _word("bad_ticks"))
    )  # fmt: skip
    body = "".join(map(_row, rows))
    return f'<h2>{title}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _row(it: SeriesAudit) -> str:
    kind = f"{it.kind} · " if it.is_required else ""
    name = f"{kind}{it.market}{' ' + it.interval if it.interval else ''} <b>{html.escape(it.symbol)}</b>"
    complete = "–" if it.completeness is None else f"{it.completeness:.2%}"
    cells = (
        f"<td>{name}</td>",
        f'<td class="verdict {it.verdict}">{_word(it.verdict.value)}</td>',
        f"<td>{_strip(it)}</td>",
        *(
            f'<td class="n">{cell}</td>'
            for cell in (f"{it.n_rows:,}", complete, it.n_gaps, it.n_revised, it.n_outliers)
        ),
    )
    return f"<tr>{''.join(cells)}</tr>{_why(it)}"


def _why(it: SeriesAudit) -> str:
    """Return the row below: what is wrong and what would mend it; nothing where nothing is."""
    said = [html.escape(reason) for reason in it.reasons]
    if it.mend:
        said.append(f"{_word('mend')} <code>{html.escape(it.mend)}</code>")
    return f'<tr><td class="why" colspan="8">{"<br>".join(said)}</td></tr>' if said else ""


def _strip(it: SeriesAudit) -> str:
    """Return the coverage as a strip of bars, with its numbers for whoever cannot see it."""
    parts = "".join(
        f'<rect x="{i * _BAR_W}" y="0" width="{_BAR_W}" height="14" fill="{_color(part)}"/>'
        for i, part in enumerate(it.coverage)
    )
    n_whole = sum(part >= 1.0 for part in it.coverage)
    label = f"{n_whole} of {len(it.coverage)} parts whole" if it.verdict is not Verdict.UNJUDGED else "rows by time"
    width = _BAR_W * len(it.coverage)
    return f'<svg width="{width}" height="14" role="img" aria-label="{label}"><title>{label}</title>{parts}</svg>'


def _color(part: float) -> str:
    if part < 0.0:
        return "var(--none)"
    return "var(--ok)" if part >= 1.0 else "var(--bad)" if part <= 0.0 else "var(--some)"


def _quarantine(audit: Audit) -> str:
    if not audit.quarantined:
        return ""
    rows = "".join(
        f'<tr><td>{html.escape(it.kind)}</td><td>{html.escape(it.market)}</td><td class="n">{it.n:,}</td>'
        f'<td class="why">{html.escape(it.reason)}</td></tr>'
        for it in audit.quarantined
    )
    return f'<h2>{_word("refused")}</h2><div class="scroll"><table>{rows}</table></div>'


def _elsewhere(rows: Iterable[SeriesAudit]) -> str:
    names = [
        f"<li>{html.escape(kind)} {html.escape(market)}: {html.escape(', '.join(it.symbol for it in found))}</li>"
        for (kind, market), found in groupby(rows, key=lambda it: (it.kind, f"{it.market} {it.interval}".strip()))
    ]
    return f"<h2>{_word('elsewhere')}</h2><ul>{''.join(names)}</ul>" if names else ""


def _word(name: str) -> str:
    english, chinese = _WORDS[name]
    return f'{english} <small lang="zh">{chinese}</small>'
