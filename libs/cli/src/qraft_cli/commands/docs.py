"""`qraft docs asyncapi`: the bus, described from the running code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from qraft_cli.asyncapi import build_asyncapi
from qraft_cli.console import OUT

app = typer.Typer(help="Documents generated from the code.", no_args_is_help=True)


@app.command()
def asyncapi(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Print the AsyncAPI 3.0 document of every subject, header and schema."""
    text = json.dumps(build_asyncapi(), indent=2, sort_keys=True) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text)
    OUT.print(f"wrote {output}")
