"""The weekly report as one file that stands alone: no script, no request, English and Chinese by a switch in CSS."""

from __future__ import annotations

from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Final

from qraft_contracts.origin import Origin
from qraft_contracts.usage import ComputeUsage
from qraft_web import static_dir
from svc_billing.api.figures import bytes_text, duration_text, percent_text, usd_text
from svc_billing.api.report_words import WORDS
from svc_billing.usecases.report import ColumnTotals, WeeklyReport

LANGUAGES: Final = ("en", "zh")
# The file works without a server; a browser is told to load nothing and run nothing.
CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLES: Final = ("tokens.css", "base.css", "components.css")


def report_html(report: WeeklyReport, *, language: str = "en") -> str:
    """Return the whole page. language: the one shown first, en or zh; the reader may switch."""
    chosen = language if language in LANGUAGES else LANGUAGES[0]
    week = escape(report.week)
    body = "".join([_lede(report), _notices(report), _glance(report), _columns(report), _heavy(report), _rules()])
    radios = "".join(
        f'<input class="lang-radio" type="radio" name="lang" id="lang-{code}" aria-label="{name}"'
        f"{' checked' if code == chosen else ''}>"
        for code, name in zip(LANGUAGES, ("English", "中文"), strict=True)
    )
    return (
        f'<!doctype html>\n<html lang="{chosen}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{week} · {escape(WORDS['title'][LANGUAGES.index(chosen)])} · Qraft</title>\n"
        f"<style>\n{_css()}\n</style>\n</head>\n<body>\n{radios}\n{_header()}\n"
        f'<main class="page-main">{body}</main>\n</body>\n</html>\n'
    )


def _css() -> str:
    shared = [(static_dir() / name).read_text() for name in _STYLES]
    return "\n".join([*shared, (Path(__file__).parent / "static" / "report.css").read_text()])


def _say(key: str, **values: object) -> str:
    """Return a text in both languages, one of them shown. values are outside data: escaped here."""
    safe = {name: escape(str(value)) for name, value in values.items()}
    english, chinese = (text.format(**safe) for text in WORDS[key])
    return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh">{chinese}</span>'


def _header() -> str:
    logo = (static_dir() / "qraft.svg").read_text()
    return (
        f'<header class="page-header"><div class="brand">{logo}<span class="brand-name">Qraft</span>'
        f'<h1 class="brand-page">{_say("title")}</h1></div>'
        '<div class="language-switch"><label for="lang-en">EN</label><label for="lang-zh">中文</label></div></header>'
    )


def _lede(report: WeeklyReport) -> str:
    kind = "complete" if report.is_complete else "ongoing"
    badge = "badge-plain" if report.is_complete else "badge-accent"
    return (
        f'<div class="lede"><h2>{_say("week", week=report.week)}</h2><p>'
        f"<span>{_say('span', since=_instant(report.since), until=_instant(report.until))}</span>"
        f'<span class="badge {badge}">{_say(kind)}</span></p></div>'
    )


def _notices(report: WeeklyReport) -> str:
    total = report.total
    if total.n_jobs == 0:
        title, note = _say("empty_title"), _say("empty_note")
        return (
            f'<section class="card"><div class="state"><p class="state-title">{title}</p><p>{note}</p></div></section>'
        )
    if total.n_simulated:
        note = _say("simulated_note", n=f"{total.n_simulated:,}", all=f"{total.n_jobs:,}")
        return f'<p class="banner banner-warn" role="note">{note}</p>'
    return ""


def _glance(report: WeeklyReport) -> str:
    total, span = report.total, duration_text(_ms(report.until - report.since))
    use = report.cpu_utilization_frac
    note = _say("of_cores", busy=duration_text(total.cpu_ms), cores=report.n_cores, span=span)
    cells = [_metric("cpu_utilization", percent_text(use), note=note, meter=use, is_first=True)]
    cells.append(_metric("jobs", f"{total.n_jobs:,}", note=_mix(total)))
    if report.n_gpus:
        note = _say("of_gpus", busy=duration_text(total.gpu_ms), gpus=report.n_gpus, span=span)
        cells.append(_metric("gpu_utilization", percent_text(report.gpu_utilization_frac), note=note))
    else:
        cells.append(_metric("gpu_time", duration_text(total.gpu_ms)))
    cells.append(_metric("bytes", bytes_text(total.n_bytes)))
    unknown = total.n_cost_unknown
    note = _say("unknown_cost_note", n=f"{unknown:,}") if unknown else _say("all_told")
    cells.append(
        _metric(
            "provider_cost", usd_text(total.provider_cost_microusd), note=note, note_class="warn" if unknown else ""
        )
    )
    heading = f'<h2 class="visually-hidden">{_say("at_a_glance")}</h2>'
    return f'<section class="card">{heading}<dl class="metrics">{"".join(cells)}</dl></section>'


def _metric(
    key: str, value: str, *, note: str = "", note_class: str = "", meter: float | None = None, is_first: bool = False
) -> str:
    bar = "" if meter is None else f'<dd class="meter" aria-hidden="true"><i style="width:{_width(meter)}"></i></dd>'
    small = f'<dd class="metric-note {note_class}">{note}</dd>' if note else ""
    css = "metric metric-first" if is_first else "metric"
    return f'<div class="{css}"><dt>{_say(key)}</dt><dd>{escape(value)}</dd>{bar}{small}</div>'


