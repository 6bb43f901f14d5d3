"""
Prove a feature set on stored bars and keep the proof: what svc_train does when none stands, and what
`qraft features prove` does on command. Everything else of this package reads proofs without computing any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from qraft_contracts.kinds import text_fields
from qraft_contracts.subjects import HORIZON_SECONDS, INTERVAL_SECONDS
from qraft_quant.proof import PROVEN_SOURCES, BarInputs, ProvenFeatures, SetProof, prove_all
from qraft_quant.proof.everything import bars_wanted
from qraft_quant.proof.subjects import OHLCV
from qraft_registry.artefacts import ProofReference, sha256_hex
from qraft_registry.proof_record import ProofData, ProofRecord, TextFindings, record_of
from qraft_registry.proofs import digest_of_sources, find_proof, save_proof
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.bars.port import BarPanel

FloatArray = npt.NDArray[np.float64]
# A proof is about code, not about markets: a few symbols are enough, two at least for ranks to have something to rank.
N_SYMBOLS_MAX: Final = 4
N_SYMBOLS_MIN: Final = 2
# Excerpts without a gap are looked for from the newest bar back, a day of 5-minute bars at a time.
_STRIDE_BARS: Final = 288
_NAMED_VERSIONS: Final = ("numba", "numpy")
# Where a state is unknown its features read 0: on one that is hardly known they would pass without having been tried.
_KNOWN_FRAC_MIN: Final = 0.5


class TextProver(Protocol):
    """
    Proves what features read of texts (qraft_text.proof). signature: of the pipeline. package, sources: its code.
    """

    @property
    def signature(self) -> str: ...

    @property
    def package(self) -> str: ...

    @property
    def sources(self) -> Sequence[str]: ...

    def prove(self, *, seed: int) -> TextFindings: ...


def proven_source(texts: TextProver | None = None) -> str:
    """Return the digest of the code that a proof is about, as it runs here. texts: None = nothing of it is read."""
    own = digest_of_sources("qraft_quant", PROVEN_SOURCES)
    if texts is None:
        return own
    return sha256_hex("\0".join((own, digest_of_sources(texts.package, texts.sources))).encode())


def prove_features(
    bars: BarPanel, features: ProvenFeatures, *,
    seed: int, snapshot_id: str = "", state: Mapping[str, FloatArray] | None = None, texts: TextProver | None = None,
) -> ProofRecord:  # fmt: skip
    """
    Prove a feature set, labels and aligner on an excerpt of bars; the result may have failed, see proofs.shortfall.

    The same code on the same bars gives the same record.

    Args:
        snapshot_id: of the snapshot that the bars were read from, for the record.
        state: (n_bars, n_symbols) by input, what features read beside the bars; what is not known in most rows of the
            excerpt is drawn, and named as `stimulated`.
        texts: proves what is written, where features read it.

    Raises:
        ValueError: if the bars are too few (the message says how many are needed), or features read texts and nobody
            proves them.
    """
    if text_fields(features.inputs) and texts is None:
        raise ValueError(f"expected a prover of texts, for features that read {text_fields(features.inputs)}")
    excerpt = proof_excerpt(bars, n_bars=bars_wanted(features.warm_up_bars))
    beside = _of_excerpt(state or {}, bars, excerpt)
    step = INTERVAL_SECONDS[bars.interval]
    closed_at = excerpt.closed_at.astype("datetime64[us]").astype(np.int64)
    values = {name: getattr(excerpt, name) for name in OHLCV} | beside
    inputs = BarInputs(closed_at, values, step * 1_000_000)
    # Horizons that the excerpt is too short for have no label in it: nothing could be compared.
    horizons = {
        name: seconds // step
        for name, seconds in HORIZON_SECONDS.items()
        if seconds % step == 0 and 2 * (seconds // step) < closed_at.size
    }
    proof = prove_all(inputs, features, horizon_bars=horizons, seed=seed)
    said = texts.prove(seed=seed) if texts is not None else None
    return record_of(
        proof, feature_signature=proof.signature, source_sha256=proven_source(texts),
        data=_data_of(proof, excerpt, values, snapshot_id), packages=_NAMED_VERSIONS, inputs=features.inputs,
        texts=said, text_signature=texts.signature if texts is not None else "",
    )  # fmt: skip


async def ensure_proof(
    artefacts: ArtefactStore, bars: BarPanel, features: ProvenFeatures, *,
    seed: int, snapshot_id: str = "", state: Mapping[str, FloatArray] | None = None, texts: TextProver | None = None,
) -> tuple[ProofReference, ProofRecord | None]:  # fmt: skip
    """
    Return the stored proof of these features and this code, or prove them now and store what was found.

    Args:
        snapshot_id: of the snapshot that the bars were read from; a proof made now names it.
        state, texts: as in prove_features.

    Returns:
        Where the proof lies, and the record if it was made now: one that did not pass is stored too and is no proof.

    Raises:
        ValueError: if the bars are too few.
        Transient: if the store is away.
    """
    found = await find_proof(
        artefacts,
        feature_signature=features.signature,
        source_sha256=proven_source(texts),
        feature_names=features.names,
        origin=bars.origin,
    )
    if found is not None:
        return found, None
    record = prove_features(bars, features, seed=seed, snapshot_id=snapshot_id, state=state, texts=texts)
    return await save_proof(artefacts, record), record


def proof_excerpt(bars: BarPanel, *, n_bars: int) -> BarPanel:
    """
    Return the n_bars rows in which two symbols have the fewest gaps, the newest such rows, of a few symbols.

    Gaps are no fault: after one a feature is unknown until its window is full again, and columns of which too little
    could be compared fail, as they must.
    """
    is_there = np.isfinite(bars.close)
    first = int(is_there.any(axis=1).argmax())  # what was asked for may begin before the first stored bar
    n = min(n_bars, bars.closed_at.size - first)
    n_missing = np.concatenate([np.zeros((1, is_there.shape[1]), np.int64), np.add.accumulate(~is_there, axis=0)])
    gaps = {
        end: n_missing[end] - n_missing[end - n] for end in range(bars.closed_at.size, first + n - 1, -_STRIDE_BARS)
    }
    # The first of equals is kept: the newest.
    end = min(gaps, key=lambda end: int(np.sort(gaps[end])[:N_SYMBOLS_MIN].sum()))
    chosen = np.sort(np.argsort(gaps[end], kind="stable")[:N_SYMBOLS_MAX])
    return BarPanel(
        bars.market,
        bars.interval,
        bars.origin,
        tuple(bars.symbols[i] for i in chosen),
        bars.closed_at[end - n : end],
        **{name: np.ascontiguousarray(getattr(bars, name)[end - n : end, chosen]) for name in OHLCV},
    )


def _of_excerpt(state: Mapping[str, FloatArray], bars: BarPanel, excerpt: BarPanel) -> dict[str, FloatArray]:
    """Return the state of the excerpt's rows and symbols, without what is hardly known there."""
    first = int((bars.closed_at == excerpt.closed_at[0]).argmax())
    rows = slice(first, first + excerpt.closed_at.size)
    columns = [bars.symbols.index(symbol) for symbol in excerpt.symbols]
    found = {name: np.ascontiguousarray(values[rows, columns]) for name, values in state.items()}
    return {name: values for name, values in found.items() if np.isfinite(values).mean() >= _KNOWN_FRAC_MIN}


def _data_of(proof: SetProof, bars: BarPanel, values: Mapping[str, FloatArray], snapshot_id: str) -> ProofData:
    closed_at = bars.closed_at.astype("datetime64[us]").astype(np.int64)
    return ProofData(
        market=bars.market,
        interval=bars.interval,
        symbols=bars.symbols,
        origin=bars.origin,
        n_bars=proof.n_bars,
        first_closed_at_us=int(closed_at[0]),
        last_closed_at_us=int(closed_at[-1]),
        sha256=_data_sha256(bars, values),
        stimulated=proof.stimulated,
        snapshot_id=snapshot_id,
    )


def _data_sha256(bars: BarPanel, values: Mapping[str, npt.NDArray[np.float64]]) -> str:
    named = [bars.market, bars.interval, list(bars.symbols), bars.origin.value]
    digest = hashlib.sha256(msgspec.json.encode(named))
    digest.update(bars.closed_at.astype("datetime64[us]").astype("<i8").tobytes())
    for name, array in values.items():
        digest.update(name.encode())
        # Missing bars may carry any of the many NaNs; the hash must not see which.
        digest.update(np.ascontiguousarray(np.where(np.isnan(array), np.nan, array), dtype="<f8").tobytes())
    return digest.hexdigest()
