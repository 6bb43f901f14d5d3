"""The audit of a bundle: of what it takes, and again of the same rows where they arrived."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import format_instant, parse_instant
from qraft_data.audit.expectation import FULL_SINCE, Thresholds, Window, window_of
from qraft_data.audit.findings import Audit, SeriesAudit, Verdict
from qraft_data.audit.run import Auditor
from qraft_data.bundle.manifest import AuditPlan, Manifest, Selection, Source
from qraft_data.bundle.sources import Stores
from qraft_data.bundle.view import ChosenBars, ChosenTables, Visible

# An audit looks a minute beyond its window for what is stamped late; a bundle must hold that minute too.
_BEYOND: Final = timedelta(minutes=1)
_SERIES_NAMED_MAX: Final = 20
OnSeries = Callable[[int, int], None]
_Key = tuple[str, str, str, str]


class AuditAsked(msgspec.Struct, frozen=True, kw_only=True):
    """As an operator asks for an audit. line_market, state_market: as Auditor has them."""

    mode: str
    market: str
    interval: str
    days: int
    line_market: str = ""
    state_market: str = ""


def plan_of(stores: Stores, sources: tuple[Source, ...], selection: Selection, asked: AuditAsked) -> AuditPlan:
    """
    Return the audit of a selection: its window ends with the newest bar that decides, or before the selection does.

    Raises:
        Malformed: if the window would be empty.
    """
    limits = [parse_instant(text) - _BEYOND for text in (selection.until, selection.as_of) if text]
    end = min([_newest(stores, sources, market=asked.market, interval=asked.interval), *limits])
    try:
        window = window_of(asked.mode, end=end, days=asked.days)
    except ValueError as error:
        raise Malformed("bad_window", str(error)) from error
    start = max([window.start, *(parse_instant(text) for text in (selection.start,) if text)])
    oldest = min((FULL_SINCE, *(it[0] for source in sources if (it := _range(stores, source)) is not None)))
    if start < oldest:
        raise Malformed(
            "bad_window",
            f"expected an audit of rows from {format_instant(oldest)} on, {asked.days} days begin at "
            f"{format_instant(start)}: ask for fewer days",
        )
    if start >= end:
        raise Malformed(
            "bad_window", f"expected rows after {format_instant(start)}, the newest is of {format_instant(end)}"
        )
    return AuditPlan(
        mode=asked.mode,
        market=asked.market,
        interval=asked.interval,
        line_market=asked.line_market,
        state_market=asked.state_market,
        start=format_instant(start),
        end=format_instant(end),
    )


def _newest(stores: Stores, sources: tuple[Source, ...], *, market: str, interval: str) -> datetime:
    """Return the end of the bars that decide or, without these, the newest row of all."""

    def end(source: Source) -> datetime | None:
        found = _range(stores, source)
        return found[1] if found else None

    decides = end(Source("bars", interval, market)) if Source("bars", interval, market) in sources else None
    return decides or max(found for source in sources if (found := end(source)) is not None)


def _range(stores: Stores, source: Source) -> tuple[datetime, datetime] | None:
    if source.kind == "bars":
        return stores.bars.range(market=source.market, interval=source.interval)
    return stores.tables.range(source.kind, market=source.market)


def audit_of(stores: Stores, plan: AuditPlan, visible: Visible, *, on_series: OnSeries) -> Audit:
    """Return the audit of the visible series, as if nothing else were stored."""
    window = Window(parse_instant(plan.start), parse_instant(plan.end))
    auditor = Auditor(
        ChosenBars(stores.bars, visible),
        ChosenTables(stores.tables, visible),
        Thresholds(),
        on_series,
        line_market=plan.line_market,
        state_market=plan.state_market,
    )
    found = auditor.audit(mode=plan.mode, market=plan.market, interval=plan.interval, window=window)
    return msgspec.structs.replace(found, versions={})  # the manifest has them


def why_not(audit: Audit, plan: AuditPlan, *, days: int) -> tuple[str, ...]:
    """Return why a bundle is not green; () = it is."""
    reasons = []
    asked = window_of(plan.mode, end=parse_instant(plan.end), days=days)
    if parse_instant(plan.start) > asked.start:
        reasons.append(f"{plan.mode} needs rows from {format_instant(asked.start)} on, this begins at {plan.start}")
    reasons += [
        f"{it.kind} {it.interval} {it.symbol}: {'; '.join(it.reasons)}".replace("  ", " ")
        for it in audit.required
        if it.verdict is not Verdict.READY
    ]
    if not audit.required:
        reasons.append("no series decides: unknown means no")
    return tuple(reasons)


def key_of(it: SeriesAudit) -> _Key:
    """Return what names a series."""
    return it.kind, it.market, it.interval, it.symbol


def audit_again(stores: Stores, manifest: Manifest, *, on_series: OnSeries) -> tuple[str, ...]:
    """Audit the bundle's series where they arrived; return what is judged otherwise than in the manifest."""
    visible: dict[Source, frozenset[str]] = {}
    for it in manifest.audit.series:
        source = Source(it.kind, it.interval, it.market)
        visible[source] = visible.get(source, frozenset()) | {it.symbol}
    now = audit_of(stores, manifest.plan, visible, on_series=on_series)
    before, after = ({key_of(it): it for it in audit.series} for audit in (manifest.audit, now))
    said = {name: (_said(before.get(name)), _said(after.get(name))) for name in sorted({*before, *after})}
    differing = [
        f"{' '.join(word for word in name if word)}: {then} in the bundle, {here} here"
        for name, (then, here) in said.items()
        if then != here
    ]
    if manifest.audit.ready != now.ready:
        differing.append(f"the bundle was {'ready' if manifest.audit.ready else 'not ready'}, here it is not the same")
    return tuple(differing[:_SERIES_NAMED_MAX])


def _said(it: SeriesAudit | None) -> str:
    if it is None:
        return "nothing"
    return f"{it.verdict.value}, {it.n_rows} rows, {it.n_missing} missing{''.join(f'; {why}' for why in it.reasons)}"
