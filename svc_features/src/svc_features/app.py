"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import Final

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_contracts.outcomes import Refused
from qraft_quant.features import compile_engine, feature_set
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.lake import ParquetLake
from svc_features.adapters.proofs import prove
from svc_features.api import commands
from svc_features.handlers import SERVICE, BarsHandler
from svc_features.settings import FeaturesSettings
from svc_features.usecases import ComputeFeatures

# Of the shuffles and noise of a proof made by command.
PROOF_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Application:
    """The service, wired and not yet started."""

    common: CommonSettings
    bus: NatsBus
    health: Health

    def run(self) -> int:
        """Run until SIGTERM or until the bus cannot go on; return the exit code."""
        return run_service(SERVICE, self.common, bus=self.bus, health=self.health, on_start=_compile)


async def _compile() -> None:
    # Before the first message: ten seconds in a handler would look like a dead consumer to the bus.
    await asyncio.to_thread(compile_engine)


def run_command(common: CommonSettings, options: argparse.Namespace) -> int:
    """
    Run one of the operator's commands (api/arguments.py) and return its exit code.

    Raises:
        Refused, Malformed, Transient: as the command says.
    """
    features = feature_set(options.set)
    if options.command == "list":
        return commands.list_features(features, interval=options.interval, family=options.family)
    if options.command == "operators":
        return commands.list_operators()
    if options.command == "show":
        return commands.show_feature(features, options.name)
    bars = ParquetLake(common.lake)
    if options.command == "compute":
        return commands.compute(
            bars, features, market=options.market, interval=options.interval, start=options.start, end=options.until,
            out=options.out,
        )  # fmt: skip
    try:
        proven = asyncio.run(
            prove(
                bars, ObjectArtefactStore(common.artefacts), features=features, market=options.market,
                interval=options.interval, seed=PROOF_SEED, anew=options.anew,
            )
        )  # fmt: skip
    except ValueError as error:
        raise Refused("no_bars", str(error)) from error
    return commands.report_proof(
        proven.record, key=proven.reference.key, is_new=proven.is_new, fault=proven.fault
    )  # fmt: skip


def build(common: CommonSettings, settings: FeaturesSettings) -> Application:
    """Wire the service."""
    bus = NatsBus(common.nats_url, name=SERVICE, settings=BusSettings())
    store = ParquetLake(common.lake)
    features = feature_set(common.features_set)
    compute = ComputeFeatures(common.market, common.interval, store, settings.n_symbols_max, features)
    bus.subscribe(BarsHandler(bus, compute).subscription())
    return Application(common, bus, Health())
