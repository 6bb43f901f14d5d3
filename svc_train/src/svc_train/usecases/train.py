"""Train a multi-horizon model on a snapshot's rows: features, labels, walk-forward, final heads, graph, evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_contracts.times import format_instant
from qraft_quant.calibration import PlattScale
from qraft_quant.costs import CostModel
from qraft_store.bars.port import BarPanel
from svc_train.domain import parity
from svc_train.domain.config import TrainConfig, horizon_bars
from svc_train.domain.findings import Finding
from svc_train.domain.folds import Plan, plan_folds
from svc_train.domain.forecasts import Forecasts, HorizonReport, calibrate, confidence_without_hindsight, report
from svc_train.domain.heads import OUTPUTS, HorizonModel, native_outputs
from svc_train.domain.leakage import prove_no_leakage
from svc_train.domain.manifest import fold_records, instant_of, run_id_of, snapshot_of
from svc_train.domain.panel import FeatureSet, TrainingData, first_grid_index, inputs_of
from svc_train.domain.quality import inspect
from svc_train.domain.result import TrainResult
from svc_train.domain.samples import Float32Array, FloatArray, Samples, complete_samples, on_stride
from svc_train.domain.targets import HorizonTargets, make_targets
from svc_train.domain.trees import distinct_thresholds
from svc_train.ports import HeadLearner, ModelGraph, Progress, Provenance
from svc_train.usecases.fit import HeadFitter

# Beside the fits: features, calibrate, export, parity, leakage, and the proof that the job makes when it is over.
_N_OTHER_STEPS: Final = 6


@dataclass(frozen=True, slots=True)
class Trainer:
    """One recipe and the tools to carry it out."""

    config: TrainConfig
    costs: CostModel
    features: FeatureSet
    learner: HeadLearner
    graph: ModelGraph
    provenance: Provenance
    progress: Progress

    def train(self, data: TrainingData, *, audit_sha256: str = "") -> TrainResult:
        """
        Train on all bars of the snapshot, with the state known at each; no label reaches past its end.

        Args:
            audit_sha256: of the audit that found the data ready, "" where nobody asked. It is part of the model: what
                is trained on audited data is another model than the same trees without an audit.

        Raises:
            ValueError: if the bars are too few or no feature row is complete; the message says what is missing.
        """
        config, bars = self.config, data.bars
        self.progress.begin(len(config.horizons) * (config.n_folds + 1) + _N_OTHER_STEPS)
        self.progress.step("features")
        n_bars, first_index = bars.closed_at.size, first_grid_index(bars)
        features = self.features.compute(inputs_of(data), first_index)
        samples = complete_samples(features)
        targets = self._targets(bars)
        plan = plan_folds(config, targets, first_bar=int(samples.bar[0]), n_bars=n_bars)
        strided = on_stride(samples, first_index=first_index, stride=config.row_stride)
        fitter = HeadFitter(config, self.learner, self.progress, samples, strided, targets)

        forecasts, n_fold_rows = fitter.walk_forward(plan)
        rows = [fitter.train_rows(target, start=0, end=n_bars) for target in targets]
        heads = fitter.fit(rows, name="final")
        self.progress.step("calibrate")
        platts, confidence, reports = self._judge(forecasts, targets, plan)
        models = [
            HorizonModel(target.horizon, target.cost, found.bucket, platt, head)
            for target, found, platt, head in zip(targets, reports, platts, heads, strict=True)
        ]
        graph = self._export(bars, models, audit_sha256=audit_sha256)
        vectors, expected, same = self._check_parity(graph, models, samples)
        self.progress.step("leakage")
        clean = prove_no_leakage(data, self.features, targets, plan, first_bar=int(samples.bar[0]), seed=config.seed)
        snapshot = snapshot_of(data)
        return TrainResult(
            graph=graph,
            run_id=run_id_of(
                config,
                self.costs,
                snapshot,
                code=self.provenance.code_revision,
                feature_signature=self.features.signature,
            ),
            origin=bars.origin,
            snapshot=snapshot,
            folds=fold_records(config, bars, targets, plan, forecasts, n_fold_rows),
            reports=tuple(reports),
            n_train_rows={target.horizon: own.size for target, own in zip(targets, rows, strict=True)},
            forecasts={target.horizon: own for target, own in zip(targets, forecasts, strict=True)},
            confidence={target.horizon: own for target, own in zip(targets, confidence, strict=True)},
            vectors=vectors,
            expected=expected,
            findings=(clean, inspect(data), same),
        )

    def _targets(self, bars: BarPanel) -> list[HorizonTargets]:
        return [
            make_targets(
                bars.close,
                horizon=horizon,
                n_bars_ahead=horizon_bars(horizon, interval=bars.interval),
                cost=self.costs.round_trip_cost(horizon),
                known_frac_min=self.config.known_frac_min,
            )
            for horizon in self.config.horizons
        ]

    def _judge(
        self, forecasts: Sequence[Forecasts], targets: Sequence[HorizonTargets], plan: Plan
    ) -> tuple[list[PlattScale], list[FloatArray], list[HorizonReport]]:
        """Return each horizon's final Platt scale (from all folds), hindsight-free confidences and report."""
        platts, confidences, reports = [], [], []
        for own, target, folds in zip(forecasts, targets, plan, strict=True):
            platt = calibrate(own, target, rows=np.ones(own.fold.shape, dtype=np.bool_))
            starts = [fold.test_start for fold in folds]
            confidence = confidence_without_hindsight(own, target, test_starts=starts)
            platts.append(platt)
            confidences.append(confidence)
            reports.append(report(own, target, confidence=confidence, platt=platt))
        return platts, confidences, reports

    def _export(self, bars: BarPanel, models: Sequence[HorizonModel], *, audit_sha256: str) -> bytes:
        """Return the graph; its metadata is what inference checks before it serves."""
        self.progress.step("export")
        metadata = {
            "feature_signature": self.features.signature,
            "feature_names": json.dumps(list(self.features.names)),
            "origin": bars.origin.value,
            "market": bars.market,
            "interval": bars.interval,
            "symbol_group": self.config.symbol_group,
            "horizons": json.dumps([model.horizon for model in models]),
            "outputs": json.dumps(list(OUTPUTS)),
            "costs": json.dumps({model.horizon: model.cost for model in models}),
            "buckets": json.dumps({model.horizon: model.bucket for model in models}),
            "trained_until": format_instant(instant_of(bars.closed_at[-1])),
        }
        if audit_sha256:
            metadata["audit_sha256"] = audit_sha256
        return self.graph.export(models, n_features=len(self.features.names), metadata=metadata)

    def _check_parity(
        self, graph: bytes, models: Sequence[HorizonModel], samples: Samples
    ) -> tuple[Float32Array, FloatArray, Finding]:
        """Return the test rows, the native outputs on them, and whether the graph gives the same."""
        self.progress.step("parity")
        trees = [tree for model in models for head in model.heads.values() for tree in head.trees]
        thresholds = distinct_thresholds(trees, n_features=len(self.features.names))
        vectors = parity.make_vectors(samples.x, thresholds, n_real_rows=self.config.n_parity_rows)
        expected = native_outputs(models, vectors)
        horizons = [model.horizon for model in models]
        return vectors, expected, parity.compare(expected, self.graph.evaluate(graph, vectors), horizons=horizons)
