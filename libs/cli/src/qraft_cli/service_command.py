"""Commands that are a service's own: handed to it with the stack's addresses, its output and exit code kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

import typer

from qraft_cli.stack.home import find_home
from qraft_cli.stack.session import Addresses, find_addresses

# Everything behind the name, --help too, belongs to the service's own command line.
PASSED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_HELP: Final = ("--help", "-h")


def add_commands(app: typer.Typer, module: str, commands: dict[str, str], *, needs_stack: bool = True) -> None:
    """Add one command a name; the text is its line in the help of `app`. needs_stack: as in `become`."""
    for name, text in commands.items():
        app.command(name, help=text, context_settings=PASSED_ON)(_command(module, name, needs_stack=needs_stack))


def _command(module: str, name: str, *, needs_stack: bool) -> Callable[[typer.Context], None]:
    def pass_on(context: typer.Context) -> None:
        become(module, [name, *context.args], needs_stack=needs_stack)

    return pass_on


def become(module: str, arguments: list[str], *, needs_stack: bool = True) -> None:
    """
    Replace this process by `python -m module arguments`, with the home and, if needed, the servers of this machine.

    Args:
        needs_stack: whether the command talks to servers; what only reads and writes files under the home does not.

    Raises:
        NotRunning: if it needs servers and none is known; asking for help needs none.
    """
    environment = dict(os.environ)
    if not needs_stack:
        environment["QRAFT_HOME"] = str(find_home().root)
    elif not set(_HELP) & set(arguments):
        addresses = find_addresses()
        environment |= {
            "QRAFT_HOME": str(find_home().root),
            "QRAFT_NATS_URL": addresses.nats_url,
            "QRAFT_POSTGRES_DSN": addresses.postgres_dsn,
        }
        environment = _gateway_of(addresses) | environment
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606 our own module


def _gateway_of(addresses: Addresses) -> dict[str, str]:
    """Return where the gateway of the running stack is, and the operator's key for it."""
    if addresses.local is None or not addresses.local.gateway_url:
        return {}
    found = {"QRAFT_GATEWAY_URL": addresses.local.gateway_url.removesuffix("/v1")}
    key = find_home().operator_key
    return found | ({"QRAFT_API_KEY": key.read_text().strip()} if key.exists() else {})
