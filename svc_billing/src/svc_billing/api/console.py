"""
The operator's sub-commands. They use the same Ledger as the service, beside which they may run at any time.

Results go to standard output, everything else to standard error, in one sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from qraft_contracts.billing import OK, RETRY, BillingReply
from qraft_runtime.clock import Clock
from svc_billing.api.report_csv import report_csv
from svc_billing.api.report_html import report_html
from svc_billing.api.statement_csv import statement_csv
from svc_billing.api.terminal import holds_table, report_table, statement_table
from svc_billing.api.views import HoldsPage, StatementPage, account_view, prices_view
from svc_billing.domain.commands import PAID, PROMOTIONAL, Command, GrantCredits, OpenAccount, PublishPrices
from svc_billing.ports import LedgerReader
from svc_billing.usecases.credits import format_credits
from svc_billing.usecases.holds import HoldsReader
from svc_billing.usecases.ledger import Ledger
from svc_billing.usecases.prices import (
    PRICE_FILE_BYTES_MAX,
    is_current,
    prices_operation_id,
    read_price_file,
    write_price_file,
)
from svc_billing.usecases.report import WriteWeeklyReport
from svc_billing.usecases.statement import stream_statement
from svc_billing.usecases.verify import Verify

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1  # refused, or the database is away
EXIT_VIOLATED: Final = 2  # verify only
ACTOR: Final = "operator"
N_HOLDS: Final = 500
_N_ATTEMPTS_MAX: Final = 20  # of a command that is answered with retry: 10 s
_RETRY_PAUSE_S: Final = 0.5
_TELL_S: Final = 2.0  # between two lines about how far verify is


class Unusable(Exception):
    """What was asked for cannot be done; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the sub-commands work on."""

    ledger: Ledger
    reader: LedgerReader
    holds: HoldsReader
    report: WriteWeeklyReport
    verify: Verify
    clock: Clock


async def execute(books: Books, arguments: argparse.Namespace) -> int:
    """
    Run one sub-command and return the exit code.

    Raises:
        Unusable: if it cannot be done.
        Transient: if the database is away.
    """
    run: Callable[[Books, argparse.Namespace], Coroutine[Any, Any, int]] = _COMMANDS[arguments.command]
    return await run(books, arguments)


async def _show(books: Books, arguments: argparse.Namespace) -> int:
    account = await books.reader.account(arguments.account)
    if account is None:
        raise Unusable(f"there is no account {arguments.account!r:.80}: `svc_billing open` opens one")
    lines = [line async for line in stream_statement(books.reader, account, limit=arguments.limit)]
    if arguments.json:
        _print_json(StatementPage(account.account_id, lines, None))
    elif arguments.csv:
        sys.stdout.write(statement_csv(lines))
    else:
        balance = account_view(account).balance
        print(statement_table(lines))
        print(
            f"\n{account.account_id}: available {format_credits(balance.available_microcredits)}, "
            f"held {format_credits(balance.held_microcredits)}, spent {format_credits(balance.spent_microcredits)}, "
            f"shortfall {format_credits(balance.shortfall_microcredits)} credits"
        )
        if account.seq > len(lines):
            print(f"the newest {len(lines)} of {account.seq} events; --limit shows more")
    return EXIT_DONE


async def _open(books: Books, arguments: argparse.Namespace) -> int:
    operation_id = arguments.id or f"open/{arguments.account}"
    reply = await _submit(books, OpenAccount(operation_id, arguments.account, arguments.reason, ACTOR))
    print(f"{arguments.account} {'was open already' if reply.is_replay else 'is open'}")
    return EXIT_DONE


async def _grant(books: Books, arguments: argparse.Namespace) -> int:
    amount: int = arguments.amount
    command = GrantCredits(
        operation_id=f"grant/{arguments.id}",
        account_id=arguments.account,
        grant_id=arguments.id,
        category=PROMOTIONAL if arguments.promotional else PAID,
        amount_microcredits=amount,
        priority=arguments.priority,
        expires_at=_end_of_day(books.clock.now(), arguments.expires_days),
        reason=arguments.reason,
        actor=ACTOR,
    )
    reply = await _submit(books, command)
    left = format_credits(reply.balance.available_microcredits) if reply.balance is not None else "?"
    said = "had been granted already; available then" if reply.is_replay else "granted; available now"
    print(f"{arguments.account}: {format_credits(amount)} credits {said}: {left}")
    return EXIT_DONE


async def _prices(books: Books, arguments: argparse.Namespace) -> int:
    current = await books.reader.prices()
    if arguments.file is None:
        if arguments.json:
            _print_json(prices_view(current))
        else:
            view = prices_view(current)
            print(f"# price list, version {view.version}\n{write_price_file(view.rules)}", end="")
        return EXIT_DONE
    rules = read_price_file(await asyncio.to_thread(_read_text, arguments.file))
    if is_current(rules, current):
        print(f"version {current.version} says the same already")
        return EXIT_DONE
    await _submit(books, PublishPrices(prices_operation_id(rules, after_version=current.version), rules, ACTOR))
    print(f"{len(rules)} prices published as version {(await books.reader.prices()).version}")
    return EXIT_DONE


async def _report(books: Books, arguments: argparse.Namespace) -> int:
    report = await books.report(arguments.week)
    if arguments.html is not None:
        await asyncio.to_thread(_write_text, arguments.html, report_html(report))
    if arguments.csv is not None:
        await asyncio.to_thread(_write_text, arguments.csv, report_csv(report))
    if arguments.json:
        _print_json(report)
    else:
        print(report_table(report))
    return EXIT_DONE


async def _holds(books: Books, arguments: argparse.Namespace) -> int:
    found = await books.holds.holds(
        filter_by=arguments.state, account_id=arguments.account, after=arguments.after, limit=N_HOLDS
    )
    next_after = found[-1].seq if len(found) == N_HOLDS else None
    if arguments.json:
        _print_json(HoldsPage([it.hold for it in found], next_after))
    else:
        print(holds_table([it.hold for it in found]))
        if next_after is not None:
            print(f"there are more: --after {next_after}")
    return EXIT_DONE


async def _submit(books: Books, command: Command) -> BillingReply:
    """Send a command until it is decided; safe, because its id stays the same."""
    for _ in range(_N_ATTEMPTS_MAX):
        reply = await books.ledger.submit(command)
        if reply.outcome != RETRY:
            break
        await asyncio.sleep(_RETRY_PAUSE_S)
    if reply.outcome != OK:
        raise Unusable(f"{reply.code}: {reply.message}")
    return reply


def _end_of_day(now: datetime, days: int | None) -> datetime | None:
    """Return the midnight (UTC) after so many days: the same all day long, so that a repeated command is the same."""
    if days is None:
        return None
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days + 1)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > PRICE_FILE_BYTES_MAX:
            raise Unusable(f"expected a price file of at most {PRICE_FILE_BYTES_MAX} bytes: {path}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"cannot read {path}: {error}") from error


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise Unusable(f"cannot write {path}: {error}") from error


def _print_json(view: msgspec.Struct) -> None:
    print(msgspec.json.format(msgspec.json.encode(view)).decode())


async def _verify(books: Books, arguments: argparse.Namespace) -> int:
    n_events = (await books.reader.head()).seq
    print(f"replaying {n_events} events", file=sys.stderr)
    told_at = books.clock.monotonic()

    def tell(n_done: int) -> None:
        nonlocal told_at
        if books.clock.monotonic() - told_at >= _TELL_S:
            told_at = books.clock.monotonic()
            print(f"{n_done} of {n_events}", file=sys.stderr)

    found = await books.verify(progress=tell)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode({"holds": found.holds, **msgspec.to_builtins(found)})).decode())
    elif found.holds:
        print(
            f"the ledger holds: {found.n_events} events, {found.n_accounts} accounts, {found.n_open_holds} open holds, "
            f"head {found.head_hash}"
        )
    else:
        for it in found.violations:
            print(f"{it.kind}: {it.where}: {it.detail}")
        more = "" if found.is_complete else ", and there may be more"
        print(f"{len(found.violations)} violations in {found.n_events} events{more}", file=sys.stderr)
    return EXIT_DONE if found.holds else EXIT_VIOLATED


_COMMANDS: Final[dict[str, Callable[[Books, argparse.Namespace], Coroutine[Any, Any, int]]]] = {
    "verify": _verify,
    "show": _show,
    "open": _open,
    "grant": _grant,
    "prices": _prices,
    "report": _report,
    "holds": _holds,
}
