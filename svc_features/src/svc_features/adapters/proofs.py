"""Make or find the leakage proof of the features in use, on the newest stored bars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from qraft_contracts.origin import worst_origin
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_quant.features import FeatureSet
from qraft_quant.proof.everything import bars_wanted
from qraft_quant.proof.registered import registered_features
from qraft_registry.artefacts import ProofReference
from qraft_registry.proof_record import ProofRecord
from qraft_registry.proof_rules import shortfall
from qraft_registry.proofs import load_proof, save_proof
from qraft_registry.proving import ensure_proof, prove_features
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.bars.port import BarStore
from qraft_text.proof import text_prover
from svc_features.usecases import StateTables, bars_for, newest_bar, state_for

# Twice the bars that a proof uses: room to look for a stretch without gaps.
_HISTORY_FACTOR = 2


@dataclass(frozen=True, slots=True)
class Proven:
    """A stored proof. is_new: made by this call. fault: why it does not stand, None if it does."""

    reference: ProofReference
    record: ProofRecord
    is_new: bool
    fault: str | None


async def prove(
    bars: BarStore,
    artefacts: ArtefactStore,
    *,
    features: FeatureSet,
    market: str,
    interval: str,
    seed: int,
    anew: bool = False,
    state: StateTables | None = None,
) -> Proven:
    """
    Return the proof of a feature set and of the code that runs here; make and store it if there is none.

    Blocks for the seconds that a proof takes: call it from a command, not from a running service.

    Args:
        anew: prove even if a proof stands already.
        state: whose funding, open interest, … the features are proven on; what it lacks there is drawn.

    Raises:
        Refused: if the store holds no bars of the market, too few (the message says how many are needed), or too many
            symbols for the memory.
        Malformed: if a table of the state is damaged, or that is no name of a market.
        Transient: if a store is away.
    """
    proven = registered_features(features, interval=interval)
    end = newest_bar(bars, market=market, interval=interval)
    span = timedelta(seconds=_HISTORY_FACTOR * bars_wanted(proven.warm_up_bars) * INTERVAL_SECONDS[interval])
    panel = bars_for(
        bars, market=market, interval=interval, start=end - span, end=end, n_features=len(proven.names)
    )  # fmt: skip
    texts = text_prover(features.inputs)
    beside = state_for(features, panel, state)
    panel = replace(panel, origin=worst_origin([panel.origin, *beside.origins]))
    try:
        if anew:
            record, is_new = prove_features(panel, proven, seed=seed, state=beside.values, texts=texts), True
            reference = await save_proof(artefacts, record)
        else:
            reference, made = await ensure_proof(artefacts, panel, proven, seed=seed, state=beside.values, texts=texts)
            record, is_new = made or await load_proof(artefacts, reference), made is not None
    except ValueError as error:
        raise Refused("too_few_bars", str(error)) from error
    return Proven(reference, record, is_new, shortfall(record, feature_names=proven.names))
