"""`qraft data …`: what is in the lake, what is missing and how to mend it, by svc_ingest's own commands."""

from __future__ import annotations

import typer

from qraft_cli.service_command import add_commands

app = typer.Typer(help="Market data: collect, audit, mend, show as of a time, snapshots.", no_args_is_help=True)
add_commands(
    app,
    "svc_ingest",
    {
        "load": "Load the line's own bars, or with --from and --until fill what they miss.",
        "collect": "Bring every data set, or an exchange's history, into the lake.",
        "audit": "Judge completeness, gaps, outliers and units; name the command that mends each gap.",
        "mend": "Run the commands that the last audit named, audit again, report what is still missing.",
        "show": "Show fields as they were known at a time.",
        "snapshot": "Freeze a query as an immutable snapshot, verify one, or list them.",
        "bundle": "Make one file of the lake, audited and hashed, for a place without a network.",
        "import": "Verify a bundle whole, then store what is new in it.",
        "verify": "Check every byte of a bundle, or every file of the lake.",
        "tier": "Move older parts of the lake to QRAFT_LAKE_COLD; reads find them there.",
    },
    needs_stack=False,
)
