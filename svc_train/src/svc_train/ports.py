"""What training needs of the outside: data, audits, a tree learner, a graph format, provenance, progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from qraft_data.audit.expectation import Window
from qraft_data.audit.findings import Audit
from svc_train.domain.heads import FittedHead, HeadKind, HorizonModel
from svc_train.domain.panel import TrainingData
from svc_train.domain.request import DataRequest
from svc_train.domain.samples import Float32Array, FloatArray, IntArray


class DataSource(Protocol):
    """Where rows come from: always out of a snapshot, so that the same rows can be had again."""

    def range_of(self, request: DataRequest) -> tuple[datetime, datetime]:
        """Return (start, end] of a request, open ends closed by what is stored; ValueError if nothing is."""
        ...

    async def take(self, request: DataRequest) -> TrainingData:
        """Freeze what is asked for and return it; ValueError if there is nothing, Transient if it keeps changing."""
        ...

    async def read(self, snapshot_id: str, request: DataRequest) -> TrainingData:
        """Return an earlier snapshot; ValueError if it was tampered with or is not what is asked for."""
        ...


class Audits(Protocol):
    """Says whether data are complete."""

    def ask(self, mode: str, window: Window) -> Audit:
        """Return the audit of a window; blocking."""
        ...


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one horizon learns from a window: its rows of it, increasing, and a target (rows.size,) for each head."""

    rows: IntArray
    targets: Mapping[HeadKind, FloatArray]


class BinnedRows(Protocol):
    """The training rows of a window, binned once for all heads."""

    def fit_each(self, lessons: Sequence[Lesson]) -> Iterator[dict[HeadKind, FittedHead]]:
        """Train the heads of each lesson and yield them in order, as they are done."""
        ...


class HeadLearner(Protocol):
    """Trains heads. The same rows and seed give the same trees, whatever the number of threads."""

    def bin(self, x: Float32Array) -> BinnedRows:
        """Bin rows (n, n_features) without NaN."""
        ...


class ModelGraph(Protocol):
    """The one file that inference loads."""

    def export(self, models: Sequence[HorizonModel], *, n_features: int, metadata: Mapping[str, str]) -> bytes:
        """Return all heads as one graph x (n, n_features) -> y (n, 3 * n_horizons); equal models, equal bytes."""
        ...

    def evaluate(self, graph: bytes, x: Float32Array) -> Float32Array:
        """Run the graph as inference does."""
        ...


@dataclass(frozen=True, slots=True)
class Provenance:
    """What code trained: revision of the source, hash of all installed versions, the versions that matter most."""

    code_revision: str
    requirements_sha256: str
    versions: Mapping[str, str]


class Progress(Protocol):
    """Tells how far the job is."""

    def begin(self, n_steps: int) -> None:
        """Say how many steps there will be."""
        ...

    def step(self, name: str) -> None:
        """Say that the next step begins."""
        ...