def _columns(report: WeeklyReport) -> str:
    if report.total.n_jobs == 0:
        return ""
    busy = [it for it in report.columns if it.cpu_ms > 0]
    parts = "".join(f'<i class="c-{it.column}" style="flex:{it.cpu_ms}"></i>' for it in busy)
    head = "".join(
        f'<th scope="col"{"" if key == "column" else chr(32) + _NUM}>{_say(key)}</th>'
        for key in ("column", "jobs", "cpu_time", "share", "gpu_time", "bytes", "provider_cost")
    )
    rows = "".join(_column_row(it, report.total) for it in report.columns)
    return (
        f'<section class="card"><div class="card-head"><h2>{_say("columns")}</h2></div><div class="card-body flush">'
        f'<div class="stack" aria-hidden="true">{parts}</div>'
        f'<div class="table-scroll"><table class="table table-stack"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody><tfoot>{_column_row(report.total, report.total)}</tfoot></table></div></div></section>"
    )


_NUM: Final = 'class="num"'


def _column_row(it: ColumnTotals, total: ColumnTotals) -> str:
    is_total = it.column == "total"
    dot = "" if is_total else f'<i class="dot c-{it.column}" aria-hidden="true"></i>'
    share = percent_text(it.cpu_ms / total.cpu_ms if total.cpu_ms else None)
    unknown = (
        f'<small class="warn">{_say("unknown_cost", n=f"{it.n_cost_unknown:,}")}</small>' if it.n_cost_unknown else ""
    )
    is_known = it.n_jobs > it.n_cost_unknown
    cells = [
        _number("jobs", f"{it.n_jobs:,}{_small(_mix(it))}"),
        _number("cpu_time", duration_text(it.cpu_ms)),
        _number("share", share),
        _number("gpu_time", duration_text(it.gpu_ms)),
        _number("bytes", bytes_text(it.n_bytes)),
        _number("provider_cost", (usd_text(it.provider_cost_microusd) if is_known else "–") + unknown),
    ]
    css = "" if it.n_jobs else ' class="idle"'
    return f'<tr{css}><td class="lead"><span class="name">{dot}{_say(it.column)}</span></td>{"".join(cells)}</tr>'


def _number(key: str, value: str) -> str:
    """Return one cell; on a phone it carries the name of its column."""
    return f'<td class="num"><span class="cell-label">{_say(key)}</span><span class="value">{value}</span></td>'


def _mix(it: ColumnTotals) -> str:
    found = [("n_simulated", it.n_simulated), ("n_replayed", it.n_replayed)]
    return " · ".join(_say(key, n=f"{n:,}") for key, n in found if n)


def _small(text: str) -> str:
    return f"<small>{text}</small>" if text else ""


def _heavy(report: WeeklyReport) -> str:
    threshold = duration_text(round(report.heavy_job_s * 1_000))
    note = f'<span class="card-note">{_say("heavy_note", threshold=threshold)}</span>'
    head = f'<div class="card-head"><h2>{_say("heavy")}</h2>{note}</div>'
    if not report.heavy_jobs:
        return f'<section class="card">{head}<p class="note">{_say("heavy_none")}</p></section>'
    names = (("job", ""), ("purpose", ""), ("stop", ""), ("cpu_time", _NUM), ("gpu_time", _NUM), ("ran", _NUM),
             ("provider_cost", _NUM), ("ended", ""))  # fmt: skip
    headings = "".join(f'<th scope="col" {css}>{_say(key)}</th>' for key, css in names)
    rows = "".join(map(_job_row, report.heavy_jobs))
    n_listed = len(report.heavy_jobs)
    more = ""
    if report.n_heavy_jobs > n_listed:
        more = f'<p class="note">{_say("heavy_more", n=n_listed, all=f"{report.n_heavy_jobs:,}")}</p>'
    return (
        f'<section class="card long">{head}<div class="card-body flush"><div class="table-scroll">'
        f'<table class="table table-stack jobs"><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{more}</div></section>"
    )


def _job_row(job: ComputeUsage) -> str:
    badge = "" if job.origin is Origin.REAL else f'<span class="badge badge-warn">{_say(job.origin.value)}</span>'
    cost = job.provider_cost_microusd
    unknown = f'<span class="warn">{_say("not_told")}</span>'
    return (
        f'<tr><td class="lead job"><span class="name"><i class="dot c-{job.column}" aria-hidden="true"></i>'
        f"{_say(job.column)}</span> {badge}<small>{escape(job.usage_id)}</small></td>"
        f'<td class="text"><span class="cell-label">{_say("purpose")}</span>{escape(job.purpose)}</td>'
        f'<td class="text"><span class="cell-label">{_say("stop")}</span>{escape(job.stop_condition)}</td>'
        + _number("cpu_time", duration_text(job.cpu_ms))
        + _number("gpu_time", duration_text(job.gpu_ms))
        + _number("ran", duration_text(_ms(job.ended_at - job.started_at)))
        + _number("provider_cost", unknown if cost is None else usd_text(cost))
        + f'<td class="nowrap"><span class="cell-label">{_say("ended")}</span>'
        + f'<span class="value">{_instant(job.ended_at)}</span></td></tr>'
    )


def _rules() -> str:
    items = "".join(f"<li>{_say(key)}</li>" for key in ("rule_week", "rule_cost", "rule_use"))
    return (
        f'<section class="card"><div class="card-head"><h2>{_say("rules")}</h2></div><div class="card-body">'
        f'<ul class="rules">{items}</ul></div></section>'
    )


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")


def _width(fraction: float) -> str:
    return f"{min(max(fraction, 0.0), 1.0) * 100:.2f}%"


def _ms(span: timedelta) -> int:
    return round(span.total_seconds() * 1_000)
