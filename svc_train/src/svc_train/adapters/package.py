"""A result as the files of its model: graph, test vectors, out-of-fold forecasts, evidence, manifest."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_registry.artefacts import (
    EVIDENCE_FORMAT,
    MANIFEST_FILE,
    MANIFEST_FORMAT,
    MODEL_FILE,
    Evidence,
    ProofReference,
    Readiness,
    evidence_file,
    model_id_of,
    sha256_hex,
    snapshot_input,
)
from svc_train.domain.findings import Finding
from svc_train.domain.heads import OUTPUTS
from svc_train.domain.manifest import LABELS, TrainManifest
from svc_train.domain.result import TrainResult
from svc_train.usecases.train import Trainer

VECTORS_FILE: Final = "test_vectors.npz"
OUT_OF_FOLD_FILE: Final = "oof.parquet"
_JSON = msgspec.json.Encoder(order="deterministic")


def pack(
    result: TrainResult,
    trainer: Trainer,
    *,
    proof: ProofReference | None,
    feature_source_sha256: str,
    readiness: Readiness,
) -> tuple[str, dict[str, bytes]]:
    """
    Return the model's id and its files by path; the same run gives the same bytes. The manifest comes last.

    Args:
        proof: of the features, as the leakage evidence names it; a model without one passes no gate.
        feature_source_sha256: digest of the code that computed the features.
        readiness: what an audit said of the data, or that nobody asked.
    """
    model_id, model_sha256 = model_id_of(result.graph), sha256_hex(result.graph)
    findings = (*result.findings, _origin_finding(result))
    files = {
        MODEL_FILE: result.graph,
        VECTORS_FILE: _vectors(result),
        OUT_OF_FOLD_FILE: _out_of_fold(result),
        **{
            evidence_file(finding.gate): _evidence(
                finding,
                result,
                model_id=model_id,
                model_sha256=model_sha256,
                proof=proof if finding.gate == "leakage" else None,
            )
            for finding in findings
        },
    }
    manifest = TrainManifest(
        format=MANIFEST_FORMAT,
        model_id=model_id,
        origin=result.origin,
        feature_signature=trainer.features.signature,
        horizons=tuple(result.forecasts),
        trained_until=result.snapshot.last_closed_at,
        files={path: sha256_hex(data) for path, data in files.items()},
        run_id=result.run_id,
        seed=trainer.config.seed,
        config=trainer.config,
        code_revision=trainer.provenance.code_revision,
        requirements_sha256=trainer.provenance.requirements_sha256,
        versions=dict(trainer.provenance.versions),
        data=result.snapshot,
        readiness=readiness,
        feature_names=trainer.features.names,
        feature_source_sha256=feature_source_sha256,
        labels=LABELS,
        costs=trainer.costs,
        folds=result.folds,
        n_train_rows=dict(result.n_train_rows),
        reports=result.reports,
        outputs=tuple(f"{horizon}.{output}" for horizon in result.forecasts for output in OUTPUTS),
    )
    return model_id, {**files, MANIFEST_FILE: _pretty(manifest)}


def _evidence(
    finding: Finding, result: TrainResult, *, model_id: str, model_sha256: str, proof: ProofReference | None
) -> bytes:
    snapshot = result.snapshot
    return _pretty(
        Evidence(
            format=EVIDENCE_FORMAT,
            gate=finding.gate,
            model_id=model_id,
            model_sha256=model_sha256,
            data_until=snapshot.last_closed_at,
            origin=result.origin,
            n_checks=finding.n_checks,
            n_failed=finding.n_failed,
            measures=dict(finding.measures),
            failures=finding.failures,
            inputs={
                f"bars/{snapshot.market}/{snapshot.interval}/{snapshot.sha256}": snapshot.origin,
                snapshot_input(snapshot.snapshot_id): snapshot.origin,
            },
            proof=proof,
        )
    )


def _origin_finding(result: TrainResult) -> Finding:
    agrees = result.origin is result.snapshot.origin
    failures = () if agrees else (f"the result says {result.origin.value}, the bars {result.snapshot.origin.value}",)
    return Finding("origin", 1, len(failures), failures)


def _pretty(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(_JSON.encode(value), indent=2) + b"\n"


def _vectors(result: TrainResult) -> bytes:
    buffer = io.BytesIO()
    # numpy writes zip entries dated 1980, so equal arrays give equal bytes.
    np.savez(buffer, x=result.vectors, expected=result.expected)
    return buffer.getvalue()


def _out_of_fold(result: TrainResult) -> bytes:
    """Return the forecasts as Parquet, by horizon, then bar, then symbol; expected_return is gross of costs."""
    snapshot = result.snapshot
    step = np.timedelta64(INTERVAL_SECONDS[snapshot.interval], "s")
    first = np.datetime64(snapshot.first_closed_at.replace(tzinfo=None), "us")
    symbols = pa.array(snapshot.symbols, pa.string())
    tables = [
        pa.table(
            {
                "as_of": pa.array(first + own.bar * step, pa.timestamp("us", tz="UTC")),
                "symbol": pa.DictionaryArray.from_arrays(own.symbol.astype(np.int32), symbols),
                "horizon": pa.DictionaryArray.from_arrays(
                    np.zeros(own.bar.size, dtype=np.int32), pa.array([horizon], pa.string())
                ),
                "expected_return": pa.array(own.gross, pa.float64()),
                "confidence": pa.array(result.confidence[horizon], pa.float64()),
                "volatility": pa.array(own.volatility, pa.float64()),
            }
        )
        for horizon, own in result.forecasts.items()
    ]
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables).unify_dictionaries(), sink, compression="zstd")
    return sink.getvalue()


def run_log(*, model_id: str, run_id: str, started_at: str, seconds: Mapping[str, float], actor: str) -> bytes:
    """Return run_log.json: what a clock saw, and nothing that the model depends on."""
    log = {
        "model_id": model_id,
        "run_id": run_id,
        "started_at": started_at,
        "actor": actor,
        "compute_s": round(sum(seconds.values()), 3),
        "steps_s": {name: round(value, 3) for name, value in seconds.items()},
    }
    return (json.dumps(log, indent=2) + "\n").encode()
