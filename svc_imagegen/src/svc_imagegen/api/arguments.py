"""The command line of `python -m svc_imagegen`."""

from __future__ import annotations

import argparse
from typing import Final

from qraft_contracts.ledger import check_account_id
from svc_imagegen.domain.job import JobState
from svc_imagegen.usecases.authenticate import ADMIN, READ, WRITE

N_JOBS: Final = 50
N_JOBS_MAX: Final = 10_000
_SCOPES: Final = (WRITE, READ, ADMIN)
_EXIT_CODES: Final = "Exit codes: 0 done; 1 not possible, one sentence on standard error says why; 2 wrong arguments."


def parse(argv: list[str]) -> argparse.Namespace:
    """Return the arguments; `command` is None to serve. Ends the process with 2 if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="svc_imagegen",
        description="The image service. Without a command it serves, in the roles of QRAFT_IMAGEGEN_ROLES.",
        epilog=_EXIT_CODES,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve (the same as without a command)")
    _add_keys(commands)
    jobs = commands.add_parser("jobs", help="list jobs, newest first")
    jobs.add_argument("--account", type=_account)
    jobs.add_argument("--state", choices=[it.value for it in JobState])
    jobs.add_argument("--limit", type=_limit, default=N_JOBS, help=f"default {N_JOBS}")
    jobs.add_argument("--json", action="store_true", help="print JSON, amounts in micro-credits")
    job = commands.add_parser("job", help="print one job with its attempts, pictures and audit record")
    job.add_argument("job_id", metavar="JOB")
    job.add_argument("--json", action="store_true", help="print JSON, amounts in micro-credits")
    providers = commands.add_parser("providers", help="list the configured models and what was found out about them")
    providers.add_argument("--json", action="store_true", help="print JSON")
    for name, text in (("accept", "run the acceptance matrix"), ("probe", "find out what a provider can do")):
        commands.add_parser(name, help=f"{text}, over the gateway's HTTP API; {name} --help shows how")
    sweep = commands.add_parser("sweep", help="look once at everything that was left open, as the gateway does")
    sweep.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


_Commands = argparse._SubParsersAction  # argparse gives this class no public name


def _add_keys(commands: _Commands[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("keys", help="create, revoke or list API keys").add_subparsers(
        dest="keys_command", metavar="create|revoke|list", required=True
    )
    create = keys.add_parser("create", help="make a key and print it; it is never shown again")
    create.add_argument("account", type=_account, metavar="ACCOUNT")
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument(
        "--scope", action="append", choices=_SCOPES, help=f"may be repeated (default {WRITE} and {READ})"
    )
    create.add_argument("--key-file", metavar="FILE", help="write the key there (mode 600) instead of printing it")
    create.add_argument("--json", action="store_true", help="print JSON")
    revoke = keys.add_parser("revoke", help="revoke a key; it stops working within 2 seconds")
    revoke.add_argument("key_id", metavar="KEY_ID")
    revoke.add_argument("--json", action="store_true", help="print JSON")
    listing = keys.add_parser("list", help="list keys, oldest first; their text is not stored")
    listing.add_argument("--account", type=_account)
    listing.add_argument("--json", action="store_true", help="print JSON")


def _account(text: str) -> str:
    try:
        return check_account_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= N_JOBS_MAX:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {N_JOBS_MAX}, received {text!r:.40}")
    return int(text)
