"""What a manifest says of its data must lie in the store as named; what it does not say is unknown."""

from __future__ import annotations

from typing import Any

import pytest
from tests.libs.registry.kit import (
    NOW,
    RECORD,
    SNAPSHOT_ID,
    audit_of,
    manifest_of,
    put_model,
    ready_by,
    record_of,
)

from qraft_contracts.outcomes import Refused
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
        (record_of(files={"data.parquet": "d", "more.parquet": "e"}), None, "missing_snapshot: .*more.parquet"),
    ],
)
async def test_model_whose_snapshot_is_not_as_named_is_refused_by_name(
    artefacts: MemoryArtefactStore, record: bytes | None, named: str | None, fault: str
) -> None:
    data = TrainedOn(SNAPSHOT_ID, named or sha256_hex(record or b""))
    model_id = await put_model(artefacts, b"one", manifest={"data": data}, snapshot=record)

    with pytest.raises(Refused, match=fault):
        await registry_of(artefacts).register_candidate(model_id, actor="ada", reason="new")


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
    found = await dossier_of(artefacts, manifest={"data": TrainedOn(snapshot_id, "0" * 64)})

    assert found.fault is not None and found.fault.startswith("bad_snapshot_id: ")


@pytest.mark.parametrize(
    ("readiness", "stored", "fault"),
    [
        (ready_by(audit_of()), None, "missing_audit"),
        (Readiness("full", "ready"), None, "missing_audit"),
        (Readiness("full", "ready", audit="models/x/manifest.json"), None, "missing_audit"),
        (ready_by(audit_of()), audit_of(end="2026"), "audit_changed"),
        (ready_by(NOT_READY), NOT_READY, "other_audit: the audit says not ready"),
        (ready_by(PRODUCTION), PRODUCTION, "other_audit: the audit says ready of production"),
        (ready_by(audit_of(start="2024")), audit_of(start="2024"), "other_audit"),
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
