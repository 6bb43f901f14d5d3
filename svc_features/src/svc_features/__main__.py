"""`python -m svc_features` serves; with a command it does that and ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

from qraft_contracts.outcomes import Outcome, Transient
from qraft_runtime.settings import CommonSettings
from qraft_runtime.wrong_settings import run_with_settings
from qraft_telemetry import logs
from svc_features import app
from svc_features.api import arguments
from svc_features.handlers import SERVICE
from svc_features.settings import FeaturesSettings

EXIT_AGAIN: Final = 1  # something outside is away: the same call may succeed later
EXIT_USAGE: Final = 2  # an argument or the data must be changed first


def main(words: Sequence[str]) -> int:
    """Run one command, or serve, and return the exit code."""
    common = CommonSettings()
    parser = arguments.parser(features_set=common.features_set, market=common.market, interval=common.interval)
    options = parser.parse_args(words)
    logs.configure(SERVICE)
    try:
        if options.command is None:
            return app.build(common, FeaturesSettings()).run()
        return app.run_command(common, options)
    except Outcome as error:
        logs.get().error("features.failed", reason=error.reason, detail=error.detail)
        return EXIT_AGAIN if isinstance(error, Transient) else EXIT_USAGE


if __name__ == "__main__":
    sys.exit(run_with_settings(SERVICE, partial(main, sys.argv[1:])))
