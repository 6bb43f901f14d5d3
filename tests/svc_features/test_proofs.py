"""`svc_features.adapters.proofs`: a proof is made once from the stored bars, found again, and made anew on demand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from qraft_contracts.kinds import TEXT_SIGNATURE
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_frames.bars import BarBatch
from qraft_quant.features import CORE, FULL, FeatureSet
from qraft_registry.proof_record import encode_proof
from qraft_registry.proof_rules import CONTROLS_REQUIRED, TEXT_CONTROLS_REQUIRED
from qraft_registry.proving import proven_source
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.schema import table_schema
from qraft_text.proof import text_prover
from svc_features.adapters.proofs import prove
from svc_features.usecases import StateTables

SMALL = FeatureSet("small", tuple(spec for spec in CORE.features if spec.window <= 15))
ASKED = {"features": SMALL, "market": "crypto", "interval": "5m", "seed": 7}


def store_of(n_bars: int) -> MemoryBarStore:
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, (n_bars, 2)), axis=0))
    spread = np.exp(rng.exponential(1e-3, close.shape))
    store = MemoryBarStore()
    first = datetime(2025, 6, 1, tzinfo=UTC)
    store.append([
        BarBatch("crypto", "5m", at, at, 0, Origin.REPLAY, ("A", "B"), c, c * s, c / s, c, s)
        for at, c, s in ((first + i * timedelta(minutes=5), close[i], spread[i]) for i in range(n_bars))
    ])  # fmt: skip
    return store


async def test_proof_is_made_once_and_anew_on_demand_with_the_same_bytes() -> None:
    bars, artefacts = store_of(600), MemoryArtefactStore()

    first = await prove(bars, artefacts, **ASKED)
    again = await prove(bars, artefacts, **ASKED)
    anew = await prove(bars, artefacts, **ASKED, anew=True)

    assert first.fault is None and (first.is_new, again.is_new, anew.is_new) == (True, False, True)
    assert first.reference == again.reference == anew.reference
    assert await artefacts.get(first.reference.key) == encode_proof(again.record)
    assert [c.name for c in first.record.columns if c.kind == "feature"] == list(SMALL.names)
    assert first.record.data.origin is Origin.REPLAY


async def test_store_without_bars_or_with_too_few_is_refused() -> None:
    with pytest.raises(Refused, match="no_bars: expected crypto 5m bars"):
        await prove(MemoryBarStore(), MemoryArtefactStore(), **ASKED)
    with pytest.raises(Refused, match=r"too_few_bars: .*received 100"):
        await prove(store_of(100), MemoryArtefactStore(), **ASKED)


async def test_proof_is_made_on_the_state_that_is_stored_and_draws_the_rest() -> None:
    names = ("funding_rate", "funding_missing", "basis", "return_1")
    asked = ASKED | {"features": FeatureSet("state", tuple(it for it in FULL.features if it.name in names))}
    bars, tables, at = store_of(600), MemoryTables(), datetime(2025, 6, 1, tzinfo=UTC)
    rows = [
        {"symbol": symbol, "event_at": at + i * timedelta(hours=1), "known_at": at + i * timedelta(hours=1),
         "row_id": "", "revision": 0, "origin": "replay", "source": "test", "funding_rate": i / 1000,
         "period_hours": 8.0}
        for i in range(50) for symbol in ("A", "B")
    ]  # fmt: skip
    tables.append("funding", market="binance.perp", rows=pa.Table.from_pylist(rows, schema=table_schema("funding")))

    without = await prove(bars, MemoryArtefactStore(), **asked)
    found = await prove(bars, MemoryArtefactStore(), **asked, state=StateTables(tables, "binance.perp"))

    assert set(without.record.data.stimulated) == {"funding_rate", "basis_frac"}
    assert found.record.data.stimulated == ("basis_frac",) and found.fault is None
    assert found.record.data.sha256 != without.record.data.sha256


async def test_features_that_read_texts_are_proven_with_their_pipeline_in_one_record() -> None:
    bars, artefacts = store_of(600), MemoryArtefactStore()
    reading = FeatureSet("texts", tuple(it for it in FULL.features if it.name in ("return_1", "text_sentiment")))

    found = await prove(bars, artefacts, **ASKED | {"features": reading})
    again = await prove(bars, artefacts, **ASKED | {"features": reading})

    assert found.fault is None and (found.is_new, again.is_new) == (True, False)
    assert found.record.texts is not None and found.record.texts.signature == TEXT_SIGNATURE
    assert "posts_sentiment_1h" in {it.name for it in found.record.columns if it.kind == "text_bucket"}
    assert {it.name for it in found.record.controls} >= {*CONTROLS_REQUIRED, *TEXT_CONTROLS_REQUIRED}
    # Texts are part of what was proven: another digest of their code asks for another proof.
    assert found.record.source_sha256 == proven_source(text_prover(reading.inputs)) != proven_source()
