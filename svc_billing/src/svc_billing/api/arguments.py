"""The command line of `python -m svc_billing`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final, NoReturn

from svc_billing.usecases.credits import parse_credits
from svc_billing.usecases.holds import HOLD_FILTERS
from svc_billing.usecases.report import week_bounds

EXIT_USAGE: Final = 64  # EX_USAGE; 2, which argparse would take, is what verify says about violations
N_LINES: Final = 200
N_LINES_MAX: Final = 1_000_000
_EXPIRES_DAYS_MAX: Final = 36_500
_EXIT_CODES: Final = """\
exit codes: 0 done; 1 refused, or the database is away (one sentence on standard error says which); 2 `verify` found
violations; 3 the ledger on disk is not whole (serve); 64 the command line is wrong.

Every command works on the database at QRAFT_POSTGRES_DSN and may run beside the service."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one sentence."""
        print(f"{self.prog}: {message}; --help shows how", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)


def parse(argv: list[str]) -> argparse.Namespace:
    """Return the arguments; `command` is None to serve. Ends the process with 64 if they are wrong."""
    parser = _Parser(
        prog="svc_billing",
        description="The credit ledger. Without a command it serves: bus, HTTP and background work.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    commands.add_parser("serve", help="serve (the same as without a command)")
    _add_verify(commands)
    _add_show(commands)
    _add_open(commands)
    _add_grant(commands)
    _add_prices(commands)
    _add_report(commands)
    _add_holds(commands)
    return parser.parse_args(argv)


_Commands = argparse._SubParsersAction  # argparse gives this class no public name


def _add_verify(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "verify", "replay every event and check the invariants; exits with 2 if one is violated")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_show(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "show", "print the statement of an account, oldest first, in credits")
    parser.add_argument("account", type=_text, metavar="ACCOUNT")
    parser.add_argument("--limit", type=_count, default=N_LINES, help=f"newest lines to print (default {N_LINES})")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, amounts in micro-credits")
    form.add_argument("--csv", action="store_true", help="print CSV, amounts in micro-credits")


def _add_open(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "open", "open an account without credits; doing it again changes nothing")
    parser.add_argument("account", type=_text, metavar="ACCOUNT", help="1 to 63 of a-z, 0-9, _ and -")
    parser.add_argument("--id", type=_text, help="id of the operation (default open/ACCOUNT)")
    parser.add_argument("--reason", type=_text, default="", help="kept with the event")


def _add_grant(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "grant", "give credits to an account; the same --id gives them once")
    parser.add_argument("account", type=_text, metavar="ACCOUNT")
    parser.add_argument("amount", type=_credits, metavar="AMOUNT_CREDITS", help="a decimal such as 250 or 12.5")
    parser.add_argument("--id", type=_text, required=True, help="id of the grant, such as the invoice's number")
    parser.add_argument("--promotional", action="store_true", help="given away, not paid for")
    parser.add_argument(
        "--expires-days", type=_days, metavar="N", help="what is left ends at the midnight (UTC) after N whole days"
    )
    parser.add_argument("--priority", type=_priority, default=100, help="0 to 1000, lower is spent first (default 100)")
    parser.add_argument("--reason", type=_text, default="", help="kept with the event")


def _add_prices(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "prices", "publish a price list (TOML), or print the one that counts now")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print the current list as JSON")


def _add_report(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "report", "print the weekly cost and utilization report")
    parser.add_argument("--week", type=_week, help="ISO week such as 2026-W47 (default: the one that goes on)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page that stands alone")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write it as CSV, heavy jobs included")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _add_holds(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "holds", "list holds, oldest first")
    parser.add_argument("--state", choices=HOLD_FILTERS, default="open", help="which (default open)")
    parser.add_argument("--account", type=_text, help="of one account only")
    parser.add_argument("--after", type=_position, default=0, help="go on behind a page that said so")
    parser.add_argument("--json", action="store_true", help="print JSON, amounts in micro-credits")


def _add(commands: _Commands[_Parser], name: str, text: str) -> _Parser:
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXIT_CODES)


def _text(text: str) -> str:
    # Arguments are bytes that may be no text at all; such a one never gets near the ledger.
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"expected printable text, received {text!a:.80}")
    return text


def _credits(text: str) -> int:
    try:
        amount = parse_credits(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if amount == 0:
        raise argparse.ArgumentTypeError("expected more than 0 credits")
    return amount


def _week(text: str) -> str:
    try:
        week_bounds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _whole(text: str, *, low: int, high: int) -> int:
    is_plain = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    if not is_plain or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, received {text!r:.40}")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, low=1, high=N_LINES_MAX)


def _days(text: str) -> int:
    return _whole(text, low=1, high=_EXPIRES_DAYS_MAX)


def _priority(text: str) -> int:
    return _whole(text, low=0, high=1_000)


def _position(text: str) -> int:
    return _whole(text, low=0, high=2**63 - 1)
