"""`qraft ledger …`: the credit ledger, by svc_billing's own commands."""

from __future__ import annotations

import typer

from qraft_cli.service_command import add_commands

app = typer.Typer(
    help="The credit ledger: verify it, read statements, grant credits, publish prices.", no_args_is_help=True
)
add_commands(
    app,
    "svc_billing",
    {
        "verify": "Replay every event and check the invariants; exits with 2 if one is violated.",
        "show": "Print the statement of an account.",
        "holds": "List holds: open, disputed, refunds that failed.",
        "report": "Print or write the weekly cost and utilization report (HTML, CSV, JSON).",
        "prices": "Print the price list, or publish one from a file.",
        "open": "Open an account.",
        "grant": "Give credits to an account, once per id.",
    },
)
