"""The composition root of the training job: the only file that names concrete adapters."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TextIO

from pydantic import ValidationError

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_bus.usage import processor_ms, tell_usage
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Outcome
from qraft_contracts.times import format_instant
from qraft_contracts.usage import TRAINING, ComputeUsage
from qraft_data.feature_sets import named_feature_set
from qraft_quant.costs import CostModel
from qraft_quant.features import FeatureSet as NamedFeatures
from qraft_quant.features import compute_history
from qraft_quant.proof.registered import registered_features
from qraft_quant.proof.subjects import ProvenFeatures
from qraft_registry.artefacts import NOT_ASKED, ProofReference, Readiness
from qraft_registry.postgres import MIGRATIONS, SCHEMA, PostgresRegistryStore
from qraft_registry.proof_rules import shortfall
from qraft_registry.proving import ensure_proof, proven_source
from qraft_registry.registry import Registry
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_runtime.wrong_settings import wrong_settings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.lake import open_bars, open_tables
from qraft_store.postgres import create_pool, migrate
from qraft_telemetry import logs
from qraft_text.proof import TextStateProver, text_prover
from svc_train.adapters.audits import LakeAudit, keep_audit
from svc_train.adapters.lake import TrainingLake
from svc_train.adapters.lightgbm_heads import LightGbmLearner
from svc_train.adapters.model_store import save_model, save_run_log
from svc_train.adapters.onnx_graph import OnnxGraph
from svc_train.adapters.package import pack, run_log
from svc_train.adapters.progress import StdoutProgress
from svc_train.adapters.provenance import read_provenance
from svc_train.domain.panel import FeatureSet, TrainingData, states_of
from svc_train.domain.result import TrainResult
from svc_train.settings import TrainSettings
from svc_train.usecases.load import DataLoader
from svc_train.usecases.train import Trainer

# Exit codes that the operator's command tells apart.
EXIT_REFUSED = 2  # the data or the settings are not what training needs; the message says what to change
EXIT_FAILED = 1  # a server is away; run again


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Read a snapshot of the data, train, store the model, register it as candidate."""

    settings: TrainSettings
    common: CommonSettings
    clock: Clock
    loader: DataLoader
    trainer: Trainer
    proven: ProvenFeatures
    texts: TextStateProver | None
    progress: StdoutProgress

    def run(self) -> str:
        """
        Do the whole job and return the model's id.

        Raises:
            ValueError: if the data or the settings are not what training needs, or the snapshot was tampered with.
            Transient, OSError: if a store or the bus is away. Running again finishes what was begun, without a second
                effect.
            Refused: if the registry does not take the candidate.
        """
        started_at = self.clock.now()
        data, readiness = asyncio.run(self._load())
        result = self.trainer.train(data, audit_sha256=readiness.audit_sha256)
        self.progress.step("proof")
        proof = asyncio.run(self._prove(data))
        model_id, files = pack(
            result, self.trainer, proof=proof, feature_source_sha256=proven_source(self.texts), readiness=readiness
        )
        seconds = self.progress.end()
        log = run_log(
            model_id=model_id,
            run_id=result.run_id,
            started_at=format_instant(started_at),
            seconds=seconds,
            actor=self.settings.actor,
        )
        asyncio.run(self._publish(model_id, files, run_id=result.run_id, log=log, started_at=started_at))
        if self.settings.register_candidate:  # else the job asks for no server at all
            n_bytes = len(log) + sum(map(len, files.values()))
            usage = self._usage(result, started_at=started_at, n_bytes=n_bytes)
            asyncio.run(tell_usage(self.common.nats_url, usage, lineage=result.run_id))
        self.progress.finished(model_id=model_id, origin=result.origin.value, horizons=list(result.forecasts))
        logs.get().info(
            "train.finished",
            model_id=model_id,
            run_id=result.run_id,
            origin=result.origin.value,
            trained_until=format_instant(result.snapshot.last_closed_at),
            snapshot_id=result.snapshot.snapshot_id,
            readiness=readiness.verdict,
            compute_s=round(sum(seconds.values()), 1),
            ic={own.horizon: round(own.ic, 4) for own in result.reports},
            failed_checks={found.gate: found.n_failed for found in result.findings if found.n_failed},
        )
        return model_id

    def _usage(self, result: TrainResult, *, started_at: datetime, n_bytes: int) -> ComputeUsage:
        """Return what this execution took; the same inputs give the same run id, so the instant is part of the id."""
        config = self.trainer.config
        return ComputeUsage(
            usage_id=f"svc_train/{result.run_id}/{started_at:%Y%m%dT%H%M%S%fZ}",
            column=TRAINING,
            service="svc_train",
            purpose=self.settings.reason,
            stop_condition=f"{config.n_trees} trees a head, {len(config.horizons)} horizons, {config.n_folds} folds",
            started_at=started_at,
            ended_at=self.clock.now(),
            cpu_ms=processor_ms(),
            gpu_ms=0,
            n_bytes=n_bytes,
            origin=result.origin,
        )

    async def _load(self) -> tuple[TrainingData, Readiness]:
        """Return what to train on and what an audit says of it; the audit is kept where one was asked for."""
        request = self.settings.request(self.common, states=self.trainer.features.states)
        data, audit = await self.loader.load(request)
        if data.bars.origin is Origin.SIMULATED:
            logs.get().warning("train.simulated", consequence="the model can be registered and passes no gate")
        if audit is None:
            return data, Readiness(request.mode, NOT_ASKED)
        return data, await keep_audit(ObjectArtefactStore(self.common.artefacts), audit)

    async def _prove(self, data: TrainingData) -> ProofReference:
        """Return the stored leakage proof of the features in use, made from these rows where there is none yet."""
        artefacts, seed = ObjectArtefactStore(self.common.artefacts), self.trainer.config.seed
        reference, made = await ensure_proof(
            artefacts, data.bars, self.proven, seed=seed, snapshot_id=data.snapshot_id, state=data.state,
            texts=self.texts,
        )  # fmt: skip
        if made is not None:
            fault = shortfall(made, feature_names=self.proven.names)
            logs.get().info("train.proven", key=reference.key, n_columns=len(made.columns), fault=fault)
        return reference

    async def _publish(
        self, model_id: str, files: dict[str, bytes], *, run_id: str, log: bytes, started_at: datetime
    ) -> None:
        artefacts = ObjectArtefactStore(self.common.artefacts)
        differing = await save_model(artefacts, model_id, files, run_id=run_id)
        if differing:
            logs.get().info("train.known_model", model_id=model_id, kept_first=differing)
        await save_run_log(artefacts, model_id, log, started_at=f"{started_at:%Y%m%dT%H%M%S%fZ}")
        if self.settings.register_candidate:
            await self._register(model_id, artefacts)

    async def _register(self, model_id: str, artefacts: ObjectArtefactStore) -> None:
        dsn, settings = self.common.postgres_dsn, self.settings
        pool = await create_pool(dsn, max_size=2, application_name="svc_train")
        bus = NatsBus(self.common.nats_url, name="svc_train", settings=BusSettings())
        try:
            migrate(dsn, schema=SCHEMA, migrations=MIGRATIONS)
            store = PostgresRegistryStore(pool)
            registry = Registry(store=store, artefacts=artefacts, now=self.clock.now)
            await registry.register_candidate(
                model_id,
                actor=settings.actor,
                reason=settings.reason,
                horizons=self.trainer.config.horizons,
                symbol_group=settings.symbol_group,
            )
            await bus.start()
            await store.publish_pending(bus)
        finally:
            await bus.drain()
            await pool.close()


