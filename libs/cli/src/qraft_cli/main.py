"""The operator's command `qraft`: one Typer application, one file a command."""

from __future__ import annotations

import sys

import typer

from qraft_cli.commands import (
    data,
    docs,
    doctor,
    execution,
    features,
    images,
    ledger,
    models,
    replay,
    run,
    status,
    tail,
    up,
)  # fmt: skip
from qraft_cli.console import ERRORS
from qraft_cli.stack.local import AlreadyRunning
from qraft_cli.stack.servers import ServerFailed
from qraft_cli.stack.session import NotRunning
from qraft_contracts.outcomes import Outcome

app = typer.Typer(
    name="qraft",
    help="Run and operate Qraft: bars in, paper orders out; pictures paid for by a ledger. Nothing without evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("run")(run.run)
app.command("up")(up.up)
app.command("down")(up.down)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("tail")(tail.tail)
app.command("replay")(replay.replay)
app.add_typer(data.app, name="data")
app.add_typer(features.app, name="features")
app.add_typer(models.app, name="models")
app.add_typer(execution.app, name="execution")
app.add_typer(ledger.app, name="ledger")
app.add_typer(images.app, name="images")
app.add_typer(docs.app, name="docs")


def main() -> None:
    """Run the command; a foreseen failure is one readable line and exit code 1."""
    try:
        app()
    except (NotRunning, AlreadyRunning, ServerFailed, Outcome) as error:
        ERRORS.print(f"[bold red]qraft:[/] {error}", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
