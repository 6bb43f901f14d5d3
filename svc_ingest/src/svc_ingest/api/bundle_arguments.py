"""What an operator may say to the commands that carry a lake, and what it means."""

from __future__ import annotations

import argparse
from pathlib import Path

from qraft_contracts.kinds import KINDS
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant, parse_typed_instant
from qraft_data.audit.expectation import PRODUCTION_DAYS
from qraft_data.bundle.create import Asked
from qraft_data.bundle.judged import AuditAsked
from qraft_data.bundle.manifest import Selection


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `bundle`."""
    parser.add_argument("--out", type=Path, required=True, help="file to make; not there yet")
    parser.add_argument("--kind", action="append", default=[], choices=sorted(KINDS), help="only this kind; repeatable")
    parser.add_argument("--market", action="append", default=[], help="only this market; repeatable")
    parser.add_argument("--from", "--start", dest="start", type=parse_typed_instant, help="rows after this instant")
    parser.add_argument("--until", type=parse_typed_instant, help="rows up to this instant")
    parser.add_argument("--as-of", type=parse_typed_instant, help="only what was known by then")
    parser.add_argument("--mode", choices=("production", "full"), default="production", help="as of `audit`")
    parser.add_argument("--days", type=int, default=PRODUCTION_DAYS, help="as of `audit`")
    parser.add_argument("--audit-market", default="binance.perp", help="whose series decide whether it is green")
    parser.add_argument("--audit-interval", choices=sorted(INTERVAL_SECONDS), default="5m", help="of their bars")
    parser.add_argument("--allow-gaps", action="store_true", help="also when the audit is not green; it says so then")


def add_import(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `import`."""
    parser.add_argument("file", type=Path, help="a bundle")
    parser.add_argument("--expect", metavar="ID", help="refuse any bundle but the one of this id")
    parser.add_argument("--dry-run", action="store_true", help="check all of it and say what is new; write nothing")


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `verify`."""
    parser.add_argument("file", type=Path, nargs="?", help="a bundle; without it the lake itself is verified")
    parser.add_argument("--expect", metavar="ID", help="refuse any bundle but the one of this id")


def add_nothing(parser: argparse.ArgumentParser) -> None:
    """Declare no argument."""
    _ = parser


def asked_of(options: argparse.Namespace, *, line_market: str, state_market: str) -> Asked:
    """Return what `bundle` was asked for."""
    start, until, as_of = (
        format_instant(it) if it is not None else None for it in (options.start, options.until, options.as_of)
    )
    return Asked(
        Selection(
            kinds=tuple(sorted(set(options.kind))),
            markets=tuple(sorted(set(options.market))),
            start=start,
            until=until,
            as_of=as_of,
        ),
        AuditAsked(
            mode=options.mode,
            market=options.audit_market,
            interval=options.audit_interval,
            days=options.days,
            line_market=line_market,
            state_market=state_market,
        ),
        allows_gaps=options.allow_gaps,
    )
