"""What an operator may say to `screen`, `watch` and `page`; read before the packages of screening are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from qraft_contracts.subjects import HORIZON_SECONDS, INTERVAL_SECONDS
from qraft_contracts.times import parse_typed_instant

SCREEN_COMMANDS: Final = {
    "screen": "say which features of a set carry information, inside a training window; write report and pages",
    "watch": "measure drift and IC after the window of a screening; write its pages again",
    "page": "write the pages of a screening again, with the proof as it stands now",
}


def add_screening(commands: Any, *, features_set: str, market: str, interval: str) -> None:
    """Add the commands to the service's subparsers; the arguments are what holds without options."""
    made = {name: commands.add_parser(name, help=text) for name, text in SCREEN_COMMANDS.items()}
    screen = made["screen"]
    screen.add_argument("--set", default=features_set, help="the feature set: a name, or a file of your own")
    screen.add_argument("--market", default=market, help="whose bars")
    screen.add_argument("--interval", choices=sorted(INTERVAL_SECONDS), default=interval, help="of the bars")
    screen.add_argument(
        "--from", "--start", dest="start", required=True, type=parse_typed_instant, help="bars that close after it"
    )
    screen.add_argument(
        "--until", required=True, type=parse_typed_instant, help="end of the training window; nothing later is read"
    )
    screen.add_argument("--horizon", choices=tuple(HORIZON_SECONDS), default="1h", help="of the return to be foretold")
    screen.add_argument("--automatic", action="store_true", help="add tsfresh's and featuretools' features, proven")
    screen.add_argument("--automatic-window", type=int, default=288, help="bars of a window of theirs")
    screen.add_argument("--automatic-every", type=int, default=48, help="bars from one window to the next")
    screen.add_argument("--threads", type=int, default=2, help="the report is the same for any number")
    for name in ("watch", "page"):
        made[name].add_argument("--report", required=True, type=Path, help="folder that `screen` wrote")
    made["watch"].add_argument("--until", required=True, type=parse_typed_instant, help="bars closing up to it")
    made["watch"].add_argument("--threads", type=int, default=2, help="of the feature engine")
    made["page"].add_argument("name", nargs="?", help="of one feature; without it every page")
