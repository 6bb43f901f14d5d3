"""
`python -m svc_billing`: the service, or one of the operator's commands.

The commands are wired here and not in `app`: they need no bus, and start in a third of the time without it.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from pydantic import ValidationError

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_runtime.wrong_settings import run_with_settings, wrong_settings
from qraft_store.postgres_pools import as_transient
from qraft_telemetry import logs
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres import PostgresStore
from svc_billing.adapters.postgres_reader import PostgresReader
from svc_billing.adapters.postgres_verify import PostgresSnapshots
from svc_billing.adapters.reading import PostgresReading
from svc_billing.api.arguments import EXIT_USAGE, parse
from svc_billing.api.console import EXIT_FAILED, Books, Unusable, execute
from svc_billing.settings import BillingSettings
from svc_billing.usecases.ledger import Ledger
from svc_billing.usecases.report import WriteWeeklyReport
from svc_billing.usecases.verify import Verify


def main() -> int:
    """Run what the command line says and return its exit code."""
    arguments = parse(sys.argv[1:])
    if arguments.command in (None, "serve"):
        from svc_billing.app import run

        return run_with_settings("svc_billing", run)
    logs.configure("svc_billing", level="WARNING")
    try:
        return asyncio.run(_run(arguments))
    except Unusable as error:
        return _fail(str(error), EXIT_FAILED)
    except Transient as error:
        where = "QRAFT_POSTGRES_DSN says where it is looked for"
        return _fail(f"the database is away ({error.detail}); {where}", EXIT_FAILED)
    except ValidationError as error:
        return _fail(f"settings are wrong: {wrong_settings(error)}", EXIT_USAGE)


async def _run(arguments: Namespace) -> int:
    async with open_books(CommonSettings(), BillingSettings()) as books:
        return await execute(books, arguments)


@asynccontextmanager
async def open_books(common: CommonSettings, settings: BillingSettings) -> AsyncIterator[Books]:
    """Yield what the commands work on. What they change is told to the bus by the relay of a running service."""
    database, clock = Database(common.postgres_dsn), SystemClock()
    try:
        with as_transient():
            await database.open()
    except psycopg.OperationalError as error:  # out of the migration, which comes first
        raise Transient("postgres_away", " ".join(str(error).split())) from error
    ledger = Ledger(PostgresStore(database), clock=clock)
    reader, reading = PostgresReader(database), PostgresReading(database)
    report = WriteWeeklyReport(reading, machine=settings.machine(), clock=clock)
    running = asyncio.create_task(ledger.run())
    try:
        yield Books(ledger, reader, reading, report, Verify(PostgresSnapshots(database)), clock)
    finally:
        running.cancel()
        await asyncio.wait({running})
        await database.close()


def _fail(message: str, code: int) -> int:
    print(f"svc_billing: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
