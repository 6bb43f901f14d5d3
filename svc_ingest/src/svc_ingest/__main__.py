"""`python -m svc_ingest` serves; with a command it does that and ends. A further command is a line of COMMANDS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from qraft_contracts.outcomes import Outcome, Refused, Transient
from qraft_runtime.settings import CommonSettings
from qraft_runtime.wrong_settings import wrong_settings
from qraft_store.lake import open_bars, open_tables
from qraft_telemetry import logs
from svc_ingest import app
from svc_ingest.api import arguments
from svc_ingest.settings import IngestSettings

EXIT_AGAIN = 1  # something outside is away: the same call may succeed later
EXIT_USAGE = 2  # a setting or the data must be changed first
Run = Callable[[CommonSettings, IngestSettings, argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what `--help` says of it, its arguments, and what it runs."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Run


COMMANDS: Final[dict[str, Command]] = {
    "load": Command(
        "load history into the lake, print JSON progress lines, end",
        arguments.add_load,
        lambda common, settings, options: app.load(common, settings, start=options.start, until=options.until),
    ),
    "collect": Command(
        "bring every data set of QRAFT_DATA, or an exchange's history, into the lake",
        arguments.add_collect,
        lambda common, settings, options: app.collect(
            common, settings, source=options.source, selection=arguments.selection_of(options)
        ),
    ),
}


def main(words: Sequence[str]) -> int:
    """Run one command and return its exit code; what the operator must mend is said in one line."""
    # What serves or loads does not wait for what only other commands need.
    known = COMMANDS if not words or words[0] in COMMANDS else COMMANDS | _data_commands() | _lake_commands()
    options = _parser(known).parse_args(words)
    logs.configure(app.NAME)
    try:
        common, settings = CommonSettings(), IngestSettings()
        if options.command is None:
            return app.serve(common, settings)
        return known[options.command].run(common, settings, options)
    except ValidationError as error:
        logs.get().error("ingest.failed", reason="bad_settings", detail=wrong_settings(error))
        return EXIT_USAGE
    except Outcome as error:
        logs.get().error("ingest.failed", reason=error.reason, detail=error.detail)
        return EXIT_AGAIN if isinstance(error, Transient) else EXIT_USAGE


def _data_commands() -> dict[str, Command]:
    """Return the commands on stored data. They bring numba in, which the service has no use for."""
    from svc_ingest.api import data_arguments, data_commands

    return {
        "audit": Command(
            "judge completeness, gaps, bad ticks and units of what is stored; name what would mend it",
            data_arguments.add_audit,
            lambda common, _settings, options: data_commands.audit(
                app.stored(common),
                mode=options.mode,
                market=options.market,
                interval=options.interval,
                end=options.until,
                days=options.days,
            ),
        ),
        "mend": Command(
            "run the commands that the last audit named, then audit again",
            data_arguments.add_mend,
            lambda common, _settings, options: data_commands.mend(app.stored(common), skip=options.skip),
        ),
        "show": Command(
            "show fields as they were known at a time",
            data_arguments.add_show,
            lambda common, _settings, options: data_commands.show(app.stored(common), data_arguments.query_of(options)),
        ),
        "snapshot": Command(
            "freeze a query under its hash, verify a snapshot, or list them",
            data_arguments.add_snapshot,
            lambda common, _settings, options: _snapshot(common, options),
        ),
    }


def _lake_commands() -> dict[str, Command]:
    """Return the commands that carry a lake elsewhere, or look after its files."""
    from svc_ingest.api import bundle_arguments

    return {
        "bundle": Command(
            "make one file of what is stored, for a place without a network",
            bundle_arguments.add_bundle,
            lambda common, _settings, options: _bundle(common, options),
        ),
        "import": Command(
            "verify a bundle whole, then store what is new in it",
            bundle_arguments.add_import,
            lambda common, _settings, options: _import(common, options),
        ),
        "verify": Command(
            "check every byte and row of a bundle, or every file of the lake",
            bundle_arguments.add_verify,
            lambda common, _settings, options: _verify(common, options),
        ),
        "tier": Command(
            "move what is older than QRAFT_LAKE_HOT_DAYS to QRAFT_LAKE_COLD; reads find it there",
            bundle_arguments.add_nothing,
            lambda common, _settings, _options: _tier(common),
        ),
    }


def _bundle(common: CommonSettings, options: argparse.Namespace) -> int:
    from svc_ingest.api import bundle_arguments, bundle_commands

    asked = bundle_arguments.asked_of(options, line_market=common.market, state_market=common.state_market)
    with app.lake_of(common) as stores:
        return bundle_commands.bundle(stores, asked, options.out)


def _import(common: CommonSettings, options: argparse.Namespace) -> int:
    from svc_ingest.api import bundle_commands

    with app.lake_of(common) as stores:
        return bundle_commands.import_(stores, options.file, expected_id=options.expect, is_dry=options.dry_run)


def _verify(common: CommonSettings, options: argparse.Namespace) -> int:
    from svc_ingest.api import bundle_commands

    if options.file is not None:
        return bundle_commands.verify(options.file, expected_id=options.expect)
    return bundle_commands.verify_lake(open_bars(common), open_tables(common))


def _tier(common: CommonSettings) -> int:
    from svc_ingest.api import bundle_commands

    if common.lake_cold is None:
        raise Refused("no_cold_root", "expected QRAFT_LAKE_COLD, the folder that older parts of the lake are moved to")
    bars, tables = open_bars(common), open_tables(common)
    try:
        return bundle_commands.tier(bars, tables, hot_days=common.lake_hot_days)
    finally:
        bars.close()
        tables.close()


def _snapshot(common: CommonSettings, options: argparse.Namespace) -> int:
    from svc_ingest.api import data_arguments, data_commands

    if options.list:
        return data_commands.list_snapshots(app.stored(common))
    if options.verify:
        return data_commands.verify_snapshot(app.stored(common), options.verify)
    return data_commands.take_snapshot(app.stored(common), data_arguments.query_of(options))


def _parser(known: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="svc_ingest", description="Closed market bars onto the bus.")
    commands = parser.add_subparsers(dest="command")
    for name, command in known.items():
        command.add_arguments(commands.add_parser(name, help=command.help))
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
