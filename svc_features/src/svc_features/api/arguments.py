"""What an operator may say to each command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import parse_typed_instant
from qraft_quant.features import SETS
from svc_features.api.screen_arguments import add_screening
from svc_features.api.text_arguments import add_text

_SET: Final = f"the feature set: {', '.join(sorted(SETS))}, or a .toml or .json file of your own"
COMMANDS: Final = {
    "list": "list the features of a set with family, window and formula",
    "operators": "list the operators that an expression may use, with the domains of their parameters",
    "show": "show everything that the signature of one feature covers",
    "prove": "corrupt the future of every feature, label and join; store the proof",
    "compute": "compute a set over stored bars into a Parquet file, with its hash",
}


def parser(*, features_set: str, market: str, interval: str) -> argparse.ArgumentParser:
    """Return the parser; the arguments are what holds without options."""
    whole = argparse.ArgumentParser(prog="svc_features", description="The feature matrix of each closed bar.")
    commands = whole.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--set", default=features_set, help=_SET)
        command.add_argument("--interval", choices=sorted(INTERVAL_SECONDS), default=interval, help="of the bars")
        if name in ("prove", "compute"):
            command.add_argument("--market", default=market, help="whose bars")
    commands.choices["list"].add_argument("--family", help="only this family")
    commands.choices["show"].add_argument("name", help="of the feature")
    commands.choices["prove"].add_argument("--anew", action="store_true", help="even if a proof stands already")
    compute = commands.choices["compute"]
    compute.add_argument(
        "--from", dest="start", required=True, type=parse_typed_instant, help="bars that close after it"
    )
    compute.add_argument("--until", required=True, type=parse_typed_instant, help="bars closing up to it")
    compute.add_argument("--out", required=True, type=Path, help="Parquet file to write")
    add_text(commands)
    add_screening(commands, features_set=features_set, market=market, interval=interval)
    return whole
