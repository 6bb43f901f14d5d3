"""The screening as an artefact: everything that was found, with what it was found on. No wall clock is in it."""

from __future__ import annotations

import math

import msgspec

from qraft_screening.decoding import decoded
from qraft_screening.thresholds import Thresholds

SCREENING_FORMAT = "screening/1"
# Digits that are reported: further ones are rounding, not findings.
_DIGITS = 8


class Source(msgspec.Struct, frozen=True):
    """What was read: bars with after < closed_at <= until, known by then. data_sha256: of every input that was read."""

    market: str
    interval: str
    symbols: tuple[str, ...]
    origin: str
    after_us: int
    until_us: int
    n_bars: int
    data_sha256: str


class MonthInformation(msgspec.Struct, frozen=True):
    """IC of one month over n products of scores; None where it holds nothing."""

    month: str
    n: int
    ic: float | None


class MonthDrift(msgspec.Struct, frozen=True):
    """Distance of one month from the reference; None where there are too few values."""

    month: str
    n: int
    psi: float | None
    ks: float | None
    verdict: str


class FeatureFinding(msgspec.Struct, frozen=True):
    """
    One feature. stage: `selected`, or where it ended: missing, variance, stability, information, cluster, model.

    coverage: months × symbols, known share of grid steps. drift: months of the window's second half against its first.
    by_age: IC at the report's ages. coefficients: by model, on scaled values; empty if it did not come so far.
    """

    name: str
    family: str
    formula: str
    window: int
    signature: str
    stage: str
    reason: str
    known_frac: float
    commonest_frac: float
    coverage: tuple[tuple[float, ...], ...]
    drift: tuple[MonthDrift, ...]
    median_psi: float | None
    ic: float | None
    error: float | None
    t: float | None
    p: float | None
    q: float | None
    ir: float | None
    same_sign_parts: int | None
    months: tuple[MonthInformation, ...]
    by_age: tuple[float | None, ...]
    decay: str
    half_life_bars: float | None
    cluster: int | None
    representative: str
    correlation: float | None
    coefficients: dict[str, float]
    fold_share: dict[str, float]


class ClusterFinding(msgspec.Struct, frozen=True):
    """One cluster; representative: empty where no member carries information."""

    number: int
    representative: str
    members: tuple[str, ...]


class ModelFinding(msgspec.Struct, frozen=True):
    """
    One linear model on the representatives. r2: out of sample, mean over folds, against the training mean. t: of what
    it foretold of unseen rows, None where it foretold nothing or there are too few days to tell. penalty_frac: of the
    coefficients, chosen on the whole window; each fold chooses its own without its test part.
    """

    name: str
    penalty_frac: float
    r2: float
    r2_of_folds: tuple[float, ...]
    n_kept: int
    t: float | None = None


class ComponentFinding(msgspec.Struct, frozen=True):
    """One principal component: share of variance, and the features that weigh most."""

    share: float
    loadings: tuple[tuple[str, float], ...]


class Screening(msgspec.Struct, frozen=True):
    """
    All that one screening found. counts: how many features are left after each stage. n_for_90: components that carry
    90 % of the variance of what passed the filters. models_note: why there is no model, empty if there is.
    """

    format: str
    feature_set: str
    feature_signature: str
    source: Source
    horizon: str
    horizon_bars: int
    ranked: str
    lag_blocks: int
    n_blocks: int
    block_us: int
    seed: int
    thresholds: Thresholds
    versions: dict[str, str]
    months: tuple[str, ...]
    ages: tuple[int, ...]
    counts: dict[str, int]
    features: tuple[FeatureFinding, ...]
    clusters: tuple[ClusterFinding, ...]
    components: tuple[ComponentFinding, ...]
    n_for_90: int
    models: tuple[ModelFinding, ...]
    models_note: str
    proof: AutomaticProof | None = None

    def feature(self, name: str) -> FeatureFinding | None:
        """Return what was found of one feature, None if it was not screened."""
        return next((it for it in self.features if it.name == name), None)


class AutomaticProof(msgspec.Struct, frozen=True):
    """
    The leakage proof of features that have no entry in the catalogue: how many columns, comparisons, and what failed;
    window_bars and every_bars: as in AutomaticFeatures, to compute them again.
    """

    window_bars: int
    every_bars: int
    n_columns: int
    n_checks: int
    failed: tuple[str, ...]


def tidy(value: float) -> float | None:
    """Return a number as it is reported: eight digits, None for what is not known."""
    if not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def with_proof(screening: Screening, proof: AutomaticProof | None) -> Screening:
    """Return the report with the proof of its automatic features; None = it has none."""
    return msgspec.structs.replace(screening, proof=proof)


def encode_screening(screening: Screening) -> bytes:
    """Return the canonical bytes."""
    return msgspec.json.format(msgspec.json.encode(screening, order="deterministic"), indent=1) + b"\n"


def decode_screening(data: bytes) -> Screening:
    """
    Return the screening that bytes hold.

    Raises:
        ValueError: if they hold none.
    """
    return decoded(data, Screening, form=SCREENING_FORMAT, remedy="screen anew")
