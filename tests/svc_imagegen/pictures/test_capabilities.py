"""One behavior suite for the CapabilityStore: the twin and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from qraft_contracts.outcomes import Transient
from svc_imagegen.adapters.capabilities_postgres import PostgresCapabilityStore
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.memory import MemoryCapabilityStore
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.ports import CapabilityStore

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[CapabilityStore]:
    if request.param == "memory":
        yield MemoryCapabilityStore()
        return
    database = Database(request.getfixturevalue("postgres_dsn"))
    await database.open()
    yield PostgresCapabilityStore(database)
    await database.close()


def finding(support: Support, *, minutes: int = 0, feature: str = "mask", model: str = "m1") -> Capability:
    return Capability("p1", model, feature, support, f"observed at {minutes}", NOW + timedelta(minutes=minutes))


async def test_what_nobody_found_is_unknown(store: CapabilityStore) -> None:
    assert await store.support("p1", "m1", "mask") is Support.UNKNOWN
    assert list(await store.list_all()) == []


async def test_newest_finding_counts_in_whatever_order_they_come(store: CapabilityStore) -> None:
    await store.record(finding(Support.UNSUPPORTED, minutes=1))
    await store.record(finding(Support.SUPPORTED, minutes=3))
    await store.record(finding(Support.UNSUPPORTED, minutes=2))

    assert await store.support("p1", "m1", "mask") is Support.SUPPORTED
    assert list(await store.list_all()) == [finding(Support.SUPPORTED, minutes=3)]


async def test_person_may_make_a_feature_unknown_again(store: CapabilityStore) -> None:
    await store.record(finding(Support.SUPPORTED))
    await store.record(finding(Support.UNKNOWN, minutes=1))

    assert await store.support("p1", "m1", "mask") is Support.UNKNOWN


async def test_findings_are_listed_in_order_and_do_not_mix(store: CapabilityStore) -> None:
    for feature, model in (("size:auto", "m2"), ("edit", "m2"), ("edit", "m1")):
        await store.record(finding(Support.SUPPORTED, feature=feature, model=model))

    assert [(it.model, it.feature) for it in await store.list_all()] == [
        ("m1", "edit"), ("m2", "edit"), ("m2", "size:auto"),
    ]  # fmt: skip
    assert await store.support("p1", "m1", "size:auto") is Support.UNKNOWN


async def test_store_without_a_database_is_transient() -> None:
    store = PostgresCapabilityStore(Database("postgresql://nowhere"))

    with pytest.raises(Transient):
        await store.support("p1", "m1", "mask")
