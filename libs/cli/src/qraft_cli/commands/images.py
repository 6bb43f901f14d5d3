"""`qraft images …`: jobs, providers and keys of the image gateway, by svc_imagegen's own commands."""

from __future__ import annotations

import typer

from qraft_cli.service_command import add_commands

app = typer.Typer(help="The image gateway: acceptance, jobs, providers, probes, API keys.", no_args_is_help=True)
add_commands(
    app,
    "svc_imagegen",
    {
        "accept": "Run the acceptance matrix against the gateway; simulated pictures never count.",
        "jobs": "List jobs, newest first.",
        "job": "Show one job with its attempts, pictures and audit record.",
        "providers": "List the configured providers and what each model is known to support.",
        "probe": "Ask a provider what it supports, within a stated budget.",
        "keys": "Create, list or revoke API keys.",
        "sweep": "Look once at everything that was left open, as the gateway does by itself.",
    },
)