def build(settings: TrainSettings, common: CommonSettings, *, clock: Clock, stdout: TextIO) -> TrainJob:
    """
    Return the job with its real adapters.

    Raises:
        Malformed: if the settings name a feature set that is not there.
        ValueError: if they name an interval or recipe that cannot be trained.
    """
    config, features = settings.config(), _named(common.features_set)
    compute = partial(compute_history, features=features, interval=common.interval, n_threads=config.n_threads)
    progress = StdoutProgress(stdout, monotonic_s=clock.monotonic)
    trainer = Trainer(
        config=config,
        costs=CostModel(),
        features=FeatureSet(features.names, features.signature(common.interval), compute, states_of(features.inputs)),
        learner=LightGbmLearner(config),
        graph=OnnxGraph(),
        provenance=read_provenance(code_revision=settings.code_revision),
        progress=progress,
    )
    proven = registered_features(features, interval=common.interval)
    source = TrainingLake(
        open_bars(common),
        open_tables(common),
        ObjectArtefactStore(common.artefacts),
        place=str(common.lake),
    )
    audits = LakeAudit(common.lake, common.market, common.interval, common.state_market, cold=common.lake_cold)
    texts = text_prover(features.inputs)
    return TrainJob(settings, common, clock, DataLoader(source, audits), trainer, proven, texts, progress)


def _named(name: str) -> NamedFeatures:
    try:
        return named_feature_set(name)
    except ValueError as error:
        raise Malformed("bad_feature_set", f"QRAFT_FEATURES_SET: {error}") from error


def main() -> int:
    """Run the job from the environment and return the exit code of the process; what is wrong is said in one line."""
    logs.configure("svc_train")
    try:
        common, settings = CommonSettings(), TrainSettings()
        logs.configure("svc_train", level=common.log_level)
        job = build(settings, common, clock=SystemClock(), stdout=sys.stdout)
    except ValidationError as error:
        logs.get().error("train.refused", reason=f"bad_settings: {wrong_settings(error)}")
        return EXIT_REFUSED
    except (Malformed, ValueError) as error:
        logs.get().error("train.refused", reason=str(error))
        return EXIT_REFUSED
    try:
        job.run()
    except ValueError as error:
        logs.get().error("train.refused", reason=str(error))
        return EXIT_REFUSED
    except (Outcome, OSError) as error:
        logs.get().error("train.failed", reason=str(error))
        return EXIT_FAILED
    return 0
