"""What an operator may say to audit, mend, show and snapshot, and what it means."""

from __future__ import annotations

import argparse

from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import parse_typed_instant
from qraft_data.adjustment import ADJUSTMENTS
from qraft_data.audit.expectation import PRODUCTION_DAYS
from qraft_data.query import MISSING, Query, parse_field


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `audit`."""
    parser.add_argument("--mode", choices=("production", "full"), default="production",
                        help="production = the last --days; full = since 2018")  # fmt: skip
    parser.add_argument("--market", default="binance.perp", help="whose series decide; everything stored is listed")
    parser.add_argument("--interval", choices=sorted(INTERVAL_SECONDS), default="5m", help="of the bars that decide")
    parser.add_argument("--until", type=parse_typed_instant, help="end of the window; without it the newest bar")
    parser.add_argument("--days", type=int, default=PRODUCTION_DAYS, help="length of the production window")


def add_mend(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mend`."""
    parser.add_argument("--skip", type=int, default=0, help="leave out so many commands, which were run before")


def add_show(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `show`."""
    _add_query(parser, is_required=True)


def add_snapshot(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `snapshot`."""
    parser.add_argument("--list", action="store_true", help="list the snapshots")
    parser.add_argument("--verify", metavar="ID", help="hash a snapshot again and name what differs")
    _add_query(parser, is_required=False)


def query_of(options: argparse.Namespace) -> Query:
    """
    Return the query that an operator typed.

    Raises:
        Malformed: if it cannot be answered; the message says what to change.
    """
    absent = [f"--{name}" for name in ("market", "symbols", "fields", "start", "until") if not getattr(options, name)]
    if absent:
        raise Malformed("incomplete_query", f"expected also {', '.join(absent).replace('--start', '--from')}")
    try:
        return Query(
            market=options.market,
            symbols=tuple(options.symbols.split(",")),
            start=options.start,
            end=options.until,
            fields=tuple(parse_field(name) for name in options.fields.split(",")),
            as_of=options.as_of,
            interval=options.interval,
            adjustment=options.adjustment,
            time_zone=options.time_zone,
            calendar=options.calendar,
            missing=options.missing,
            fill_bars=options.fill_bars,
        ).checked()
    except (ValueError, KeyError) as error:
        raise Malformed("bad_query", str(error.args[0])) from error


def _add_query(parser: argparse.ArgumentParser, *, is_required: bool) -> None:
    parser.add_argument("--market", required=is_required, help="such as binance.perp")
    parser.add_argument("--symbols", required=is_required, help="comma separated")
    parser.add_argument("--fields", required=is_required, help="metrics, such as bars.close,funding.funding_rate")
    parser.add_argument("--from", dest="start", required=is_required, type=parse_typed_instant, help="rows after it")
    parser.add_argument("--until", required=is_required, type=parse_typed_instant, help="rows up to it")
    parser.add_argument("--as-of", type=parse_typed_instant, help="nothing known later is seen; without it --until")
    parser.add_argument("--interval", choices=sorted(INTERVAL_SECONDS), default="5m")
    parser.add_argument("--adjustment", choices=ADJUSTMENTS, default="none", help="for splits and dividends")
    parser.add_argument("--time-zone", default="UTC", help="of the local times beside UTC")
    parser.add_argument("--calendar", help="such as XNYS; without it the market never closes")
    parser.add_argument("--missing", choices=MISSING, default="keep", help="what to do with missing values")
    parser.add_argument("--fill-bars", type=int, default=0, help="with --missing previous: how far back to look")
