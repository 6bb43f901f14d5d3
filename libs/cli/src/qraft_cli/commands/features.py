"""`qraft features …`: the catalogue, its proofs and matrices, by svc_features' own commands."""

from __future__ import annotations

import typer

from qraft_cli.service_command import add_commands

app = typer.Typer(help="Features: catalogue, leakage proofs, matrices.", no_args_is_help=True)
add_commands(
    app,
    "svc_features",
    {
        "list": "List the features of a set with family, window and formula.",
        "operators": "List the operators that an expression may use, with the domains of their parameters.",
        "show": "Show everything that the signature of one feature covers.",
        "prove": "Corrupt the future of every feature, label and join; store the proof.",
        "compute": "Compute a set over stored bars into a Parquet file, with its hash.",
        "text": "Fit, compute, prove and show features of posts, comments and news.",
        "screen": "Say which features carry information inside a training window; report and pages.",
        "watch": "Measure drift and IC after the window of a screening; write its pages again.",
        "page": "Write the pages of a screening again, with the proof as it stands now.",
    },
    needs_stack=False,
)
