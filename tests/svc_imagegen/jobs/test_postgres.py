"""What only PostgreSQL can get wrong: shared transactions, several processes, notices, locks, the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import cast

import asyncpg
import msgspec
import pytest
from tests.svc_imagegen.jobs.kit import ANSWER, T0, accept, at, make_asset, make_job, submitted

from qraft_bus.outbox import TABLE_SQL
from qraft_contracts.imagejobs import ImageJobEvent
from qraft_contracts.outcomes import Transient
from qraft_contracts.usage import ComputeUsage
from svc_imagegen.adapters import jobs_changes
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.group_commit import GroupCommit
from svc_imagegen.adapters.jobs_changes import PostgresJobChanges
from svc_imagegen.adapters.jobs_postgres import PostgresJobStore
from svc_imagegen.adapters.jobs_turn import PostgresTurn
from svc_imagegen.adapters.keys_postgres import PostgresKeyStore
from svc_imagegen.adapters.memory import MemoryKeyStore
from svc_imagegen.domain.job import JobState, Money
from svc_imagegen.ports import ApiKey, KeyStore

pytestmark = pytest.mark.postgres


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    found = Database(postgres_dsn)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresJobStore]:
    found = PostgresJobStore(database)
    yield found
    await found.close()


async def test_equal_calls_at_two_gateways_at_once_make_one_job(postgres_dsn: str) -> None:
    databases = [Database(postgres_dsn) for _ in range(3)]
    for it in databases:
        await it.open()
    stores = [PostgresJobStore(it) for it in databases]
    for key in range(30):
        calls = [
            stores[n % 3].accept(make_job(idempotency_key=f"k{key}"), retry_count=0, received_at=T0, join_window_s=900)
            for n in range(12)
        ]
        retries = [
            stores[n % 3].accept(
                make_job(fingerprint=f"{key:064}"), retry_count=n % 2 + 1, received_at=T0, join_window_s=900
            )
            for n in range(12)
        ]
        done = await asyncio.gather(*calls, *retries)
        assert len({it.job.job_id for it in done}) == 2
        assert sum(it.is_new for it in done) == 2
    for it in (*stores, *databases):
        await it.close()


async def test_a_row_that_the_schema_refuses_fails_its_own_caller_only(store: PostgresJobStore) -> None:
    good = [make_job() for _ in range(20)]
    bad = make_job(held_microcredits=-1)

    done = await asyncio.gather(*(accept(store, it) for it in (*good[:10], bad, *good[10:])), return_exceptions=True)

    assert [isinstance(it, asyncpg.CheckViolationError) for it in done] == [False] * 10 + [True] + [False] * 10
    assert await store.which_exist([it.job_id for it in (*good, bad)]) == {it.job_id for it in good}


async def test_steps_that_come_together_see_one_another(store: PostgresJobStore) -> None:
    jobs = [await accept(store, make_job()) for _ in range(10)]

    claims = await asyncio.gather(
        *(store.claim(it.job_id, worker_id=f"w{n}", now=at(1), lease_s=9) for it in jobs for n in range(3))
    )

    assert sum(it is not None for it in claims) == 10
    assert {(await store.attempts(it.job_id))[0].worker_id for it in jobs} == {"w0"}


async def test_work_beyond_the_bound_is_turned_away_at_once() -> None:
    running = asyncio.Event()

    async def store(works: object) -> list[int]:
        await running.wait()
        return [0] * len(cast("list[int]", works))

    commits: GroupCommit[int, int] = GroupCommit(store, n_waiting_max=2)
    first = [asyncio.create_task(commits.submit(n)) for n in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Transient, match="overloaded"):
        await commits.submit(3)
    running.set()
    assert await asyncio.gather(*first) == [0, 0]
    await commits.close()


async def test_a_database_that_goes_away_is_transient_and_comes_back(
    store: PostgresJobStore, database: Database
) -> None:
    job = await accept(store, make_job())

    await database.read.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'svc_imagegen write' AND datname = current_database()"
    )
    # Noticed before the next statement it costs nothing, after it one failure that says so, never another error.
    with suppress(Transient):
        await store.requeue(job.job_id, now=at(1))

    assert (await store.get(job.job_id)) is not None
    assert await store.cancel(job.job_id, now=at(2)) is not None


async def test_what_the_outbox_tells_is_decodable_ordered_and_stored_once(
    store: PostgresJobStore, database: Database
) -> None:
    job = make_job()
    attempt = await submitted(store, job)
    await store.record_success(attempt, assets=[make_asset(job)], charge_microcredits=9, answer=ANSWER, now=at(5))
    await store.finish(job.job_id, state=JobState.SUCCEEDED, money=Money.SETTLED, now=at(6), charged_microcredits=9)

    rows = await database.read.fetch("SELECT * FROM imagegen.outbox ORDER BY id")

    assert [it["subject"] for it in rows] == [
        "imagejob.created.simulated", "imagejob.started", "usage.compute", "imagejob.succeeded",
    ]  # fmt: skip
    assert all(it["lineage"] and it["origin"] == "simulated" for it in rows)
    ended = msgspec.json.decode(rows[3]["payload"], type=ImageJobEvent)
    assert (ended.state, ended.charged_microcredits, ended.asset_ids) == ("succeeded", 9, (f"{job.job_id}-0",))
    used = msgspec.json.decode(rows[2]["payload"], type=ComputeUsage)
    assert (used.column, used.provider_cost_microusd, used.usage_id) == (
        "demo", 12, f"svc_imagegen/{job.job_id}-1",
    )  # fmt: skip
    assert (used.started_at, used.ended_at, used.n_bytes) == (at(1), at(5), 100)


async def test_a_watcher_hears_of_a_change_that_another_process_stored(database: Database, postgres_dsn: str) -> None:
    other = Database(postgres_dsn)
    await other.open()
    store = PostgresJobStore(other)
    job = await accept(store, make_job())
    changes = PostgresJobChanges(database)
    listening = asyncio.create_task(changes.run())
    await _until_listening(database)
    async with aclosing(cast("AsyncGenerator[None]", changes.watch(job.job_id))) as heard:
        await anext(heard)
        began = asyncio.get_running_loop().time()
        await store.claim(job.job_id, worker_id="w", now=at(1), lease_s=9)
        await anext(heard)
        took_s = asyncio.get_running_loop().time() - began

    assert took_s < 1.5, "the fallback looks every 2 s"
    listening.cancel()
    await asyncio.wait({listening})
    await store.close()
    await other.close()


async def test_a_listener_whose_connection_is_lost_listens_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_changes, "_CHECK_S", 0.2)
    monkeypatch.setattr(jobs_changes, "_RECONNECT_S", 0.1)
    changes = PostgresJobChanges(database)
    listening = asyncio.create_task(changes.run())
    first = await _until_listening(database)

    await database.read.execute("SELECT pg_terminate_backend($1)", first)

    assert await _until_listening(database, other_than=first) != first
    listening.cancel()
    await asyncio.wait({listening})


async def test_waiters_beyond_the_bound_are_turned_away_and_leave_no_trace(database: Database) -> None:
    changes = PostgresJobChanges(database, n_waiters_max=1)
    first = changes.watch("a")
    await anext(first)

    with pytest.raises(Transient, match="too_many_waiters"):
        await anext(changes.watch("b"))
    await first.aclose()  # type: ignore[attr-defined]
    again = changes.watch("b")
    await anext(again)
    await again.aclose()  # type: ignore[attr-defined]


async def test_the_turn_is_held_by_one_process_and_given_back(database: Database, postgres_dsn: str) -> None:
    other = Database(postgres_dsn)
    await other.open()

    async with PostgresTurn(database).take() as ours, PostgresTurn(other).take() as theirs:
        assert (ours, theirs) == (True, False)
    async with PostgresTurn(other).take() as theirs:
        assert theirs
    await other.close()


async def test_the_audit_record_cannot_be_changed(store: PostgresJobStore, database: Database) -> None:
    job = await accept(store, make_job())
    await store.record_check(job.job_id, finding="x", detail="y", now=at(1), next_check_at=at(2))

    for statement in ("UPDATE imagegen.audit SET detail = ''", "DELETE FROM imagegen.audit", "TRUNCATE imagegen.audit"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await database.read.execute(statement)


async def test_the_schema_itself_refuses_a_charge_without_a_picture(
    store: PostgresJobStore, database: Database
) -> None:
    job = await accept(store, make_job())

    for change in ("money = 'settled'", "state = 'succeeded'", "state = 'failed'", "next_check_at = NULL"):
        with pytest.raises(asyncpg.CheckViolationError):
            await database.read.execute(f"UPDATE imagegen.jobs SET {change} WHERE job_id = '{job.job_id}'")


async def test_the_outbox_is_the_one_that_the_relay_knows(database: Database) -> None:
    await database.read.execute("CREATE SCHEMA wanted")
    await database.read.execute(TABLE_SQL.format(schema="wanted"))
    columns = (
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_name = 'outbox' AND table_schema = $1 ORDER BY column_name"
    )

    assert await database.read.fetch(columns, "imagegen") == await database.read.fetch(columns, "wanted")


@pytest.fixture(params=["memory", "postgres"])
def keys(request: pytest.FixtureRequest, database: Database) -> KeyStore:
    return MemoryKeyStore() if request.param == "memory" else PostgresKeyStore(database)


async def test_a_key_is_found_by_its_hash_until_it_is_revoked_once(keys: KeyStore) -> None:
    key = ApiKey("k1", "acme", "test", frozenset({"images:write"}), T0, None)
    await keys.create(key, "a" * 64)
    await keys.create(ApiKey("k2", "other", "", frozenset(), at(1), None), "b" * 64)

    assert await keys.find("a" * 64) == key
    assert await keys.find("c" * 64) is None
    assert [it.key_id for it in await keys.list_keys(None)] == ["k1", "k2"]
    assert [it.key_id for it in await keys.list_keys("acme")] == ["k1"]
    assert await keys.revoke("k1", at=at(5))
    assert not await keys.revoke("k1", at=at(6))
    assert not await keys.revoke("nobody", at=at(6))
    revoked = await keys.find("a" * 64)
    assert revoked is not None and revoked.revoked_at == at(5)


async def _until_listening(database: Database, *, other_than: int | None = None) -> int:
    """Return the server process of the connection that listens."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'svc_imagegen write'"
        " AND datname = current_database() AND query = 'SELECT 1'"
    )
    async with asyncio.timeout(10):
        while True:
            pid = await database.read.fetchval(query)
            if pid is not None and pid != other_than:
                return int(pid)
            await asyncio.sleep(0.02)


