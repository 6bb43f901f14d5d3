"""All that a run made, before it is packed into files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qraft_contracts.origin import Origin
from svc_train.domain.findings import Finding
from svc_train.domain.forecasts import Forecasts, HorizonReport
from svc_train.domain.manifest import DataSnapshot, FoldRecord
from svc_train.domain.samples import Float32Array, FloatArray


@dataclass(frozen=True, slots=True)
class TrainResult:
    """
    graph: the ONNX file. vectors, expected: parity rows and the native outputs (float64). confidence: of each
    out-of-fold forecast, by horizon. findings: one a gate.
    """

    graph: bytes
    run_id: str
    origin: Origin
    snapshot: DataSnapshot
    folds: tuple[FoldRecord, ...]
    reports: tuple[HorizonReport, ...]
    n_train_rows: Mapping[str, int]
    forecasts: Mapping[str, Forecasts]
    confidence: Mapping[str, FloatArray]
    vectors: Float32Array
    expected: FloatArray
    findings: tuple[Finding, ...]
