"""What a manifest says of its data must lie in the store as named; what it does not say is unknown."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.libs.registry.kit import (
    NOW,
    QUERY,
    RECORD,
    SNAPSHOT_ID,
    TRAINED_UNTIL,
    VERSIONS,
    audit_of,
    manifest_of,
    put_model,
    ready_by,
    record_of,
    trained_on,
)

from qraft_contracts.outcomes import Refused
from qraft_contracts.snapshots import snapshot_id_of
from qraft_registry.artefacts import Readiness, TrainedOn, sha256_hex
from qraft_registry.domain import Stage
from qraft_registry.dossier import Dossier, read_dossier
from qraft_registry.gates import PAPER_GATES
from qraft_registry.memory import MemoryRegistryStore
from qraft_registry.provenance import readiness_fault
from qraft_registry.registry import Registry
from qraft_store.artefacts.memory import MemoryArtefactStore

NOT_READY = audit_of(ready=False)
PRODUCTION = audit_of(mode="production")
YEAR_2020 = "2020-01-01T00:00:00Z"
EARLIER, LATER = audit_of(end=YEAR_2020), audit_of(start=YEAR_2020)
OTHER_MARKET = audit_of(market="other")
OTHER_BARS = audit_of(versions={"bars/5m/crypto": "b1", "funding/binance.perp": "f0"})
OTHER_STATE = audit_of(versions={"bars/5m/crypto": "b0", "funding/binance.perp": "f1"})
UNSEEN_STATE = audit_of(versions={"bars/5m/crypto": "b0"})
OTHER_STATE_MARKET = audit_of(versions={"bars/5m/crypto": "b0", "funding/bybit.perp": "f0"})
UNSEEN_BARS = audit_of(versions={"funding/binance.perp": "f0"})


@pytest.fixture
def artefacts() -> MemoryArtefactStore:
    return MemoryArtefactStore()


def registry_of(artefacts: MemoryArtefactStore) -> Registry:
    return Registry(store=MemoryRegistryStore(), artefacts=artefacts, now=lambda: NOW)


async def dossier_of(artefacts: MemoryArtefactStore, **changes: Any) -> Dossier:
    return await read_dossier(artefacts, await put_model(artefacts, b"one", **changes), gates=PAPER_GATES)


async def test_dossier_names_the_snapshot_and_the_readiness(artefacts: MemoryArtefactStore) -> None:
    audit = audit_of()
    await artefacts.put(ready_by(audit).audit, audit)

    found = await dossier_of(artefacts, manifest={"readiness": ready_by(audit)})

    assert found.fault is None
    assert found.snapshot_id == found.evidence["snapshot"] == SNAPSHOT_ID
    assert found.readiness.verdict == "ready" and found.evidence["audit"] == sha256_hex(audit)


async def test_model_of_before_snapshots_is_registered_and_passes_no_gate_of_the_data(
    artefacts: MemoryArtefactStore,
) -> None:
    found = await dossier_of(artefacts, manifest={"data": TrainedOn()}, snapshot=None)
    registry = registry_of(artefacts)

    assert (found.fault, found.snapshot_id, found.readiness.verdict) == (None, "", "unknown")
    assert "snapshot" not in found.evidence
    await registry.register_candidate(found.model_id, actor="ada", reason="old")
    with pytest.raises(Refused, match=r"gate_failed.*data_quality: no_snapshot"):
        await registry.promote(found.model_id, actor="ada", reason="it was good")


@pytest.mark.parametrize(
    ("record", "named", "fault"),
    [
        (None, sha256_hex(RECORD), f"missing_snapshot: expected snapshots/{SNAPSHOT_ID}/snapshot_meta.json"),
        (b"", sha256_hex(b""), "missing_snapshot"),
        (record_of(n_rows=5), sha256_hex(RECORD), "snapshot_changed: the manifest names "),
        (b"[]", sha256_hex(b"[]"), "undecodable_snapshot"),
        (record_of(snapshot_id="b2" * 32), None, "other_snapshot: expected the record of " + SNAPSHOT_ID),
        (record_of(origin="simulated"), None, "snapshot_origin: the snapshot is simulated"),
        (record_of(query=QUERY | {"end": "2025-07-01T00:00:00Z"}), None, "other_snapshot: .*whose query and versions"),
        (record_of(versions=VERSIONS | {"bars/5m/crypto": "b1"}), None, "other_snapshot: .*whose query and versions"),
        (record_of(query={}), None, "undecodable_snapshot"),
        (record_of(files={}), None, r"snapshot_without_rows: expected data.parquet among its files, received \[\]"),
        (record_of(files={"data.parquet": "d", "more.parquet": "e"}), None, "missing_snapshot: .*more.parquet"),
    ],
)
async def test_model_whose_snapshot_is_not_as_named_is_refused_by_name(
    artefacts: MemoryArtefactStore, record: bytes | None, named: str | None, fault: str
) -> None:
    data = trained_on(record or b"", **({"snapshot_sha256": named} if named else {}))
    model_id = await put_model(artefacts, b"one", manifest={"data": data}, snapshot=record)

    with pytest.raises(Refused, match=fault):
        await registry_of(artefacts).register_candidate(model_id, actor="ada", reason="new")


@pytest.mark.parametrize(
    ("query", "versions", "fault"),
    [
        ({"market": "other"}, {"bars/5m/other": "b0"}, "snapshot_of_other_bars: the snapshot holds other 5m"),
        ({"interval": "1h"}, {"bars/1h/crypto": "b0"}, "snapshot_of_other_bars"),
        ({"symbols": ["BTCUSDT"]}, VERSIONS, "snapshot_of_other_bars"),
        ({"end": "2025-07-01T00:00:00Z"}, VERSIONS, "snapshot_of_other_range: the snapshot ends at 2025-07-01"),
        ({"end": "2025-05-31T23:59:00Z"}, VERSIONS, "snapshot_of_other_range"),
        ({"end": "2025-06-01T00:00:00"}, VERSIONS, "undecodable_snapshot"),
        ({}, {}, "snapshot_without_bars: expected the version of bars/5m/crypto"),
        ({"end": "2025-06-01T00:04:59Z"}, VERSIONS, None),
    ],
)
async def test_snapshot_of_another_question_than_the_training_s_is_a_fault(
    artefacts: MemoryArtefactStore, query: dict[str, Any], versions: dict[str, str], fault: str | None
) -> None:
    snapshot_id = snapshot_id_of(QUERY | query, versions)
    record = record_of(snapshot_id=snapshot_id, query=QUERY | query, versions=versions)

    data = trained_on(record, snapshot_id=snapshot_id)
    found = await dossier_of(artefacts, manifest={"data": data}, snapshot=record, snapshot_id=snapshot_id)

    assert found.fault is None if fault is None else (found.fault or "").startswith(fault)


async def test_snapshot_that_vanishes_after_the_registration_is_refused_at_the_promotion(
    artefacts: MemoryArtefactStore,
) -> None:
    model_id = await put_model(artefacts, b"one")
    store = MemoryRegistryStore()
    await Registry(store=store, artefacts=artefacts, now=lambda: NOW).register_candidate(
        model_id, actor="ada", reason="new"
    )
    kept = MemoryArtefactStore()
    for key in await artefacts.keys(""):
        if not key.endswith("data.parquet"):
            await kept.put(key, await artefacts.get(key))

    with pytest.raises(Refused, match=r"missing_snapshot: .*data\.parquet"):
        await Registry(store=store, artefacts=kept, now=lambda: NOW).promote(model_id, actor="ada", reason="go")


@pytest.mark.parametrize("snapshot_id", ["../models", "A1" * 32, "a1" * 31, "a1" * 32 + "/x"])
async def test_snapshot_id_that_is_none_is_refused_before_anything_is_read(
    artefacts: MemoryArtefactStore, snapshot_id: str
) -> None:
    found = await dossier_of(artefacts, manifest={"data": trained_on(RECORD, snapshot_id=snapshot_id)})

    assert found.fault is not None and found.fault.startswith("bad_snapshot_id: ")


@pytest.mark.parametrize(
    ("readiness", "stored", "fault"),
    [
        (ready_by(audit_of()), None, "missing_audit"),
        (Readiness("full", "ready"), None, "missing_audit"),
        (Readiness("full", "ready", audit="models/x/manifest.json"), None, "missing_audit"),
        (ready_by(audit_of()), audit_of(n_ready=5), "audit_changed"),
        (ready_by(NOT_READY), NOT_READY, "other_audit: the audit says not ready"),
        (ready_by(PRODUCTION), PRODUCTION, "other_audit: the audit says ready of production"),
        (ready_by(EARLIER), EARLIER, "other_audit: the audit says ready of full 2018-01-01T00:00:00Z … 2020"),
        (
            ready_by(EARLIER, end=YEAR_2020),
            EARLIER,
            "audit_of_other_range: the audit is of 2018-01-01T00:00:00Z … 2020",
        ),
        (ready_by(LATER, start=YEAR_2020), LATER, "audit_of_other_range: the audit is of 2020-01-01T00:00:00Z"),
        (ready_by(OTHER_MARKET), OTHER_MARKET, "audit_of_other_market: the audit is of other, the snapshot of crypto"),
        (ready_by(OTHER_BARS), OTHER_BARS, r"audit_of_other_data: ['bars/5m/crypto'] have other versions"),
        (ready_by(OTHER_STATE), OTHER_STATE, r"audit_of_other_data: ['tables/funding/binance.perp']"),
        (ready_by(UNSEEN_STATE), UNSEEN_STATE, r"audit_of_other_data: ['tables/funding/binance.perp']"),
        (ready_by(OTHER_STATE_MARKET), OTHER_STATE_MARKET, r"audit_of_other_data: ['tables/funding/binance.perp']"),
        (ready_by(UNSEEN_BARS), UNSEEN_BARS, r"audit_of_other_data: ['bars/5m/crypto']"),
        (ready_by(b"{}"), b"{}", "undecodable_audit"),
    ],
)
async def test_claim_of_readiness_that_no_audit_backs_is_a_fault(
    artefacts: MemoryArtefactStore, readiness: Readiness, stored: bytes | None, fault: str
) -> None:
    if stored is not None:
        await artefacts.put(readiness.audit, stored)

    found = await dossier_of(artefacts, manifest={"readiness": readiness})

    assert found.fault is not None and found.fault.startswith(fault)


async def test_claim_of_readiness_without_a_snapshot_is_a_fault(artefacts: MemoryArtefactStore) -> None:
    await artefacts.put(ready_by(audit_of()).audit, audit_of())

    found = await dossier_of(artefacts, manifest={"readiness": ready_by(audit_of()), "data": TrainedOn()})

    assert (found.fault or "").startswith("audit_of_nothing: ")


async def test_audit_that_ends_with_the_last_bar_covers_a_range_that_ends_within_the_next(
    artefacts: MemoryArtefactStore,
) -> None:
    query = QUERY | {"end": "2025-06-01T00:04:59Z"}
    snapshot_id = snapshot_id_of(query, VERSIONS)
    record = record_of(snapshot_id=snapshot_id, query=query)
    await artefacts.put(ready_by(audit_of()).audit, audit_of())
    fields = {"data": trained_on(record, snapshot_id=snapshot_id), "readiness": ready_by(audit_of())}

    found = await dossier_of(artefacts, manifest=fields, snapshot=record, snapshot_id=snapshot_id)

    assert found.fault is None


async def test_audit_that_ends_a_bar_before_the_training_does_is_a_fault(artefacts: MemoryArtefactStore) -> None:
    end = (TRAINED_UNTIL - timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
    audit = audit_of(end=end)
    await artefacts.put(ready_by(audit, end=end).audit, audit)

    found = await dossier_of(artefacts, manifest={"readiness": ready_by(audit, end=end)})

    assert (found.fault or "").startswith("audit_of_other_range: ")


async def test_unasked_readiness_is_named_where_a_stage_beyond_paper_is_refused(artefacts: MemoryArtefactStore) -> None:
    model_id = await put_model(artefacts, b"one", manifest={"readiness": Readiness("line", "not_asked")})
    registry = registry_of(artefacts)
    await registry.register_candidate(model_id, actor="ada", reason="new")

    assert await registry.promote(model_id, actor="ada", reason="paper needs no audit")
    with pytest.raises(Refused, match=r"no_qualified_gates.*readiness_not_asked: trained in mode line"):
        await registry.promote(model_id, actor="ada", reason="now for real", stage=Stage.QUALIFIED)


def test_only_an_audit_that_said_ready_allows_more_than_paper() -> None:
    assert readiness_fault(manifest_of(b"one", {}, readiness=ready_by(audit_of()))) is None
    for verdict in ("not_asked", "unknown", "not_ready", "Ready"):
        fault = readiness_fault(manifest_of(b"one", {}, readiness=Readiness("full", verdict)))
        assert fault is not None and fault.startswith(f"readiness_{verdict}: ")