async def test_who_waits_for_an_end_hears_of_it_alone_and_also_when_it_came_first(
    database: Database, postgres_dsn: str
) -> None:
    other = Database(postgres_dsn)
    await other.open()
    store, changes = PostgresJobStore(other), PostgresJobChanges(database)
    listening = asyncio.create_task(changes.run())
    await _until_listening(database)
    job = await accept(store, make_job())
    async with aclosing(cast("AsyncGenerator[None]", changes.watch_end(job.job_id))) as heard:
        waiting = asyncio.ensure_future(anext(heard))
        await asyncio.sleep(0.01)
        await store.cancel(job.job_id, now=at(1))
        await asyncio.sleep(0.3)
        assert not waiting.done(), "its credits are on their way back, and it has not ended"
        await store.finish(job.job_id, state=JobState.CANCELED, money=Money.VOIDED, now=at(2))
        async with asyncio.timeout(1.5):
            await waiting
    async with asyncio.timeout(1.5), aclosing(cast("AsyncGenerator[None]", changes.watch_end(job.job_id))) as late:
        await anext(late)

    listening.cancel()
    await asyncio.wait({listening})
    await store.close()
    await other.close()


async def test_looks_of_one_moment_are_one_query_and_each_gets_its_own(store: PostgresJobStore) -> None:
    jobs = [await accept(store, make_job()) for _ in range(5)]

    found = await asyncio.gather(*(store.get(it) for it in [*(job.job_id for job in jobs), "nobody", jobs[0].job_id]))

    assert found == [*jobs, None, jobs[0]]
