"""What an operator may say to each command, and what it means."""

from __future__ import annotations

import argparse
from typing import Final

from qraft_contracts.kinds import KINDS
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import parse_typed_instant
from svc_ingest.usecases.collect import Selection

COLLECT_SOURCES: Final = ("all", "files", "derived", "exchange")


def add_load(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `load`."""
    parser.add_argument(
        "--from", dest="start", type=parse_typed_instant,
        help="fill what is missing after this instant and up to --until, which is needed then, as late bars known now",
    )  # fmt: skip
    parser.add_argument(
        "--until",
        type=parse_typed_instant,
        help="last closed_at to load, such as 2025-06-01T00:00:00Z; without it QRAFT_INGEST_REPLAY_FROM, "
        "without that all closed bars of the source",
    )


def add_collect(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `collect`."""
    parser.add_argument(
        "--source", choices=COLLECT_SOURCES, default="all", help="all = files, then what they allow to derive"
    )
    parser.add_argument("--kind", action="append", default=[], choices=sorted(KINDS), help="only this kind; repeatable")
    parser.add_argument("--dataset", action="append", default=[], help="only this data set; repeatable")
    parser.add_argument("--from", dest="start", type=parse_typed_instant, help="rows after this instant")
    parser.add_argument("--until", type=parse_typed_instant, help="rows up to this instant")
    parser.add_argument("--exchange", help="of ccxt, with --source exchange; without it QRAFT_INGEST_EXCHANGE")
    parser.add_argument("--symbol", action="append", default=[], help="of the exchange only this one; repeatable")
    parser.add_argument("--interval", action="append", default=[], choices=sorted(INTERVAL_SECONDS),
                        help="of the exchange's bars only this one; repeatable")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="read what was collected before too")


def selection_of(options: argparse.Namespace) -> Selection:
    """Return what `collect` was asked for."""
    return Selection(
        tuple(options.kind), tuple(options.dataset), options.start, options.until, options.again,
        exchange=options.exchange, symbols=tuple(options.symbol), intervals=tuple(options.interval),
    )  # fmt: skip
