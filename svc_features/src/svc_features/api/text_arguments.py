"""What an operator may say to `text …`; read before the packages of texts, which are an extra, are there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from qraft_contracts.times import parse_typed_instant

ACTIONS: Final = {
    "fit": "fit the reduction of texts on a training window; store it",
    "compute": "compute the bucket features of texts into a Parquet file, with their hash",
    "prove": "corrupt the future of every column of texts; store the proof",
    "show": "show the columns and filters, or a stored reduction, proof or manifest",
}


def add_text(commands: Any) -> None:
    """Add the command `text` with its actions to the service's subparsers."""
    text = commands.add_parser("text", help="features of posts, comments and news")
    actions = text.add_subparsers(dest="action", required=True)
    made = {name: actions.add_parser(name, help=about) for name, about in ACTIONS.items()}
    for name in ("fit", "compute", "prove"):
        _add_encoder(made[name])
    for name in ("fit", "compute"):
        made[name].add_argument("--market", dest="markets", nargs="+", required=True, help="such as twitter news")
        made[name].add_argument("--symbols", nargs="+", help="such as BTCUSDT; without it all that are stored")
        made[name].add_argument("--from", dest="start", required=True, type=parse_typed_instant, help="known after it")
        made[name].add_argument("--until", required=True, type=parse_typed_instant, help="known up to it")
    made["fit"].add_argument("--components", type=int, default=16, help="principal components a tower, 1 to 16")
    compute = made["compute"]
    compute.add_argument("--reduction", help="key of a fitted one; without it aggregates alone, no encoder")
    compute.add_argument(
        "--in-sample", action="store_true", help="allow buckets before the end of the fit: rows for training alone"
    )
    compute.add_argument("--out", required=True, type=Path, help="Parquet file to write")
    made["prove"].add_argument("--market", required=True, help="whose newest texts are used")
    made["prove"].add_argument("--anew", action="store_true", help="even if a proof stands already")
    made["show"].add_argument("key", nargs="?", help="of a stored artefact, as the other actions print it")


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder", choices=("minilm", "hashed"), default="minilm",
        help="hashed = without weights, marked degraded (also what minilm becomes where no weights are installed)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=2, help="of the encoder; the result is the same for any")
