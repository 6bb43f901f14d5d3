"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import Final

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_contracts.outcomes import Malformed, Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_data.feature_sets import named_feature_set
from qraft_quant.features import FeatureSet, compile_engine
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.lake import open_bars, open_tables
from svc_features.adapters.proofs import prove
from svc_features.api import commands
from svc_features.api.screen_arguments import SCREEN_COMMANDS
from svc_features.handlers import SERVICE, BarsHandler
from svc_features.settings import FeaturesSettings
from svc_features.usecases import ComputeFeatures, StateTables

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
    if options.command == "text":
        return asyncio.run(_run_text(common, options))
    if options.command in SCREEN_COMMANDS:
        return _run_screening(common, options)
    features = _named(options.set)
    if options.command == "list":
        return commands.list_features(features, interval=options.interval, family=options.family)
    if options.command == "operators":
        return commands.list_operators()
    if options.command == "show":
        return commands.show_feature(features, options.name)
    bars = open_bars(common)
    if options.command == "compute":
        return commands.compute(
            bars, features, _state(common), market=options.market, interval=options.interval, start=options.start,
            end=options.until, out=options.out,
        )  # fmt: skip
    proven = asyncio.run(
        prove(
            bars, ObjectArtefactStore(common.artefacts), features=features, market=options.market,
            interval=options.interval, seed=PROOF_SEED, anew=options.anew, state=_state(common),
        )
    )  # fmt: skip
    return commands.report_proof(
        proven.record, key=proven.reference.key, is_new=proven.is_new, fault=proven.fault
    )  # fmt: skip


def _run_screening(common: CommonSettings, options: argparse.Namespace) -> int:
    """Run `screen | watch | page`."""
    try:
        # Of the extra `research`: the running service has none of scikit-learn, scipy and pandas.
        from qraft_screening.automatic import PackageMissing, automatic_features
        from svc_features.adapters.feature_panel import ReadFeatures
        from svc_features.adapters.proof_notes import proof_notes
        from svc_features.api import screen_commands as screening
    except ModuleNotFoundError as error:
        raise Refused("not_installed", f"{error}: install svc-features[research]") from error
    artefacts = ObjectArtefactStore(common.artefacts)
    asked = screening.question(options, reports=common.home / "reports", named=_named)
    notes = asyncio.run(proof_notes(artefacts, asked.features, interval=asked.interval, origin=asked.origin))
    if options.command == "page":
        return screening.run_page(notes, asked, name=options.name)
    try:
        step_us = INTERVAL_SECONDS[asked.interval] * 1_000_000
        automatic = automatic_features(interval_us=step_us, **asked.automatic) if asked.automatic else None
    except PackageMissing as error:
        raise Refused("not_installed", str(error)) from error
    except ValueError as error:
        raise Malformed("bad_automatic_window", str(error)) from error
    read = ReadFeatures(
        open_bars(common), _state(common), asked.features, asked.market, asked.interval, options.threads,
        automatic, screening.say,
    )  # fmt: skip
    if options.command == "watch":
        return screening.run_watch(read, notes, asked)
    return screening.run_screen(
        read, notes, asked, seed=PROOF_SEED, n_threads=options.threads,
        keep=lambda key, data: asyncio.run(artefacts.put(key, data)),
        prove=None if automatic is None else lambda: read.prove_automatic(asked.start, asked.until, seed=PROOF_SEED),
    )  # fmt: skip


async def _run_text(common: CommonSettings, options: argparse.Namespace) -> int:
    """Run `text fit | compute | prove | show`; the loop does nothing else meanwhile, so blocking calls may block it."""
    try:
        # Of the extra `research`: the running service has neither the encoder nor its packages.
        from svc_features.adapters import text_artefacts, text_proofs
        from svc_features.api import text_commands
    except ModuleNotFoundError as error:
        raise Refused("not_installed", f"{error}: install svc-features[research]") from error
    artefacts, tables = ObjectArtefactStore(common.artefacts), open_tables(common)
    if options.action == "show":
        return text_commands.show(await text_artefacts.load(artefacts, options.key) if options.key else None)
    needs_encoder = options.action != "compute" or options.reduction
    encoder = text_artefacts.encoder_of(common.home, name=options.encoder) if needs_encoder else None
    if options.action == "prove":
        assert encoder is not None
        proven = await text_proofs.prove_market(
            tables, artefacts, market=options.market, encoder=encoder, seed=PROOF_SEED, n_threads=options.threads,
            anew=options.anew,
        )  # fmt: skip
        return text_commands.report_proof(
            proven.record, key=proven.reference.key, is_new=proven.is_new, fault=proven.fault
        )
    started = text_commands.clock()
    asked = text_commands.TextRange(tuple(options.markets), options.symbols, options.start, options.until)
    if options.action == "fit":
        assert encoder is not None
        fitted = text_commands.fit(tables, encoder, asked, n_components=options.components, n_threads=options.threads)
        key = await text_artefacts.save_reduction(artefacts, fitted)
        return text_commands.report_fit(fitted, key=key, encoder=encoder, seconds=text_commands.clock() - started)
    reduction = await text_artefacts.load_reduction(artefacts, options.reduction) if options.reduction else None
    manifest = text_commands.compute(
        tables, asked, encoder=encoder, reduction=reduction, in_sample=options.in_sample, n_threads=options.threads,
        out=options.out,
    )  # fmt: skip
    seconds = text_commands.clock() - started
    key = await text_artefacts.save_manifest(artefacts, manifest)
    proof = await text_proofs.find_text_proof(artefacts)
    return text_commands.report_compute(
        manifest, out=options.out, key=key, proof=proof.key if proof else None, encoder=encoder, seconds=seconds
    )


def _named(name: str) -> FeatureSet:
    try:
        return named_feature_set(name)
    except ValueError as error:
        raise Malformed("bad_feature_set", str(error)) from error


def build(common: CommonSettings, settings: FeaturesSettings) -> Application:
    """
    Wire the service.

    Raises:
        Malformed: if the settings name a feature set that is not there.
    """
    bus = NatsBus(common.nats_url, name=SERVICE, settings=BusSettings())
    store = open_bars(common)
    features = _named(common.features_set)
    compute = ComputeFeatures(common.market, common.interval, store, settings.n_symbols_max, features, _state(common))
    bus.subscribe(BarsHandler(bus, compute).subscription())
    return Application(common, bus, Health())


def _state(common: CommonSettings) -> StateTables | None:
    return StateTables(open_tables(common), common.state_market) if common.state_market else None
