"""The job's command line and composition root: the only file that names concrete adapters."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from qraft_bus.usage import processor_ms, tell_usage
from qraft_contracts.outcomes import Outcome
from qraft_contracts.usage import RESEARCH, ComputeUsage
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.lake import open_bars
from qraft_telemetry import logs
from svc_backtest.adapters.oof import OutOfFold
from svc_backtest.settings import AccountSettings, BacktestSettings, LimitSettings, Profile
from svc_backtest.usecases import Backtest, Stored

# The same meaning as in svc_train.
EXIT_FAILED: Final = 1  # a server is away; run again
EXIT_REFUSED: Final = 2  # the model, the bars or the settings are not what a backtest needs; the message says what

_LATEST: Final = "latest"


def build(common: CommonSettings) -> Backtest:
    """Return the job with its real adapters."""
    return Backtest(
        artefacts=ObjectArtefactStore(common.artefacts),
        bars=open_bars(common),
        read_forecasts=OutOfFold,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job once and return the exit code of the process."""
    parsed = _parser().parse_args(arguments)
    common, started_at = CommonSettings(), SystemClock().now()
    logs.configure("svc_backtest", level=common.log_level)
    try:
        stored = asyncio.run(_run(build(common), model=parsed.model, profile=parsed.profile, days=parsed.days))
    except ValueError as error:
        logs.get().error("backtest.refused", reason=str(error))
        return EXIT_REFUSED
    except (Outcome, OSError) as error:
        logs.get().error("backtest.failed", reason=str(error))
        return EXIT_FAILED
    _tell(stored)
    asyncio.run(tell_usage(common.nats_url, _usage(stored, started_at=started_at), lineage=stored.folder))
    return 0


async def _run(backtest: Backtest, *, model: str, profile: Profile | None, days: int | None) -> Stored:
    limits = LimitSettings()
    return await backtest.run(
        await backtest.latest() if model == _LATEST else model,
        limits=limits.limits(profile),
        terms=AccountSettings().terms(n_common_returns_min=limits.n_common_returns_min),
        days=days or BacktestSettings().days,
        tell=_progress(),
    )


def _progress() -> Callable[[int, int], None]:
    def tell(n_done: int, n_all: int) -> None:
        if n_done * 10 // n_all != (n_done - 1) * 10 // n_all:
            logs.get().info("backtest.progressed", done_frac=round(n_done / n_all, 2), n_bars=n_all)

    return tell


def _tell(stored: Stored) -> None:
    whole = stored.result.whole
    print(f"{stored.folder}/report.html")
    logs.get().info(
        "backtest.finished",
        folder=stored.folder,
        model_id=stored.result.model_id,
        origin=stored.result.origin.value,
        profile=stored.result.profile,
        total_return=round(whole.total_return, 6),
        sharpe=None if whole.sharpe is None else round(whole.sharpe, 3),
        n_observations=whole.n_observations,
        n_orders=whole.n_orders,
        order_list_sha256=stored.result.order_list_sha256,
    )


def _usage(stored: Stored, *, started_at: datetime) -> ComputeUsage:
    result = stored.result
    return ComputeUsage(
        usage_id=f"svc_backtest/{stored.folder.rsplit('/', 1)[-1]}/{started_at:%Y%m%dT%H%M%S%fZ}",
        column=RESEARCH,
        service="svc_backtest",
        purpose=f"evaluation of {result.model_id} under the limits {result.profile}",
        stop_condition="the last bar that the folds of the model never saw",
        started_at=started_at,
        ended_at=SystemClock().now(),
        cpu_ms=processor_ms(),
        gpu_ms=0,
        n_bytes=stored.n_bytes,
        origin=result.origin,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m svc_backtest",
        description="Evaluate a candidate on the bars that its folds never saw: walk-forward, after costs.",
    )
    parser.add_argument("--model", default=_LATEST, help="model id such as m0123456789abcdef, or latest (default)")
    parser.add_argument(
        "--profile", choices=("standard", "demo"), help="limits to apply; default: QRAFT_ALLOCATOR_PROFILE"
    )
    parser.add_argument(
        "--days", type=_positive, help="only the last so many days (default: QRAFT_BACKTEST_DAYS, else all)"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 day, received {text}")
    return value
